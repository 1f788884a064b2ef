"""What a Cloud Run service for workers has to be, and how one that is there differs from that.

``applied`` takes a service as it is and returns it as it should be: what is not ours in it (a
sidecar, a network, a label of somebody's) stays. ``facts`` says in words what is ours of either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from outpost.backends.cloudrun_options import OWN_PREFIX, CloudRunOptions, memory_mib

if TYPE_CHECKING:
    from google.cloud.run_v2 import (
        Container,
        EnvVar,
        Job,
        RevisionTemplate,
        Service,
        TaskTemplate,
    )

LABEL = "outpost-federation"
OURS = "outpost-sets"
"""The annotation with the names of variables and files that we have set, to take them away."""
PORT, PORT_NAME = 8080, "h2c"
GRACE_S = 9
TOKEN = f"{OWN_PREFIX}TOKEN"
SECRET_MODE = 0o444  # the image's user is not root


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a service is to be: the options, whose it is, and what the command line adds.

    ``max_workers`` is how many workers the outpost may run at once, ``None``: no limit.
    """

    options: CloudRunOptions
    federation_id: str
    max_workers: int | None
    image: str | None = None

    @property
    def most_instances(self) -> int | None:
        """How many instances that takes; ``None``: Cloud Run's own limit holds."""
        if self.max_workers is None:
            return None
        # Cloud Run refuses a maximum that is less than the minimum.
        return max(-(-self.max_workers // self.options.concurrency), self.options.min_instances)

    def plain(self) -> dict[str, str]:
        """Return the variables with values."""
        options = self.options
        return {
            f"{OWN_PREFIX}LEASE": f"{options.lease_s:g}",
            f"{OWN_PREFIX}GRACE": str(GRACE_S),
            f"{OWN_PREFIX}MAX_WORKERS": str(options.concurrency),
            **options.env,
        }

    def secrets(self) -> dict[str, str]:
        """Return the references to secrets, by variable or file."""
        return {TOKEN: self.options.token_secret, **self.options.secrets}


def applied(service: Service | None, wish: Wish) -> Service:
    """Return a service as it should be; nothing of the one given is changed."""
    from google.cloud import run_v2  # noqa: PLC0415 - takes 0.4 s to load

    options = wish.options
    made = run_v2.Service(service)
    gone = set_before(made) - {*wish.plain(), *wish.secrets()}
    made.labels[LABEL] = wish.federation_id
    made.annotations[OURS] = " ".join(sorted({*wish.plain(), *wish.secrets()}))
    if not made.ingress:
        made.ingress = member(run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL)
    template = made.template
    # A revision's name is used once; without one the next gets a name of its own.
    template.revision = ""
    template.timeout = timedelta(seconds=options.request_timeout_s)
    template.max_instance_request_concurrency = options.concurrency
    template.session_affinity = True
    gen2 = run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2
    template.execution_environment = member(gen2)
    template.scaling.min_instance_count = options.min_instances
    if wish.most_instances is not None:
        template.scaling.max_instance_count = wish.most_instances
    if options.service_account:
        template.service_account = options.service_account
    if not template.containers:
        template.containers.append(run_v2.Container())
    _apply_to_container(container_of(template), wish)
    set_variables(container_of(template), wish, gone)
    mount_files(template, wish, gone)
    return made


def _apply_to_container(container: Container, wish: Wish) -> None:
    from google.cloud import run_v2  # noqa: PLC0415 - as above

    options = wish.options
    if image := wish.image or options.image:
        container.image = image
    container.ports = [run_v2.ContainerPort(name=PORT_NAME, container_port=PORT)]
    limits = {**container.resources.limits, "cpu": str(options.cpu), "memory": options.memory}
    container.resources.limits = limits
    # Without a request the CPU is withheld only where nobody pays for it.
    container.resources.cpu_idle = options.billing == "request"
    container.resources.startup_cpu_boost = True


def set_variables(container: Container, wish: Wish, gone: set[str]) -> None:
    """Set the variables that are wished for, and take those away that are ``gone``."""
    from google.cloud import run_v2  # noqa: PLC0415 - as above

    secrets = {name: it for name, it in wish.secrets().items() if not name.startswith("/")}
    ours = [run_v2.EnvVar(name=name, value=value) for name, value in wish.plain().items()]
    for name, reference in secrets.items():
        secret, _, version = reference.rpartition(":")
        selector = run_v2.SecretKeySelector(secret=secret, version=version)
        source = run_v2.EnvVarSource(secret_key_ref=selector)
        ours.append(run_v2.EnvVar(name=name, value_source=source))
    named = gone | {it.name for it in ours}
    container.env = [it for it in container.env if it.name not in named] + ours


def mount_files(template: RevisionTemplate | TaskTemplate, wish: Wish, gone: set[str]) -> None:
    """Have each secret file in a volume of its own, as nothing else may be in its folder."""
    from google.cloud import run_v2  # noqa: PLC0415 - as above

    files = {name: it for name, it in wish.secrets().items() if name.startswith("/")}
    container = container_of(template)
    named = {_volume(path) for path in (*files, *gone) if path.startswith("/")}
    volumes = [it for it in template.volumes if it.name not in named]
    mounts = [it for it in container.volume_mounts if it.name not in named]
    for path, reference in files.items():
        secret, _, version = reference.rpartition(":")
        item = run_v2.VersionToPath(
            path=PurePosixPath(path).name, version=version, mode=SECRET_MODE
        )
        source = run_v2.SecretVolumeSource(secret=secret, items=[item])
        volumes.append(run_v2.Volume(name=_volume(path), secret=source))
        folder = str(PurePosixPath(path).parent)
        mounts.append(run_v2.VolumeMount(name=_volume(path), mount_path=folder))
    template.volumes, container.volume_mounts = volumes, mounts


def owner(service: Service | Job) -> str:
    """Return the id of the federation that a service or job is of; empty: of none."""
    return str(service.labels.get(LABEL, ""))


def facts(service: Service | None, wish: Wish) -> dict[str, str]:
    """Return what is ours of a service, in words; of a secret only the reference to it."""
    if service is None:
        return {}
    from google.cloud import run_v2  # noqa: PLC0415 - as above

    template, container = service.template, container_of(service.template)
    limits, resources = container.resources.limits, container.resources
    gen2 = run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2
    timeout = template.timeout
    found = {
        "image": container.image,
        "port": " ".join(f"{it.name} {it.container_port}" for it in container.ports),
        "cpu": cpu_text(limits.get("cpu", "")),
        "memory": memory_text(limits.get("memory", "")),
        "billing": "request" if resources.cpu_idle else "instance",
        "startup boost": _on(resources.startup_cpu_boost),
        "concurrency": str(template.max_instance_request_concurrency or ""),
        "request timeout": f"{timeout.total_seconds():g} s" if timeout else "",
        "min instances": str(template.scaling.min_instance_count),
        "max instances": str(template.scaling.max_instance_count or ""),
        "session affinity": _on(template.session_affinity),
        "execution environment": "gen2" if template.execution_environment == gen2 else "other",
        "service account": template.service_account,
        "ingress": service.ingress.name.removeprefix("INGRESS_TRAFFIC_").lower(),
        f"label {LABEL}": owner(service),
    }
    named = set_before(service) | {*wish.plain(), *wish.secrets()}
    found |= {name: text for name, text in variables_in(container, wish) if name[4:] in named}
    found |= {name: text for name, text in files_in(template) if name[5:] in named}
    return {name: text for name, text in found.items() if text}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each difference: ``+`` comes, ``~`` changes, ``-`` goes."""
    for name, text in after.items():
        if name not in before:
            yield f"+   {name}: {text}"
        elif before[name] != text:
            yield f"~   {name}: {before[name]} → {text}"
    for name, text in before.items():
        if name not in after:
            yield f"-   {name}: {text}"


def container_of(template: RevisionTemplate | TaskTemplate) -> Container:
    """Return the container of ours: the only one, or the one with a port beside others."""
    for container in template.containers:
        if container.ports or len(template.containers) == 1:
            return container
    return template.containers[0]


def set_before(service: Service | Job) -> set[str]:
    """Return the variables and files that we have set."""
    return set(str(service.annotations.get(OURS, "")).split())


def variables_in(container: Container, wish: Wish) -> Iterator[tuple[str, str]]:
    """Yield each variable as a fact, its name and what it is in words."""
    for it in container.env:
        yield f"env {it.name}", _variable(it, secret=it.name in wish.secrets())


def _variable(variable: EnvVar, *, secret: bool) -> str:
    selector = variable.value_source.secret_key_ref
    if selector.secret:
        return f"secret {selector.secret}:{selector.version}"
    # What is to be a secret from now on may have been one in plain text until now.
    return "a value in plain text" if secret else variable.value or "(empty)"


def files_in(template: RevisionTemplate | TaskTemplate) -> Iterator[tuple[str, str]]:
    """Yield each secret file as a fact, its path and what it is in words."""
    for volume in template.volumes:
        for item in volume.secret.items:
            for mount in container_of(template).volume_mounts:
                if mount.name == volume.name:
                    path = PurePosixPath(mount.mount_path) / item.path
                    yield f"file {path}", f"secret {volume.secret.secret}:{item.version}"


def _volume(path: str) -> str:
    """Return the name of a secret file's volume; few characters may stand in it."""
    return f"outpost-{hashlib.sha256(path.encode()).hexdigest()[:12]}"


def cpu_text(text: str) -> str:
    """Return a number of CPUs as we write it."""
    if not text:
        return ""
    number = Fraction(text[:-1]) / 1000 if text.endswith("m") else Fraction(text)
    return f"{float(number):g}"


def memory_text(text: str) -> str:
    """Return a quantity of memory as we write it."""
    if not text:
        return ""
    mib = memory_mib(text)
    return f"{float(mib / 1024):g}Gi" if mib >= 1024 else f"{float(mib):g}Mi"


def member(value: Any) -> Any:
    """Return a member of one of the client's enumerations, which look like numbers to mypy."""
    return value


def _on(value: bool) -> str:
    return "on" if value else "off"

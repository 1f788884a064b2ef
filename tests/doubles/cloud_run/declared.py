"""From what a service or job declares to what is run: images, variables, secrets, mounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.cloud_run.container import Content
from tests.doubles.cloud_run.revision import Revision
from tests.doubles.cloud_run.rpc import Code, Refused
from tests.doubles.cloud_run.rules import GIB, cpus_of, memory_of

MAX_INSTANCES = 100
SERVICE_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image says is to be run: ENTRYPOINT, CMD and ENV of its Dockerfile."""

    entrypoint: Sequence[str]
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The registry's images by their references, and the secrets by their names."""

    images: dict[str, Image] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)

    def image(self, reference: str) -> Image:
        if reference not in self.images:
            raise Refused(Code.INVALID_ARGUMENT, f"Image '{reference}' not found.")
        return self.images[reference]

    def secret(self, reference: str) -> bytes:
        """Return a secret's value; ``reference`` is its name, or ends with it."""
        name = reference.rpartition("/")[2]
        if name not in self.secrets:
            raise Refused(
                Code.PERMISSION_DENIED,
                f"Permission denied on secret: {reference} for Revision service account. The "
                "service account must be granted the 'Secret Manager Secret Accessor' role.",
            )
        return self.secrets[name]


def content_of(template: Any, shelf: Shelf) -> Content:
    """Return what the first container of a template runs; raises ``Refused``."""
    container = template.containers[0]
    image = shelf.image(container.image)
    entrypoint = list(container.command) or list(image.entrypoint)
    command = list(container.args) or ([] if container.command else list(image.command))
    environment = {**image.environment, **variables_of(container.env, shelf)}
    files = _files_of(template, container, shelf)
    return Content(argv=[*entrypoint, *command], environment=environment, files=files)


def variables_of(variables: Any, shelf: Shelf) -> dict[str, str]:
    """Return variables by their names, those from secrets read."""
    found = {}
    for variable in variables:
        reference = variable.value_source.secret_key_ref
        secret = shelf.secret(reference.secret).decode() if reference.secret else variable.value
        found[variable.name] = secret
    return found


def revision_of(service: Any, name: str, shelf: Shelf) -> Revision:
    """Return what a service declares; raises ``Refused`` for what cannot be had."""
    template = service.template
    resources = template.containers[0].resources
    ports = template.containers[0].ports
    cpus = cpus_of(resources)
    scaling, whole = template.scaling, service.scaling
    concurrency = template.max_instance_request_concurrency
    return Revision(
        content=content_of(template, shelf),
        name=name,
        concurrency=concurrency or (80 if cpus >= 1 else 1),
        timeout_s=template.timeout.total_seconds() or SERVICE_TIMEOUT_S,
        min_instances=max(scaling.min_instance_count, whole.min_instance_count),
        max_instances=scaling.max_instance_count or whole.max_instance_count or MAX_INSTANCES,
        vcpus=cpus,
        memory_gib=memory_of(resources) / GIB,
        cpu_idle=resources.cpu_idle or not resources,
        session_affinity=template.session_affinity,
        http2=bool(ports) and ports[0].name == "h2c",
    )


def _files_of(template: Any, container: Any, shelf: Shelf) -> dict[str, bytes]:
    volumes = {volume.name: volume for volume in template.volumes}
    files = {}
    for mount in container.volume_mounts:
        if mount.name not in volumes:
            raise Refused(Code.INVALID_ARGUMENT, f"volume_mounts: no volume '{mount.name}'.")
        source = volumes[mount.name].secret
        if source.secret:
            paths = [item.path for item in source.items] or [source.secret.rpartition("/")[2]]
            for path in paths:
                files[f"{mount.mount_path}/{path}"] = shelf.secret(source.secret)
    return files

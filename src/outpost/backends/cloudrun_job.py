"""What a Cloud Run job for workers has to be, and how one that is there differs from that.

As in ``cloudrun_service``: what is not ours in it stays, and ``Deployment`` does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from outpost.backends.cloudrun_deployment import READY, Deployment
from outpost.backends.cloudrun_service import (
    GRACE_S,
    LABEL,
    OURS,
    Wish,
    container_of,
    cpu_text,
    files_in,
    member,
    memory_text,
    mount_files,
    owner,
    set_before,
    set_variables,
    variables_in,
)
from outpost.wire.jobs import BUCKET, GRACE

if TYPE_CHECKING:
    from google.cloud.run_v2 import Job

ARGUMENTS = ("runner", "job")
"""What the worker image runs; its entry point stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobWish(Wish):
    """What a job is to be."""

    def plain(self) -> dict[str, str]:
        """Return the variables with values; each run adds which worker it is."""
        return {BUCKET: self.options.bucket or "", GRACE: str(GRACE_S), **self.options.env}

    def secrets(self) -> dict[str, str]:
        """Return the references to secrets, by variable or file."""
        return dict(self.options.secrets)


class JobDeployment(Deployment):
    """Reads, plans and changes the job of an outpost."""

    depends: ClassVar[tuple[str, ...]] = ("image", "command", "tasks", "retries", f"env {BUCKET}")

    def _wish(self, image: str | None = None) -> Wish:
        return JobWish(
            options=self._options,
            federation_id=self._setup.federation_id,
            max_workers=self._setup.max_workers,
            image=image,
        )

    def _applied(self, service: Any, wish: Wish) -> Any:
        return applied(service, wish)

    def _facts(self, service: Any, wish: Wish) -> dict[str, str]:
        return facts(service, wish)

    def _is_ready(self, service: Any) -> bool:
        return bool(service.terminal_condition.state.name == READY)

    def _address(self, region: str, service: Any) -> str:
        path = f"{region}/{self._name}/executions?project={self._options.project}"
        return f"https://console.cloud.google.com/run/jobs/details/{path}"

    def _limits(self, wish: Wish) -> Iterator[str]:
        yield f"a worker may take {self._options.task_timeout_s / 3600:g} h; the platform ends it"

    def _pinned(self, region: str, service: Any) -> Iterator[str]:
        yield from ()


def applied(job: Job | None, wish: Wish) -> Job:
    """Return a job as it should be; nothing of the one given is changed."""
    from google.cloud import run_v2  # noqa: PLC0415 - takes 0.4 s to load

    options = wish.options
    made = run_v2.Job(job)
    gone = set_before(made) - {*wish.plain(), *wish.secrets()}
    made.labels[LABEL] = wish.federation_id
    made.annotations[OURS] = " ".join(sorted({*wish.plain(), *wish.secrets()}))
    made.template.task_count = made.template.parallelism = 1
    task = made.template.template
    # A second try by the platform would know nothing of fences, and of an order that is taken.
    task.max_retries = 0
    task.timeout = timedelta(seconds=options.task_timeout_s)
    gen2 = run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2
    task.execution_environment = member(gen2)
    if options.service_account:
        task.service_account = options.service_account
    if not task.containers:
        task.containers.append(run_v2.Container())
    container = container_of(task)
    if image := wish.image or options.image:
        container.image = image
    container.args = list(ARGUMENTS)
    limits = {**container.resources.limits, "cpu": str(options.cpu), "memory": options.memory}
    container.resources.limits = limits
    set_variables(container, wish, gone)
    mount_files(task, wish, gone)
    return made


def facts(job: Job | None, wish: Wish) -> dict[str, str]:
    """Return what is ours of a job, in words; of a secret only the reference to it."""
    if job is None:
        return {}
    from google.cloud import run_v2  # noqa: PLC0415 - as above

    task = job.template.template
    container = container_of(task)
    limits = container.resources.limits
    gen2 = run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2
    found = {
        "image": container.image,
        "command": " ".join(container.args),
        "cpu": cpu_text(limits.get("cpu", "")),
        "memory": memory_text(limits.get("memory", "")),
        "tasks": f"{job.template.task_count or 1}",
        "retries": str(task.max_retries) if "max_retries" in task else "Cloud Run's own",
        "task timeout": f"{task.timeout.total_seconds():g} s" if task.timeout else "",
        "execution environment": "gen2" if task.execution_environment == gen2 else "other",
        "service account": task.service_account,
        f"label {LABEL}": owner(job),
    }
    named = set_before(job) | {*wish.plain(), *wish.secrets()}
    found |= {name: text for name, text in variables_in(container, wish) if name[4:] in named}
    found |= {name: text for name, text in files_in(task) if name[5:] in named}
    return {name: text for name, text in found.items() if text}

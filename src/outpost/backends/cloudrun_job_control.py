"""Cloud Run's control plane, for jobs: they are read and written, run, looked at and cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from outpost.backends.cloudrun_control import CALL_S, Control, Naming
from outpost.errors import NoCapacity, Rejected
from outpost.model import Metered
from outpost.transports.google_tokens import credentials
from outpost.wire.jobs import FOLDER

if TYPE_CHECKING:
    from google.cloud.run_v2 import Execution, ExecutionsAsyncClient, JobsAsyncClient

SUCCEEDED = "CONDITION_SUCCEEDED"
BILLED_LEAST_S = 60.0
"""By "Cloud Run pricing" (https://cloud.google.com/run/pricing), for jobs and by instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobClients:
    """Google's own clients for jobs and for their executions."""

    jobs: JobsAsyncClient
    executions: ExecutionsAsyncClient


OpenJobClients = Callable[[], Awaitable[JobClients]]


def google_job_clients(outpost: str) -> OpenJobClients:
    """Return what opens the official clients, with the credentials of this machine."""

    async def open_clients() -> JobClients:
        found = await credentials(outpost)
        from google.cloud import run_v2  # noqa: PLC0415 - takes 0.4 s to load

        return JobClients(
            jobs=run_v2.JobsAsyncClient(credentials=found),
            executions=run_v2.ExecutionsAsyncClient(credentials=found),
        )

    return open_clients


class JobNaming(Naming):
    """Which job it is, in any region."""

    __slots__ = ()

    def path(self, region: str) -> str:
        """Return the resource name of the job in a region."""
        return f"{self.parent(region)}/jobs/{self.service}"


class JobControl(Control):
    """One job, as the control plane knows it in several regions."""

    noun: ClassVar[str] = "job"

    def __init__(self, naming: JobNaming, open_clients: OpenJobClients) -> None:
        super().__init__(naming, self._open_jobs)
        self._open_clients = open_clients
        self._executions: ExecutionsAsyncClient | None = None

    async def run(self, region: str, folder: str, deploy_hint: str) -> str:
        """Run the job for the order in a folder of its bucket; return the execution's own name.

        Raises ``Rejected`` or ``NotDispatched`` where nothing was started, else ``OutpostFault``.
        """
        async with self._mapped(region):
            from google.api_core import exceptions  # noqa: PLC0415 - an extra
            from google.cloud import run_v2  # noqa: PLC0415 - as above

            jobs = await self._opened()
            override = run_v2.RunJobRequest.Overrides.ContainerOverride(
                env=[run_v2.EnvVar(name=FOLDER, value=folder)]
            )
            request = run_v2.RunJobRequest(
                name=self.naming.path(region),
                overrides=run_v2.RunJobRequest.Overrides(container_overrides=[override]),
            )
            try:
                operation = await jobs.run_job(request, timeout=CALL_S)
            except exceptions.NotFound as exc:
                what = f"the job {self.naming.service} is not in {region} any more"
                raise Rejected(what, outpost=self.naming.outpost, hint=deploy_hint) from exc
            except exceptions.ResourceExhausted as exc:
                what = f"Cloud Run in {region} runs no more at once: {exc.message}"
                raise NoCapacity(what, outpost=self.naming.outpost, scope=region) from exc
        return str(operation.metadata.name).rpartition("/")[2]

    async def end_of(self, region: str, execution: str) -> str | None:
        """Say how an execution ended; ``None``: it has not. Raises ``OutpostFault``."""
        found = await self._execution(region, execution)
        if found is None:
            return f"its run {execution} was deleted"
        if not found.completion_time:
            return None
        for condition in found.conditions:
            if condition.type_ == "Completed" and condition.state.name != SUCCEEDED:
                return str(condition.message) or "its container failed"
        return "its container has ended"

    async def metered(self, region: str, execution: str) -> Metered | None:
        """Return for how long an execution is billed; ``None``: it was deleted."""
        found = await self._execution(region, execution)
        if found is None:
            return None
        if not found.start_time:
            return Metered(seconds=0, final=bool(found.completion_time))
        until = found.completion_time or datetime.now(UTC)
        ran_s = (until - found.start_time).total_seconds()
        return Metered(seconds=max(BILLED_LEAST_S, ran_s), final=bool(found.completion_time))

    async def cancel(self, region: str, execution: str) -> None:
        """Have an execution end; one that has is let be. Raises ``OutpostFault``."""
        async with self._mapped(region):
            from google.api_core import exceptions  # noqa: PLC0415 - an extra

            await self._opened()
            assert self._executions
            try:
                await self._executions.cancel_execution(
                    name=f"{self.naming.path(region)}/executions/{execution}", timeout=CALL_S
                )
            except (exceptions.NotFound, exceptions.FailedPrecondition, exceptions.Conflict):
                return

    async def close(self) -> None:
        await super().close()
        if self._executions is not None:
            transport: Any = self._executions.transport
            self._executions = None
            await transport.close()

    async def _execution(self, region: str, name: str) -> Execution | None:
        """Return an execution; ``None`` where it was deleted. Raises ``OutpostFault``."""
        async with self._mapped(region):
            from google.api_core.exceptions import NotFound  # noqa: PLC0415 - an extra

            await self._opened()
            assert self._executions
            path = f"{self.naming.path(region)}/executions/{name}"
            try:
                return await self._executions.get_execution(name=path, timeout=CALL_S)
            except NotFound:
                return None

    async def _open_jobs(self) -> Any:
        clients = await self._open_clients()
        self._executions = clients.executions
        return clients.jobs

    async def _opened(self) -> Any:
        return await super()._opened()

    async def _get(self, region: str) -> Any:
        jobs = await self._opened()
        return await jobs.get_job(name=self.naming.path(region), timeout=CALL_S)

    async def _begun(self, region: str, service: Any) -> Any:
        jobs = await self._opened()
        if service.name:
            return await jobs.update_job(job=service, timeout=CALL_S)
        return await jobs.create_job(
            parent=self.naming.parent(region),
            job=service,
            job_id=self.naming.service,
            timeout=CALL_S,
        )

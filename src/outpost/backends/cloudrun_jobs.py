"""Workers as runs of a Cloud Run job, which nobody has to hold: ``mode: job``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import BaseModel

from outpost.backends.cloudrun_costs import costs, price
from outpost.backends.cloudrun_job import JobDeployment
from outpost.backends.cloudrun_job_control import (
    JobControl,
    JobNaming,
    OpenJobClients,
    google_job_clients,
)
from outpost.backends.cloudrun_options import JOB_SUFFIX, CloudRunOptions
from outpost.clock import SystemClock
from outpost.errors import OutpostFault
from outpost.model import Capabilities, Handle, Health, Metered, Quote, Task
from outpost.ports import Greeting, Plan, Setup
from outpost.transports.cloud_job import JobOutpost
from outpost.transports.gcs import STORAGE, Bucket
from outpost.transports.gcs_access import Access, google_access
from outpost.wire.jobs import folder


class CloudRunJobOutpost(JobOutpost):
    """Workers as runs of a Cloud Run job, followed through a bucket.

    ``open_clients`` opens Google's clients for the control plane, ``access`` gets access tokens;
    by default both with the credentials of this machine. ``storage_url`` is where the bucket is.
    """

    kind: ClassVar[str] = "cloudrun"
    capabilities: ClassVar[Capabilities] = Capabilities(
        send=True, stop=True, paid=True, apart=True, metered=True
    )
    Options: ClassVar[type[BaseModel]] = CloudRunOptions

    def __init__(
        self,
        setup: Setup,
        options: CloudRunOptions,
        *,
        open_clients: OpenJobClients | None = None,
        access: Access | None = None,
        storage_url: str = STORAGE,
    ) -> None:
        assert options.bucket is not None, "as the options make sure"
        own = access or google_access(setup.name)
        bucket = Bucket(options.bucket, setup.name, own, storage_url)
        super().__init__(setup, bucket, SystemClock())
        self._setup = setup
        self._options = options
        job = options.service + JOB_SUFFIX
        naming = JobNaming(outpost=setup.name, project=options.project, service=job)
        self._control = JobControl(naming, open_clients or google_job_clients(setup.name))
        self._deployment = JobDeployment(setup, options, self._control)
        self._region = ""

    async def region(self) -> str:
        """Return the first region where the job is ready; asked once, as long as it is there."""
        if not self._region:
            self._region = (await self._deployment.first_ready())[0]
        return self._region

    async def run(self, region: str, name: str) -> str:
        try:
            return await self._control.run(region, name, self._deployment.deploy_hint())
        except OutpostFault:
            self._region = ""
            raise

    async def end_of(self, region: str, execution: str) -> str | None:
        return await self._control.end_of(region, execution)

    async def cancel(self, region: str, execution: str) -> None:
        await self._control.cancel(region, execution)

    async def metered(self, handle: Handle) -> Metered | None:
        """Return for how long a worker's run is billed."""
        self.worker(handle)
        found = await self.folder_of(handle.worker_id).record()
        execution = found[0].get("execution") if found else None
        if found is None or execution is None:
            return None
        return await self._control.metered(found[0]["region"], execution)

    async def ping(self) -> Health:
        """Look at the job and into the bucket; starts nothing."""
        try:
            health = await self._deployment.health()
            if health.ok:
                await self.bucket.names(folder(self.federation_id), most=1)
        except OutpostFault as exc:
            return Health(ok=False, detail=exc.message, hint=exc.hint)
        return health

    async def greet(self) -> Greeting | None:
        """Return what it will cost; that needs no network and asks nothing."""
        lines = tuple(costs(self._options, self._setup))
        return Greeting(lines=lines, question="", options={}, hint="")

    async def plan(self, image: str | None = None, *, adopt: bool = False) -> Plan:
        return await self._deployment.plan(image, adopt=adopt)

    async def deploy(self, plan: Plan, report: Callable[[str], None]) -> Sequence[str]:
        self._region = ""
        return await self._deployment.deploy(plan, report)

    async def close(self) -> None:
        await super().close()
        await self._control.close()

    def quote(self, task: Task | None) -> Quote:
        return price(self._options)

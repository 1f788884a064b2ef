"""``cloudrun`` outposts with ``mode: job``, whose Google is stand-ins on loopback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio  # type: ignore[import-untyped]
from google.cloud import run_v2
from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.jobs.transports import JobsGrpcAsyncIOTransport

from outpost.backends.cloudrun_job_control import JobClients, OpenJobClients
from outpost.backends.cloudrun_jobs import CloudRunJobOutpost
from outpost.backends.cloudrun_options import CloudRunOptions
from outpost.ports import Setup
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.doubles.cloud_run.declared import Image
from tests.doubles.cloud_run.identity import Identity
from tests.doubles.cloud_run.storage import ACCESS, Storage
from tests.unit.cloudrun_values import IMAGE, some_options

BUCKET = "outpost-work"
JOB = "outpost-worker-job"
ROOT = Path(__file__).parents[1]
JOB_KIND = "loopback-jobs"
CONTROL_ADDRESS, STORAGE_URL = "LOOPBACK_JOBS", "LOOPBACK_STORAGE"
# The image's entry point hands on what it is to run, as ours does.
WORKER = ("sh", "-c", f'shift; exec {sys.executable} -m outpost.runner "$@"', "enter")


def job_options(**more: Any) -> CloudRunOptions:
    return some_options(**{"mode": "job", "bucket": BUCKET, **more})


def job_clients_at(address: str) -> OpenJobClients:
    """Return what opens Google's own clients on a stand-in, as they are."""

    async def open_clients() -> JobClients:
        jobs: Any = grpc.aio.insecure_channel(address)
        executions: Any = grpc.aio.insecure_channel(address)
        return JobClients(
            jobs=run_v2.JobsAsyncClient(transport=JobsGrpcAsyncIOTransport(channel=jobs)),
            executions=run_v2.ExecutionsAsyncClient(
                transport=ExecutionsGrpcAsyncIOTransport(channel=executions)
            ),
        )

    return open_clients


async def stand_in_access(_refused: str) -> str:
    return ACCESS


@dataclass
class JobCloud:
    """A project with jobs and a bucket, and the outposts that were made for it."""

    cloud: CloudRun
    control: ControlPlane
    storage: Storage
    folder: Path
    made: list[CloudRunJobOutpost] = field(default_factory=list)

    def outpost(self, *, setup: dict[str, Any] | None = None, **options: Any) -> CloudRunJobOutpost:
        """Return an outpost; ``address`` and ``storage_url`` lead away from the stand-in."""
        address = options.pop("address", self.control.address)
        url = options.pop("storage_url", self.storage.url)
        fields: dict[str, Any] = {
            "name": "burst",
            "federation_id": "f-0123456789",
            "data_folder": str(self.folder),
            "environment": {},
            "max_workers": 20,
            **(setup or {}),
        }
        outpost = CloudRunJobOutpost(
            Setup(**fields),
            job_options(**options),
            open_clients=job_clients_at(address),
            access=stand_in_access,
            storage_url=url,
        )
        self.made.append(outpost)
        return outpost

    async def deploy(self) -> None:
        outpost = self.outpost()
        await outpost.deploy(await outpost.plan(IMAGE), lambda _: None)


@contextlib.asynccontextmanager
async def job_cloud(folder: Path, limits: Limits | None = None) -> AsyncIterator[JobCloud]:
    async with contextlib.AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(CloudRun(limits=limits or Limits(grace_s=5)))
        identity = await stack.enter_async_context(Identity(cloud.tokens))
        storage = await stack.enter_async_context(Storage(BUCKET))
        control = await stack.enter_async_context(ControlPlane(cloud))
        cloud.environment |= {**identity.metadata, "STORAGE_EMULATOR_HOST": storage.url}
        control.shelf.images[IMAGE] = Image(entrypoint=WORKER, command=("runner", "serve"))
        made = JobCloud(cloud, control, storage, folder)
        try:
            yield made
        finally:
            for outpost in made.made:
                await outpost.close()


class LoopbackJobs(CloudRunJobOutpost):
    """The kind as it is for commands, with Google at addresses in the environment."""

    def __init__(self, setup: Setup, options: CloudRunOptions) -> None:
        there = setup.environment
        super().__init__(
            setup,
            options,
            open_clients=job_clients_at(there[CONTROL_ADDRESS]),
            storage_url=there[STORAGE_URL],
        )


def installed_jobs(folder: Path, address: str, storage_url: str) -> dict[str, str]:
    """Install that kind for processes that have these variables."""
    info = folder / "loopback_jobs-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loopback-jobs\nVersion: 1\n")
    entry = f"{JOB_KIND} = tests.cloudrun_job_world:{LoopbackJobs.__name__}"
    (info / "entry_points.txt").write_text(f"[outpost.backends]\n{entry}\n")
    path = f"{folder}:{ROOT}"
    return {"PYTHONPATH": path, CONTROL_ADDRESS: address, STORAGE_URL: storage_url}

"""The conformance kit on a stand-in for Cloud Run's jobs, with a bucket in between."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outpost.backends.cloudrun_jobs import CloudRunJobOutpost
from outpost.control.environment import worker_environment
from outpost.model import Handle
from outpost.runner.place import Place
from outpost.testing import CHECKS, Bench, BenchOptions, Check, Outcome, run_check
from outpost.testing.contract import NotApplicable
from tests.cloudrun_job_world import job_cloud
from tests.doubles.cloud_run.container import free_port
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@contextlib.asynccontextmanager
async def bench_of(world: World, folder: Path) -> AsyncIterator[Bench]:
    async with job_cloud(folder) as google:
        await google.deploy()

        def make(federation_id: str) -> CloudRunJobOutpost:
            return google.outpost(setup={"federation_id": federation_id})

        def make_unreachable(federation_id: str) -> CloudRunJobOutpost:
            nowhere = f"127.0.0.1:{free_port()}"
            return google.outpost(
                setup={"federation_id": federation_id},
                address=nowhere,
                storage_url=f"http://{nowhere}",
            )

        def kill(handle: Handle) -> None:
            places = google.cloud.folder.glob(f"**/workers/{handle.worker_id}")
            pids = [pid for it in places for pid in Place(str(it)).pids("runner.pid")]
            if not pids:
                raise NotApplicable("no runner")
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

        yield Bench(
            BenchOptions(
                make=make,
                make_unreachable=make_unreachable,
                repo_url=world.remote.url,
                environment=worker_environment(world.environment, agent_variables=(), extra=()),
                kill=kill,
            )
        )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_jobs_keep_the_contract(world: World, tmp_path: Path, check: Check) -> None:
    async with bench_of(world, tmp_path / "data") as bench:
        result = await run_check(bench, check)
    assert result.outcome is not Outcome.FAILED, f"{result.reason}\n{result.detail}"

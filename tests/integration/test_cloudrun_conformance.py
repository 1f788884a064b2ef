"""The conformance kit on a stand-in for Cloud Run: its service, deployed, takes our workers."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outpost.backends.cloudrun import CloudRunOutpost
from outpost.control.environment import worker_environment
from outpost.model import Handle
from outpost.runner.place import Place
from outpost.testing import CHECKS, Bench, BenchOptions, Check, Outcome, run_check
from outpost.testing.contract import NotApplicable
from tests.cloudrun_world import TOKEN, TOKEN_SECRET, loopback_outpost
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.unit.cloudrun_values import IMAGE, some_options
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CUT_STARTS = "cancelled_spawn_hides_nothing"


@contextlib.asynccontextmanager
async def bench_of(world: World, folder: Path, concurrency: int) -> AsyncIterator[Bench]:
    async with CloudRun(limits=Limits(grace_s=5)) as cloud, ControlPlane(cloud) as control:
        control.image(IMAGE, sys.executable, "-m", "outpost.runner", "serve")
        control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()
        made: list[CloudRunOutpost] = []

        def make(federation_id: str) -> CloudRunOutpost:
            made.append(
                loopback_outpost(
                    control.address,
                    some_options(token="env://OUTPOST_TOKEN", concurrency=concurrency),
                    folder,
                    cloud.tokens,
                    federation_id=federation_id,
                )
            )
            return made[-1]

        def kill(handle: Handle) -> None:
            places = cloud.folder.glob(f"**/workers/{handle.worker_id}")
            pids = [pid for it in places for pid in Place(str(it)).pids("runner.pid")]
            if not pids:
                raise NotApplicable("no runner")
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

        bench = Bench(
            BenchOptions(
                make=make,
                repo_url=world.remote.url,
                environment=worker_environment(world.environment, agent_variables=(), extra=()),
                kill=kill,
            )
        )
        plan = await make(bench.federation_id).plan(IMAGE)
        await made[-1].deploy(plan, lambda _: None)
        try:
            yield bench
        finally:
            for outpost in made:
                await outpost.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_cloud_run_keeps_the_contract(world: World, tmp_path: Path, check: Check) -> None:
    # A start that was cut off leaves an instance with a worker that nobody follows; what is sent to
    # it next is refused, until that worker has given up: more than one has to have room there.
    concurrency = 20 if check.name == CUT_STARTS else 1
    async with bench_of(world, tmp_path / "data", concurrency) as bench:
        result = await run_check(bench, check)
    assert result.outcome is not Outcome.FAILED, f"{result.reason}\n{result.detail}"

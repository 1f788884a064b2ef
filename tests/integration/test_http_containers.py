"""Containers over HTTP/2: the conformance kit, with real servers as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from outpost.control.environment import worker_environment
from outpost.model import Handle
from outpost.ports import Setup
from outpost.runner.place import Place
from outpost.testing import CHECKS, Bench, BenchOptions, Check, Outcome, run_check
from outpost.testing.contract import NotApplicable
from tests.doubles.process_containers import ProcessContainers, stop
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@contextlib.asynccontextmanager
async def bench_of(world: World) -> AsyncIterator[Bench]:
    folder = world.folder / "containers"
    made: list[ProcessContainers] = []

    def make(federation_id: str, *, reachable: bool = True) -> ProcessContainers:
        setup = Setup(
            name="boxes",
            federation_id=federation_id,
            data_folder=str(world.folder / "data"),
            environment=world.environment,
        )
        made.append(ProcessContainers(setup, folder, reachable=reachable))
        return made[-1]

    def kill(handle: Handle) -> None:
        root = folder / handle.worker_id / "root" / "workers" / handle.worker_id
        pids = Place(str(root)).pids("runner.pid")
        if not pids:
            raise NotApplicable("no runner")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    options = BenchOptions(
        make=make,
        make_unreachable=lambda federation_id: make(federation_id, reachable=False),
        repo_url=world.remote.url,
        environment=worker_environment(world.environment, agent_variables=(), extra=()),
        kill=kill,
    )
    bench = Bench(options)
    try:
        yield bench
    finally:
        for outpost in made:
            await outpost.close()
        for home in folder.iterdir() if folder.exists() else ():
            stop(home)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_containers_keep_the_contract(world: World, check: Check) -> None:
    async with bench_of(world) as bench:
        result = await run_check(bench, check)
    assert result.outcome is not Outcome.FAILED, f"{result.reason}\n{result.detail}"

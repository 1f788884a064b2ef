"""Held instances over HTTP/2: the conformance kit, with a real server of this machine."""

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
from tests.doubles.held_server import HeldServer, Server
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@contextlib.asynccontextmanager
async def bench_of(world: World) -> AsyncIterator[Bench]:
    server = Server(world.folder / "instance", world.environment, "--max-workers", "50")
    made: list[HeldServer] = []

    def make(federation_id: str) -> HeldServer:
        setup = Setup(
            name="cloud",
            federation_id=federation_id,
            data_folder=str(world.folder / "data"),
            environment=world.environment,
        )
        made.append(HeldServer(setup, server))
        return made[-1]

    def kill(handle: Handle) -> None:
        pids = Place(str(server.root / "workers" / handle.worker_id)).pids("runner.pid")
        if not pids:
            raise NotApplicable("no runner")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    options = BenchOptions(
        make=make,
        repo_url=world.remote.url,
        environment=worker_environment(world.environment, agent_variables=(), extra=()),
        kill=kill,
    )
    server.start()
    bench = Bench(options)
    try:
        yield bench
    finally:
        for outpost in made:
            await outpost.close()
        server.end()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_held_instances_keep_the_contract(world: World, check: Check) -> None:
    async with bench_of(world) as bench:
        result = await run_check(bench, check)
    assert result.outcome is not Outcome.FAILED, f"{result.reason}\n{result.detail}"

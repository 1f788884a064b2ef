"""The conformance kit on a stand-in for E2B: its sandboxes take our workers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outpost.backends.e2b import E2bOutpost
from outpost.control.environment import worker_environment
from outpost.model import Handle
from outpost.runner.place import Place
from outpost.testing import CHECKS, Bench, BenchOptions, Check, Outcome, run_check
from outpost.testing.contract import NotApplicable
from tests.doubles.e2b.cloud import E2bCloud
from tests.doubles.e2b.limits import Limits
from tests.e2b_world import KEY, TEMPLATE, outpost_on, place_of
from tests.world import World, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@contextlib.asynccontextmanager
async def bench_of(world: World, folder: Path) -> AsyncIterator[Bench]:
    with E2bCloud(folder / "e2b", limits=Limits(concurrent=200)) as e2b:
        e2b.add_template(TEMPLATE)
        made: list[E2bOutpost] = []

        def make(federation_id: str, **more: Any) -> E2bOutpost:
            setup = {"federation_id": federation_id, "environment": {KEY: e2b.api_key}}
            made.append(outpost_on(e2b, folder / "data", setup=setup, **more))
            return made[-1]

        def unreachable(federation_id: str) -> E2bOutpost:
            return make(federation_id, api_url=f"http://127.0.0.1:{free_port()}")

        def kill(handle: Handle) -> None:
            places = [place_of(it, handle.worker_id) for it in e2b.sandboxes()]
            pids = [pid for it in places for pid in Place(str(it)).pids("runner.pid")]
            if not pids:
                raise NotApplicable("no runner")
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

        bench = Bench(
            BenchOptions(
                make=make,
                make_unreachable=unreachable,
                repo_url=world.remote.url,
                environment=worker_environment(world.environment, agent_variables=(), extra=()),
                kill=kill,
            )
        )
        try:
            yield bench
            await bench.clear()
        finally:
            for outpost in made:
                await outpost.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_e2b_keeps_the_contract(world: World, tmp_path: Path, check: Check) -> None:
    async with bench_of(world, tmp_path) as bench:
        result = await run_check(bench, check)
    assert result.outcome is not Outcome.FAILED, f"{result.reason}\n{result.detail}"

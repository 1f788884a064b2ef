"""What the stand-in would bill for workers, beside what the ledger counts for the same time."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from outpost.backends.cloudrun import CloudRunOutpost
from outpost.backends.cloudrun_costs import keeping
from outpost.control.environment import worker_environment
from outpost.model import Charge
from outpost.testing import Bench, BenchOptions
from tests.cloudrun_world import TOKEN, TOKEN_SECRET, loopback_outpost
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.unit.cloudrun_values import IMAGE, SERVICE, some_options
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
WORKERS, WORK_S, WARM_S = 3, 300.0, 300.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Hands:
    """The seconds that are billed, set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def counted(outpost: CloudRunOutpost, seconds: float) -> int:
    """Return what the ledger counts for a worker that ran so long, in micro-dollars."""
    end = BEGIN + timedelta(seconds=seconds)
    charge = Charge(
        attempt_id="w-1",
        task_id="t-1",
        issue_id="words-1",
        outpost="burst",
        kind="cloudrun",
        agent="command",
        repo="words",
        started_at=BEGIN,
        held_until=end,
        ended_at=end,
        microusd_per_hour=outpost.quote(None).microusd_per_hour,
    )
    return charge.spent_microusd(end)


@pytest.mark.parametrize(("billing", "each"), [("request", 17_400), ("instance", 13_200)])
async def test_the_bill_is_what_the_ledger_says(
    world: World, tmp_path: Path, billing: str, each: int
) -> None:
    hands = Hands()
    limits = Limits(grace_s=5, clock=hands)
    async with CloudRun(limits=limits) as cloud, ControlPlane(cloud) as control:
        control.image(IMAGE, sys.executable, "-m", "outpost.runner", "serve")
        control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()
        options = some_options(token="env://OUTPOST_TOKEN", billing=billing, keep_alive="5m")

        def make(federation_id: str) -> CloudRunOutpost:
            return loopback_outpost(
                control.address, options, tmp_path, cloud.tokens, federation_id=federation_id
            )

        environment = worker_environment(world.environment, agent_variables=(), extra=())
        bench = Bench(BenchOptions(make=make, repo_url=world.remote.url, environment=environment))
        outpost = make(bench.federation_id)
        await outpost.deploy(await outpost.plan(IMAGE), lambda _: None)
        sign = tmp_path / "over"
        script = f"while [ ! -e {sign} ]; do sleep 0.05; done"
        orders = [bench.order(script) for _ in range(WORKERS)]
        handles = [await outpost.spawn(order, environment) for order in orders]
        hands.seconds += WORK_S
        sign.touch()

        async def ended(number: int) -> str:
            events = outpost.worker(handles[number]).events(follow=True)
            return [event.type async for event in events][-1]

        assert await asyncio.gather(*map(ended, range(WORKERS))) == ["result"] * WORKERS
        assert counted(outpost, WORK_S) == each
        assert cloud.usage(SERVICE).compute_microusd == WORKERS * each
        # Held warm for as long as it may be, an instance costs what was said of that.
        hands.seconds += WARM_S
        said = keeping(options).rpartition("$")[2]
        warm = cloud.usage(SERVICE).compute_microusd - WORKERS * each
        assert warm == WORKERS * Fraction(said) * 1_000_000
        await outpost.close()

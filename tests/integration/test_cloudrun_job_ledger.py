"""What the stand-in would bill for runs of a job, beside what the ledger counts for them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outpost.control.environment import worker_environment
from outpost.model import Charge
from outpost.testing import Bench, BenchOptions
from tests.cloudrun_job_world import job_cloud
from tests.doubles.cloud_run import Limits
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
WORKERS, BEGIN = 3, datetime(2026, 1, 1, tzinfo=UTC)


class Hands:
    """The seconds that are billed, set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(("work_s", "each"), [(7200.0, 316_800), (20.0, 2_640)])
async def test_the_bill_is_what_the_ledger_says_from_a_minute_on(
    world: World, tmp_path: Path, work_s: float, each: int
) -> None:
    hands = Hands()
    async with job_cloud(tmp_path / "data", Limits(grace_s=5, clock=hands)) as google:
        await google.deploy()
        outpost = google.outpost()
        environment = worker_environment(world.environment, agent_variables=(), extra=())
        bench = Bench(
            BenchOptions(make=lambda _: outpost, repo_url=world.remote.url, environment=environment)
        )
        sign = tmp_path / "over"
        script = f"echo begun; while [ ! -e {sign} ]; do sleep 0.05; done"
        orders = [bench.order(script, federation_id="f-0123456789") for _ in range(WORKERS)]
        handles = [await outpost.spawn(order, environment) for order in orders]
        for handle in handles:
            await bench.wait_for_line(handle, "begun")
        hands.seconds += work_s
        sign.touch()
        for handle in handles:
            events = [it.type async for it in outpost.worker(handle).events(follow=True)]
            assert events[-1] == "result"
        running = google.control.jobs.running.values()
        while not all(it.message.completion_time for it in running):
            await asyncio.sleep(0.02)
        assert google.cloud.usage().compute_microusd == WORKERS * each
        # What Google's own instants say, which no hands of ours move.
        told = await outpost.metered(handles[0])
        assert told is not None
        assert (told.seconds, told.final) == (60, True)
        end = BEGIN + timedelta(seconds=work_s)
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
        # A run that was shorter than a minute costs a minute: the meter has the last word.
        counted = charge.spent_microusd(end)
        assert counted == (each if work_s >= 60 else each * work_s / 60)
        assert "a minute at least" in outpost.quote(None).source

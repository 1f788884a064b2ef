"""What the ledger says of workers on Cloud Run is what Cloud Run bills, to the micro-dollar."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from outpost.backends.cloudrun_costs import price
from outpost.model import Attempt, State
from outpost.ports import Store
from outpost.store import open_store
from tests.doubles.cloud_run.metering import Billing, Meter
from tests.unit.cloudrun_values import some_options
from tests.unit.store_values import NOON, MovingClock, a_charge, a_decision, a_task, an_attempt

WORKERS, SECONDS = 50, 300


class Seconds:
    """A clock of the platform that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def billed(billing: Billing) -> int:
    """Return the micro-dollars of so many instances with one request each, all that time."""
    clock = Seconds()
    meters = [Meter(clock=clock, billing=billing, vcpus=2, memory_gib=4) for _ in range(WORKERS)]
    for meter in meters:
        meter.enter()
    clock.now = SECONDS
    for meter in meters:
        meter.leave()
        meter.end()
    total = sum(meter.usage().compute_microusd for meter in meters)
    assert total == int(total)
    return int(total)


async def started(store: Store, number: int, price: int | None) -> Attempt:
    """Return an attempt of a new task at work."""
    task = a_task(number)
    await store.add_task(task)
    wanted = replace(an_attempt(task, outpost="burst"), created_at=NOON)
    claimed = await store.claim(
        wanted,
        a_decision(task, "burst"),
        max_workers=None,
        charge=a_charge(wanted, price=price),
    )
    assert claimed
    working = replace(claimed, state=State.WORKING, seq=1)
    assert await store.apply(working)
    return working


@pytest.mark.parametrize(
    ("billing", "microusd"), [("request", 870_000), ("instance", WORKERS * 13_200)]
)
async def test_fifty_workers_for_five_minutes(
    store_url: str, billing: Billing, microusd: int
) -> None:
    """$0.0174 each where billing is by request: 2 virtual CPUs and 4 GiB for 300 s."""
    quote = price(some_options(cpu=2, memory="4Gi", billing=billing))
    clock = MovingClock()
    store = open_store(store_url, clock=clock)
    try:
        working = [
            await started(store, number, quote.microusd_per_hour) for number in range(WORKERS)
        ]
        clock.instant = NOON + timedelta(seconds=SECONDS)
        for attempt in working:
            done = replace(attempt, state=State.DONE, seq=2, ended_at=clock.instant)
            assert await store.apply(done)
        charges = await store.charges(since=NOON)
        total = sum(it.compute_microusd(NOON + timedelta(hours=9)) for it in charges)
        assert total == billed(billing) == microusd
    finally:
        await store.close()

"""The loop that bills ended workers for what their providers meter."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.clock import SystemClock
from outpost.control.loops.meter import PATIENCE, Meter
from outpost.errors import OutpostFault
from outpost.federation import Federation
from outpost.model import Cap, Handle, Metered, Window
from outpost.policy.windows import windows
from tests.faulty_world import SteppedClock
from tests.integration.loops_world import BUSY, Ours, end, local_setup
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

A_SECOND = 1000
CONFIG = "outposts: [{name: local, type: local, price_hourly: 3.60}]\n"
HOUR = Cap(name="hour", window=Window.HOUR, limit_microusd=10**9, outposts=None)


class Metering(LocalOutpost):
    """An outpost whose provider has the words in ``told``, one after the other."""

    def __init__(self, world: World, *told: Metered | OutpostFault | None) -> None:
        super().__init__(local_setup(world), LocalOptions())
        self.told = list(told)
        self.asked: list[str] = []

    async def metered(self, handle: Handle) -> Metered | None:
        self.asked.append(handle.worker_id)
        said = self.told.pop(0)
        if isinstance(said, OutpostFault):
            raise said
        return said


def loop_of(federation: Federation, outpost: Metering, *names: str) -> Meter:
    store = federation.store
    return Meter(store, SystemClock(), {"local": outpost}, leased=Ours(*(names or ("local",))))


async def spent(federation: Federation) -> int:
    """Return what caps count of the last hour."""
    now = SystemClock().now()
    (used,) = await federation.store.used(windows((HOUR,), now, UTC), now)
    return used.spent_microusd


async def test_a_bill_is_what_the_provider_says_last(world: World) -> None:
    outpost = Metering(
        world,
        Metered(seconds=40.2, final=False),
        OutpostFault("it is down", outpost="local"),
        Metered(seconds=61.0, final=True),
    )
    async with world.federation(config=CONFIG) as federation:
        attempt = await (await world.spawn(federation, "true")).result()
        loop, charge = loop_of(federation, outpost), federation.store.charge
        own = await charge(attempt.id)
        assert own is not None
        assert own.compute_microusd(SystemClock().now()) < 30 * A_SECOND
        for seconds, waiting in ((41, 1), (41, 1), (61, 0), (61, 0)):
            await loop.round()
            billed = await charge(attempt.id)
            assert billed is not None
            assert billed.compute_microusd(SystemClock().now()) == seconds * A_SECOND
            assert await spent(federation) == seconds * A_SECOND
            assert loop.waiting == waiting
        assert outpost.asked == [attempt.id] * 3


async def test_where_nobody_knows_our_own_count_holds(world: World) -> None:
    outpost = Metering(world, None)
    async with world.federation(config=CONFIG) as federation:
        attempt = await (await world.spawn(federation, "true")).result()
        before = await federation.store.charge(attempt.id)
        loop = loop_of(federation, outpost)
        for _ in range(2):
            await loop.round()
        assert await federation.store.charge(attempt.id) == before
        assert (outpost.asked, loop.waiting) == ([attempt.id], 0)


async def test_only_what_has_ended_of_late_and_is_ours_is_asked_about(world: World) -> None:
    outpost = Metering(world)
    async with world.federation(config=CONFIG) as federation:
        running = await world.spawn(federation, BUSY)
        await loop_of(federation, outpost).round()
        ended = await (await world.spawn(federation, "true")).result()
        await loop_of(federation, outpost, "another").round()
        later = SteppedClock()
        later.step(PATIENCE / timedelta(seconds=1) + 60)
        await Meter(federation.store, later, {"local": outpost}, leased=Ours("local")).round()
        assert outpost.asked == []
        assert await federation.store.note_metered(running.attempt.id, 5) is False
        assert await federation.store.note_metered("w-nobody", 5) is False
        assert await federation.store.note_metered(ended.id, 5) is True
        await end(federation, running.attempt)

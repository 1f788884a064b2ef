"""The loop that has outposts do what they need done from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.control.loops.tend import Tend
from outpost.errors import OutpostFault
from outpost.model import State
from outpost.ports import Tended
from tests.faulty_world import SteppedClock
from tests.integration.loops_world import BUSY, Ours, end, local_setup, newest
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


class Tenant(LocalOutpost):
    """An outpost that writes down what it is told; ``trouble`` is what it says, if anything."""

    def __init__(self, world: World) -> None:
        super().__init__(local_setup(world), LocalOptions())
        self.told: list[dict[str, float | None]] = []
        self.trouble = ""

    async def tend(self, workers: Sequence[Tended]) -> None:
        self.told.append({it.handle.worker_id: it.waiting_s for it in workers})
        if self.trouble:
            raise OutpostFault(self.trouble, outpost=self.name)


async def told(loop: Tend, place: Tenant, expected: dict[str, float | None]) -> None:
    """Go round until the outpost is told just that: what was done just now rests a while."""
    async with asyncio.timeout(20):
        while not place.told or place.told[-1] != expected:
            await loop.round()
            await asyncio.sleep(0.1)


async def test_an_outpost_is_told_who_lives_and_how_long_each_waits(world: World) -> None:
    async with world.federation() as federation:
        clock, place = SteppedClock(), Tenant(world)
        loop = Tend(federation.store, clock, {"local": place}, leased=Ours("local"))
        await told(loop, place, {})
        worker = await world.spawn(federation, BUSY)
        attempt = await newest(federation, worker.attempt)
        await told(loop, place, {attempt.id: None})
        waiting = replace(attempt, state=State.WAITING, seq=attempt.seq + 1)
        assert await federation.store.apply(waiting)
        await told(loop, place, {attempt.id: 0.0})
        clock.step(90)
        await told(loop, place, {attempt.id: 90.0})
        unseen = replace(waiting, state=State.UNKNOWN, told=State.WAITING)
        assert await federation.store.apply(unseen)
        clock.step(10)
        await told(loop, place, {attempt.id: 100.0})
        ended = replace(unseen, state=State.DONE, seq=waiting.seq + 1, ended_at=clock.now())
        assert await federation.store.apply(ended)
        await told(loop, place, {})
        await loop.close()
        await end(federation, attempt)


async def test_only_our_own_are_tended_and_their_trouble_is_said(world: World) -> None:
    async with world.federation() as federation:
        theirs, ours = Tenant(world), Tenant(world)
        ours.trouble = "the provider is down"
        outposts = {"local": ours, "other": theirs}
        loop = Tend(federation.store, SteppedClock(), outposts, leased=Ours("local"))
        await told(loop, ours, {})
        async with asyncio.timeout(20):
            while loop.doing != "local: the provider is down":
                await loop.round()
                await asyncio.sleep(0.1)
        assert theirs.told == []
        await loop.close()

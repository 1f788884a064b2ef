"""The loop that ends what is over, on real workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from outpost.control.deadlines import ASKED
from outpost.control.loops.expire import Expire
from outpost.federation import Federation
from outpost.model import Attempt, State
from tests.faulty_world import MakeWorld, SteppedClock
from tests.integration.loops_world import Ours, end, newest, started
from tests.world import World, pids_marked

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

STUBBORN = "echo x > new.txt; trap '' INT TERM; while :; do sleep 1; done"
HELD_S = 60 + 120
"""What is reserved for a worker with a limit of a minute."""


class Stops:
    """Counts the stops of each worker, and those of it that go on."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.most_at_once = 0
        self._going: dict[str, int] = {}

    def counted(self, stop: Callable[..., object]) -> Callable[..., object]:
        async def counted(attempt: Attempt, reason: str) -> None:
            name = attempt.id
            self.begun[name] = self.begun.get(name, 0) + 1
            self._going[name] = self._going.get(name, 0) + 1
            self.most_at_once = max(self.most_at_once, self._going[name])
            try:
                await stop(attempt, reason)  # type: ignore[misc]  # it is a coroutine function
            finally:
                self._going[name] -= 1

        return counted


async def the_loop(federation: Federation, *names: str, stops: Stops | None = None) -> Expire:
    """Return the loop as a controller has it that looks after these outposts."""
    follower = await federation.parts.follower()
    stop = (await federation.parts.stopper()).stop
    return Expire(
        federation.parts.spending,
        outposts=follower.outposts,
        leased=Ours(*names),
        settings=federation.config.controller,
        stop=(stops or Stops()).counted(stop),  # type: ignore[arg-type]  # counted keeps the kind
        give_up=follower.give_up,
    )


async def rounds_until(
    loop: Expire, federation: Federation, attempt: Attempt, state: State
) -> Attempt:
    """Go round, each time without waiting for any worker, until one is stored in a state."""
    async with asyncio.timeout(20):
        while (seen := await newest(federation, attempt)).state is not state:
            begun = time.monotonic()
            await loop.round()
            assert time.monotonic() - begun < 3
            await asyncio.sleep(0.05)
    return seen


async def test_a_paid_worker_over_its_time_is_stopped_and_its_work_is_saved(
    faulty: MakeWorld,
) -> None:
    world, clock = faulty("a", price_hourly=3.6), SteppedClock()
    async with world.federation(clock) as federation:
        attempt = await started(world, federation, time_limit_s=60.0)
        stops = Stops()
        loop = await the_loop(federation, "a", stops=stops)
        clock.step(HELD_S)
        await loop.round()
        assert stops.begun == {}
        clock.step(70)
        ended = await rounds_until(loop, federation, attempt, State.STOPPED)
        assert "its time is over" in ended.reason
        assert ended.stop_asked
        assert world.world.remote.show(ended.branch, "new.txt") == "x"
        assert (await federation.store.task(ended.task_id)).state is State.STOPPED
        await loop.close()
        assert stops.begun == {attempt.id: 1}


async def test_who_takes_long_to_stop_keeps_no_other_from_it(faulty: MakeWorld) -> None:
    world, clock = faulty("a", "b", price_hourly=3.6), SteppedClock()
    async with world.federation(clock) as federation:
        slow = await started(world, federation, STUBBORN, on="a", time_limit_s=60.0)
        quick = await started(world, federation, on="b", time_limit_s=60.0)
        stops = Stops()
        loop = await the_loop(federation, "a", "b", stops=stops)
        clock.step(HELD_S + 61)
        await rounds_until(loop, federation, quick, State.STOPPED)
        assert not (await newest(federation, slow)).state.ended
        assert loop.doing.startswith("ending ")
        await rounds_until(loop, federation, slow, State.STOPPED)
        await loop.close()
        assert stops.begun == {slow.id: 1, quick.id: 1}
        assert stops.most_at_once == 1


async def test_a_used_up_cap_ends_what_counts_towards_it(faulty: MakeWorld, world: World) -> None:
    here, clock = faulty("a", "b", price_hourly=3.6), SteppedClock()
    async with here.federation(clock) as federation:
        attempt = await started(here, federation, on="a", time_limit_s=60.0)
        loop = await the_loop(federation, "a", "b")
        await loop.round()
        assert loop.doing == ""
    world.config(here.config + "budget: {daily: 0.001, on_cap: stop}\n")
    clock.step(2)
    async with here.federation(clock) as federation:
        loop = await the_loop(federation, "a", "b")
        ended = await rounds_until(loop, federation, attempt, State.STOPPED)
        await loop.close()
        assert ended.reason == "the daily budget is used up"
        assert world.remote.show(ended.branch, "new.txt") == "x"


async def test_who_was_asked_to_stop_is_stopped_when_the_asker_died(faulty: MakeWorld) -> None:
    world, clock = faulty("a"), SteppedClock()
    async with world.federation(clock) as federation:
        attempt = await started(world, federation)
        stops = Stops()
        loop = await the_loop(federation, "a", stops=stops)
        await federation.store.ask_to_stop(attempt.id, "by outpost stop")
        await loop.round()
        clock.step(ASKED.total_seconds() - 1)
        await loop.round()
        assert stops.begun == {}
        clock.step(1)
        ended = await rounds_until(loop, federation, attempt, State.STOPPED)
        await loop.close()
        assert ended.reason == "by outpost stop"


async def test_who_is_out_of_contact_too_long_is_tried_again(faulty: MakeWorld) -> None:
    world, clock = faulty("a"), SteppedClock()
    async with world.federation(clock) as federation:
        attempt = await started(world, federation)
        world.faults["a"].change(partition="the cable is cut")
        unseen = await (await federation.parts.follower()).refresh(attempt)
        assert unseen.state is State.UNKNOWN
        loop = await the_loop(federation, "a")
        clock.step(11 * 3600)
        await loop.round()
        clock.step(3601)
        lost = await rounds_until(loop, federation, attempt, State.LOST)
        await loop.close()
        assert lost.reason.startswith("given up, last seen 20")
        assert lost.reason.endswith("the cable is cut")
        assert (await federation.store.task(lost.task_id)).state is State.QUEUED
        # It runs all the same, and is left to the comparison with what really runs.
        assert pids_marked({attempt.id})
        world.faults["a"].change(partition=None)
        await end(federation, attempt)


async def test_a_stop_that_did_not_get_through_is_tried_until_it_does(faulty: MakeWorld) -> None:
    world = faulty("a")
    async with world.federation() as federation:
        attempt = await started(world, federation)
        world.faults["a"].change(partition="the cable is cut")
        unseen = await (await federation.parts.follower()).refresh(attempt)
        assert unseen.state is State.UNKNOWN
        await federation.store.ask_to_stop(attempt.id, "by outpost stop")
        stops = Stops()
        loop = await the_loop(federation, "a", stops=stops)
        async with asyncio.timeout(10):
            while not stops.begun or loop.doing.startswith("ending"):
                await loop.round()
                await asyncio.sleep(0.05)
        assert not (await newest(federation, attempt)).state.ended
        assert "cannot end" in loop.doing
        world.faults["a"].change(partition=None)
        await rounds_until(loop, federation, attempt, State.STOPPED)
        await loop.close()
        assert stops.begun[attempt.id] >= 2


async def test_only_ours_are_ended_and_those_that_nobody_looks_after(
    faulty: MakeWorld, world: World
) -> None:
    here, clock = faulty("a", "b"), SteppedClock()
    async with here.federation(clock) as federation:
        attempt = await started(here, federation, on="a")
        other = await started(here, federation, on="b")
        for each in (attempt, other):
            await federation.store.ask_to_stop(each.id, "by outpost stop")
    world.config(here.config.replace("name: a\n", "name: c\n").replace("[a, b]", "[c, b]"))
    async with here.federation(clock) as federation:
        store, stops = federation.store, Stops()
        loop = await the_loop(federation, "c", stops=stops)
        clock.step(13 * 3600)
        # Another controller, with another configuration, looks after outpost a.
        await store.take_leases(["outpost:a"], "another", ttl_s=3600)
        await loop.round()
        assert not (await newest(federation, attempt)).state.ended
        await store.drop_leases("another")
        lost = await rounds_until(loop, federation, attempt, State.LOST)
        await loop.close()
        assert "nobody looks after the outpost 'a'" in lost.reason
        assert (await store.task(lost.task_id)).state is State.LOST, "it was asked to stop"
        assert not (await newest(federation, other)).state.ended, "b is configured, and not ours"
        assert stops.begun == {}
    world.config(here.config)
    async with here.federation(clock) as federation:
        await end(federation, attempt, other)

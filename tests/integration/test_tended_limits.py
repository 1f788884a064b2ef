"""Time limits where a bill stands still for a while: what was not billed does not count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.control.loops import expire
from outpost.control.loops.expire import Expire
from outpost.control.loops.tend import Tend
from outpost.errors import OutpostFault
from outpost.federation import Federation
from outpost.model import Attempt, Capabilities, Handle, Metered, State
from outpost.ports import Outpost
from tests.doubles.e2b.cloud import E2bCloud
from tests.e2b_world import KEY, TEMPLATE, config_for, sandbox_of
from tests.faulty_world import SteppedClock
from tests.integration.loops_world import BUSY, Ours, end, local_setup, newest
from tests.world import DEADLINE_S, World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

PRICED = "outposts: [{name: local, type: local, price_hourly: 3.60}]\n"
HELD_S = 60 + 120
"""What is reserved for a worker with a limit of a minute."""
NIGHT_S = 15 * 3600.0

Told = Metered | OutpostFault | None


def ran(seconds: float) -> Metered:
    return Metered(seconds=seconds, final=False)


class Metering(LocalOutpost):
    """An outpost whose provider says ``told`` of each worker."""

    capabilities: ClassVar[Capabilities] = replace(LocalOutpost.capabilities, metered=True)

    def __init__(self, world: World, told: Told) -> None:
        super().__init__(local_setup(world), LocalOptions())
        self.told = told
        self.asked = 0
        self.hangs = False

    async def metered(self, handle: Handle) -> Metered | None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.told, OutpostFault):
            raise self.told
        return self.told


class Ends:
    """The loop on one outpost, and what it would have done to its workers."""

    def __init__(self, federation: Federation, outpost: Outpost) -> None:
        self.done: list[str] = []
        self.loop = Expire(
            federation.parts.spending,
            outposts=lambda _name: outpost,
            leased=Ours(outpost.name),
            settings=federation.config.controller,
            stop=self._note("stop"),
            give_up=self._note("give up"),
        )

    async def round(self) -> list[str]:
        """Go round, wait for what was begun, and return what was done so far."""
        await self.loop.round()
        async with asyncio.timeout(DEADLINE_S):
            while "ending" in self.loop.doing:
                await asyncio.sleep(0.02)
                await self.loop.round()
        return self.done

    def _note(self, act: str) -> Callable[[Attempt, str], Awaitable[object]]:
        async def note(attempt: Attempt, reason: str) -> None:
            self.done.append(act)

        return note


@pytest.fixture
async def priced(world: World) -> AsyncIterator[tuple[Federation, SteppedClock, Attempt]]:
    """Return a federation with one paid worker, whose limit is a minute."""
    clock = SteppedClock()
    async with world.federation(config=PRICED) as federation:
        federation.clock = clock
        worker = await world.spawn(federation, BUSY, time_limit_s=60.0)
        yield federation, clock, worker.attempt
        await end(federation, worker.attempt)


Priced = tuple[Federation, SteppedClock, Attempt]


async def test_only_time_that_was_billed_counts(world: World, priced: Priced) -> None:
    federation, clock, _ = priced
    outpost = Metering(world, ran(HELD_S - 100))
    ends = Ends(federation, outpost)
    clock.step(NIGHT_S)
    assert await ends.round() == []
    clock.step(100 + 60)
    assert await ends.round() == []
    assert outpost.asked == 1, "it cannot be over before"
    outpost.told = ran(HELD_S + 61)
    clock.step(1)
    assert await ends.round() == ["stop"]


@pytest.mark.parametrize("told", [None, ran(0), ran(HELD_S + 61)])
@pytest.mark.parametrize(("state", "act"), [(State.WORKING, "stop"), (State.UNKNOWN, "give up")])
async def test_where_nothing_speaks_for_it_the_clock_holds(
    world: World, priced: Priced, told: Told, state: State, act: str
) -> None:
    federation, clock, attempt = priced
    known = await newest(federation, attempt)
    await federation.store.apply(replace(known, state=state, reason="no route"))
    outpost = Metering(world, told)
    ends = Ends(federation, outpost)
    clock.step(HELD_S + 60)
    assert await ends.round() == []
    assert outpost.asked == 0
    clock.step(5)
    assert await ends.round() == [act]


async def test_a_provider_out_of_reach_is_asked_again_for_a_while(
    world: World, priced: Priced
) -> None:
    """A machine that has just woken may have no network yet."""
    federation, clock, _ = priced
    outpost = Metering(world, OutpostFault("no route", outpost="a"))
    ends = Ends(federation, outpost)
    clock.step(NIGHT_S)
    assert await ends.round() == []
    assert "no route" in ends.loop.doing
    clock.step(121)
    async with asyncio.timeout(DEADLINE_S):
        while not await ends.round():
            await asyncio.sleep(0.1)
    assert ends.done == ["stop"]


async def test_a_provider_that_never_answers_keeps_nobody(
    world: World, priced: Priced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expire, "METERED_S", 0.1)
    federation, clock, _ = priced
    outpost = Metering(world, ran(1))
    outpost.hangs = True
    clock.step(NIGHT_S)
    assert await Ends(federation, outpost).round() == ["stop"]


async def test_who_was_out_of_contact_and_not_billed_is_not_given_up(
    world: World, priced: Priced
) -> None:
    federation, clock, attempt = priced
    known = await newest(federation, attempt)
    await federation.store.apply(replace(known, state=State.UNKNOWN, reason="no route"))
    clock.step(NIGHT_S)
    assert await Ends(federation, Metering(world, ran(30))).round() == []


async def test_a_sandbox_that_was_paused_all_night_goes_on(world: World, tmp_path: Path) -> None:
    with E2bCloud(tmp_path / "e2b") as e2b:
        e2b.add_template(TEMPLATE)
        world.environment[KEY] = e2b.api_key
        mark, gate = world.folder / "mark", world.folder / "gate"
        script = f"touch '{mark}'; until [ -e '{gate}' ]; do sleep 0.05; done; echo x > x.txt"
        async with world.federation(config=config_for(e2b)) as federation:
            federation.clock = clock = SteppedClock()
            worker = await world.spawn(federation, script)
            await asyncio.to_thread(until, mark.exists, "the agent is at work")
            await asyncio.to_thread(e2b.pause, sandbox_of(e2b, worker.id).id)
            gate.touch()
            clock.step(NIGHT_S)
            outpost = (await federation.parts.sites()).backend("cloud")
            ends = Ends(federation, outpost)
            assert await ends.round() == []
            tend = Tend(federation.store, clock, {"cloud": outpost}, leased=Ours("cloud"))
            await tend.round()
            ended = await worker.result()
            assert await ends.round() == []
            await tend.close()
        assert (ended.state, ended.stop_asked) == (State.DONE, "")
        assert ended.branch
        assert world.remote.show(ended.branch, "x.txt") == "x"

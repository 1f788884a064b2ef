"""Ways to spend money that no cap sees, or to have caps count what nobody spends: all barred."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from outpost.errors import PolicyError, Rejected
from outpost.federation import Federation
from outpost.model import Attempt, Charge, State
from tests.faulty_world import PATIENCE, MakeWorld, SteppedClock
from tests.world import World, pids_marked

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


async def charge_of(federation: Federation, attempt: Attempt) -> Charge:
    charge = await federation.store.charge(attempt.id)
    assert charge is not None
    return charge


async def test_a_slow_start_is_not_taken_for_dead_by_another_process(faulty: MakeWorld) -> None:
    world = faulty("a", max_workers=1, price_hourly=3.6)
    world.faults["a"].write(delay_s=2.0)
    ahead = SteppedClock()
    async with world.federation() as ours, world.federation(ahead) as theirs:
        starting = asyncio.create_task(world.submit(ours, "sleep 1"))
        while not await theirs.store.attempts():
            await asyncio.sleep(0.02)
        ahead.step(30)
        (seen,) = await theirs.refresh()
        assert not seen.state.ended, seen.reason
        submitted = await starting
        assert submitted.worker
        attempt = await submitted.worker.result()
        assert attempt.state is State.DONE
        assert (await theirs.store.attempts_of(submitted.task.id))[0].state is State.DONE


async def test_one_worker_that_cannot_be_stopped_keeps_no_other_from_it(
    faulty: MakeWorld, world: World
) -> None:
    here = faulty("a", "b", price_hourly=3.6)
    async with here.federation() as federation:
        first = await here.submit(federation, "sleep 60", on="a", time_limit_s=60.0)
        second = await here.submit(federation, "sleep 60", on="b", time_limit_s=60.0)
        assert first.worker
        assert second.worker
        while (await second.worker.status()).state is not State.WORKING:
            await asyncio.sleep(0.05)
        while (await charge_of(federation, second.worker.attempt)).spent_microusd(
            federation.clock.now()
        ) < 1000:
            await asyncio.sleep(0.05)
    # Outpost a is taken out of the configuration, and no money is left.
    only_b = here.config.replace("name: a\n", "name: c\n").replace("[a, b]", "[c, b]")
    world.config(only_b + "budget: {daily: 0.001, on_cap: stop}\n")
    async with here.federation() as federation:
        seen = {it.id: it for it in await federation.refresh()}
        assert seen[first.worker.id].state is State.UNKNOWN
        assert seen[second.worker.id].state is State.STOPPED
    world.config(here.config)
    async with here.federation() as federation:
        await (await federation.worker(first.worker.id)).stop(grace_s=1)


async def test_a_worker_given_up_for_lost_while_it_was_started_is_ended(faulty: MakeWorld) -> None:
    world, ahead = faulty("a", max_workers=1, price_hourly=3.6), SteppedClock()
    world.faults["a"].write(delay_s=2.0)
    async with world.federation() as ours, world.federation(ahead) as theirs:
        starting = asyncio.create_task(world.submit(ours, "sleep 60"))
        while not await theirs.store.attempts():
            await asyncio.sleep(0.02)
        ahead.step(500)
        (seen,) = await theirs.refresh()
        assert seen.state is State.LOST
        submitted = await starting
        assert submitted.worker
        assert submitted.worker.attempt.state is State.LOST
        assert not pids_marked({seen.id})


async def test_what_was_lost_costs_no_more_for_being_found_late(faulty: MakeWorld) -> None:
    world, clock = faulty("a", max_workers=1, price_hourly=3.6), SteppedClock()
    world.faults["a"].write(spawn=["ambiguous_lost"])
    async with world.federation(clock) as federation:
        submitted = await world.submit(federation, time_limit_s=60.0)
        assert submitted.worker
        clock.step(20 * 3600)
        (lost,) = await federation.refresh()
        assert lost.state is State.LOST
        bill = (await charge_of(federation, lost)).spent_microusd(clock.now())
        # Three minutes were held, ten more are the most that it may overrun.
        assert bill == 780_000
        clock.step(7 * 24 * 3600)
        await submitted.worker.remove()
        assert (await charge_of(federation, lost)).spent_microusd(clock.now()) == bill


async def test_a_worker_of_an_outpost_that_is_gone_can_be_forgotten(
    faulty: MakeWorld, world: World
) -> None:
    here, clock = faulty("a", price_hourly=3.6), SteppedClock()
    async with here.federation(clock) as federation:
        submitted = await here.submit(federation, "true", time_limit_s=60.0)
        assert submitted.worker
        await (await federation.worker(submitted.worker.id)).stop(grace_s=1)
    world.config(here.config.replace("name: a\n", "name: c\n").replace("[a]", "[c]"))
    async with here.federation(clock) as federation:
        await (await federation.worker(submitted.worker.id)).remove(force=True)
        assert not await federation.store.attempts(ended=True)


async def test_an_answer_that_says_nothing_keeps_the_claim_and_no_other_task(
    faulty: MakeWorld,
) -> None:
    world = faulty("a", max_workers=1, price_hourly=3.6)
    world.faults["a"].write(spawn=["fault"])
    async with world.federation() as federation:
        submitted = await world.submit(federation, time_limit_s=60.0)
        assert submitted.worker
        assert submitted.worker.attempt.state is State.UNKNOWN
        assert (await charge_of(federation, submitted.worker.attempt)).ended_at is None


async def test_what_a_caller_was_refused_is_not_started_later(faulty: MakeWorld) -> None:
    world = faulty("a")
    world.faults["a"].write(spawn=["rejected"])
    async with world.federation() as federation:
        options = World.options("true", world.world.remote)
        with pytest.raises(Rejected):
            await federation.spawn("text:Mend the words", options)
        assert not await federation.queued()


async def test_a_policy_that_fails_for_one_task_starts_the_others(
    faulty: MakeWorld, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "choosy_policy.py").write_text(
        "def choose(task, snapshot, decision):\n"
        "    if task.title == 'bad':\n"
        "        raise KeyError(task.title)\n"
        "    return list(decision.candidates)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    own = PATIENCE + "  kind: python\n  entry: 'choosy_policy:choose'\n"
    here = faulty("a", policy=own)
    options = World.options("true", world.remote)
    async with here.federation() as federation:
        with pytest.raises(PolicyError):
            await federation.submit(await federation.resolve("text:bad", options))
        assert not await federation.queued(), "nobody is told of it, so it must not start later"
        for title in ("bad", "good"):
            await federation.store.add_task(await federation.resolve(f"text:{title}", options))
        (started,) = await federation.dispatch()
        assert started.worker
        assert started.task.title == "good"
        await started.worker.result()
        with pytest.raises(PolicyError):
            await federation.dispatch()


async def test_a_start_under_way_when_the_time_is_over_is_told(faulty: MakeWorld) -> None:
    world = faulty("a", max_workers=1)
    async with world.federation() as federation:
        first = await world.submit(federation, "sleep 0.5")
        assert first.worker
        await first.worker.result()
        blocker = await world.submit(federation, "sleep 1")
        assert blocker.worker
        world.faults["a"].write(delay_s=30.0)
        options = World.options("true", world.world.remote)
        worker = await federation.spawn("text:Mend more", options, wait_for_slot_s=6.0)
        assert worker.attempt.state is State.RESERVED
        assert worker.attempt.task_id != blocker.task.id

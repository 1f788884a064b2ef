"""Outposts that fail: the next one takes over, and the one that failed is left alone for a while.

Workers really run; what fails is said by ``outpost.testing.faulty``.
"""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from outpost.control.failover import Failover
from outpost.errors import Ambiguous, Rejected
from outpost.federation import Federation
from outpost.model import Refusal, Sighting, State, Trouble
from outpost.policy.breaker import LONGEST_S, SPREAD, BreakerSettings, RetrySettings
from outpost.store import open_store
from tests.faulty_world import PATIENCE, FaultyWorld, MakeWorld, SteppedClock, breaker_of, refused
from tests.integration.cli_world import OUTPOST, Cli
from tests.unit.store_values import StandingClock, claimed
from tests.world import World, pids_marked, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

MEND = "echo 'the words are right' > words.txt"
ONCE = PATIENCE.replace("failure_threshold: 3", "failure_threshold: 1")


async def attempts(federation: Federation, task_id: str) -> list[tuple[str, State, str]]:
    """Return where a task was tried, and what came of it."""
    found = await federation.store.attempts_of(task_id)
    return [(it.outpost, it.state, it.reason) for it in found]


async def test_the_next_outpost_takes_over_and_the_reason_is_shown(faulty: MakeWorld) -> None:
    world = faulty("a", "b")
    world.faults["a"].write(spawn=["not_dispatched"])
    async with world.federation() as federation:
        submitted = await world.submit(federation, MEND)
        assert submitted.worker
        attempt = await submitted.worker.result()
        assert (attempt.outpost, attempt.state) == ("b", State.DONE)
        assert world.world.remote.show(attempt.branch, "words.txt") == "the words are right"
        failed, started = await attempts(federation, submitted.task.id)
        assert failed == ("a", State.FAILED, "not dispatched, as it was told")
        assert started[:2] == ("b", State.DONE)
        assert "not dispatched, as it was told" in refused(submitted.decision, "a").detail
        assert (await federation.store.task(submitted.task.id)).retries == 1
        breaker = await breaker_of(federation, "a")
        assert breaker
        assert (breaker.failures, breaker.trips) == (1, 0)


async def test_an_outpost_that_is_down_costs_a_task_nothing(faulty: MakeWorld) -> None:
    world = faulty("a", "b")
    world.faults["a"].write(ping="down:the power is off")
    async with world.federation() as federation:
        submitted = await world.submit(federation)
        assert submitted.worker
        assert (await submitted.worker.result()).outpost == "b"
        refusal = refused(submitted.decision, "a")
        assert (refusal.code, refusal.detail) == (Refusal.UNHEALTHY, "the power is off")
        assert (await federation.store.task(submitted.task.id)).retries == 0
        assert not await federation.store.breakers()
    assert not world.spawned("a")


async def test_an_outpost_that_failed_too_often_is_left_alone_until_its_time_has_passed(
    faulty: MakeWorld,
) -> None:
    world, clock = faulty("a", "b"), SteppedClock()
    world.faults["a"].write(spawn=["not_dispatched"] * 4)
    async with world.federation(clock) as federation:
        for _ in range(3):
            assert (await world.submit(federation)).worker
        opened = await breaker_of(federation, "a")
        assert opened
        assert (opened.failures, opened.trips) == (3, 1)
        assert opened.open_until
        wait_s = (opened.open_until - clock.now()).total_seconds()
        assert 30 * (1 - SPREAD) <= wait_s <= 30 * (1 + SPREAD)
        submitted = await world.submit(federation)
        refusal = refused(submitted.decision, "a")
        assert (refusal.code, refusal.until) == (Refusal.COOLING_DOWN, opened.open_until)
        assert len(world.spawned("a")) == 3
        # The one that tries it then fails: it is left alone for twice as long.
        clock.step_to(opened.open_until)
        assert (await world.submit(federation)).worker
        again = await breaker_of(federation, "a")
        assert again
        assert again.open_until
        wait_s = (again.open_until - clock.now()).total_seconds()
        assert 60 * (1 - SPREAD) <= wait_s <= 60 * (1 + SPREAD)
        assert len(world.spawned("a")) == 4
        # The next one succeeds.
        clock.step_to(again.open_until)
        submitted = await world.submit(federation)
        assert submitted.worker
        assert submitted.worker.attempt.outpost == "a"
        assert not await federation.store.breakers()
        for attempt in await federation.store.attempts():
            await (await federation.worker(attempt.id)).result()


def test_what_one_process_learnt_the_next_one_heeds(faulty: MakeWorld, world: World) -> None:
    faults = faulty("a", "b", policy=ONCE).faults
    faults["a"].write(spawn=["not_dispatched"])
    cli = Cli(world)
    first = cli.spawn("true", "--wait")
    second = cli.spawn("true", "--wait")
    assert (first["outpost"], second["outpost"]) == ("b", "b")
    assert len(faults["a"].calls()) == 1
    assert len(faults["a"].calls("ping")) == 1, "nobody even asks it how it is"
    shown = cli("status", "a").out
    assert "not dispatched, as it was told" in shown


def test_of_six_at_once_exactly_one_tries_an_outpost_out(faulty: MakeWorld, world: World) -> None:
    policy = ONCE.replace("reset_timeout: 30s", "reset_timeout: 1s")
    faults = faulty("a", "b", policy=policy).faults
    faults["a"].write(spawn=["not_dispatched"])
    cli = Cli(world)
    cli.spawn("true", "--wait")
    # The one that tries takes its time, so that all others come while it does.
    faults["a"].write(delay_s=6)
    until(lambda: _half_open(cli), "its time has passed")
    arguments = ("-m", "Try", "--repo", world.remote.url, "--json", "--wait", "--", "true")
    commands = [cli.start("spawn", *arguments) for _ in range(6)]
    ended = [command.communicate(timeout=60) for command in commands]
    assert [command.returncode for command in commands] == [0] * 6, ended
    assert len(world_calls := faults["a"].calls()) == 2, world_calls
    assert len(faults["b"].calls()) == 1 + 5
    cli.spawn("true", "--wait")
    assert len(faults["a"].calls()) == 3, "it works: everybody may use it again"


def _half_open(cli: Cli) -> bool:
    (plan,) = cli("spawn", "-m", "x", "--repo", cli.world.remote.url, "--dry-run", "--json").lines()
    return bool(plan["decision"]["candidates"][:1] == ["a"])


async def test_a_task_that_cannot_be_started_waits_and_is_given_up_in_the_end(
    faulty: MakeWorld,
) -> None:
    world, clock = (
        faulty("a", policy=PATIENCE.replace("threshold: 3", "threshold: 9")),
        SteppedClock(),
    )
    world.faults["a"].write(spawn="not_dispatched")
    async with world.federation(clock) as federation:
        submitted = await world.submit(federation)
        assert submitted.worker is None
        for retries, pause_s in ((1, 10), (2, 20)):
            task = await federation.store.task(submitted.task.id)
            assert (task.state, task.retries) == (State.QUEUED, retries)
            assert task.due_at
            wait_s = (task.due_at - clock.now()).total_seconds()
            assert pause_s * (1 - SPREAD) <= wait_s <= pause_s * (1 + SPREAD)
            assert len(world.spawned("a")) == retries
            clock.step_to(task.due_at - timedelta(milliseconds=1))
            assert not await federation.dispatch()
            assert len(world.spawned("a")) == retries, "it was tried too early"
            clock.step_to(task.due_at)
            assert not await federation.dispatch()
        task = await federation.store.task(submitted.task.id)
        assert (task.state, task.retries) == (State.FAILED, 3)
        assert task.reason == (
            "given up, as it could not be started 3 times: a: not dispatched, as it was told"
        )
        clock.step(3600)
        assert not await federation.dispatch()
        assert len(world.spawned("a")) == 3
        assert await federation.store.counts() == {}


async def test_however_many_outposts_fail_in_one_go_it_is_one_failure(faulty: MakeWorld) -> None:
    world, clock = faulty("a", "b", "c", "d"), SteppedClock()
    for name in "abcd":
        world.faults[name].write(spawn=["not_dispatched"])
    async with world.federation(clock) as federation:
        submitted = await world.submit(federation)
        assert submitted.worker is None
        task = await federation.store.task(submitted.task.id)
        assert (task.state, task.retries) == (State.QUEUED, 1)
        assert len(await federation.store.attempts_of(task.id)) == 4
        assert not await federation.dispatch(), "it waits although a works again"
        clock.step_to(task.due_at)
        (started,) = await federation.dispatch()
        assert started.worker
        assert (await started.worker.result()).outpost == "a"


@pytest.mark.parametrize(
    ("fault", "trouble", "scope"),
    [
        ("no_capacity", Trouble.CAPACITY, ""),
        ("no_capacity:ams", Trouble.CAPACITY, "ams"),
        ("rate_limited:40", Trouble.RATE, ""),
    ],
)
async def test_what_an_outpost_lacks_is_not_held_against_the_task(
    faulty: MakeWorld, fault: str, trouble: Trouble, scope: str
) -> None:
    world, clock = faulty("a"), SteppedClock()
    world.faults["a"].write(spawn=[fault])
    async with world.federation(clock) as federation:
        submitted = await world.submit(federation)
        assert submitted.worker is None
        task = await federation.store.task(submitted.task.id)
        assert (task.state, task.retries, task.due_at) == (State.QUEUED, 0, None)
        breaker = await breaker_of(federation, "a", scope)
        assert breaker
        assert (breaker.trouble, breaker.failures) == (trouble, 0)
        assert breaker.open_until
        if trouble is Trouble.RATE:
            assert breaker.open_until == clock.now() + timedelta(seconds=40)
        clock.step_to(breaker.open_until - timedelta(milliseconds=1))
        assert not await federation.dispatch()
        assert len(world.spawned("a")) == 1, "it was asked too early"
        clock.step_to(breaker.open_until)
        (started,) = await federation.dispatch()
        assert started.worker
        assert (await started.worker.result()).state is State.DONE
        assert not await federation.store.breakers()


def test_a_refusal_is_shown_and_the_next_outpost_used(faulty: MakeWorld, world: World) -> None:
    faults = faulty("a", "b").faults
    faults["a"].write(spawn="rejected")
    cli = Cli(world)
    arguments = ("spawn", "-m", "Mend it", "--repo", world.remote.url, "--wait", "--", "true")
    ran = cli(*arguments)
    assert "rejected, as it was told" in ran.out + ran.err
    assert cli.spawn("true", "--wait")["outpost"] == "b"
    assert len(faults["a"].calls()) == 1, "it was asked again"
    plan = cli("spawn", "-m", "x", "--repo", world.remote.url, "--dry-run").out
    assert "rejected, as it was told" in plan


async def test_a_refusal_is_not_retried_soon_and_not_for_ever_either(faulty: MakeWorld) -> None:
    world, clock = faulty("a"), SteppedClock()
    world.faults["a"].write(spawn=["rejected"])
    async with world.federation(clock) as federation:
        with pytest.raises(Rejected, match="rejected, as it was told") as caught:
            await world.submit(federation)
        assert caught.value.hint == "mend the credentials"
        (task,) = await federation.store.queued()
        assert task.retries == 0
        decision = await federation.decide(task)
        assert refused(decision, "a").code is Refusal.REJECTED
        clock.step(LONGEST_S - 1)
        assert not await federation.dispatch()
        assert len(world.spawned("a")) == 1
        clock.step(1)
        (started,) = await federation.dispatch()
        assert started.worker
        assert (await started.worker.result()).state is State.DONE


async def test_what_was_mended_is_tried_again_at_once_where_asked_for(faulty: MakeWorld) -> None:
    world = faulty("a")
    world.faults["a"].write(spawn=["rejected"])
    async with world.federation() as federation:
        with pytest.raises(Rejected):
            await world.submit(federation)
        said = [it.detail for it in (await federation.diagnose()).checks if it.about == "a"]
        assert any("a is left alone until" in it and "as it was told" in it for it in said)
        assert not await federation.dispatch()
        said = [it.detail for it in (await federation.diagnose(fix=True)).checks]
        assert "a may be tried again" in said
        (started,) = await federation.dispatch()
        assert started.worker
        assert (await started.worker.result()).state is State.DONE


async def test_a_start_in_doubt_is_looked_up_and_adopted(faulty: MakeWorld) -> None:
    world = faulty("a", "b")
    world.faults["a"].write(spawn=["ambiguous_started"])
    async with world.federation() as federation:
        submitted = await world.submit(federation, f"{MEND}; sleep 2")
        assert submitted.worker
        assert submitted.worker.attempt.state is State.STARTING
        assert submitted.worker.attempt.handle
        assert len(await federation.store.attempts_of(submitted.task.id)) == 1
        assert not await federation.store.breakers()
        assert _calls(world, "a") == [("spawn", submitted.worker.id), ("find", submitted.worker.id)]
        assert not world.spawned("b")
        assert (await submitted.worker.result()).state is State.DONE
        seen = [it.handle.worker_id for it in await _all(federation, "a")]
        assert seen == [submitted.worker.id], "one worker only"


@pytest.mark.parametrize("find", ["none", "fault"], ids=["not found", "not to be seen"])
@pytest.mark.parametrize("spawn", ["ambiguous_lost", "ambiguous_started"])
async def test_a_start_in_doubt_keeps_slot_and_money_and_is_never_repeated(
    faulty: MakeWorld, spawn: str, find: str
) -> None:
    world = faulty("a", "b", max_workers=1, price_hourly=1.0)
    world.faults["a"].write(spawn=[spawn], find=[find])
    async with world.federation() as federation:
        submitted = await world.submit(federation, MEND)
        (attempt,) = await federation.store.attempts_of(submitted.task.id)
        assert (attempt.outpost, attempt.state) == ("a", State.UNKNOWN)
        assert "the answer was lost" in attempt.reason
        assert await federation.store.counts() == {"a": 1}
        charge = await federation.store.charge(attempt.id)
        assert charge
        assert charge.ended_at is None
        assert charge.reserved_microusd(attempt.created_at) > 0
        breaker = await breaker_of(federation, "a")
        assert breaker
        assert breaker.failures == 1, "nobody knows whether it works"
        assert not await federation.dispatch()
        assert world.spawned("a") == [spawn]
        assert not world.spawned("b")
        if spawn == "ambiguous_started":
            # It is found at the next look, and has been at work all the time.
            worker = await federation.worker(attempt.id)
            assert (await worker.result()).state is State.DONE
            assert not pids_marked({attempt.id})


async def test_the_claim_of_a_start_in_doubt_is_never_given_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "outpost.db")
    attempt = await claimed(store, outpost="a")
    failover = Failover(
        probe_s=300,
        store=store,
        clock=StandingClock(),
        outposts=2,
        breaker=BreakerSettings(failure_threshold=1, reset_timeout_s=60, max_tripped=0.5),
        retry=RetrySettings(max_attempts=1, initial_backoff_s=1, max_backoff_s=1),
    )
    task = await store.task(attempt.task_id)
    doubt = Ambiguous("the answer was lost", outpost="a")
    assert not await failover.failed(task, attempt, doubt, first=True)
    assert await store.counts() == {"a": 1}
    (breaker,) = await store.breakers()
    assert breaker.trips == 1
    assert not await failover.may_try("a", "w-other")
    await store.close()


async def test_where_most_outposts_fail_the_rest_is_not_left_alone(faulty: MakeWorld) -> None:
    world, clock = faulty("a", "b", "c", "d", policy=ONCE), SteppedClock()
    for name in "abcd":
        world.faults[name].write(spawn="not_dispatched")
    async with world.federation(clock) as federation:
        submitted = await world.submit(federation)
        assert submitted.worker is None
        breakers = {it.outpost: it for it in await federation.store.breakers()}
        assert {name: it.trips for name, it in breakers.items()} == {"a": 1, "b": 1, "c": 0, "d": 0}
        assert breakers["c"].failures == 1
        assert "2 of 4 outposts fail already: probably the fault is ours" in breakers["c"].reason
        clock.step(15)
        await federation.dispatch()
        tried = {name: len(world.spawned(name)) for name in "abcd"}
        assert tried == {"a": 1, "b": 1, "c": 2, "d": 2}


async def test_a_try_that_loses_its_slot_lets_the_next_one_try(faulty: MakeWorld) -> None:
    world, clock = faulty("a", policy=ONCE), SteppedClock()
    world.faults["a"].write(spawn=["not_dispatched"])
    async with world.federation(clock) as federation:
        submitted = await world.submit(federation)
        assert await breaker_of(federation, "a")
        clock.step(60)
        # Between the decision and the claim the task is taken back.
        starter = await federation.parts.starter()
        task = await federation.store.task(submitted.task.id)
        assert await federation.cancel(task.id)
        placement = await starter.place(task)
        assert placement.attempt is None
        breaker = await breaker_of(federation, "a")
        assert breaker
        assert breaker.probe == ""
        assert (await world.submit(federation)).worker


def _calls(world: FaultyWorld, name: str) -> list[tuple[str, str]]:
    calls: list[dict[str, Any]] = []
    for sort in ("spawn", "find"):
        calls += world.faults[name].calls(sort)
    calls.sort(key=lambda call: float(call["time"]))
    return [(call["call"], call["worker_id"]) for call in calls]


async def _all(federation: Federation, name: str) -> list[Sighting]:
    outpost = (await federation.parts.sites()).backend(name)
    return [sighting async for sighting in outpost.workers()]


def test_the_kind_is_known_to_commands(faulty: MakeWorld, world: World) -> None:
    faulty("a")
    done = subprocess.run(
        [*OUTPOST, "config", "check"],
        env=world.environment,
        cwd=world.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

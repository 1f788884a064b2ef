"""Attempts that were broken off: their tasks are tried again, and what comes late is sorted in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from outpost.model import Attempt, DutyKind, State, Task, Usage
from outpost.ports import Store
from outpost.store import open_store
from tests.unit.store_values import NOON, StandingClock, a_charge, a_decision, a_task, an_attempt

SOON = NOON + timedelta(seconds=20)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = open_store(store_url, clock=StandingClock())
    yield store
    await store.close()


async def working(store: Store, task: Task | None = None, *, suffix: str = "") -> Attempt:
    """Return an attempt at work on a task, by default on one that asks for all duties."""
    if task is None:
        task = replace(a_task(), pr="draft", write_back=("notes", "release"))
        await store.add_task(task)
    wanted = an_attempt(task, suffix=suffix)
    charge = a_charge(wanted, price=3_600_000, tokens=50)
    attempt = await store.claim(wanted, a_decision(task, "local"), max_workers=None, charge=charge)
    assert attempt is not None
    attempt = replace(attempt, state=State.WORKING, seq=1, told=State.WORKING)
    assert await store.apply(attempt)
    return attempt


def lost(attempt: Attempt) -> Attempt:
    return replace(attempt, state=State.LOST, reason="its place is gone", ended_at=NOON)


def died(attempt: Attempt) -> Attempt:
    return replace(attempt, state=State.FAILED, died=True, reason="killed", seq=2, ended_at=NOON)


async def again(store: Store, attempt: Attempt) -> Attempt:
    """Lose an attempt and queue its task again; return it as it is then."""
    assert await store.apply(lost(attempt), again_at=SOON)
    assert (await store.task(attempt.task_id)).state is State.QUEUED
    return lost(attempt)


async def kinds(store: Store) -> list[DutyKind]:
    return [duty.kind for duty in await store.pending_duties()]


@pytest.mark.parametrize("broken_off", [lost, died])
async def test_a_task_whose_attempt_was_broken_off_is_queued_again(
    store: Store, broken_off: type
) -> None:
    end: Attempt = broken_off(await working(store))
    assert await store.apply(end, again_at=SOON)
    task = await store.task(end.task_id)
    assert (task.state, task.reason, task.retries) == (State.QUEUED, end.reason, 1)
    assert task.due_at == SOON
    assert await store.attempts_of(task.id) == [end]
    assert await store.counts() == {}
    assert await store.pending_duties() == []
    charge = await store.charge(end.id)
    assert charge is not None
    assert charge.ended_at is not None, "the bill is settled"
    second = await working(store, task, suffix="b")
    assert (second.number, second.fence) == (2, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": State.FAILED, "died": False},
        {"state": State.DONE, "died": True},
        {"state": State.STOPPED, "died": True},
        {"state": State.UNKNOWN, "died": False},
    ],
)
async def test_an_end_of_its_own_is_not_tried_again(
    store: Store, changes: dict[str, State | bool]
) -> None:
    attempt = await working(store)
    assert await store.apply(replace(attempt, seq=2, **changes), again_at=SOON)  # type: ignore[arg-type]
    task = await store.task(attempt.task_id)
    assert (task.state, task.retries, task.due_at) == (changes["state"], 0, None)


async def test_what_died_and_is_not_tried_again_ends_with_its_duties(store: Store) -> None:
    end = died(await working(store))
    assert await store.apply(end)
    assert (await store.task(end.task_id)).state is State.FAILED
    assert await kinds(store) == [DutyKind.NOTES, DutyKind.RELEASE]


async def test_what_is_lost_already_may_be_tried_again_later_and_once(store: Store) -> None:
    attempt = await working(store)
    assert await store.apply(lost(attempt))
    assert (await store.task(attempt.task_id)).state is State.LOST
    await again(store, attempt)
    assert await store.apply(lost(attempt), again_at=SOON + timedelta(hours=1))
    task = await store.task(attempt.task_id)
    assert (task.retries, task.due_at) == (1, SOON), "it is queued already"
    assert await store.apply(lost(attempt))
    assert (await store.task(attempt.task_id)).state is State.QUEUED


async def test_a_task_ended_by_others_meanwhile_is_not_tried_again(store: Store) -> None:
    attempt = await again(store, await working(store))
    assert await store.cancel(attempt.task_id, "not needed")
    for again_at in (SOON, None):
        assert await store.apply(attempt, again_at=again_at)
        assert (await store.task(attempt.task_id)).state is State.STOPPED


async def test_an_earlier_attempt_does_not_queue_its_task_again(store: Store) -> None:
    first = await again(store, await working(store))
    second = await working(store, await store.task(first.task_id), suffix="b")
    assert await store.apply(first, again_at=SOON)
    task = await store.task(first.task_id)
    assert (task.state, task.retries) == (State.WORKING, 1)
    assert await store.apply(replace(second, state=State.DONE, seq=2))


@pytest.mark.parametrize("broken_off", [lost, died])
async def test_what_was_asked_to_stop_is_not_tried_again(store: Store, broken_off: type) -> None:
    attempt = await working(store)
    assert await store.ask_to_stop(attempt.id, "over its cap")
    end: Attempt = broken_off(attempt)
    assert await store.apply(end, again_at=SOON)
    task = await store.task(attempt.task_id)
    assert (task.state, task.retries) == (end.state, 0)
    assert await store.attempts_of(task.id) == [replace(end, stop_asked="over its cap")]


async def test_whoever_asks_first_to_stop_says_why(store: Store) -> None:
    attempt = await working(store)
    assert await store.ask_to_stop(attempt.id, "its time is over")
    assert await store.ask_to_stop(attempt.id, "not needed")
    assert await store.apply(replace(attempt, seq=5, reason="busy"))
    assert await store.apply_all([replace(attempt, seq=6, reason="busy", stop_asked="by us")])
    (known,) = await store.attempts()
    assert known.stop_asked == "its time is over"
    assert await store.apply(replace(attempt, state=State.STOPPED, seq=7))
    assert not await store.ask_to_stop(attempt.id, "too late")
    assert not await store.ask_to_stop("w-none", "never there")


async def test_asking_without_a_reason_is_asking_all_the_same(store: Store) -> None:
    attempt = await working(store)
    assert await store.ask_to_stop(attempt.id, "")
    assert (await store.attempts())[0].stop_asked


async def test_work_found_done_late_ends_a_task_that_waits_for_another_try(store: Store) -> None:
    attempt = await again(store, await working(store))
    usage = Usage(input_tokens=7, cost_microusd=40)
    done = replace(attempt, state=State.DONE, seq=3, reason="done after all", usage=usage)
    assert await store.apply(done)
    task = await store.task(attempt.task_id)
    assert (task.state, task.reason) == (State.DONE, "done after all")
    assert await kinds(store) == [DutyKind.PR, DutyKind.NOTES]
    assert await store.queued() == []
    charge = await store.charge(attempt.id)
    assert charge is not None
    assert charge.tokens_microusd == 40
    claim = an_attempt(task, suffix="b")
    assert await store.claim(claim, a_decision(task), max_workers=None) is None


@pytest.mark.parametrize("state", [State.FAILED, State.STOPPED])
async def test_work_that_failed_late_leaves_its_task_queued(store: Store, state: State) -> None:
    attempt = await again(store, await working(store))
    end = replace(attempt, state=state, seq=3, reason="no good")
    assert await store.apply(end)
    assert await store.attempts_of(attempt.task_id) == [end]
    task = await store.task(attempt.task_id)
    assert (task.state, task.reason) == (State.QUEUED, "its place is gone")
    assert await store.pending_duties() == []


async def test_work_found_done_once_another_has_the_task_is_history(store: Store) -> None:
    first = await again(store, await working(store))
    second = await working(store, await store.task(first.task_id), suffix="b")
    assert await store.apply(replace(first, state=State.DONE, seq=3))
    assert (await store.task(first.task_id)).state is State.WORKING
    assert await store.pending_duties() == []
    assert await store.apply(lost(second), again_at=SOON)
    assert not await store.apply(replace(first, state=State.DONE, seq=4))
    task = await store.task(first.task_id)
    assert (task.state, task.retries) == (State.QUEUED, 2)


async def test_work_found_done_once_its_task_was_cancelled_is_history(store: Store) -> None:
    attempt = await again(store, await working(store))
    assert await store.cancel(attempt.task_id, "not needed")
    assert await store.apply(replace(attempt, state=State.DONE, seq=3))
    assert (await store.task(attempt.task_id)).state is State.STOPPED
    assert await kinds(store) == [DutyKind.RELEASE]

"""The log of the federation: a line for each change of state, with who and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from outpost.model import State, Transition
from outpost.ports import Store
from outpost.store import open_store
from outpost.store.moves import REASON_CHARS
from tests.unit.store_values import NOON, MovingClock, a_decision, a_task, an_attempt, claimed

US = "controller@build-1:4711"


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
async def store(store_url: str, clock: MovingClock) -> AsyncIterator[Store]:
    store = open_store(store_url, clock=clock, by=US)
    yield store
    await store.close()


def told(line: Transition) -> tuple[str, State | None, State, str]:
    return line.attempt_id, line.before, line.after, line.reason


async def test_the_whole_life_of_a_task(store: Store, clock: MovingClock) -> None:
    task = a_task()
    await store.add_task(replace(task, reason="new"))
    first = await store.claim(an_attempt(task), a_decision(task, "local"), max_workers=None)
    assert first is not None
    await store.release(first, "no room")
    second = await store.claim(an_attempt(task, suffix="b"), a_decision(task), max_workers=None)
    assert second is not None
    clock.instant += timedelta(seconds=1)
    for state in (State.STARTING, State.WORKING, State.WORKING):
        assert await store.apply(replace(second, state=state, seq=1))
    await store.ask_to_stop(second.id, "too dear")
    await store.ask_to_stop(second.id, "again")
    assert await store.apply_all([replace(second, state=State.UNKNOWN, reason="silent", seq=1)])
    assert await store.apply(replace(second, state=State.DONE, reason="", seq=2))
    lines = await store.transitions()
    assert [told(line) for line in lines] == [
        ("", None, State.QUEUED, "new"),
        (first.id, State.QUEUED, State.RESERVED, "preferred"),
        (first.id, State.RESERVED, State.FAILED, "no room"),
        ("", State.FAILED, State.QUEUED, "no room"),
        (second.id, State.QUEUED, State.RESERVED, ""),
        (second.id, State.RESERVED, State.STARTING, ""),
        (second.id, State.STARTING, State.WORKING, ""),
        (second.id, State.WORKING, State.WORKING, "asked to stop: too dear"),
        (second.id, State.WORKING, State.UNKNOWN, "silent"),
        (second.id, State.UNKNOWN, State.DONE, ""),
    ]
    assert [line.id for line in lines] == list(range(1, 11))
    assert {line.by for line in lines} == {US}
    assert {line.task_id for line in lines} == {task.id}
    assert {line.outpost for line in lines if line.attempt_id} == {"local"}
    assert {line.outpost for line in lines if not line.attempt_id} == {""}
    assert [line.at for line in lines] == [NOON] * 5 + [NOON + timedelta(seconds=1)] * 5


async def test_what_is_tried_again_and_found_done_late(store: Store) -> None:
    attempt = await claimed(store)
    lost = replace(attempt, state=State.LOST, reason="gone", seq=1)
    await store.apply(lost, again_at=NOON)
    await store.apply(lost, again_at=NOON)
    await store.apply(replace(lost, state=State.DONE, reason="found", seq=2))
    assert [told(line) for line in await store.transitions()][2:] == [
        (attempt.id, State.RESERVED, State.LOST, "gone"),
        ("", State.LOST, State.QUEUED, "gone"),
        (attempt.id, State.LOST, State.DONE, "found"),
        ("", State.QUEUED, State.DONE, "found"),
    ]


async def test_a_task_ended_before_any_attempt(store: Store) -> None:
    for number, end in ((1, store.cancel), (2, store.give_up)):
        await store.add_task(a_task(number))
        assert await end(a_task(number).id, "enough")
        assert not await end(a_task(number).id, "again")
    assert [told(line) for line in await store.transitions()] == [
        ("", None, State.QUEUED, ""),
        ("", State.QUEUED, State.STOPPED, "enough"),
        ("", None, State.QUEUED, ""),
        ("", State.QUEUED, State.FAILED, "enough"),
    ]


async def test_a_rival_on_the_same_branch_is_told_of(store: Store) -> None:
    for number in (1, 2):
        task = replace(a_task(number), resumes="w-old")
        await store.add_task(task)
        await store.claim(replace(an_attempt(task), branch="b"), a_decision(task), max_workers=None)
    *_, last = await store.transitions()
    rival = an_attempt(a_task(1)).id
    assert told(last) == ("", State.QUEUED, State.STOPPED, f"{rival} is at work on its branch")


async def test_what_changes_nothing_leaves_no_line(store: Store) -> None:
    attempt = await claimed(store)
    before = await store.transitions()
    await store.hold(attempt.task_id, a_decision(a_task()))
    assert not await store.apply(replace(attempt, state=State.DONE, fence=0))
    assert not await store.cancel(attempt.task_id, "too late")
    assert not await store.ask_to_stop("w-none", "nobody there")
    assert await store.apply(replace(attempt, reason="other words", seq=1))
    assert not await store.release(replace(attempt, fence=0), "no room")
    assert await store.transitions() == before


async def test_pages(store: Store) -> None:
    for number in range(1, 6):
        await claimed(store, number)

    async def ids(after: int = 0, limit: int | None = None, task: int = 0) -> list[int]:
        task_id = a_task(task).id if task else None
        found = await store.transitions(after=after, limit=limit, task_id=task_id)
        return [line.id for line in found]

    assert await ids() == list(range(1, 11))
    assert await ids(limit=3) == [8, 9, 10], "the newest, where none is named"
    assert await ids(after=4, limit=3) == [5, 6, 7], "the next, where one is"
    assert await ids(after=9) == [10]
    assert await ids(after=10) == []
    assert await ids(task=2) == [3, 4]
    assert await ids(task=2, limit=1) == [4]
    assert await ids(task=2, after=3, limit=5) == [4]
    assert await ids(limit=0) == []


async def test_history_outlives_what_it_tells_of_until_it_is_trimmed(
    store: Store, clock: MovingClock
) -> None:
    attempt = await claimed(store)
    await store.apply(replace(attempt, state=State.DONE, seq=1))
    clock.instant += timedelta(days=1)
    await store.add_task(a_task(2))
    await store.forget(attempt.id)
    assert len(await store.transitions(task_id=attempt.task_id)) == 3
    assert await store.trim_transitions(NOON) == 0
    assert await store.trim_transitions(clock.instant) == 3
    (left,) = await store.transitions()
    assert (left.id, left.task_id) == (4, a_task(2).id)
    assert await store.trim_transitions(clock.instant + timedelta(seconds=1)) == 1
    await store.add_task(a_task(3))
    assert [line.id for line in await store.transitions(after=4)] == [5], "ids never come again"


async def test_reasons_may_be_long_and_odd(store: Store) -> None:
    await store.add_task(replace(a_task(), reason="\ud83d" + "ü" * 10_000))
    (line,) = await store.transitions()
    assert line.reason == "?" + "ü" * (REASON_CHARS - 1)


async def test_a_change_that_fails_leaves_no_line(store: Store) -> None:
    attempt = await claimed(store)
    task = a_task(2)
    await store.add_task(task)
    before = await store.transitions()
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.claim(replace(an_attempt(task), id=attempt.id), a_decision(task), max_workers=9)
    assert await store.transitions() == before

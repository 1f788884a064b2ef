"""Many observations stored at once: each as if it were the only one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from outpost.model import Attempt, Charge, Handle, State, Task, Usage
from outpost.ports import Store
from outpost.store import open_store
from tests.unit.store_values import (
    NOON,
    StandingClock,
    a_charge,
    a_decision,
    a_task,
    an_attempt,
    claimed,
)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = open_store(store_url, clock=StandingClock())
    yield store
    await store.close()


async def all_working(store: Store, count: int) -> list[Attempt]:
    """Claim with a charge, but for the first, and begin to work."""
    attempts = [await claimed(store, 1)]
    for number in range(2, count + 1):
        task = replace(a_task(number), write_back=("notes",))
        await store.add_task(task)
        wanted = an_attempt(task)
        charge = a_charge(wanted, price=0, tokens=1000)
        attempt = await store.claim(wanted, a_decision(task), max_workers=None, charge=charge)
        assert attempt is not None
        attempts.append(attempt)
    working = [replace(it, state=State.WORKING, told=State.WORKING, seq=1) for it in attempts]
    assert await store.apply_all(working) == [True] * count
    return working


async def everything(store: Store) -> tuple[list[Attempt], list[Task], list[Charge]]:
    attempts = await store.attempts(ended=True)
    tasks = [await store.task(task_id) for task_id in sorted({it.task_id for it in attempts})]
    return attempts, tasks, await store.charges()


async def test_nothing_at_all(store: Store) -> None:
    assert await store.apply_all([]) == []


async def test_those_that_go_on_are_stored_whole(store: Store) -> None:
    first, second, third = await all_working(store, 3)
    handle = Handle(outpost="local", kind="local", worker_id=second.id, data={"pid": "7"})
    news = [
        replace(first, seq=9, offset=2**40, activity="edits", seen_at=NOON, active_at=NOON),
        replace(second, handle=handle, session_id="s-1", checkpoint="c0ffee", started_at=NOON),
        replace(third, usage=Usage(input_tokens=1, output_tokens=2, cost_microusd=300)),
    ]
    assert await store.apply_all(news) == [True] * 3
    assert await store.attempts() == news
    charge = await store.charge(third.id)
    assert charge is not None
    assert charge.tokens_microusd == 300
    assert await store.apply_all([replace(news[1], handle=None, seq=2)]) == [True]
    assert (await store.find(second.id))[0].handle == handle


async def test_many_at_once_are_stored_as_one_by_one(store: Store, store_url: str) -> None:
    working = await all_working(store, 9)
    tokens = Usage(input_tokens=5)
    priced = Usage(input_tokens=5, cost_microusd=70)
    news = [
        replace(working[0], seq=2, usage=priced),
        replace(working[1], seq=2, usage=tokens),
        replace(working[2], seq=2, state=State.DONE, usage=priced, ended_at=NOON),
        replace(working[3], seq=0, activity="old news"),
        replace(working[4], seq=2, fence=0),
        replace(working[5], seq=2, state=State.UNKNOWN, reason="no answer"),
        replace(working[6], seq=2, state=State.STARTING),
        replace(working[7], seq=2, reason="another reason", usage=priced),
        replace(working[8], id="w-none"),
    ]
    at_once = await store.apply_all(news)
    assert at_once == [True, True, True, False, False, True, False, True, False]
    attempts, tasks, charges = await everything(store)
    lines = [(it.attempt_id, it.after) for it in await store.transitions()][-2:]
    assert set(lines) == {(working[5].id, State.UNKNOWN), (working[2].id, State.DONE)}
    assert [it.state for it in tasks if it.id == working[2].task_id] == [State.DONE]
    assert len(await store.duties_of(working[2].task_id)) == 1
    # The same once more, each on its own, changes nothing: it is all there.
    for one in news:
        await store.apply(one)
    assert (attempts, tasks, charges) == await everything(store)


async def test_news_of_the_same_attempt_are_stored_in_their_order(store: Store) -> None:
    (working,) = await all_working(store, 1)
    news = [
        replace(working, seq=2, state=State.WAITING),
        replace(working, seq=3, activity="goes on"),
        replace(working, seq=2, activity="old news"),
        replace(working, seq=4, state=State.DONE),
        replace(working, seq=5),
    ]
    assert await store.apply_all(news) == [True, True, False, True, False]
    assert await store.find(working.id) == [news[3]]


async def test_an_end_frees_a_slot_and_settles(store: Store) -> None:
    _, second = await all_working(store, 2)
    assert await store.apply_all([replace(second, seq=2, state=State.FAILED, ended_at=NOON)])
    charge = await store.charge(second.id)
    assert charge is not None
    assert charge.ended_at is not None
    assert await store.counts() == {"local": 1}

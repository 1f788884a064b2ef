"""Waiting for what others write: woken soon, for nothing of one's own, and ended at any moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from outpost.model import State
from outpost.ports import Store
from outpost.store import open_store
from tests.unit.store_values import StandingClock, a_task, claimed

DEADLINE_S = 20.0
BRIEFLY_S = 0.3


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = open_store(store_url, clock=StandingClock())
    await store.federation_id()
    await store.wait_for_change(0.1)  # from now on nothing is missed
    yield store
    await store.close()


@pytest.fixture
async def other(store: Store, store_url: str) -> AsyncIterator[Store]:
    other = open_store(store_url, clock=StandingClock())
    await other.federation_id()
    yield other
    await other.close()


@asynccontextmanager
async def waiting(store: Store, timeout_s: float = DEADLINE_S) -> AsyncIterator[Awaitable[bool]]:
    """Wait beside the block, which the wait has begun before."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.wait_for_change(timeout_s))
        await asyncio.sleep(0)
        assert not task.done()
        yield task


async def settled(store: Store) -> None:
    """Hear all that was said so far."""
    while await store.wait_for_change(BRIEFLY_S):
        pass


async def test_time_is_over(store: Store) -> None:
    began = time.monotonic()
    assert await store.wait_for_change(BRIEFLY_S) is False
    assert BRIEFLY_S <= time.monotonic() - began < DEADLINE_S
    assert await store.wait_for_change(0) is False


async def test_a_change_by_another_wakes(store: Store, other: Store) -> None:
    async with waiting(store) as woken:
        await other.add_task(a_task())
        assert await woken is True


async def test_what_another_wrote_between_two_waits_is_not_missed(
    store: Store, other: Store
) -> None:
    await settled(store)
    await other.add_task(a_task())
    assert await store.wait_for_change(DEADLINE_S) is True
    await settled(store)


async def test_ones_own_changes_wake_nobody(store: Store) -> None:
    async with waiting(store, timeout_s=2 * BRIEFLY_S) as woken:
        await claimed(store)
        assert await woken is False


@pytest.mark.parametrize(
    "change",
    [
        lambda other: other.cancel(a_task(1).id, "not needed"),
        lambda other: claimed(other, 2),
        lambda other: other.drop_leases("other"),
    ],
)
async def test_what_others_have_to_know_of_is_said(
    store: Store, other: Store, change: Callable[[Store], Awaitable[object]]
) -> None:
    await other.add_task(a_task(1))
    await other.take_leases(["outpost:local"], "other", ttl_s=60)
    await settled(store)
    async with waiting(store) as woken:
        await change(other)
        assert await woken is True


@pytest.mark.parametrize("new_store_url", ["postgres"], indirect=True)
async def test_progress_is_not_said_by_a_server(store: Store, other: Store) -> None:
    attempt = replace(await claimed(other), state=State.WORKING, seq=1)
    await other.apply(attempt)
    await settled(store)
    async with waiting(store, timeout_s=2 * BRIEFLY_S) as woken:
        assert await other.apply_all([replace(attempt, seq=2, offset=100)]) == [True]
        await other.take_leases(["outpost:local"], "other", ttl_s=60)
        assert await woken is False


async def test_all_who_wait_are_woken(store: Store, other: Store) -> None:
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(store.wait_for_change(DEADLINE_S)) for _ in range(3)]
        await asyncio.sleep(0)
        await other.add_task(a_task())
    assert [wait.result() for wait in waits] == [True] * 3


async def test_who_leaves_takes_nothing_along(store: Store, other: Store) -> None:
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(store.wait_for_change(DEADLINE_S))
        staying = group.create_task(store.wait_for_change(DEADLINE_S))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        await other.add_task(a_task())
        assert await staying is True
    assert leaving.cancelled()
    assert len(await store.queued()) == 1
    await other.add_task(a_task(2))
    assert await store.wait_for_change(DEADLINE_S) is True


async def test_other_calls_do_not_wait(store: Store) -> None:
    async with waiting(store, timeout_s=BRIEFLY_S * 5) as woken:
        began = time.monotonic()
        for _ in range(20):
            assert await store.queued() == []
        assert time.monotonic() - began < BRIEFLY_S * 4
        assert await woken is False


async def test_closing_ends_the_wait(store: Store) -> None:
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(store.wait_for_change(DEADLINE_S * 2)) for _ in range(2)]
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE_S):
            await store.close()
    assert [wait.result() for wait in waits] == [False] * 2
    assert await store.wait_for_change(DEADLINE_S) is False


async def test_a_store_never_opened_is_closed_at_once(store_url: str) -> None:
    store = open_store(store_url)
    async with asyncio.TaskGroup() as group:
        wait = group.create_task(store.wait_for_change(DEADLINE_S))
        await asyncio.sleep(0)
        await store.close()
        assert await wait is False


async def test_a_store_that_comes_to_be_wakes(tmp_path: Path) -> None:
    store = open_store(tmp_path / "outpost.db", create=False)
    await settled(store)  # by now it has looked: there is none
    async with waiting(store) as woken:
        maker = open_store(tmp_path / "outpost.db")
        await maker.federation_id()
        assert await woken is True
    assert list(await store.queued()) == []
    await maker.close()
    await store.close()

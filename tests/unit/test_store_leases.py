"""Leases: what has one holder at a time, and how it comes to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from outpost.model import Lease
from outpost.ports import Store
from outpost.store import open_store
from tests.unit.store_values import NOON, MovingClock

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
async def store(store_url: str, clock: MovingClock) -> AsyncIterator[Store]:
    store = open_store(store_url, clock=clock)
    yield store
    await store.close()


async def test_what_nobody_holds_is_taken(store: Store) -> None:
    assert await store.leases() == []
    taken = await store.take_leases(["outpost:b", "outpost:a"], "me", ttl_s=60)
    leases = [
        Lease(name=name, holder="me", fence=1, until=NOON + MINUTE)
        for name in ("outpost:a", "outpost:b")
    ]
    assert taken == {lease.name: lease for lease in leases}
    assert await store.leases() == leases
    assert await store.take_leases([], "me", ttl_s=60) == {}


async def test_what_another_holds_is_left_to_it(store: Store, clock: MovingClock) -> None:
    await store.take_leases(["a"], "me", ttl_s=60)
    clock.instant += MINUTE / 2
    assert set(await store.take_leases(["a", "b"], "you", ttl_s=60)) == {"b"}
    assert [(lease.name, lease.holder) for lease in await store.leases()] == [
        ("a", "me"),
        ("b", "you"),
    ]


async def test_its_holder_renews_a_lease_and_keeps_the_fence(
    store: Store, clock: MovingClock
) -> None:
    for _ in range(3):
        taken = await store.take_leases(["a"], "me", ttl_s=60)
        assert taken["a"] == Lease(name="a", holder="me", fence=1, until=clock.instant + MINUTE)
        clock.instant += 2 * MINUTE  # nobody else took it meanwhile


async def test_a_lease_that_ran_out_is_anybodys_and_the_fence_rises(
    store: Store, clock: MovingClock
) -> None:
    for fence, holder in enumerate(("me", "you", "me", "he"), start=1):
        taken = await store.take_leases(["a"], holder, ttl_s=60)
        assert (taken["a"].holder, taken["a"].fence) == (holder, fence)
        assert await store.take_leases(["a"], "nobody", ttl_s=60) == {}
        clock.instant += MINUTE
        assert await store.leases() == []


async def test_what_is_dropped_is_free_at_once(store: Store) -> None:
    await store.take_leases(["a", "b"], "me", ttl_s=60)
    await store.take_leases(["c"], "you", ttl_s=60)
    for _ in range(2):
        await store.drop_leases("me")
        assert [lease.name for lease in await store.leases()] == ["c"]
    await store.drop_leases("nobody")
    assert (await store.take_leases(["a"], "you", ttl_s=60))["a"].fence == 2
    assert (await store.take_leases(["b"], "me", ttl_s=60))["b"].fence == 1, "nobody else had it"


async def test_of_many_that_take_at_once_one_holds(store_url: str, clock: MovingClock) -> None:
    names = [f"outpost:{number}" for number in range(6)]
    stores = [open_store(store_url, clock=clock) for _ in range(4)]
    taken = await asyncio.gather(
        *(store.take_leases(names, f"h{n}", ttl_s=60) for n, store in enumerate(stores))
    )
    assert sorted(name for held in taken for name in held) == names
    for store in stores:
        await store.close()

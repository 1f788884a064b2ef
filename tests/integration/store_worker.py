"""A process that uses a store, as one ``outpost`` among many would; run with ``python -m``.

``first PATH``: print the federation's id. ``fill PATH NAME COUNT``: carry COUNT tasks of its own
through five slots. ``race PATH NAME COUNT``: try to claim the tasks 1 to COUNT, print those won.
``churn PATH NAME``: do all that changes a store, for ever, printing each task that was confirmed.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

from outpost.model import Attempt, State, Task
from outpost.ports import Store
from outpost.store import open_store
from tests.unit.store_values import a_decision, a_task, an_attempt

MAX_WORKERS = 5


def own_task(name: str, number: int) -> Task:
    return replace(a_task(number), id=f"t-{name}{number:05x}")


async def claim(store: Store, task: Task, *, suffix: str = "") -> Attempt | None:
    attempt = an_attempt(task, suffix=suffix)
    return await store.claim(attempt, a_decision(task, "local"), max_workers=MAX_WORKERS)


async def first(store: Store) -> None:
    print(await store.federation_id())


async def fill(store: Store, name: str, count: str) -> None:
    waiting = [own_task(name, number) for number in range(int(count))]
    for task in waiting:
        await store.add_task(task)
    running: list[Attempt] = []
    while waiting or running:
        if waiting and (claimed := await claim(store, waiting[-1])):
            waiting.pop()
            running.append(claimed)
            print(claimed.id)
        active = (await store.counts()).get("local", 0)
        assert active <= MAX_WORKERS, active
        if running and (active == MAX_WORKERS or not waiting):
            ended = running.pop(0)
            assert await store.apply(replace(ended, state=State.WORKING, seq=1))
            assert await store.apply(replace(ended, state=State.DONE, seq=2))


async def race(store: Store, name: str, count: str) -> None:
    sys.stdin.readline()  # all start together
    for number in range(1, int(count) + 1):
        task = a_task(number)
        if claimed := await claim(store, task, suffix=name):
            print(task.id)
            assert await store.apply(replace(claimed, state=State.DONE, seq=1))


async def churn(store: Store, name: str) -> None:
    for number in itertools.count():
        task = own_task(name, number)
        await store.add_task(task)
        claimed = await claim(store, task)
        if claimed is None:
            await store.cancel(task.id, "full")
        elif number % 4 == 0:
            assert await store.release(claimed, "no room")
        elif number % 4 == 3:
            assert await store.apply_all([replace(claimed, state=State.WORKING, seq=1)]) == [True]
            lost = replace(claimed, state=State.LOST, seq=1)
            assert await store.apply(lost, again_at=claimed.created_at)
        else:
            assert await store.apply(replace(claimed, state=State.WORKING, seq=1))
            assert await store.apply(replace(claimed, state=State.DONE, seq=2))
            if number % 4 == 1:
                await store.forget(claimed.id)
            else:
                print(task.id, flush=True)


ROLES: dict[str, Callable[..., Awaitable[None]]] = {
    "first": first,
    "fill": fill,
    "race": race,
    "churn": churn,
}


async def main(role: str, path: str, *arguments: str) -> None:
    store = open_store(path)
    try:
        await ROLES[role](store, *arguments)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

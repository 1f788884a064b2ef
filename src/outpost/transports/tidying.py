"""Going through what may be taken away at a place, and saying of each what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from outpost.errors import OutpostFault
from outpost.wire.tidying import Leftover

if TYPE_CHECKING:
    from outpost.wire.tidying import TidyOrder

AT_ONCE = 4
Needed: TypeAlias = Callable[[str], Awaitable[tuple[str, str]]]
"""Of a worker, what it is still needed for and what to type; both empty: for nothing."""


def named(order: TidyOrder) -> list[tuple[str, str]]:
    """Return kind and name of each worker of an order."""
    return [("worker", it) for it in order["workers"]] + [("orphan", it) for it in order["orphans"]]


def leftover(
    kind: str, name: str, *, path: str = "", size: int = 0, kept: str = "", hint: str = ""
) -> Leftover:
    """Return what is said of one; ``size`` is in bytes."""
    return {
        "kind": kind,
        "name": name,
        "path": path,
        "bytes": size,
        "detail": "",
        "kept": kept,
        "hint": hint,
    }


async def take_away(
    order: TidyOrder, needed: Needed, destroy: Callable[[str], Awaitable[None]]
) -> list[Leftover]:
    """Destroy what is needed for nothing, a few at once; return what became of each.

    What a place had to say against it is why it stays.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(kind: str, name: str) -> Leftover:
        async with slots:
            try:
                kept, hint = await needed(name)
                if not kept and not order["dry_run"]:
                    await destroy(name)
            except OutpostFault as exc:
                kept, hint = exc.message, exc.hint
        return leftover(kind, name, kept=kept, hint=hint)

    async with asyncio.TaskGroup() as group:
        going = [group.create_task(one(kind, name)) for kind, name in named(order)]
    return [it.result() for it in going]

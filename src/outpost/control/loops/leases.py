"""Which outposts are ours to look after, where several controllers share one store."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import ClassVar

from outpost.control.loops import Loop
from outpost.ports import Store

TTL_S = 15.0
EVERY_S = 4.0
PREFIX = "outpost:"
"""What a lease on an outpost is called, before its name."""


class Leases(Loop):
    """Takes and renews a lease on each configured outpost that nobody else looks after.

    Each controller has a ``holder`` of its own, the same after a restart: what it held it holds
    again at once. What cannot be renewed in time is not ours any more.
    """

    name: ClassVar[str] = "leases"

    def __init__(self, store: Store, holder: str, outposts: Collection[str]) -> None:
        super().__init__()
        self.every_s = EVERY_S
        self._store = store
        self._holder = holder
        self._outposts = outposts
        self._names: frozenset[str] = frozenset()
        self._until = 0.0

    async def round(self) -> None:
        wanted = [f"{PREFIX}{name}" for name in self._outposts]
        # Counted from before the call: by the store's own time it runs out no sooner.
        until = asyncio.get_running_loop().time() + TTL_S
        held = await self._store.take_leases(wanted, self._holder, ttl_s=TTL_S)
        self._names = frozenset(name.removeprefix(PREFIX) for name in held)
        self._until = until
        others = len(wanted) - len(held)
        self.doing = f"looks after {len(held)} of {len(wanted)} outposts" if others else ""

    async def close(self) -> None:
        self._names = frozenset()
        await self._store.drop_leases(self._holder)

    def mine(self, outpost: str) -> bool:
        """Whether the workers on this outpost are ours to look after."""
        return outpost in self.names()

    def names(self) -> Collection[str]:
        """Return all outposts that are."""
        return self._names if asyncio.get_running_loop().time() < self._until else frozenset()

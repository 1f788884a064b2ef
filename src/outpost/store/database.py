"""A database that runs transactions: what SQLite and PostgreSQL have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from outpost.errors import StoreError
from outpost.ports import Clock
from outpost.store.reads import Reader
from outpost.store.rows import Row

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from outpost.store.writes import Writer

Result = TypeVar("Result")


class Database(ABC):
    """Runs short transactions, one after the other, without holding up the event loop.

    One thread does it, and a transaction stays in it from its begin to its commit or rollback:
    cancelling the call cannot leave one open, and what is read next knows how it ended.
    """

    def __init__(self, *, clock: Clock, by: str) -> None:
        self._clock = clock
        self._by = by
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outpost-store")
        self._closed = False
        self._waits = set[asyncio.Timeout]()
        self._watching = asyncio.Lock()
        self._changes = 0

    async def read(self, work: Callable[[Reader], Result]) -> Result:
        """Run queries on one consistent view; raises ``StoreError``.

        ``work`` may be run more than once and must be pure.
        """
        return await self._in_thread(lambda: self._read(work))

    async def write(self, work: Callable[[Writer], Result]) -> Result:
        """Run changes alone among all writers of all processes; raises ``StoreError``.

        All of them are undone if ``work`` raises. It may be run more than once and must be pure.
        """
        return await self._in_thread(lambda: self._write(work))

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until another process has written; ``False`` once time is over, or it is closed.

        All who wait at that moment are told. Raises ``StoreError``.
        """
        if self._closed:
            return False
        seen = self._changes
        try:
            async with asyncio.timeout(timeout_s) as limit:
                self._waits.add(limit)
                async with self._watching:  # one watches for all; if it leaves, the next does
                    if self._changes == seen:
                        await self._changed()
                        self._changes += 1
        except TimeoutError:
            return False
        finally:
            self._waits.discard(limit)
        return True

    async def close(self) -> None:
        """Close files and connections once what runs has ended; nobody waits on. Idempotent."""
        if self._closed:
            return
        self._closed = True
        now = asyncio.get_running_loop().time()
        for limit in self._waits:
            if not limit.expired():
                limit.reschedule(now)
        async with self._watching:
            closed = self._thread.submit(self._close)
            self._thread.shutdown(wait=False)
            await asyncio.wrap_future(closed)

    @abstractmethod
    def absent(self) -> StoreError:
        """Return the error for asking of an absent store what only a real one has."""

    @abstractmethod
    def _read(self, work: Callable[[Reader], Result]) -> Result: ...

    @abstractmethod
    def _write(self, work: Callable[[Writer], Result]) -> Result: ...

    @abstractmethod
    async def _changed(self) -> None:
        """Wait until another process has written since this last returned, or was first called."""

    @abstractmethod
    def _close(self) -> None: ...

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _writer(self, connection: Connection) -> Writer:
        """Return what writes in a transaction that has begun: its time is from now on."""
        from outpost.store.writes import Writer  # noqa: PLC0415 - loads SQLAlchemy

        return Writer(connection, now=self._clock.now(), by=self._by)


def nothing(query: str, values: dict[str, object]) -> Sequence[Row]:
    """Answer a query as a store without anything in it would."""
    return []

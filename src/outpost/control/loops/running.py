"""Running the loops side by side: each at its own pace, none held up by another's trouble."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace

from outpost.control.loops import Loop, LoopStanding
from outpost.errors import OutpostError
from outpost.ports import Clock, Store

MOST_PAUSE_S = 60.0
CHANGE_S = 5.0
SETTLE_S = 0.2
"""The least time between two rounds because somebody else wrote to the store."""

logger = logging.getLogger("outpost.controller")


class Running:
    """The loops of one controller, and how each of them is.

    ``on_change`` are those that are woken when another process has written to the store.
    """

    def __init__(
        self, loops: Iterable[Loop], *, clock: Clock, store: Store, on_change: Iterable[Loop] = ()
    ) -> None:
        self._loops = list(loops)
        self._on_change = list(on_change)
        self._clock = clock
        self._store = store
        self._stopping = asyncio.Event()
        self._standings = {
            loop.name: LoopStanding(name=loop.name, every_s=loop.every_s) for loop in self._loops
        }

    @property
    def standings(self) -> tuple[LoopStanding, ...]:
        """How each loop is now."""
        return tuple(replace(self._standings[loop.name], doing=loop.doing) for loop in self._loops)

    @property
    def waiting(self) -> bool:
        """Whether something may yet come of what the store does not know."""
        return any(loop.waiting for loop in self._loops)

    def stop(self) -> None:
        """Let the rounds that go on be the last."""
        self._stopping.set()
        for loop in self._loops:
            loop.wake.set()

    async def run(self) -> None:
        """Run all loops until ``stop``; then close them, the first last. Cancelling stops at once.

        The first has had a round before the others begin.
        """
        first, *others = self._loops
        watching = asyncio.create_task(self._watch_store(), name="store")
        try:
            await self._round(first, 0.0)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run(first, first.every_s), name=first.name)
                for loop in others:
                    group.create_task(self._run(loop, 0.0), name=loop.name)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            for loop in reversed(self._loops):
                await self._close(loop)

    async def _run(self, loop: Loop, pause_s: float) -> None:
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            due = clock() + pause_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await loop.wake.wait()
            if self._stopping.is_set():
                return
            loop.wake.clear()
            await self._round(loop, max(0.0, clock() - due))
            failures = self._standings[loop.name].failures
            pause_s = max(loop.every_s, min(loop.every_s * 2**failures, MOST_PAUSE_S))

    async def _round(self, loop: Loop, lag_s: float) -> None:
        """Let a loop go round once, and note how that went."""
        clock = asyncio.get_running_loop().time
        before, begun = self._standings[loop.name], clock()
        trouble = ""
        try:
            await loop.round()
        except OutpostError as exc:
            trouble = exc.message
            logger.warning("%s: %s", loop.name, trouble, extra={"loop": loop.name})
        except Exception as exc:
            # A fault of ours in one loop is no reason to leave the others undone.
            trouble = f"{type(exc).__name__}: {exc}"
            logger.exception("%s failed", loop.name, extra={"loop": loop.name})
        self._standings[loop.name] = replace(
            before,
            rounds=before.rounds + 1,
            round_at=self._clock.now().isoformat(),
            round_s=round(clock() - begun, 3),
            lag_s=round(lag_s, 3),
            trouble=trouble,
            failures=before.failures + 1 if trouble else 0,
        )

    async def _watch_store(self) -> None:
        """Wake loops once another process has written to the store."""
        while True:
            try:
                if await self._store.wait_for_change(CHANGE_S):
                    for loop in self._on_change:
                        loop.wake.set()
                    await asyncio.sleep(SETTLE_S)
            except OutpostError:
                await asyncio.sleep(CHANGE_S)

    async def _close(self, loop: Loop) -> None:
        try:
            await loop.close()
        except OutpostError as exc:
            logger.warning("%s: %s", loop.name, exc.message, extra={"loop": loop.name})

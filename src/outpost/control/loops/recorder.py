"""Storing what is learnt of many workers together: a transaction for all, a few times a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from outpost.errors import StoreError
from outpost.model import Attempt
from outpost.ports import Store

GATHER_S = 0.01
"""How long what is learnt waits for more to be stored with it."""
AGAIN_S = 1.0


logger = logging.getLogger("outpost.controller.supervise")


class Recorder:
    """Keeps the newest of each attempt until it is stored. ``trouble``: why it cannot be now."""

    def __init__(self, store: Store) -> None:
        self.trouble = ""
        self._store = store
        self._newest: dict[str, Attempt] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to store. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="recorder")

    def put(self, attempt: Attempt) -> None:
        """Have an attempt stored soon, in place of what was known of it before."""
        self._newest[attempt.id] = attempt
        self._some.set()

    def drop(self, attempt_id: str) -> None:
        """Do not store what is known of an attempt: its end is stored already."""
        self._newest.pop(attempt_id, None)

    async def close(self) -> None:
        """Store what is left, as far as that goes. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        with contextlib.suppress(StoreError):
            await self._write()

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(GATHER_S)
            try:
                await self._write()
                self.trouble = ""
            except StoreError as exc:
                self.trouble = exc.message
                await asyncio.sleep(AGAIN_S)
            except Exception as exc:
                # A fault of ours about one attempt is no reason to forget all others.
                self.trouble = f"{type(exc).__name__}: {exc}"
                logger.exception("storing what was learnt failed")
                await asyncio.sleep(AGAIN_S)

    async def _write(self) -> None:
        self._some.clear()
        batch, self._newest = self._newest, {}
        if not batch:
            return
        try:
            await self._store.apply_all(list(batch.values()))
        except BaseException:
            self._newest = batch | self._newest
            self._some.set()
            raise

"""Starting what is queued, as slots, money and outposts come free."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import ClassVar

from outpost.control.loops import Loop, about
from outpost.control.queue import Queue
from outpost.model import Attempt
from outpost.ports import Store

EVERY_S = 1.0

logger = logging.getLogger("outpost.controller.dispatch")


class Dispatch(Loop):
    """Goes through the queue. ``queue`` makes what does it; ``started`` is told of each start."""

    name: ClassVar[str] = "dispatch"

    def __init__(
        self, store: Store, queue: Callable[[], Awaitable[Queue]], started: Callable[[], None]
    ) -> None:
        super().__init__()
        self.every_s = EVERY_S
        self._store = store
        self._queue = queue
        self._started = started

    async def round(self) -> None:
        waiting = await self._store.queue_length()
        self.doing = f"{waiting} queued" if waiting else ""
        if not waiting:
            return
        await (await self._queue()).go_through(tell=self._tell)

    def _tell(self, attempt: Attempt) -> None:
        logger.info("started", extra=about(attempt))
        self._started()

"""Taking away what nobody needs any more: what ended long ago, litter, old lines of logs."""

from __future__ import annotations

import logging
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from outpost.control.loops import Leased, Loop
from outpost.control.prune import CACHE_IDLE, Item, Pruned, Pruner

if TYPE_CHECKING:
    from outpost.config.models import ControllerConfig
    from outpost.control.parts import Whole

EVERY_S = 3600.0
FIRST_S = 180.0
"""How long the first sweep waits: a start has more urgent things to do."""
LEAST_FREE = 0.1
LEAST_FREE_BYTES = 5 << 30
"""Under both of these a disk is nearly full: a tenth of a large one is plenty of room, and 5 GiB
may be nearly all of a small one."""
NEARLY_FULL = timedelta(days=1)
"""What is kept on a disk that is nearly full: what ended, and caches nobody fetched into."""
KEEP_TRANSITIONS = timedelta(days=90)
LOG = "controller.log"
MOST_LOG_BYTES = 10 << 20
_MIB = 1 << 20

_WORKERS = ("worker", "orphan")

logger = logging.getLogger("outpost.controller.sweep")


class Sweep(Loop):
    """Prunes our outposts as ``controller.keep_ended`` says, and sooner where the disk is full.

    What holds work that exists nowhere else stays, however old it is: ``Pruner`` sees to that.
    """

    name: ClassVar[str] = "sweep"

    def __init__(self, federation: Whole, *, leased: Leased) -> None:
        super().__init__()
        self.every_s = EVERY_S
        self._federation = federation
        self._leased = leased
        self._begun = False

    async def round(self) -> None:
        """Sweep; the first time only wait a little for that."""
        if not self._begun:
            self._begun, self.every_s = True, FIRST_S
            return
        self.every_s = EVERY_S
        home = self._federation.home
        full = is_nearly_full(home)
        settings = self._federation.config.controller
        pruned = await Pruner(
            federation=self._federation,
            before=_keep(settings, full=full),
            cache_idle=min(CACHE_IDLE, NEARLY_FULL) if full else CACHE_IDLE,
            only=frozenset(self._leased.names()),
        ).prune()
        _report(pruned)
        now = self._federation.clock.now()
        trimmed = await self._federation.store.trim_transitions(now - KEEP_TRANSITIONS)
        if trimmed:
            logger.info("removed %d transitions older than %s", trimmed, KEEP_TRANSITIONS)
        # Not in a thread: nobody else writes to it meanwhile.
        shorten(home / LOG, MOST_LOG_BYTES)
        self.doing = f"the disk of {home} is nearly full" if is_nearly_full(home) else ""
        if self.doing:
            logger.warning("%s", self.doing)


def is_nearly_full(folder: Path) -> bool:
    """Whether the disk that a folder is on has little room left."""
    disk = shutil.disk_usage(folder)
    return disk.free < LEAST_FREE_BYTES and disk.free < LEAST_FREE * disk.total


def shorten(log: Path, most_bytes: int) -> None:
    """Keep the newer half of a log that is longer than that; who appends to it goes on behind."""
    if not log.exists() or log.stat().st_size <= most_bytes:
        return
    with log.open("r+b") as file:
        file.seek(-most_bytes // 2, 2)
        newer = file.read().partition(b"\n")[2]
        file.seek(0)
        file.write(newer)
        file.truncate()


def _keep(settings: ControllerConfig, *, full: bool) -> timedelta | None:
    """Return how long what ended is kept; ``None``, for ever, holds on a full disk as well."""
    if settings.keep_ended_s is None:
        return None
    keep = timedelta(seconds=settings.keep_ended_s)
    return min(keep, NEARLY_FULL) if full else keep


def _report(pruned: Pruned) -> None:
    for item in pruned.removed:
        mib = item.leftover["bytes"] / _MIB
        what = item.leftover["kind"], item.leftover["name"]
        logger.info("removed %s %s, %.1f MiB", *what, mib, extra=_where(item))
    for problem in pruned.problems:
        logger.warning("%s", problem.message, extra={"outpost": problem.outpost})


def _where(item: Item) -> dict[str, str]:
    named = {"worker": item.leftover["name"]} if item.leftover["kind"] in _WORKERS else {}
    task = {"task": item.attempt.task_id} if item.attempt else {}
    return {"outpost": item.outpost, **named, **task}

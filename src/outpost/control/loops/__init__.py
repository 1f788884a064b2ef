"""What goes on when no command runs: one loop a file, all of the shape that stands here.

==============  ==================================================================================
``supervise``   follows every worker's log, saves what died, stores what tables show
``dispatch``    starts what is queued
``duties``      carries out what follows an end
``expire``      stops what is over its time or its cap, gives up what was out of contact too long
``reconcile``   compares what outposts really run with the store
``sweep``       takes away what nobody needs any more
``tend``        has outposts renew what would run out, where one needs that
``meter``       bills ended workers for what their providers meter
``leases``      says which outposts are ours, where several controllers share one store
==============  ==================================================================================

``running`` runs them side by side. Nothing a loop knows is needed by the next process: all of it is
in the store, or seen anew.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Protocol

from outpost.model import Attempt

__all__ = ["Leased", "Loop", "LoopStanding", "about"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopStanding:
    """How a loop is: when its last round ended (ISO, UTC) and how long it took.

    ``lag_s`` is how much later than planned that round began, ``doing`` what it is about in a few
    words, ``trouble`` what kept its last round from its end (empty: nothing), ``failures`` how many
    rounds in a row that was so.
    """

    name: str
    every_s: float
    rounds: int = 0
    round_at: str = ""
    round_s: float = 0.0
    lag_s: float = 0.0
    doing: str = ""
    trouble: str = ""
    failures: int = 0


class Loop(ABC):
    """Something that is done again and again.

    ``every_s`` is the pause between the end of a round and the next, ``wake`` ends it early.
    ``waiting`` is how many things, unknown to the store, something may yet come of.
    """

    name: ClassVar[str]
    every_s: float

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.doing = ""
        self.waiting = 0

    @abstractmethod
    async def round(self) -> None:
        """Do what there is to do now; raises ``OutpostError`` where that cannot be done.

        May be cancelled at any ``await``: whatever is half done is done by a later round.
        """

    async def close(self) -> None:  # noqa: B027 - most leave nothing
        """End what a round left running. Idempotent."""


class Leased(Protocol):
    """Which outposts this controller looks after now."""

    def mine(self, outpost: str) -> bool:
        """Whether the workers on this outpost are ours to look after."""
        ...

    def names(self) -> Collection[str]:
        """Return all outposts that are."""
        ...


def about(attempt: Attempt) -> dict[str, str]:
    """Return what a line of the log says of the worker that it is about, as its ``extra``."""
    return {"worker": attempt.id, "task": attempt.task_id, "outpost": attempt.outpost}

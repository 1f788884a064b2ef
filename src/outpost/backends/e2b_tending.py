"""What sandboxes need from time to time: leases renewed, and no second paid for without work.

Nothing is told by comparing E2B's clock with ours, which may differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from outpost.errors import OutpostFault
from outpost.transports.e2b_api import Gone

if TYPE_CHECKING:
    from outpost.backends.e2b import E2bOutpost
    from outpost.backends.e2b_options import E2bOptions
    from outpost.ports import Tended
    from outpost.transports.e2b_api import Sandbox

AT_ONCE = 8
RENEW_PART = 4
"""A lease is renewed once a part of it has gone."""
REST_S = 120.0
"""So long nobody has come to a sandbox that no living worker is known of."""
OVER_S = 10.0
"""The same, where the log says that its worker is done."""
CAME_S = 30.0
"""So long after somebody has come to it none is paused for waiting."""
EVICT_S = 300.0
SLACK = timedelta(seconds=1)
SESSION_ENDS = "its sandbox may not run for longer on this plan"


@dataclass(slots=True)
class Known:
    """What earlier rounds learnt of a sandbox, in seconds of our own monotonic clock."""

    renewed_at: float | None = None
    end_at: datetime | None = None
    since: float = 0.0
    evicted: bool = False


class Tending:
    """Tends the sandboxes of one outpost; what it remembers only saves requests."""

    def __init__(self, outpost: E2bOutpost, options: E2bOptions) -> None:
        self._outpost = outpost
        self._options = options
        self._known: dict[str, Known] = {}

    async def round(self, workers: Sequence[Tended]) -> None:
        """Look after every sandbox once; raises the first ``OutpostFault`` after the last."""
        listed = {it.id: it for it in await self._outpost.listed()}
        tended = {self._outpost.sandbox_of(it.handle): it for it in workers}
        self._known = {it: self._known.get(it, Known()) for it in (*listed, *tended)}
        slots = asyncio.Semaphore(AT_ONCE)
        troubles: list[OutpostFault] = []

        async def one(sandbox_id: str) -> None:
            async with slots:
                try:
                    # What has changed since it was listed is for the next round.
                    with contextlib.suppress(Gone):
                        await self._one(sandbox_id, listed, tended.get(sandbox_id))
                except OutpostFault as exc:
                    troubles.append(exc)

        async with asyncio.TaskGroup() as group:
            for sandbox_id in self._known:
                group.create_task(one(sandbox_id))
        if troubles:
            raise troubles[0]

    async def _one(
        self, sandbox_id: str, listed: Mapping[str, Sandbox], tended: Tended | None
    ) -> None:
        # One that was made just now may not be in the list yet.
        seen = listed.get(sandbox_id) or await self._outpost.api.look(sandbox_id)
        if seen is None:
            return
        if tended is None:
            await self._rest(seen)
            return
        waited_s = tended.waiting_s
        waits = waited_s is not None and waited_s >= self._options.pause_after_s
        if not seen.paused and waits:
            if self._alone_for(seen, at_first=CAME_S) >= CAME_S:
                await self._outpost.entered(sandbox_id).pause()
        elif seen.paused and not waits:
            await self._outpost.entered(sandbox_id).wake()
        elif not seen.paused:
            await self._renew(seen, tended)

    def _alone_for(self, seen: Sandbox, *, at_first: float = 0.0) -> float:
        """Return for how many seconds nobody but us has come to a sandbox: that renews its lease.

        Who has come may have brought an answer that the store does not know of yet. ``at_first`` is
        what is returned for one that is seen for the first time.
        """
        known, now = self._known[seen.id], time.monotonic()
        if seen.end_at != known.end_at:
            known.since = now - (at_first if known.end_at is None else 0.0)
            known.end_at = seen.end_at
        return now - known.since

    async def _renew(self, seen: Sandbox, tended: Tended) -> None:
        """Have it run on; where it may not, its worker is to save its work and end in time."""
        lease_s, known, now = self._options.timeout_s, self._known[seen.id], time.monotonic()
        if known.renewed_at is not None and now < known.renewed_at + lease_s / RENEW_PART:
            return
        await self._outpost.api.renew(seen.id, lease_s)
        after = await self._outpost.api.look(seen.id)
        if after is None:
            return
        known.end_at = after.end_at
        # What is paused at its session's end is resumed by the next round: nothing is lost.
        if self._options.lifecycle == "pause" or after.end_at > seen.end_at + SLACK:
            known.renewed_at = now
            return
        left_s = (after.end_at - datetime.now(UTC)).total_seconds()
        if left_s < min(EVICT_S, lease_s / 2) and not known.evicted:
            worker = self._outpost.worker(tended.handle)
            await worker.send({"type": "stop", "reason": SESSION_ENDS, "again": True})
            known.evicted = True

    async def _rest(self, seen: Sandbox) -> None:
        """Pause one without a living worker, once nobody has come to it for a while."""
        if self._outpost.is_over(seen):
            rested = self._alone_for(seen, at_first=OVER_S) >= OVER_S
        else:
            rested = self._alone_for(seen) >= min(REST_S, self._options.timeout_s / 2)
        if rested and not seen.paused and self._options.lifecycle == "pause":
            await self._outpost.entered(seen.id).pause()

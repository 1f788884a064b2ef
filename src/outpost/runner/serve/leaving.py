"""Ends: of this instance, of a worker that nobody follows, of a server that nobody needs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.runner.place import Place
    from outpost.runner.serve.server import Server
    from outpost.wire.orders import Message

INSTANCE_ENDS = "the platform ends this instance"
NOBODY_FOLLOWS = "nobody follows it any more"
AGENT_SHARE = 0.4
"""How much of the time an agent gets to end; the rest is for saving its work and telling of it."""
LEASE_GRACE_S = 20.0
TICK_MOST_S, TICK_LEAST_S = 1.0, 0.05
FROZEN_S = 1.0
"""What is so late was frozen, as platforms do without an open request; who thaws it speaks next."""
POLL_S = 0.02


class Leaving:
    """Sees to it that workers end in time with their work saved, and then the server."""

    def __init__(self, server: Server, *, lease_s: float, idle_exit_s: float) -> None:
        self._server = server
        self._lease_s = lease_s or math.inf
        self._idle_exit_s = idle_exit_s or math.inf
        self._told: set[str] = set()

    async def wait_for_end(self, asked: asyncio.Event) -> bool:
        """Return once the server is to end: ``True`` if it was ``asked`` to.

        Meanwhile workers whose lease is over are told to stop.
        """
        waited_for = min(self._lease_s, self._idle_exit_s)
        tick_s = min(max(waited_for / 10, TICK_LEAST_S), TICK_MOST_S)
        if waited_for == math.inf:
            await asked.wait()
        while not asked.is_set():
            self._end_leases(self._server.works.living())
            if self._is_idle():
                return False
            began_at = time.monotonic()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asked.wait(), tick_s)
            waited_s = time.monotonic() - began_at
            if waited_s > tick_s + FROZEN_S:
                self._server.following.forgive(waited_s)
        return True

    async def leave(self, grace_s: float) -> None:
        """Have all workers save their work; returns when all was told of, or the time is over.

        Nobody is killed: what still saves its work then is left to it.
        """
        works, deadline = self._server.works, time.monotonic() + grace_s
        works.leaving = True
        for stream in list(self._server.streams):
            stream.leave()
        told: set[str] = set()
        while time.monotonic() < deadline:
            living = works.living()
            for place in living:
                if place.worker_id not in told:
                    told.add(place.worker_id)
                    self._stop(place, INSTANCE_ENDS, grace_s * AGENT_SHARE)
            busy = works.busy() or self._server.following.requests or self._server.asking.running
            if not busy:
                return
            await asyncio.sleep(POLL_S)

    def _is_idle(self) -> bool:
        server = self._server
        if server.works.busy() or server.asking.running:
            # It waits from the end of its work on, however long nobody has asked about that.
            server.following.need()
        return server.following.idle_s() >= self._idle_exit_s

    def _end_leases(self, living: list[Place]) -> None:
        followed = self._server.following
        for place in living:
            worker_id = place.worker_id
            if followed.alone_s(worker_id) < self._lease_s:
                self._told.discard(worker_id)
            elif worker_id not in self._told:
                self._told.add(worker_id)
                self._stop(place, NOBODY_FOLLOWS, LEASE_GRACE_S)

    def _stop(self, place: Place, reason: str, grace_s: float) -> None:
        """Tell a worker to stop, and that it is to be gone on with elsewhere."""
        message: Message = {"type": "stop", "grace_s": grace_s, "reason": reason, "again": True}
        print(f"{place.worker_id} is to stop: {reason}", flush=True)
        with contextlib.suppress(OSError):
            self._server.works.post(place, [message])

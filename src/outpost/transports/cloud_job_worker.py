"""One worker in a container that nobody can reach: read, told and ended through its bucket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from outpost.errors import OutpostFault
from outpost.model import Liveness, Observation
from outpost.ports import Completed
from outpost.transports.http_worker import HttpWorker
from outpost.wire.events import EventReader
from outpost.wire.orders import Environment, Message

if TYPE_CHECKING:
    from outpost.transports.cloud_job import JobOutpost

KILL_S = 90.0
LOOK_MOST_S = 1.0
PAUSE_LEAST_S, PAUSE_MOST_S = 0.4, 5.0


class JobWorker(HttpWorker):
    """A worker in a container that nobody can reach."""

    def __init__(self, outpost: JobOutpost, worker_id: str) -> None:
        super().__init__(worker_id, outpost.name)
        self._outpost = outpost
        self._there = outpost.folder_of(worker_id)
        self._copy = outpost.copy_of(worker_id)

    async def status(self) -> Observation:
        return await self._outpost.observe(self.id)

    async def has_ended(self) -> bool:
        seen = await self.status()
        if seen.liveness is Liveness.UNSEEN:
            raise OutpostFault(f"cannot see {self.id}: {seen.detail}", outpost=self.outpost)
        return seen.liveness is not Liveness.ALIVE

    async def ended_within(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; each look is two calls elsewhere."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                pause_s = PAUSE_LEAST_S
                while not await self.has_ended():
                    await asyncio.sleep(pause_s)
                    pause_s = min(1.5 * pause_s, LOOK_MOST_S)
                return True
        return False

    async def send(self, message: Message) -> None:
        if await self._there.record() is None:
            raise OutpostFault(f"{self.id} is gone from {self.outpost}", outpost=self.outpost)
        await self._there.post(message)

    async def kill(self) -> None:
        """Have the container end; an order that none has taken yet is taken away from them all."""
        # Besides the one that is named there may be another, whose start was in doubt.
        await self._there.revoke("it was killed before it began")
        found = await self._there.record()
        if found and (execution := found[0].get("execution")):
            await self._outpost.cancel(found[0]["region"], execution)
        if not await self.ended_within(KILL_S):
            what = f"{self.id} on {self.outpost} does not end: Cloud Run was asked to cancel it"
            raise OutpostFault(what, outpost=self.outpost)

    async def pieces(self, reader: EventReader, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """Yield our copy, then what comes; whoever follows looks less and less often."""
        over = anew = False
        pause_s = PAUSE_LEAST_S
        while True:
            while data := self._copy.read(reader.read_offset):
                pause_s = PAUSE_LEAST_S
                yield data
            if await self._fetched():
                continue
            if not anew and (self._is_cut() or (over and await self._is_torn())):
                anew = True
                self._copy.remove()
                continue
            if over or not follow:
                return
            if pause_s == PAUSE_MOST_S:
                over = await self.has_ended()
            await asyncio.sleep(0 if over else pause_s)
            pause_s = min(2 * pause_s, PAUSE_MOST_S)

    async def recover(self, environment: Environment) -> bool:
        """Say whether there is a result; the container itself mends a runner that died in it."""
        return await self.has_result()

    async def transcript(self, session_id: str, environment: Environment) -> bytes | None:
        return None

    async def unsaved(self) -> str:
        return "" if await self.has_ended() else "what it has done since its last checkpoint"

    async def diff(self, options: Sequence[str]) -> bytes | None:
        return None if await self.has_ended() else self.checked(await self.run("diff"))

    async def run(self, verb: str, *arguments: str, stdin: bytes = b"") -> Completed:
        raise OutpostFault(
            f"nobody can ask the container of {self.id}: what it has pushed is all there is to see",
            outpost=self.outpost,
        )

    async def _fetched(self) -> bool:
        """Add the next piece of the log to our copy; whether there was one."""
        size = self._copy.size()
        data = await self._there.piece(size)
        if data:
            self._copy.add(size, data)
        return bool(data)

    def _is_cut(self) -> bool:
        """Whether our copy ends within a line, so within a piece; that is seen from here."""
        size = self._copy.size()
        return bool(size) and self._copy.read(size - 1) != b"\n"

    async def _is_torn(self) -> bool:
        """Whether our copy ends within a piece: somebody was killed who wrote it."""
        return self._copy.size() != await self._there.size()

"""What all workers behind ``runner serve`` have in common, however they are reached."""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence

from outpost.errors import OutpostFault, Unsupported
from outpost.ports import Completed, Worker
from outpost.runner.transcript import MOST_BYTES, is_name
from outpost.transports.variables import moving
from outpost.wire.events import Event, EventReader, LogDamaged
from outpost.wire.orders import Environment

STOP_MARGIN_S = 30.0
STOP_POLL_S = 0.1
ABSENT = 3  # the runner's exit code for a diff of a workspace that is not there


class HttpWorker(Worker):
    """A worker whose log comes in pieces, and whose runner is asked by a verb."""

    def __init__(self, worker_id: str, outpost: str) -> None:
        self.id = worker_id
        self.outpost = outpost

    @abstractmethod
    async def run(self, verb: str, *arguments: str, stdin: bytes = b"") -> Completed:
        """Run a command of the runner on this worker. Raises ``OutpostFault``."""

    @abstractmethod
    def pieces(self, reader: EventReader, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """Yield the log from where the reader is, whole lines only.

        Without ``follow`` as it is now; with it as it grows, until its worker is dead.
        """

    @abstractmethod
    async def has_ended(self) -> bool:
        """Whether nothing of it can run any more; raises ``OutpostFault`` if that is not seen."""

    @abstractmethod
    async def kill(self) -> None:
        """Kill the worker; saves nothing. Raises ``OutpostFault`` where it is out of reach."""

    async def stop(self, *, grace_s: float, reason: str) -> None:
        if await self.has_ended():
            return
        await self.send({"type": "stop", "grace_s": grace_s, "reason": reason})
        if not await self.ended_within(grace_s + STOP_MARGIN_S):
            await self.kill()

    async def ended_within(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not await self.has_ended():  # noqa: ASYNC110 - elsewhere
                    await asyncio.sleep(STOP_POLL_S)
                return True
        return False

    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        reader = EventReader(after if offset else 0, offset)
        try:
            async with contextlib.aclosing(self.pieces(reader, follow=follow)) as pieces:
                async for data in pieces:
                    for event in reader.feed(data):
                        if event.seq > after:
                            yield event
                        if event.type == "result":
                            return
        except LogDamaged as exc:
            raise OutpostFault(f"its log is damaged: {exc}", outpost=self.outpost) from exc
        except OSError as exc:
            raise OutpostFault(f"cannot keep its log: {exc}", outpost=self.outpost) from exc

    async def recover(self, environment: Environment) -> bool:
        stdin = json.dumps(moving(environment)).encode()
        self.checked(await self.run("recover", stdin=stdin))
        return await self.has_result()

    async def has_result(self) -> bool:
        """Whether the log ends with a result."""
        async for event in self.events():
            if event.type == "result":
                return True
        return False

    async def transcript(self, session_id: str, environment: Environment) -> bytes | None:
        if not is_name(session_id):
            return None
        stdin = json.dumps(moving(environment)).encode()
        done = await self.run("transcript", session_id, stdin=stdin)
        whole = not done.exit_code and len(done.stdout) <= MOST_BYTES
        return done.stdout if whole else None

    async def unsaved(self) -> str:
        return self.checked(await self.run("unsaved")).decode("utf-8", "replace").strip()

    async def diff(self, options: Sequence[str]) -> bytes | None:
        done = await self.run("diff", *options)
        return None if done.exit_code == ABSENT else self.checked(done)

    async def attach(self) -> Sequence[str]:
        raise Unsupported(f"there is no screen to attach to on {self.outpost}")

    def checked(self, done: Completed) -> bytes:
        """Return what a command printed; raises ``OutpostFault`` if it failed."""
        if done.exit_code:
            what = f"the runner of {self.id} failed: {done.complaint}"
            raise OutpostFault(what, outpost=self.outpost)
        return done.stdout

"""One connection to a desk: requests go out, answers come in, and signs of life both ways."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from outpost.runner.desk import MOST_BYTES, PIECE_BYTES, Frames, Garbage, frame
from outpost.transports.desk_start import Doorstep, desk_source, shown

if TYPE_CHECKING:
    from outpost.runner.desk import Header

BATCH_BYTES = 1 << 17
ANSWER_MOST_BYTES = 256 << 20  # of one request: a machine may talk without an end
CLOSE_S = 5.0
LAST_WORDS_S = 1.0
_COUNTED = ("run", "call", "put", "get")


class Pipe(Protocol):
    """The stdin and stdout of the command that starts a desk; trouble is an ``OSError``."""

    async def read(self) -> bytes:
        """Return what the command wrote, at least a byte; ``b""`` once there will be no more."""
        ...

    async def write(self, data: bytes) -> None:
        """Write all of it to the command; waits while too much is under way."""
        ...

    async def close(self) -> None:
        """End the command by ending its stdin, and let go of everything; idempotent."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a connection may take for what, in seconds."""

    connect_s: float = 30.0
    ping_s: float = 15.0
    """Nothing heard for so long: ask whether somebody is there."""
    silent_s: float = 45.0
    """Nothing heard for so long in spite of that: the connection is dead."""
    pause_least_s: float = 0.5
    pause_most_s: float = 30.0
    """Between one failure to connect and the next try."""
    short_pause_s: float = 1.0
    """A pause that a call waits for; while a longer one lasts, calls fail at once."""


@dataclass(kw_only=True, slots=True)
class Traffic:
    """What went over all connections so far.

    ``round_trips`` counts those of commands and files: requests with no answer between them count
    as one. Following files and signs of life are not in it, but in the bytes.
    """

    connections: int = 0
    requests: int = 0
    round_trips: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class LinkLost(ConnectionError):
    """A connection that had stood is gone; whether a request was carried out, nobody knows."""


class Asked:
    """A request under way, and what has been answered so far."""

    def __init__(self, number: int, counted: bool) -> None:
        self.id = number
        self.counted = counted
        self.done: asyncio.Future[Header] = asyncio.get_running_loop().create_future()
        self.stdout = bytearray()
        self.stderr = bytearray()

    def take(self, header: Header, payload: bytes) -> bool:
        """Add an answer; returns whether it was the last one."""
        length = header.get("stdout", len(payload))
        if type(length) is not int or len(self.stdout) + len(self.stderr) > ANSWER_MOST_BYTES:
            if not self.done.done():
                self.done.set_exception(OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
                self.done.exception()  # it may be that nobody waits for it any more
            return True
        self.stdout += payload[:length]
        self.stderr += payload[length:]
        if "stdout" in header and "exit_code" not in header:
            return False
        if not self.done.done():
            self.done.set_result(header)
        return True


class Link:
    """A connection from its first byte to its last; ``live`` is its life."""

    def __init__(self, pipe: Pipe, patience: Patience, traffic: Traffic) -> None:
        self._pipe = pipe
        self._patience = patience
        self._traffic = traffic
        self._numbers = itertools.count(1)
        self._asked: dict[int, Asked] = {}
        self._outgoing: deque[Iterator[bytes]] = deque([iter([desk_source()])])
        self._stirred = asyncio.Event()
        self._stirred.set()
        self._heard_at = self.began_at = self.ended_at = asyncio.get_running_loop().time()
        self._pinged_at: float | None = None
        self._answered = True
        self.facts: asyncio.Future[Header] = asyncio.get_running_loop().create_future()
        """What the desk tells of its machine once it is there."""
        self.ended: OSError | None = None
        """Why the connection is no more."""

    def ask(self, header: Header, body: bytes = b"") -> Asked:
        """Send a request; the answer comes in its own time. Raises ``OSError`` if it cannot go."""
        if self.ended:
            raise self.ended
        counted = header["verb"] in _COUNTED
        asked = Asked(next(self._numbers), counted)
        rest = memoryview(body)[PIECE_BYTES:]
        header = {**header, "id": asked.id, **({"more": True} if rest else {})}
        first = frame(header, body[:PIECE_BYTES])
        if len(first) > MOST_BYTES:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        self._asked[asked.id] = asked
        self._traffic.requests += 1
        if counted and self._answered:
            self._traffic.round_trips += 1
            self._answered = False
        self._outgoing.append(self._pieces(asked, first, rest))
        self._stirred.set()
        return asked

    def drop(self, asked: Asked) -> None:
        """Want no answer any more: what is still under way there for it ends."""
        if self._asked.pop(asked.id, None) and not self.ended:
            self._outgoing.append(iter([frame({"id": asked.id, "verb": "cancel"})]))
            self._stirred.set()

    async def live(self) -> None:
        """Keep the connection up until it ends by itself or this is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self._read(), self._write(), self._watch()):
                    group.create_task(part)
        except* OSError as troubles:
            why = _first(troubles)
            stood = self.facts.done()
            self._end(LinkLost(f"the connection was lost: {why}") if stood else why)
        finally:
            self._end(ConnectionAbortedError("the connection was closed"))
            with contextlib.suppress(OSError):
                async with asyncio.timeout(CLOSE_S):
                    await self._pipe.close()

    def _end(self, why: OSError) -> None:
        if self.ended:
            return
        self.ended = why
        self.ended_at = asyncio.get_running_loop().time()
        for waiting in (self.facts, *(asked.done for asked in self._asked.values())):
            if not waiting.done():
                waiting.set_exception(why)
                waiting.exception()  # it may be that nobody waits for it any more
        self._asked.clear()

    def _pieces(self, asked: Asked, first: bytes, rest: memoryview) -> Iterator[bytes]:
        """Yield a request in pieces, as long as somebody wants its answer."""
        if asked.id in self._asked:
            yield first
        while rest and asked.id in self._asked:
            piece, rest = rest[:PIECE_BYTES], rest[PIECE_BYTES:]
            yield frame({"id": asked.id, "verb": "piece", "more": bool(rest)}, piece)

    async def _write(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            while batch := self._batch():
                try:
                    await self._pipe.write(batch)
                except OSError:
                    # What was said there before the end is a better reason, if any comes.
                    await asyncio.sleep(LAST_WORDS_S)
                    raise
                self._traffic.bytes_sent += len(batch)

    def _batch(self) -> bytes:
        """Return what is sent next: a piece of each request in turn, so that all get on."""
        pieces: list[bytes] = []
        size = 0
        while self._outgoing and size < BATCH_BYTES:
            source = self._outgoing.popleft()
            piece = next(source, None)
            if piece is not None:
                pieces.append(piece)
                size += len(piece)
                self._outgoing.append(source)
        return b"".join(pieces)

    async def _read(self) -> None:
        doorstep, frames = Doorstep(), Frames()
        open_door = False
        while data := await self._pipe.read():
            self._traffic.bytes_received += len(data)
            self._heard_at = asyncio.get_running_loop().time()
            if not open_door:
                inside = doorstep.feed(data)
                if inside is None:
                    continue
                open_door, data = True, inside
            try:
                for header, payload in frames.feed(data):
                    self._take(header, payload)
            except Garbage as exc:
                last_words = await self._last_words(bytes(frames.rest))
                raise ConnectionError(f"the desk failed: {last_words}") from exc
        if not open_door:
            raise doorstep.failure("ended the session before anything was started")
        left = shown(bytes(frames.rest))
        raise ConnectionResetError(f"the desk has ended{left and f': {left}'}")

    async def _last_words(self, said: bytes) -> str:
        """Return what a dying desk says where frames should be."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(LAST_WORDS_S):
                while data := await self._pipe.read():
                    said += data
        return shown(said)

    def _take(self, header: Header, payload: bytes) -> None:
        if header["id"] == 0 and not self.facts.done():
            self.facts.set_result(header)
            return
        asked = self._asked.get(header["id"])
        if asked is None:
            return
        self._answered = self._answered or asked.counted
        if asked.take(header, payload):
            del self._asked[header["id"]]

    async def _watch(self) -> None:
        """Ask for a sign of life when nothing is heard, and give up when none comes."""
        patience = self._patience
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(patience.ping_s / 3, patience.connect_s))
            now = loop.time()
            if not self.facts.done() and now >= self.began_at + patience.connect_s:
                raise TimeoutError(f"nothing was started within {patience.connect_s:g} s")
            if self._pinged_at is not None and self._heard_at > self._pinged_at:
                self._pinged_at = None
            if self._pinged_at is None:
                if now >= self._heard_at + patience.ping_s:
                    self._ping(now)
            elif now >= self._pinged_at + patience.silent_s - patience.ping_s:
                raise TimeoutError(f"nothing was heard for {now - self._heard_at:.0f} s")

    def _ping(self, now: float) -> None:
        self._pinged_at = now
        asked = Asked(next(self._numbers), False)
        self._outgoing.appendleft(iter([frame({"id": asked.id, "verb": "ping"})]))
        self._stirred.set()


def _first(troubles: BaseExceptionGroup[Any]) -> OSError:
    found = troubles.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found

"""One ``POST /work`` as it goes on: the worker's log comes in, messages go out."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from outpost.ports import Completed
from outpost.wire.events import VOID
from outpost.wire.work import CALL_MOST_BYTES, SAID

if TYPE_CHECKING:
    from outpost.wire.orders import Message
    from outpost.wire.work import Call, Said

ASK_S = 300.0
LINE_MOST_BYTES = 3 * CALL_MOST_BYTES  # an answer may carry as much, in base64


class Cut(ConnectionError):
    """The request was cut, or its peer is dead; what follows is to be had from another one."""


class Session:
    """What both sides say. Reading it is for one task, speaking for any.

    ``instance`` is who answers, ``started`` whether this call has started the worker, ``alive``
    whether it lived then. ``cookies`` lead back to the same instance where a front end chooses.
    """

    def __init__(self, call: Call, silent_s: float) -> None:
        self.instance = ""
        self.started = False
        self.alive = False
        self.cookies: Sequence[str] = ()
        self._silent_s = silent_s
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._outgoing.put_nowait(_line(call))
        self._content: AsyncIterator[Any] | None = None
        self._held = bytearray()
        self._asked: dict[str, asyncio.Future[Completed]] = {}
        self._numbers = itertools.count(1)

    async def outgoing(self) -> AsyncGenerator[bytes]:
        """Yield the request's body."""
        while (line := await self._outgoing.get()) is not None:
            yield line

    async def begin(self, content: AsyncIterator[Any]) -> None:
        """Take the answer over; returns once the server has said that it is attached."""
        self._content = content
        async for piece in self._pieces():
            lines = self._lines(piece)
            said = json.loads(lines[0]) if lines and lines[0].startswith(SAID) else {}
            if said.get("said") != "attached":
                raise ValueError(piece[:80])
            self.instance = str(said["instance"])
            self.started = bool(said["started"])
            self.alive = said["liveness"] == "alive"
            self._held[:0] = b"".join(lines[1:])
            return
        raise ConnectionError("the answer ended before it began")

    async def read(self) -> AsyncGenerator[bytes | Said]:
        """Yield whole lines of the log, as many at a time as there are, and what the server says.

        ``b""`` for a heartbeat: it is there. Ends with the answer; raises ``Cut`` where that is
        cut, or nothing was heard for so long that the peer must be dead.
        """
        pending = bytes(self._held)
        self._held.clear()
        for run in self._sensible(pending):
            yield run
        async for piece in self._pieces():
            for run in self._sensible(piece):
                yield run

    def tell(self, message: Message, receipt: str) -> None:
        """Send a message to the worker; ``taken`` with this ``receipt`` says that it arrived."""
        self._say({"said": "message", "message": message, "id": receipt})

    def call(self, call: Call) -> None:
        """Ask for the next worker, once the one before has ended."""
        self._say({"said": "call", "call": call})

    async def ask(self, verb: str, arguments: Sequence[str], stdin: bytes) -> Completed:
        """Run a command of the runner there; somebody must be reading meanwhile.

        Raises ``ConnectionError`` if the session ends before the answer.
        """
        number = str(next(self._numbers))
        answer: asyncio.Future[Completed] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._say(
            {
                "said": "ask",
                "id": number,
                "verb": verb,
                "arguments": list(arguments),
                "stdin": base64.b64encode(stdin).decode(),
            }
        )
        try:
            async with asyncio.timeout(ASK_S):
                return await answer
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        """End the request's body; whoever waits for an answer gets none."""
        self._outgoing.put_nowait(None)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the request has ended"))

    def _say(self, said: Said) -> None:
        self._outgoing.put_nowait(_line(said))

    async def _pieces(self) -> AsyncGenerator[bytes]:
        from pyqwest import ReadError, RemoteProtocolError  # noqa: PLC0415 - loaded by now

        assert self._content is not None
        while True:
            try:
                async with asyncio.timeout(self._silent_s):
                    piece = await anext(self._content, None)
            except TimeoutError as exc:
                raise Cut(f"nothing was heard for {self._silent_s:g} s") from exc
            except (OSError, ReadError, RemoteProtocolError) as exc:
                raise Cut(str(exc)) from exc
            if piece is None:
                return
            yield bytes(piece)

    def _lines(self, piece: bytes) -> list[bytes]:
        """Return the lines that are whole with ``piece``, each with its newline."""
        *lines, rest = piece.split(b"\n")
        if not lines:
            self._held += rest
            if len(self._held) > LINE_MOST_BYTES:
                raise Cut("a line without an end")
            return []
        lines[0] = bytes(self._held) + lines[0]
        self._held[:] = rest
        return [line + b"\n" for line in lines]

    def _sensible(self, piece: bytes) -> list[bytes | Said]:
        """Return the same as ``_sorted`` of its lines; raises ``Cut`` for what means nothing."""
        try:
            return self._sorted(self._lines(piece))
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise Cut(f"it says nothing sensible: {type(exc).__name__}") from exc

    def _sorted(self, lines: Sequence[bytes]) -> list[bytes | Said]:
        """Return runs of the log's lines and what the server said between them."""
        runs: list[bytes | Said] = []
        for is_said, run in itertools.groupby(lines, lambda line: line.startswith(SAID)):
            if not is_said:
                kept = list(run)
                # A front end may have put in a word of its own: that is not to get into the copy.
                if not all(_is_of_a_log(line) for line in kept):
                    raise ValueError(kept)
                runs.append(b"".join(kept))
                continue
            for line in run:
                said: Said = json.loads(line)
                if said["said"] == "heartbeat":
                    runs.append(b"")
                elif said["said"] == "answer":
                    self._answered(said)
                else:
                    runs.append(said)
        return runs

    def _answered(self, said: Said) -> None:
        answer = self._asked.get(said["id"])
        if answer is not None and not answer.done():
            stdout, stderr = (base64.b64decode(said[key]) for key in ("stdout", "stderr"))
            answer.set_result(Completed(exit_code=said["exit_code"], stdout=stdout, stderr=stderr))


def _is_of_a_log(line: bytes) -> bool:
    return line.startswith(b'{"seq":') or line.endswith(VOID + b"\n")


def _line(said: Call | Said) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"

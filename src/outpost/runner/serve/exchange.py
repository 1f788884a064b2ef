"""One request of HTTP and its answer: lines in, lines out, and whether anybody is still there."""

from __future__ import annotations

import asyncio
import json

from outpost.runner.serve.refused import too_large

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from outpost.runner.serve.refused import Refused

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON = "application/json"
LINES = "application/x-ndjson"
BYTES = "application/octet-stream"


class Gone(Exception):
    """Nobody waits for the answer any more."""


class Body:
    """What the client sends, as lines or whole. ``ended``: no more comes."""

    def __init__(self, receive: Receive) -> None:
        self.ended = False
        self._receive = receive
        self._held = bytearray()

    async def line(self, most_bytes: int) -> bytes | None:
        """Return the next line without its newline, ``None`` at the end.

        Raises ``Refused`` if it is longer, ``Gone`` if the client went away.
        """
        looked = 0
        while (newline := self._held.find(b"\n", looked)) < 0:
            looked = len(self._held)
            if looked > most_bytes:
                raise too_large(f"a line of more than {most_bytes} bytes")
            if self.ended:
                newline = looked
                break
            await self._more()
        if newline > most_bytes:
            raise too_large(f"a line of more than {most_bytes} bytes")
        if self.ended and not self._held:
            return None
        line = bytes(self._held[:newline])
        del self._held[: newline + 1]
        return line

    async def whole(self, most_bytes: int) -> bytes:
        """Return all that comes; raises ``Refused`` if that is more, ``Gone`` as above."""
        while not self.ended:
            await self._more()
            if len(self._held) > most_bytes:
                raise too_large(f"a body of more than {most_bytes} bytes")
        return bytes(self._held)

    async def gone(self) -> None:
        """Return once the client went away; what it still sends is passed over."""
        while True:
            self._held.clear()
            try:
                await self._more()
            except Gone:
                return

    async def _more(self) -> None:
        said = await self._receive()
        if said["type"] != "http.request":
            raise Gone
        self._held += said["body"]
        self.ended = not said["more_body"]


class Answer:
    """What the server sends. Its head goes out with the first bytes behind it."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._send = send

    async def begin(self, status: int, kind: str, headers: Mapping[str, str] | None = None) -> None:
        """Say what follows."""
        self.begun = True
        fields = {"content-type": kind, "cache-control": "no-store", **(headers or {})}
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            }
        )

    async def write(self, data: bytes) -> None:
        """Send a part; waits while the client takes none."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        # The server's own waiting may be no waiting: others have their turn too.
        await asyncio.sleep(0)

    async def end(self, data: bytes = b"") -> None:
        """Send the rest."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(
        self, status: int, data: bytes, kind: str = JSON, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send all of it."""
        await self.begin(status, kind, headers)
        await self.end(data)

    async def json(self, value: object) -> None:
        """Send a value as JSON."""
        await self.whole(200, as_line(value))

    async def refuse(self, refused: Refused) -> None:
        """Say why not."""
        await self.whole(refused.status, as_line(refused.refusal), headers=refused.headers)


def as_line(value: object) -> bytes:
    """Return a line of JSON; its first key stands at its very beginning."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"

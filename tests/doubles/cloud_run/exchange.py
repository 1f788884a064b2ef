"""One request of a client and its answer, whatever version of HTTP carries them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

Headers = Sequence[tuple[str, str]]
"""Names in lower case; none with a colon in front."""


class ClientGone(Exception):
    """The client has closed the stream or the connection: there is nobody to answer."""


class Exchange(ABC):
    """Made by a connection with the head of a request; its handler runs as a task of its own.

    The task is cancelled when the client goes away. Whoever returns without an end to the answer
    leaves a stream that is reset.
    """

    method: str
    target: str
    headers: Headers
    sent_bytes = 0
    answered = False
    finished = False

    def __init__(self, method: str, target: str, headers: Headers) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    def fed(self, data: bytes | None) -> None:
        """Take a piece of the request's body from the connection; ``None`` is its end."""
        self._incoming.put_nowait(data)

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the request's body as it comes; a slow reader holds the client back."""
        while (data := await self._incoming.get()) is not None:
            self._taken(len(data))
            yield data

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        await self.head(status, [*headers, ("content-length", str(len(body)))])
        if body:
            await self.send(body)
        await self.end()

    @abstractmethod
    async def head(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send a piece of the answer; returns once there is room for the next one."""

    @abstractmethod
    async def end(self) -> None:
        """End the answer in order."""

    @abstractmethod
    def reset(self) -> None:
        """End the stream abruptly: RST_STREAM, or the connection's end under HTTP/1.1."""

    @abstractmethod
    def cut(self) -> None:
        """Cut the client's whole connection, with all that it carries."""

    @abstractmethod
    def _taken(self, count: int) -> None:
        """Tell the connection that so many bytes of the body were read."""


Handler = Callable[[Exchange], Awaitable[None]]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Gate:
    """Lets writers wait while the kernel's buffer of a connection is full."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.closed = False

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.closed = True
        self._open.set()

    async def passed(self) -> None:
        """Wait until there is room; raises ``ClientGone``."""
        await self._open.wait()
        if self.closed:
            raise ClientGone

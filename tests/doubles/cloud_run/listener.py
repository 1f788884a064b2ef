"""A port that takes HTTP/2 with prior knowledge and HTTP/1.1, told apart by the first bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from tests.doubles.cloud_run.exchange import Handler
from tests.doubles.cloud_run.http1 import Http1
from tests.doubles.cloud_run.http2 import Http2

PREFACE = b"PRI"


class Listener:
    """A server on a port of its own; knows its connections, so that they can be cut."""

    def __init__(self, handler: Handler, *, streams: int) -> None:
        self.handler = handler
        self.streams = streams
        self.connections: set[Opening] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Opening(self), "127.0.0.1", 0, backlog=1024)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> int:
        """Cut every connection; return how many there were."""
        connections = list(self.connections)
        for connection in connections:
            connection.cut()
        return len(connections)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the handler of one request."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Take no more connections, cut those there are, and wait for their handlers."""
        if self._server:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)


class Opening(asyncio.Protocol):
    """A connection: hands what it gets to the protocol that the client begins with."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._first = b""
        self._spoken: Http1 | Http2 | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._spoken is None:
            self._first += data
            if len(self._first) < len(PREFACE):
                return
            data = self._first
            handler, spawn = self._listener.handler, self._listener.spawn
            if data.startswith(PREFACE):
                self._spoken = Http2(handler, spawn, streams=self._listener.streams)
            else:
                self._spoken = Http1(handler, spawn)
            self._spoken.connection_made(self._transport)
        self._spoken.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)
        if self._spoken:
            self._spoken.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._spoken:
            self._spoken.pause_writing()

    def resume_writing(self) -> None:
        if self._spoken:
            self._spoken.resume_writing()

    def cut(self) -> None:
        self._transport.abort()

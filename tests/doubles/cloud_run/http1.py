"""HTTP/1.1 as the front end speaks it to clients: one request after another, both ways at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

import h11

from tests.doubles.cloud_run.exchange import ClientGone, Exchange, Gate, Handler, Headers, Spawn


class Http1(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, handler: Handler, spawn: Spawn) -> None:
        self._handler = handler
        self._spawn = spawn
        self._h11 = h11.Connection(h11.SERVER)
        self._exchange: Http1Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self.gate = Gate()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._h11.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.close()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.gate.shut()

    def resume_writing(self) -> None:
        self.gate.open()

    def write(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def cut(self) -> None:
        """Cut the connection as a broken network does."""
        self._transport.abort()

    def _advance(self) -> None:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError:
                self._transport.close()
                return
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data) and self._exchange:
                self._exchange.fed(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and self._exchange:
                self._exchange.fed(None)
            else:
                return

    def _begin(self, event: h11.Request) -> None:
        headers = [(name.decode().lower(), value.decode()) for name, value in event.headers]
        self._exchange = Http1Exchange(self, event.method.decode(), event.target.decode(), headers)
        if self._h11.they_are_waiting_for_100_continue:
            self.write(h11.InformationalResponse(status_code=100, headers=[]))
        self._task = self._spawn(self._serve(self._exchange))

    async def _serve(self, exchange: Http1Exchange) -> None:
        with contextlib.suppress(ClientGone):
            await self._handler(exchange)
        if not exchange.finished:
            self.cut()
        elif self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._advance()
        else:
            self._transport.close()


class Http1Exchange(Exchange):
    """The request that a connection is at."""

    def __init__(self, connection: Http1, method: str, target: str, headers: Headers) -> None:
        super().__init__(method, target, headers)
        self._connection = connection

    async def head(self, status: int, headers: Headers) -> None:
        self._alive()
        self._connection.write(h11.Response(status_code=status, headers=list(headers)))
        self.answered = True

    async def send(self, data: bytes) -> None:
        await self._connection.gate.passed()
        self._alive()
        self._connection.write(h11.Data(data=data))
        self.sent_bytes += len(data)

    async def end(self) -> None:
        self._alive()
        self._connection.write(h11.EndOfMessage())
        self.finished = True

    def reset(self) -> None:
        self.cut()

    def cut(self) -> None:
        self.finished = True
        self._connection.cut()

    def _taken(self, count: int) -> None:
        """Nothing to do: what is not read stays in the kernel's buffer, or in ours."""

    def _alive(self) -> None:
        if self.finished or self._connection.gate.closed:
            raise ClientGone

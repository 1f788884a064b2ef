"""HTTP/2 as the front end speaks it to clients: prior knowledge, many streams, flow control."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.doubles.cloud_run.exchange import ClientGone, Exchange, Gate, Handler, Headers, Spawn

WINDOW_BYTES = 1 << 20


class Http2(asyncio.Protocol):
    """One connection of a client; each stream's handler is a task of its own."""

    def __init__(self, handler: Handler, spawn: Spawn, *, streams: int) -> None:
        self._handler = handler
        self._spawn = spawn
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            },
        )
        self._exchanges: dict[int, Http2Exchange] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.gate = Gate()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES * 16)
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self.flush()
            self._transport.close()
            return
        for event in events:
            self._take(event)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.close()
        for stream in list(self._tasks):
            self._abandon(stream)

    def pause_writing(self) -> None:
        self.gate.shut()

    def resume_writing(self) -> None:
        self.gate.open()

    def flush(self) -> None:
        if (data := self._h2.data_to_send()) and not self._transport.is_closing():
            self._transport.write(data)

    def cut(self) -> None:
        """Cut the connection as a broken network does: no goodbye."""
        self._transport.abort()

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            self._feed(event)
        elif isinstance(event, StreamEnded):
            if exchange := self._exchanges.get(event.stream_id):
                exchange.heard = True
                exchange.fed(None)
        elif isinstance(event, StreamReset):
            self._abandon(event.stream_id)
        elif isinstance(event, WindowUpdated):
            streams = [event.stream_id] if event.stream_id else list(self._exchanges)
            for stream in streams:
                if exchange := self._exchanges.get(stream):
                    exchange.room.set()

    def _feed(self, event: DataReceived) -> None:
        exchange = self._exchanges.get(event.stream_id)
        unread = event.flow_controlled_length
        if exchange and event.data:  # granian takes a hundred empty frames for an attack
            unread -= len(event.data)
            exchange.fed(event.data)
        self._h2.acknowledge_received_data(unread, event.stream_id)

    def _begin(self, event: RequestReceived) -> None:
        assert event.stream_id is not None
        pairs = [(str(name), str(value)) for name, value in event.headers]
        pseudo = {name: value for name, value in pairs if name.startswith(":")}
        headers = [("host", pseudo.get(":authority", ""))]
        headers += [(n, v) for n, v in pairs if not n.startswith(":") and n != "host"]
        exchange = Http2Exchange(self, event.stream_id, pseudo, headers)
        self._exchanges[event.stream_id] = exchange
        self._tasks[event.stream_id] = self._spawn(self._serve(event.stream_id, exchange))

    async def _serve(self, stream: int, exchange: Http2Exchange) -> None:
        try:
            with contextlib.suppress(ClientGone):
                await self._handler(exchange)
        finally:
            if not exchange.finished:
                exchange.reset()
            elif not exchange.heard:  # an answer before the end of the request: RFC 9113, 8.1
                exchange.reset(ErrorCodes.NO_ERROR)
            self._exchanges.pop(stream, None)
            self._tasks.pop(stream, None)

    def _abandon(self, stream: int) -> None:
        if exchange := self._exchanges.pop(stream, None):
            exchange.finished = exchange.heard = True
        if task := self._tasks.get(stream):
            task.cancel()


class Http2Exchange(Exchange):
    """A stream."""

    def __init__(
        self, connection: Http2, stream: int, pseudo: dict[str, str], headers: Headers
    ) -> None:
        super().__init__(pseudo.get(":method", ""), pseudo.get(":path", "/"), headers)
        self._connection = connection
        self._h2 = connection._h2
        self._stream = stream
        self.room = asyncio.Event()
        self.heard = False

    async def head(self, status: int, headers: Headers) -> None:
        self._alive()
        self._h2.send_headers(self._stream, [(":status", str(status)), *headers])
        self.answered = True
        self._connection.flush()

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            await self._connection.gate.passed()
            self._alive()
            self.room.clear()
            window = self._h2.local_flow_control_window(self._stream)
            size = min(window, self._h2.max_outbound_frame_size, len(view))
            if size <= 0:
                await self.room.wait()
                continue
            self._h2.send_data(self._stream, bytes(view[:size]))
            self._connection.flush()
            self.sent_bytes += size
            view = view[size:]

    async def end(self) -> None:
        self._alive()
        self._h2.end_stream(self._stream)
        self.finished = True
        self._connection.flush()

    def reset(self, code: ErrorCodes = ErrorCodes.INTERNAL_ERROR) -> None:
        self.finished = True
        with contextlib.suppress(ProtocolError):
            self._h2.reset_stream(self._stream, code)
            self._connection.flush()

    def cut(self) -> None:
        self.finished = True
        self._connection.cut()

    def _taken(self, count: int) -> None:
        with contextlib.suppress(ProtocolError):
            self._h2.acknowledge_received_data(count, self._stream)
            self._connection.flush()

    def _alive(self) -> None:
        if self.finished or self._connection.gate.closed:
            raise ClientGone

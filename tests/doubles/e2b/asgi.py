"""Answers one request with an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from tests.doubles.cloud_run.exchange import ClientGone, Exchange


async def answer(application: Any, exchange: Exchange, *, lost: bool = False) -> None:
    """Let the application answer; it is cancelled with this when the client goes away.

    ``lost``: once it answers, the connection is cut instead.
    """
    parts = urlsplit(exchange.target)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "2",
        "method": exchange.method,
        "scheme": "http",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in exchange.headers],
        "client": None,
        "extensions": {},
    }
    await application(scope, _receiver(exchange), _sender(exchange, lost=lost))


def _receiver(exchange: Exchange) -> Callable[[], Awaitable[dict[str, Any]]]:
    pieces = exchange.body()
    over = False

    async def receive() -> dict[str, Any]:
        nonlocal over
        if over:  # nothing follows but the end of the task
            await asyncio.Event().wait()
        try:
            return {"type": "http.request", "body": await anext(pieces), "more_body": True}
        except StopAsyncIteration:
            over = True
            return {"type": "http.request", "body": b"", "more_body": False}

    return receive


def _sender(exchange: Exchange, *, lost: bool) -> Callable[[dict[str, Any]], Awaitable[None]]:
    async def send(message: dict[str, Any]) -> None:
        if lost:
            exchange.cut()
            raise ClientGone
        if message["type"] == "http.response.start":
            headers = cast(list[tuple[bytes, bytes]], message["headers"])
            await exchange.head(message["status"], [(n.decode(), v.decode()) for n, v in headers])
        elif message["type"] == "http.response.body":
            if message.get("body"):
                await exchange.send(message["body"])
            if not message.get("more_body"):
                await exchange.end()

    return send

"""The front end of one service: takes its clients' requests and passes each on to an instance.

Sources (cloud.google.com/run/docs, in excerpts): "Container runtime contract" (a request that
is not over within its timeout, the start of a container included, is answered 504), "Using HTTP/2",
"Troubleshoot Cloud Run issues" (401, 403, 429, 500, 503), "Set session affinity".
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

from pyqwest import ReadError, RemoteProtocolError, Response, WriteError

from tests.doubles.cloud_run import pages
from tests.doubles.cloud_run.exchange import Exchange, Headers
from tests.doubles.cloud_run.faults import Faults
from tests.doubles.cloud_run.fleet import Fleet, NoInstance, StartFailed
from tests.doubles.cloud_run.instance import Instance
from tests.doubles.cloud_run.listener import Listener
from tests.doubles.cloud_run.tokens import Tokens, shown

COOKIE = "GAESA"
SILENT_POLL_S = 0.02
COOKIE_LIFE_S = 30 * 24 * 3600
HOP_BY_HOP = frozenset(
    ("connection", "host", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade")
)
BODILESS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
INSTANCE_LOST = (OSError, ReadError, WriteError, RemoteProtocolError)
INVALID_TOKEN = (
    'Bearer error="invalid_token" error_description="The access token could not be verified"'
)


class FrontEnd:
    """``url`` is the service's address; it stays while revisions come and go.

    ``public``: no token is asked for. ``audiences`` are accepted beside the address.
    """

    def __init__(self, fleet: Fleet, faults: Faults, tokens: Tokens) -> None:
        self.fleet = fleet
        self.deleted = False
        self.public = False
        self.audiences: tuple[str, ...] = ()
        self._faults = faults
        self._tokens = tokens
        self.listener = Listener(self._serve, streams=fleet.limits.streams)

    @property
    def url(self) -> str:
        return self.listener.url

    async def _serve(self, exchange: Exchange) -> None:
        if self._faults.take("black_holes"):
            await asyncio.Event().wait()
        if self._faults.statuses:
            await pages.answer(exchange, self._faults.statuses.pop(0))
        elif self.deleted:
            await pages.answer(exchange, 404)
        elif (refused := self._refusal(exchange)) is not None:
            more = [("www-authenticate", INVALID_TOKEN)] if refused == 401 else []
            await pages.answer(exchange, refused, more)
        else:
            await self._in_time(exchange)

    def _refusal(self, exchange: Exchange) -> int | None:
        if self.public:
            return None
        return self._tokens.refusal(exchange, {self.url, *self.audiences})

    async def _in_time(self, exchange: Exchange) -> None:
        """Serve a request within its timeout, and say so if it was not."""
        status = 503
        try:
            async with asyncio.timeout(self.fleet.revision.timeout_s) as limit:
                await self._through_an_instance(exchange)
                return
        except NoInstance:
            status = 429
        except INSTANCE_LOST:
            status = 504 if limit.expired() else 503
        except StartFailed:
            status = 503
        if exchange.answered:
            exchange.reset()
        elif not exchange.finished:
            await pages.answer(exchange, status)

    async def _through_an_instance(self, exchange: Exchange) -> None:
        named = self._named(exchange)
        instance = await self.fleet.acquire(named)
        try:
            async with instance.client.stream(
                exchange.method,
                instance.url + exchange.target,
                self._request_headers(exchange),
                _content(exchange),
            ) as response:
                if self._faults.take("lost_answers"):
                    exchange.cut()
                    return
                await exchange.head(
                    response.status, self._answer_headers(response, instance, named)
                )
                await self._pass_back(exchange, response)
        finally:
            self.fleet.release(instance)

    async def _pass_back(self, exchange: Exchange, response: Response) -> None:
        faults = self._faults
        least = faults.cut_after_bytes if faults.take("cuts") else None
        async for chunk in response.content:
            while faults.silent:
                await asyncio.sleep(SILENT_POLL_S)
            data = bytes(chunk)
            if least is not None and exchange.sent_bytes + len(data) >= least:
                if rest := data[: least - exchange.sent_bytes]:
                    await exchange.send(rest)
                await _cut(exchange, faults.cut_by)
                return
            if data:
                await exchange.send(data)
        await exchange.end()

    def _named(self, exchange: Exchange) -> str | None:
        """Return the instance that a request's cookie names."""
        if not self.fleet.revision.session_affinity:
            return None
        for pair in (exchange.header("cookie") or "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == COOKIE:
                return bytes.fromhex(value).decode()
        return None

    def _request_headers(self, exchange: Exchange) -> list[tuple[str, str]]:
        headers = exchange.headers if self.public else shown(exchange.headers)
        trace = uuid.uuid4().hex
        return [
            *((name, value) for name, value in headers if name not in HOP_BY_HOP),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-cloud-trace-context", f"{trace}/1;o=1"),
        ]

    def _answer_headers(self, response: Response, instance: Instance, named: str | None) -> Headers:
        headers = [pair for pair in response.headers.items() if pair[0] not in HOP_BY_HOP]
        if instance.revision.session_affinity and named != instance.id:
            value = instance.id.encode().hex()
            cookie = f"{COOKIE}={value}; Max-Age={COOKIE_LIFE_S}; Path=/; HttpOnly"
            headers.append(("set-cookie", cookie))
        return [*((n, v) for n, v in headers if n != "server"), ("server", "Google Frontend")]


def _content(exchange: Exchange) -> AsyncIterator[bytes] | None:
    if exchange.method in BODILESS and not exchange.header("content-length"):
        return None
    return exchange.body()


async def _cut(exchange: Exchange, how: str) -> None:
    if how == "end":
        await exchange.end()
    elif how == "connection":
        exchange.cut()
    else:
        exchange.reset()

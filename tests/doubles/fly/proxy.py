"""The app's proxy: takes its clients' requests and passes each on to the machine that it names.

Source: "Dynamic request routing" and "Fly Proxy autostop/autostart" (fly.io/docs, 2026-08-07).
Without ``fly-force-instance-id`` a request goes to any machine of the app that runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

from pyqwest import (
    Client,
    HTTPTransport,
    HTTPVersion,
    ReadError,
    RemoteProtocolError,
    Response,
    WriteError,
)

from tests.doubles.cloud_run.exchange import Exchange
from tests.doubles.fly.faults import NEVER, PROXY
from tests.doubles.fly.guest import Guest
from tests.doubles.fly.machine import Machine
from tests.doubles.fly.platform import Platform

FORCED = "fly-force-instance-id"
HOP_BY_HOP = frozenset(
    ("connection", "host", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade")
)
BODILESS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
LOST = (OSError, ReadError, WriteError, RemoteProtocolError)
TRY_S = 0.02
TEND_S = 0.05
AUTOSTOP = {True: "stop", "stop": "stop", "suspend": "suspend"}
NO_CANDIDATE = "could not find a good candidate within 40 attempts at load balancing"


class NoWay(Exception):
    """A request cannot be passed on; the status says how that is answered."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Proxy:
    """``open`` are the requests of each machine that are not over."""

    def __init__(self, platform: Platform) -> None:
        self.open: dict[str, set[Exchange]] = {}
        self._platform = platform
        self._clients: WeakKeyDictionary[Guest, Client] = WeakKeyDictionary()
        self._idle_since: dict[str, float] = {}

    async def serve(self, exchange: Exchange) -> None:
        """Pass a request on, unless a fault is due for it."""
        fault = self._platform.faults.due(PROXY)
        if fault == NEVER:
            await asyncio.Event().wait()
        if fault is not None:
            await _refuse(exchange, fault)
            return
        try:
            machine, guest = await self._reached(exchange)
            await self._through(machine, guest, exchange)
        except NoWay as exc:
            await _answer(exchange, exc.status, str(exc))
        except (*LOST, TimeoutError) as exc:
            if exchange.answered:
                exchange.reset()
            elif not exchange.finished:
                await _answer(exchange, 502, f"instance refused or lost the connection: {exc}")

    def cut(self, machine_id: str) -> None:
        """Break the requests of a machine."""
        for exchange in list(self.open.get(machine_id, ())):
            exchange.reset()

    async def tend(self) -> None:
        """Stop machines that nobody asks anything, where their services say so; never returns."""
        while True:
            await asyncio.sleep(TEND_S)
            now = asyncio.get_running_loop().time()
            for machine in self._platform.living():
                if machine.state != "started" or self.open.get(machine.id):
                    self._idle_since.pop(machine.id, None)
                    continue
                since = self._idle_since.setdefault(machine.id, now)
                how = AUTOSTOP.get((machine.service or {}).get("autostop", False))
                if how and now - since > self._platform.limits.autostop_s:
                    self._stop(machine, how)

    def _stop(self, machine: Machine, how: str) -> None:
        if how == "suspend":
            self._platform.flyd.suspend(machine)
        else:
            self._platform.flyd.stop(machine, "SIGINT", self._platform.limits.stop_s)

    async def _reached(self, exchange: Exchange) -> tuple[Machine, Guest]:
        """Return the machine that a request is for, once its port answers; raises ``NoWay``."""
        named = exchange.header(FORCED)
        deadline = asyncio.get_running_loop().time() + self._platform.limits.patience_s
        while True:
            machine = self._named(named)
            self._start(machine)
            guest = self._platform.flyd.guest(machine)
            if machine.state == "started" and guest and await guest.listens():
                return machine, guest
            if machine.state in ("stopped", "suspended", "failed", "destroying", "destroyed"):
                raise NoWay(503, f"{NO_CANDIDATE}: machine {machine.id} is {machine.state}")
            if asyncio.get_running_loop().time() > deadline:
                raise NoWay(502, f"{NO_CANDIDATE}: machine {machine.id} does not answer")
            await asyncio.sleep(TRY_S)

    def _named(self, named: str | None) -> Machine:
        machines = [it for it in self._platform.living() if it.service and not it.cordoned]
        if named is None:
            machines = [it for it in machines if it.state == "started"]
        else:
            machines = [it for it in machines if it.id == named]
        if not machines or machines[0].id in self._platform.faults.unreachable:
            raise NoWay(502 if machines else 503, f"{NO_CANDIDATE}: {named or 'no machine'}")
        return machines[0]

    def _start(self, machine: Machine) -> None:
        """Start a machine that rests, as its service says or does not say."""
        asked = (machine.service or {}).get("autostart", True)
        if asked and machine.state in ("stopped", "suspended"):
            self._platform.flyd.start(machine)

    async def _through(self, machine: Machine, guest: Guest, exchange: Exchange) -> None:
        client = self._client(machine, guest)
        self.open.setdefault(machine.id, set()).add(exchange)
        try:
            content = _content(exchange)
            headers = [(n, v) for n, v in exchange.headers if n not in (*HOP_BY_HOP, FORCED)]
            headers += [("fly-forwarded-port", "443"), ("x-forwarded-proto", "https")]
            url = guest.url + exchange.target
            async with client.stream(exchange.method, url, headers, content) as response:
                kept = [it for it in response.headers.items() if it[0] not in HOP_BY_HOP]
                await exchange.head(response.status, [*kept, ("via", "2 fly.io")])
                await self._pass_back(exchange, response)
        finally:
            self.open[machine.id].discard(exchange)

    async def _pass_back(self, exchange: Exchange, response: Response) -> None:
        pieces = aiter(response.content)
        while True:
            async with asyncio.timeout(self._platform.limits.idle_s):
                piece = await anext(pieces, None)
            if piece is None:
                break
            if data := bytes(piece):
                await exchange.send(data)
        await exchange.end()

    def _client(self, machine: Machine, guest: Guest) -> Client:
        """Return the client of what runs in a machine now: its connections end with that."""
        if guest not in self._clients:
            version = HTTPVersion.HTTP2 if _speaks_http2(machine) else HTTPVersion.HTTP1
            self._clients[guest] = Client(
                HTTPTransport(
                    http_version=version,
                    enable_gzip=False,
                    enable_brotli=False,
                    enable_zstd=False,
                    follow_redirects=False,
                    enable_otel=False,
                )
            )
        return self._clients[guest]


def _speaks_http2(machine: Machine) -> bool:
    ports = (machine.service or {}).get("ports") or ()
    return any((port.get("http_options") or {}).get("h2_backend") for port in ports)


def _content(exchange: Exchange) -> AsyncIterator[bytes] | None:
    if exchange.method in BODILESS and not exchange.header("content-length"):
        return None
    return exchange.body()


async def _refuse(exchange: Exchange, fault: int | str) -> None:
    if isinstance(fault, int):
        await _answer(exchange, fault, f"{fault} on demand")
    else:
        exchange.cut()


async def _answer(exchange: Exchange, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode()
    headers = [("content-type", "application/json"), ("server", "Fly/stand-in")]
    await exchange.answer(status, headers, body)

"""The Machines API as a server: who may ask, how often, what goes wrong, and what is in order."""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.doubles.cloud_run.exchange import Exchange
from tests.doubles.fly import faults as due
from tests.doubles.fly.call import Answer, Call, Handler, Refused
from tests.doubles.fly.contract import Contract
from tests.doubles.fly.lease_api import Leases
from tests.doubles.fly.machines_api import Machines
from tests.doubles.fly.platform import Platform
from tests.doubles.fly.records_api import Records

APP = "/v1/apps/{app}"
MACHINES = f"{APP}/machines"
ONE = f"{MACHINES}/{{machine_id}}"
VOLUMES = f"{APP}/volumes"
FAILED = {
    429: "rate limit exceeded",
    500: "internal: internal server error",
    502: "unavailable: bad gateway",
    503: "unavailable: service unavailable",
    504: "deadline_exceeded: gateway timeout",
}


@dataclass(frozen=True, kw_only=True)
class Route:
    """``action`` is what a client may do so often, and what faults are named by."""

    method: str
    pattern: re.Pattern[str]
    action: str
    handler: Handler


@dataclass(frozen=True, kw_only=True)
class Found:
    """``words`` are what a path names."""

    route: Route
    words: Mapping[str, str]


class Api:
    """``requests`` are those that came: method, path with its query, and what was answered.

    A status of 0 is a request whose client was told nothing. ``own_s`` is how long each took here.
    """

    def __init__(self, platform: Platform, token: str, judge: Contract) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self.own_s: list[float] = []
        self.violations: list[str] = []
        self._platform = platform
        self._token = token
        self._judge = judge
        self._routes = _routes(platform)
        self._buckets = Buckets(platform)

    async def serve(self, exchange: Exchange) -> None:
        """Answer a request, unless a fault is due for it."""
        call = await _heard(exchange)
        number, began = len(self.requests), time.monotonic()
        self.requests.append((call.method, exchange.target, 0))
        self.own_s.append(0.0)
        found = self._found(call)
        fault = self._platform.faults.due(found.route.action) if found else None
        if fault == due.NEVER:
            await asyncio.Event().wait()
        if fault == due.CUT:
            exchange.cut()
            return
        answer = await self._answer(call, found, fault)
        if fault == due.LOST:
            exchange.cut()
            return
        if isinstance(fault, str) and fault.startswith(due.AFTER):
            answer = self._failed(int(fault.removeprefix(due.AFTER))).answer
        self.requests[number] = (call.method, exchange.target, answer.status)
        headers = [("content-type", "application/json")] if answer.body is not None else []
        headers += [
            ("date", formatdate(self._platform.now(), usegmt=True)),
            ("fly-request-id", f"{number:026d}"),
            *answer.headers.items(),
        ]
        await exchange.answer(answer.status, headers, answer.data)
        self.own_s[number] = time.monotonic() - began

    async def _answer(self, call: Call, found: Found | None, fault: int | str | None) -> Answer:
        """Answer a request, in words that the contract has, or take note that they are not."""
        wrong = self._judge.request_faults(call)
        self._note(call, "asked", wrong)
        try:
            self._admit(call, found, wrong)
            answer = await self._carried_out(call, found, fault)
        except Refused as exc:
            answer = exc.answer
        except Exception as exc:  # noqa: BLE001 - the top of what answers
            # A defect of the stand-in: its client gets an answer, the test a failure.
            self._note(call, "failed", ["".join(traceback.format_exception(exc))])
            answer = self._failed(500).answer
        bad = self._judge.answer_faults(call, answer.status, answer.data)
        self._note(call, f"answered {answer.status}", bad)
        return answer

    async def _carried_out(
        self, call: Call, found: Found | None, fault: int | str | None
    ) -> Answer:
        if found is None:
            self._note(call, "asked", ["the stand-in does not play that"])
            raise Refused(404, f"not_found: {call.method} {call.path}")
        if isinstance(fault, int):
            raise self._failed(fault)
        if fault in due.TEXTS:
            raise self._platform.refusal(fault)
        words = {name: it for name, it in found.words.items() if name != "app"}
        wait_s = self._buckets.wait_s(found.route.action, words.get("machine_id", ""))
        if wait_s > 0:
            raise self._failed(429, wait_s)
        return await found.route.handler(call, **words)

    def _admit(self, call: Call, found: Found | None, wrong: Sequence[str]) -> None:
        """Let nobody in without the token, to no other app, and with nothing unheard of."""
        given = call.headers.get("authorization", "")
        # A macaroon brings a scheme of its own along, which may stand for "Bearer".
        if given not in (f"Bearer {self._token}", self._token) or self._platform.faults.revoked:
            raise Refused(401, "unauthorized: token is missing, invalid or revoked")
        app = found.words.get("app", self._platform.app) if found else self._platform.app
        if app != self._platform.app:
            raise Refused(404, f"app not found: {app}")
        if wrong:
            raise Refused(400, f"invalid_argument: {'; '.join(wrong)}")

    def _failed(self, status: int, wait_s: float = 0.0) -> Refused:
        refused = Refused(status, FAILED.get(status, f"unknown: {status} on demand"))
        after_s = self._platform.faults.retry_after_s
        if status == 429 and after_s is not None:
            headers = {"retry-after": str(max(after_s, round(wait_s + 0.5)))}
            refused.answer = Answer(status=status, body=refused.answer.body, headers=headers)
        return refused

    def _note(self, call: Call, what: str, faults: list[str]) -> None:
        self.violations += [f"{call.method} {call.path} {what}: {it}" for it in faults]

    def _found(self, call: Call) -> Found | None:
        for route in self._routes:
            if route.method == call.method and (match := route.pattern.fullmatch(call.path)):
                return Found(route=route, words=match.groupdict())
        return None


class Buckets:
    """How often who may ask for what."""

    def __init__(self, platform: Platform, clock: Callable[[], float] = time.monotonic) -> None:
        self._platform = platform
        self._clock = clock
        self._left: dict[tuple[str, str], tuple[float, float]] = {}

    def wait_s(self, action: str, machine_id: str) -> float:
        """Take one request from an action's bucket; return how long to wait if it is empty."""
        rates = self._platform.limits.rates
        if rates is None:
            return 0.0
        often = action == "get"
        per_s, burst = (rates.get_per_s, rates.get_burst) if often else (rates.per_s, rates.burst)
        now = self._clock()
        left, at = self._left.get((action, machine_id), (float(burst), now))
        left = min(burst, left + (now - at) * per_s)
        if left < 1:
            self._left[action, machine_id] = (left, now)
            return (1 - left) / per_s
        self._left[action, machine_id] = (left - 1, now)
        return 0.0


async def _heard(exchange: Exchange) -> Call:
    path, _, query = exchange.target.partition("?")
    return Call(
        method=exchange.method,
        path=unquote(path),
        query=parse_qsl(query, keep_blank_values=True),
        headers=dict(exchange.headers),
        body=b"".join([piece async for piece in exchange.body()]),
    )


def _routes(platform: Platform) -> list[Route]:
    machines, leases, records = Machines(platform), Leases(platform), Records(platform)
    rows: list[tuple[str, str, str, Any]] = [
        ("GET", MACHINES, "list", machines.list),
        ("POST", MACHINES, "create", machines.create),
        ("GET", ONE, "get", machines.show),
        ("POST", ONE, "update", machines.update),
        ("DELETE", ONE, "delete", machines.delete),
        ("POST", f"{ONE}/start", "start", machines.start),
        ("POST", f"{ONE}/stop", "stop", machines.stop),
        ("POST", f"{ONE}/restart", "restart", machines.restart),
        ("POST", f"{ONE}/suspend", "suspend", machines.suspend),
        ("GET", f"{ONE}/wait", "wait", machines.wait),
        ("GET", f"{ONE}/events", "events", machines.events),
        ("POST", f"{ONE}/signal", "signal", machines.signal),
        ("POST", f"{ONE}/exec", "exec", machines.execute),
        ("GET", f"{ONE}/lease", "lease", leases.show),
        ("POST", f"{ONE}/lease", "lease", leases.acquire),
        ("DELETE", f"{ONE}/lease", "lease", leases.release),
        ("GET", f"{ONE}/metadata", "metadata", records.metadata),
        ("PUT", f"{ONE}/metadata", "metadata", records.merge_metadata),
        ("PATCH", f"{ONE}/metadata", "metadata", records.merge_metadata),
        ("GET", f"{ONE}/metadata/{{key}}", "metadata", records.metadata_key),
        ("POST", f"{ONE}/metadata/{{key}}", "metadata", records.set_key),
        ("DELETE", f"{ONE}/metadata/{{key}}", "metadata", records.remove_key),
        ("POST", f"{ONE}/cordon", "cordon", records.cordon),
        ("POST", f"{ONE}/uncordon", "cordon", records.cordon),
        ("GET", VOLUMES, "volumes", records.volumes),
        ("POST", VOLUMES, "volumes", records.create_volume),
        ("GET", f"{VOLUMES}/{{volume_id}}", "volumes", records.volume),
        ("DELETE", f"{VOLUMES}/{{volume_id}}", "volumes", records.delete_volume),
        ("GET", APP, "app", records.app),
        ("GET", "/v1/platform/regions", "app", records.regions),
    ]
    return [
        Route(method=method, pattern=_pattern(path), action=action, handler=handler)
        for method, path, action, handler in rows
    ]


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path))

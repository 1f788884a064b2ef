"""The proxy in front of all sandboxes, and envd in each of them.

A request says whose it is in ``E2b-Sandbox-Id`` and ``E2b-Sandbox-Port``; the proxy's answers are
those of ``packages/shared/pkg/proxy`` of E2B's infrastructure.
"""

from __future__ import annotations

import contextlib

from tests.doubles.cloud_run.exchange import Exchange
from tests.doubles.e2b import asgi
from tests.doubles.e2b.calls import Call, Refused, Reply
from tests.doubles.e2b.contract import Contract
from tests.doubles.e2b.sandbox import Sandbox
from tests.doubles.e2b.team import AUTO_RESUMED_S, Team

PORT = "49983"
OPEN_TO_ALL = ("/health", "/files")  # the second one checks for itself
NO_ACCESS = (
    "unauthorized access, please provide a valid access token or method signing if supported"
)


class Envd:
    """Answers what comes to the sandboxes; ``requests`` are method, path and sandbox."""

    def __init__(self, team: Team, contract: Contract) -> None:
        self._team = team
        self._faults = team.faults
        self._contract = contract
        self.requests: list[tuple[str, str, str]] = []

    async def answer(self, exchange: Exchange) -> None:
        path = exchange.target.partition("?")[0]
        sandbox_id = exchange.header("e2b-sandbox-id") or ""
        self.requests.append((exchange.method, path, sandbox_id))
        try:
            sandbox = await self._routed(exchange, sandbox_id)
            service = sandbox.rpc.get(path.strip("/").partition("/")[0])
            if service is None:
                await self._answer_rest(sandbox, exchange)
            elif self._faults.take("envd_cuts"):
                await asgi.answer(service, exchange, lost=True)
            else:
                await asgi.answer(service, exchange)
        except Refused as refused:
            await refused.reply.send(exchange)

    async def _routed(self, exchange: Exchange, sandbox_id: str) -> Sandbox:
        """Return whose envd is asked; raises ``Refused`` with what the proxy says."""
        if not sandbox_id:
            raise Refused(400, "Invalid host")
        if self._faults.envd_statuses:
            status = self._faults.envd_statuses.pop(0)
            raise Refused(status, f"fault on demand: {status}")
        sandbox = self._team.sandboxes.get(sandbox_id)
        if sandbox and sandbox.state == "paused" and sandbox.wanted.auto_resume:
            with contextlib.suppress(Refused):
                await self._team.resume(sandbox, max(sandbox.wanted.timeout_s, AUTO_RESUMED_S))
        if sandbox is None or sandbox.state != "running":
            raise Refused(502, "The sandbox was not found")
        closed = self._faults.unreachable & {"*", sandbox_id}
        if closed or exchange.header("e2b-sandbox-port") != PORT:
            raise Refused(502, "The sandbox is running but port is not open")
        path = exchange.target.partition("?")[0]
        if exchange.header("x-access-token") != sandbox.token and path not in OPEN_TO_ALL:
            raise Refused(401, NO_ACCESS)
        return sandbox

    async def _answer_rest(self, sandbox: Sandbox, exchange: Exchange) -> None:
        call = await Call.of(exchange)
        try:
            self._contract.check_request(call)
            reply = self._rest(sandbox, call)
        except Refused as refused:
            reply = refused.reply
        self._contract.check_answer(call, reply)
        await reply.send(exchange)

    def _rest(self, sandbox: Sandbox, call: Call) -> Reply:
        match (call.method, call.path):
            case ("GET", "/health"):
                return Reply(status=204)
            case ("GET", "/envs"):
                return Reply.of(200, dict(sandbox.wanted.variables))
            case ("GET" | "POST", "/files"):
                return sandbox.transfers.answer(call)
        raise Refused(404, "404 page not found")

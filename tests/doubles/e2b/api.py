"""E2B's API: which call means what, held to its contract, with the faults that are asked for."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

from tests.doubles.cloud_run.exchange import Exchange
from tests.doubles.e2b.builds import Builds
from tests.doubles.e2b.calls import Call, Refused, Reply
from tests.doubles.e2b.contract import Contract
from tests.doubles.e2b.routes import Route
from tests.doubles.e2b.sandboxes_api import SandboxesApi
from tests.doubles.e2b.team import Team
from tests.doubles.e2b.templates_api import STORAGE, TemplatesApi

NO_KEY = "authorization header is missing"
BAD_KEY = "Invalid API key, please visit https://e2b.dev/docs/api-key for more information."
PAGE = b"<html><head><title>%d</title></head><body><h1>Server Error</h1></body></html>"


class Api:
    """``requests`` are method, path and status of all that was asked; status 0: no answer."""

    def __init__(self, team: Team, builds: Builds, api_key: str, contract: Contract) -> None:
        self._faults = team.faults
        self._api_key = api_key
        self._contract = contract
        self._templates = TemplatesApi(team.templates, builds)
        self._routes: list[Route] = [*SandboxesApi(team).routes, *self._templates.routes]
        self.requests: list[tuple[str, str, int]] = []

    async def answer(self, exchange: Exchange) -> None:
        call = await Call.of(exchange)
        if call.method == "PUT" and call.path.startswith(STORAGE):
            await self._templates.put(call).send(exchange)
            return
        faults = self._faults
        concerned = f"{call.method} {call.path}".startswith(faults.only)
        if concerned and faults.take("black_holes"):
            self._note(call, 0)
            await asyncio.Event().wait()
        if concerned and faults.statuses:
            reply = self._fault(faults.statuses.pop(0))
        else:
            reply = await self._reply(call)
            if concerned and faults.take("lost_answers"):
                self._note(call, 0)
                exchange.cut()
                return
        self._note(call, reply.status)
        await reply.send(exchange)

    async def close(self) -> None:
        await self._templates.close()

    async def _reply(self, call: Call) -> Reply:
        """Return the answer, which is what the contract says, or stands in its violations."""
        try:
            self._check_key(call)
            self._contract.check_request(call)
            reply = await self._route(call)
        except Refused as refused:
            reply = refused.reply
        self._contract.check_answer(call, reply)
        return reply

    async def _route(self, call: Call) -> Reply:
        for method, pattern, handler in self._routes:
            if method == call.method and (match := re.fullmatch(pattern, call.raw_path)):
                return await handler(call, match)
        raise Refused(404, "no matching operation was found")

    def _check_key(self, call: Call) -> None:
        given = call.headers.get("x-api-key")
        if given is None:
            raise Refused(401, NO_KEY)
        if given != self._api_key or self._faults.key_revoked:
            raise Refused(401, BAD_KEY)

    def _fault(self, status: int) -> Reply:
        reply = Refused(status, f"fault on demand: {status}").reply
        if self._faults.html:
            reply = Reply(status=status, body=PAGE % status, content_type="text/html")
        if self._faults.retry_after_s is not None:
            headers = {**reply.headers, "retry-after": str(self._faults.retry_after_s)}
            reply = replace(reply, headers=headers)
        return reply

    def _note(self, call: Call, status: int) -> None:
        self.requests.append((call.method, call.path, status))

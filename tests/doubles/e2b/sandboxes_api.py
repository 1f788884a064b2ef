"""The part of E2B's API that is about sandboxes."""

from __future__ import annotations

import re
from typing import Any

from tests.doubles.e2b.calls import Call, Refused, Reply
from tests.doubles.e2b.listing import CLIENT_ID, detail, page
from tests.doubles.e2b.routes import Route
from tests.doubles.e2b.sandbox import ENVD_VERSION, Sandbox, Wanted
from tests.doubles.e2b.team import Team


class SandboxesApi:
    """``routes`` are what it answers."""

    def __init__(self, team: Team) -> None:
        self._team = team
        one = "/sandboxes/(?P<id>[^/]+)"
        self.routes: list[Route] = [
            ("POST", "(/v2)?/sandboxes", self._create),
            ("GET", "/v2/sandboxes", self._list),
            ("GET", one, self._get),
            ("DELETE", one, self._kill),
            ("POST", f"(/v2)?{one}/connect", self._connect),
            ("POST", f"{one}/pause", self._pause),
            ("POST", f"{one}/timeout", self._timeout),
            ("PUT", f"{one}/network", self._network),
        ]

    async def _create(self, call: Call, match: re.Match[str]) -> Reply:
        body = call.json()
        timeout_s = body.get("timeout", self._team.limits.default_timeout_s)
        if timeout_s <= 0:
            raise Refused(400, "Timeout must be greater than 0")
        self._check_timeout(timeout_s)
        pauses, keeps_memory = body.get("autoPause", False), body.get("autoPauseMemory", True)
        if not keeps_memory and not pauses:
            raise Refused(400, "autoPauseMemory=false only applies when autoPause is true.")
        wanted = Wanted(
            template=self._team.templates.find(body["templateID"]),
            timeout_s=timeout_s,
            metadata=body.get("metadata") or {},
            variables=body.get("envVars") or {},
            auto_pause=pauses,
            keeps_memory=keeps_memory,
            auto_resume=bool(body.get("autoResume", {}).get("enabled")),
            internet=body.get("allow_internet_access"),
            network=body.get("network"),
        )
        key = call.headers.get("idempotency-key")
        if key and not re.fullmatch("[a-z0-9-]{1,255}", key):
            raise Refused(400, "Invalid Idempotency-Key")
        sandbox = await self._team.create(wanted, key, call.body)
        return Reply.of(201, _made(sandbox))

    async def _list(self, call: Call, match: re.Match[str]) -> Reply:
        return page(self._team.listed(), call, self._team.faults.skew_s)

    async def _get(self, call: Call, match: re.Match[str]) -> Reply:
        return Reply.of(200, detail(self._team.find(match["id"]), self._team.faults.skew_s))

    async def _kill(self, call: Call, match: re.Match[str]) -> Reply:
        sandbox = self._team.find(match["id"])
        if self._team.faults.take("failing_deletes"):
            raise Refused(500, "Error killing sandbox: failed to remove sandbox from its node")
        await sandbox.end()
        return Reply(status=204)

    async def _connect(self, call: Call, match: re.Match[str]) -> Reply:
        body = call.json()
        timeout_s = body.get("timeout", self._team.limits.default_timeout_s)
        self._check_timeout(timeout_s)
        sandbox = self._team.find(match["id"])
        if sandbox.state == "paused":
            await self._team.resume(sandbox, timeout_s)
            return Reply.of(201, _made(sandbox))
        sandbox.set_timeout(timeout_s, may_shorten=False)
        return Reply.of(200, _made(sandbox))

    async def _pause(self, call: Call, match: re.Match[str]) -> Reply:
        sandbox = self._team.find(match["id"])
        if sandbox.state == "paused":
            what = f"Error pausing sandbox - sandbox '{sandbox.id}' is already paused"
            raise Refused(409, what)
        if self._team.faults.take("failing_pauses"):
            raise Refused(500, "Error pausing sandbox")
        await sandbox.pause(keeps_memory=call.json().get("memory", True))
        return Reply(status=204)

    async def _timeout(self, call: Call, match: re.Match[str]) -> Reply:
        self._running(match["id"]).set_timeout(call.json()["timeout"])
        return Reply(status=204)

    async def _network(self, call: Call, match: re.Match[str]) -> Reply:
        self._running(match["id"]).network = call.json()
        return Reply(status=204)

    def _running(self, sandbox_id: str) -> Sandbox:
        """Return one that runs; a paused one is not known to most of the API."""
        sandbox = self._team.find(sandbox_id)
        if sandbox.state != "running":
            what = f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it"
            raise Refused(404, what)
        return sandbox

    def _check_timeout(self, timeout_s: float) -> None:
        most_s = self._team.limits.session_max_s
        if timeout_s > most_s:
            raise Refused(400, f"Timeout cannot be greater than {most_s / 3600:g} hours")


def _made(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "templateID": sandbox.wanted.template.id,
        "alias": sandbox.wanted.template.name,
        "sandboxID": sandbox.id,
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": sandbox.token,
        "domain": None,
    }

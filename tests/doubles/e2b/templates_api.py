"""The part of E2B's API that is about templates, as its template builder calls it."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import unquote

from tests.doubles.e2b.builds import Build, Builds, template_of
from tests.doubles.e2b.calls import Call, Refused, Reply
from tests.doubles.e2b.routes import Route
from tests.doubles.e2b.templates import Templates, new_id

LOG_ENTRIES = 100
STORAGE = "/storage/"
"""Where archives are uploaded to: no part of the API, as it is another host with E2B."""


class TemplatesApi:
    """``routes`` are what it answers; archives are ``put`` where an answer said."""

    def __init__(self, templates: Templates, builds: Builds) -> None:
        self._templates = templates
        self._builds = builds
        self._tasks: set[asyncio.Task[None]] = set()
        one = "/templates/(?P<id>[^/]+)"
        build = f"{one}/builds/(?P<build>[^/]+)"
        self.routes: list[Route] = [
            ("POST", "/v3/templates", self._request),
            ("GET", f"{one}/files/(?P<hash>[^/]+)", self._upload_link),
            ("POST", f"/v2{build}", self._start),
            ("GET", f"{build}/status", self._status),
            ("GET", "/templates/aliases/(?P<id>[^/]+)", self._alias),
            ("DELETE", one, self._delete),
        ]

    def put(self, call: Call) -> Reply:
        """Take an archive."""
        self._builds.uploads[call.path.removeprefix(STORAGE)] = call.body
        return Reply(status=200)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _request(self, call: Call, match: re.Match[str]) -> Reply:
        wanted = template_of(call.json(), new_id())
        if known := self._templates.named(wanted.name):
            wanted = template_of(call.json(), known.id)
        build = self._builds.request(wanted)
        answer = {
            "templateID": wanted.id,
            "buildID": build.id,
            "public": False,
            "aliases": [wanted.name],
            "names": [wanted.name],
            "tags": sorted(wanted.tags),
        }
        return Reply.of(202, answer)

    async def _upload_link(self, call: Call, match: re.Match[str]) -> Reply:
        files_hash = match["hash"]
        host = call.headers.get("host")
        url = f"http://{host}{STORAGE}{files_hash}"
        return Reply.of(201, {"present": files_hash in self._builds.uploads, "url": url})

    async def _start(self, call: Call, match: re.Match[str]) -> Reply:
        build = self._find(match)
        if build.status != "waiting":
            raise Refused(400, "build is not in waiting state")
        build.order = call.json()
        task = asyncio.get_running_loop().create_task(self._builds.carry_out(build))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Reply(status=202)

    async def _status(self, call: Call, match: re.Match[str]) -> Reply:
        build = self._find(match)
        begin = int(call.query.get("logsOffset", 0))
        most = min(int(call.query.get("limit", LOG_ENTRIES)), LOG_ENTRIES)
        entries = build.log[begin : begin + most]
        answer: dict[str, Any] = {
            "templateID": build.template.id,
            "buildID": build.id,
            "status": build.status,
            "logs": [entry["message"] for entry in entries],
            "logEntries": entries,
        }
        return Reply.of(200, answer | ({"reason": build.reason} if build.reason else {}))

    async def _alias(self, call: Call, match: re.Match[str]) -> Reply:
        template = self._templates.named(unquote(match["id"]).partition(":")[0])
        if template is None:
            raise Refused(404, f"template alias '{match['id']}' not found")
        return Reply.of(200, {"templateID": template.id, "public": False})

    async def _delete(self, call: Call, match: re.Match[str]) -> Reply:
        self._templates.remove(unquote(match["id"]))
        return Reply(status=204)

    def _find(self, match: re.Match[str]) -> Build:
        return self._builds.find(unquote(match["id"]), match["build"])

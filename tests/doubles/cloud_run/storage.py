"""A stand-in for Cloud Storage's JSON API: the objects of some buckets, in memory.

Held to the reference of the API v1 (cloud.google.com/storage/docs/json_api/v1, in excerpts:
"Objects: insert", "get", "delete", "list"; "Request preconditions"; "HTTP status and error
codes"). What it does not know it does not take: ``violations`` says what that was, and must be
empty at the end. Reads after writes and lists are consistent, as Google's are.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.doubles.cloud_run.exchange import Exchange
from tests.doubles.cloud_run.listener import Listener

ACCESS = "ya29.stand-in"
"""The access token that the stand-in for Google's identities gives to everybody."""
UPLOAD, OBJECTS = "/upload/storage/v1/b/", "/storage/v1/b/"
MOST_RESULTS, NAME_BYTES = 1000, 1024
_PARAMETERS = {
    "insert": {"uploadType", "name", "ifGenerationMatch"},
    "get": {"alt", "ifGenerationMatch"},
    "delete": {"ifGenerationMatch"},
    "list": {"prefix", "delimiter", "pageToken", "maxResults", "startOffset", "endOffset"},
}


class Answer(Exception):
    """A status that is not 2xx, with Google's words."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass
class Trouble:
    """What goes wrong next: ``statuses`` are answered instead, one for each request.

    ``lost`` requests are carried out and their connection cut. As long as they are set, with
    ``down`` connections break, with ``silent`` nothing is ever answered.
    """

    statuses: list[int] = field(default_factory=list)
    lost: int = 0
    down: bool = False
    silent: bool = False


class Storage:
    """``async with Storage("bucket") as storage``; ``objects`` are bytes by bucket and name."""

    def __init__(self, *buckets: str) -> None:
        self.objects: dict[str, dict[str, tuple[int, bytes]]] = {it: {} for it in buckets}
        self.trouble = Trouble()
        self.denied = False
        self.calls: list[str] = []
        self.violations: list[str] = []
        self.ever: list[tuple[str, bytes]] = []
        self._generations = itertools.count(1_700_000_000_000_001)
        self._listener = Listener(self._serve, streams=100)

    async def __aenter__(self) -> Self:
        await self._listener.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._listener.close()
        if error is None:
            assert self.violations == []

    @property
    def url(self) -> str:
        return self._listener.url

    def names(self, bucket: str) -> list[str]:
        return sorted(self.objects[bucket])

    async def _serve(self, exchange: Exchange) -> None:
        body = b"".join([piece async for piece in exchange.body()])
        if self.trouble.silent:
            await asyncio.Event().wait()
        if self.trouble.down:
            exchange.cut()
            return
        try:
            status, headers, data = self._answered(exchange, body)
        except Answer as exc:
            status, headers = exc.status, {"content-type": "application/json; charset=UTF-8"}
            row = {"message": str(exc), "domain": "global", "reason": exc.reason}
            error = {"code": exc.status, "message": str(exc), "errors": [row]}
            data = json.dumps({"error": error}).encode()
        if self.trouble.lost:
            self.trouble.lost -= 1
            exchange.cut()
            return
        await exchange.answer(status, list(headers.items()), data)

    def _answered(self, exchange: Exchange, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        if self.trouble.statuses:
            status = self.trouble.statuses.pop(0)
            raise Answer(status, "backendError", "We encountered an internal error.")
        if exchange.header("authorization") != f"Bearer {ACCESS}":
            raise Answer(401, "authError", "Invalid Credentials")
        if self.denied:
            what = "worker does not have storage.objects access to the Google Cloud Storage object."
            raise Answer(403, "forbidden", what)
        url = urlsplit(exchange.target)
        query = {name: it[0] for name, it in parse_qs(url.query, keep_blank_values=True).items()}
        call, bucket, name = self._called(exchange.method, url.path)
        self.calls.append(call)
        if unknown := set(query) - _PARAMETERS[call]:
            raise self._violated(f"{call} with {sorted(unknown)}")
        if bucket not in self.objects:
            raise Answer(404, "notFound", "The specified bucket does not exist.")
        if call == "list":
            return _json(self._list(self.objects[bucket], query))
        return self._object(call, bucket, query.get("name", name), query, body)

    def _called(self, method: str, path: str) -> tuple[str, str, str]:
        """Return which call a request is, of which bucket and object."""
        if method == "POST" and path.startswith(UPLOAD) and path.endswith("/o"):
            return "insert", unquote(path[len(UPLOAD) : -2]), ""
        bucket, _, rest = path.removeprefix(OBJECTS).partition("/")
        if path.startswith(OBJECTS) and rest == "o" and method == "GET":
            return "list", unquote(bucket), ""
        # A slash within a name has to be escaped: it would be another path.
        if path.startswith(OBJECTS) and rest.startswith("o/") and "/" not in rest[2:]:
            return {"GET": "get", "DELETE": "delete"}[method], unquote(bucket), unquote(rest[2:])
        raise self._violated(f"{method} {path}")

    def _object(
        self, call: str, bucket: str, name: str, query: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        objects = self.objects[bucket]
        generation, data = objects.get(name, (0, b""))
        wanted = query.get("ifGenerationMatch")
        if call == "insert":
            if query.get("uploadType") != "media" or not 0 < len(name.encode()) <= NAME_BYTES:
                raise self._violated(f"an upload of {name!r} by {query.get('uploadType')}")
        elif not generation:
            raise Answer(404, "notFound", f"No such object: {bucket}/{name}")
        if wanted is not None and int(wanted) != generation:
            what = "At least one of the pre-conditions you specified did not hold."
            raise Answer(412, "conditionNotMet", what)
        if call == "delete":
            del objects[name]
            return 204, {}, b""
        if call == "insert":
            generation, data = next(self._generations), body
            objects[name] = (generation, data)
            self.ever.append((name, data))
        elif query.get("alt") == "media":
            headers = {"x-goog-generation": str(generation), "x-goog-metageneration": "1"}
            return 200, {**headers, "content-type": "application/octet-stream"}, data
        return _json(_resource(bucket, name, generation, data))

    def _list(
        self, objects: Mapping[str, tuple[int, bytes]], query: Mapping[str, str]
    ) -> dict[str, Any]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = int(query.get("maxResults", MOST_RESULTS))
        if not 0 < most <= MOST_RESULTS:
            raise self._violated(f"maxResults={most}")
        rows: dict[str, bool] = {}
        for name in sorted(objects):
            if name.startswith(prefix) and name >= query.get("startOffset", ""):
                head, found, _ = name[len(prefix) :].partition(delimiter or "\0")
                cut = bool(delimiter and found)
                rows[prefix + head + delimiter if cut else name] = cut
        left = [name for name in rows if name > query.get("pageToken", "")]
        answer: dict[str, Any] = {"kind": "storage#objects"}
        page = left[:most]
        if items := [name for name in page if not rows[name]]:
            answer["items"] = [_resource("", name, *objects[name]) for name in items]
        if prefixes := [name for name in page if rows[name]]:
            answer["prefixes"] = prefixes
        if len(left) > most:
            answer["nextPageToken"] = page[-1]
        return answer

    def _violated(self, what: str) -> Answer:
        self.violations.append(what)
        return Answer(400, "invalid", f"Invalid argument: {what}")


def _resource(bucket: str, name: str, generation: int, data: bytes) -> dict[str, Any]:
    return {
        "kind": "storage#object",
        "name": name,
        "bucket": bucket,
        "generation": str(generation),
        "metageneration": "1",
        "size": str(len(data)),
    }


def _json(value: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
    return 200, {"content-type": "application/json; charset=UTF-8"}, json.dumps(value).encode()

"""A bucket of Cloud Storage: its objects are read, written under a condition, listed, deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from outpost.errors import OutpostFault, Rejected
from outpost.transports.gcs_access import Access

if TYPE_CHECKING:
    import httpx2

STORAGE = "https://storage.googleapis.com"
CALL_S = 20.0
MOST_SAID = 200
TRIES = 3
PAUSE_S = 0.25
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
DELETED_AT_ONCE, PAGE = 16, 1000
SLOWEST_BYTES_S = 50_000.0
"""An order may be large, and the way up from a home is narrow."""
MOST_BYTES = 80 << 20
"""No object of ours is larger: who writes them all may be led by an agent."""


class Changed(Exception):
    """The object is not (any more) the one that was to be replaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer that is no passing trouble; ``tries`` is how often it was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    tries: int

    def json(self) -> Any:
        """Return the JSON in it."""
        return json.loads(self.body)

    @property
    def said(self) -> str:
        """What it says, on one line, where it is no 2xx."""
        try:
            text = str(self.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            text = self.body[:MOST_SAID].decode("utf-8", "replace")
        return f"{self.status} {text.strip().partition(chr(10))[0][:MOST_SAID]}"


class Bucket:
    """Calls are tried again where they may, and raise ``OutpostFault`` in the end.

    ``url`` is where Cloud Storage answers.
    """

    def __init__(self, name: str, outpost: str, access: Access, url: str = STORAGE) -> None:
        self.name = name
        self._outpost = outpost
        self._access = access
        self._url = url
        self._client: httpx2.AsyncClient | None = None

    async def get(self, name: str) -> tuple[bytes, int] | None:
        """Return an object and its generation; ``None`` where there is none."""
        answer = await self._asked("GET", self._object(name), {"alt": "media"})
        if answer.status == 404:
            return None
        return self._good(answer).body, int(answer.headers.get("x-goog-generation", 0))

    async def put(self, name: str, data: bytes, *, generation: int) -> int:
        """Write an object on top of a generation (0: there is none), and return its own.

        Raises ``Changed`` where another one is there.
        """
        query = {"uploadType": "media", "name": name, "ifGenerationMatch": str(generation)}
        path = f"/upload/storage/v1/b/{quote(self.name, safe='')}/o"
        answer = await self._asked("POST", path, query, data)
        if answer.status != 412:
            return int(self._good(answer).json()["generation"])
        # What failed before may have been this very write, with its answer lost.
        found = await self.get(name) if answer.tries > 1 else None
        if found is None or found[0] != data:
            raise Changed(name)
        return found[1]

    async def delete(self, *names: str, generation: int | None = None) -> None:
        """Delete objects (only as of a ``generation``); that one is not there is no error."""
        slots = asyncio.Semaphore(DELETED_AT_ONCE)
        query = {} if generation is None else {"ifGenerationMatch": str(generation)}

        async def one(name: str) -> None:
            async with slots:
                answer = await self._asked("DELETE", self._object(name), query)
                if answer.status not in (404, 412):
                    self._good(answer)

        for at in range(0, len(names), PAGE):
            batch = names[at : at + PAGE]
            for result in await asyncio.gather(*map(one, batch), return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

    async def names(self, prefix: str, *, folders: bool = False, most: int = 0) -> list[str]:
        """Return the objects whose names begin so, or the ``folders`` at the next slash.

        With ``most`` not more than the first so many.
        """
        path = f"/storage/v1/b/{quote(self.name, safe='')}/o"
        query = {"prefix": prefix}
        if folders:
            query["delimiter"] = "/"
        if most:
            query["maxResults"] = str(most)
        found: list[str] = []
        while True:
            page = self._good(await self._asked("GET", path, query)).json()
            rows = page.get("items", ())
            found += page.get("prefixes", ()) if folders else [row["name"] for row in rows]
            token = page.get("nextPageToken")
            if not token or (most and len(found) >= most):
                return found
            query["pageToken"] = token

    async def close(self) -> None:
        """Let go of connections; a later call opens them again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _object(self, name: str) -> str:
        return f"/storage/v1/b/{quote(self.name, safe='')}/o/{quote(name, safe='')}"

    async def _asked(
        self, method: str, path: str, query: Mapping[str, str], data: bytes | None = None
    ) -> Answer:
        """Return an answer that is not a passing trouble; all that is asked may be asked twice."""
        import httpx2  # noqa: PLC0415 - takes its time

        refused = why = ""
        call_s = CALL_S + len(data or b"") / SLOWEST_BYTES_S
        for number in range(1, TRIES + 1):
            token = await self._access(refused)
            request = self._opened().build_request(
                method,
                f"{self._url}{path}",
                params=query,
                content=data,
                headers={"authorization": f"Bearer {token}"},
                timeout=call_s,
            )
            try:
                async with asyncio.timeout(call_s):
                    answer = await self._sent(request, number)
            except (TimeoutError, httpx2.HTTPError) as exc:
                why = str(exc) or f"no answer within {call_s:.0f} s"
            else:
                if answer.status == 401 and not refused:
                    refused = token
                    continue
                if answer.status not in _PASSING:
                    return answer
                why = answer.said
            if number < TRIES:
                await asyncio.sleep(PAUSE_S * 2**number)
        what = f"Cloud Storage does not answer: {why}"
        raise OutpostFault(what, outpost=self._outpost)

    async def _sent(self, request: httpx2.Request, number: int) -> Answer:
        response = await self._opened().send(request, stream=True)
        try:
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    what = f"an object in {self.name} is larger than any that we write"
                    raise OutpostFault(what, outpost=self._outpost)
        finally:
            await response.aclose()
        return Answer(
            status=response.status_code, headers=response.headers, body=bytes(body), tries=number
        )

    def _opened(self) -> httpx2.AsyncClient:
        import httpx2  # noqa: PLC0415 - as above

        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=CALL_S)
        return self._client

    def _good(self, answer: Answer) -> Answer:
        """Return an answer that is a 2xx; raises ``OutpostFault`` for others."""
        status = answer.status
        if 200 <= status < 300:
            return answer
        if status in (401, 403):
            raise Rejected(
                f"you may not do that in the bucket {self.name}: {answer.said}",
                outpost=self._outpost,
                hint=f"gcloud storage buckets add-iam-policy-binding gs://{self.name}"
                " --member=user:YOU --role=roles/storage.objectUser",
            )
        if status == 404:
            raise Rejected(
                f"there is no bucket {self.name}",
                outpost=self._outpost,
                hint=f"gcloud storage buckets create gs://{self.name} --location=REGION"
                " --uniform-bucket-level-access --public-access-prevention"
                " --soft-delete-duration=0",
            )
        what = f"Cloud Storage refuses what we ask of {self.name}: {answer.said}"
        raise OutpostFault(what, outpost=self._outpost)

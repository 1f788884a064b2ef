"""What tests of the stand-in itself use: its sample service, and requests that are held open."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil
from pyqwest import (
    Client,
    FullResponse,
    HTTPTransport,
    HTTPVersion,
    ReadError,
    StreamError,
    WriteError,
)

from tests.doubles.cloud_run.cloud import CloudRun
from tests.doubles.cloud_run.container import Content
from tests.doubles.cloud_run.limits import Limits
from tests.doubles.cloud_run.revision import Revision

ROOT = Path(__file__).parents[3]
LIMITS = Limits(queue_s=0.2, idle_s=60, grace_s=3, startup_s=10)
DEADLINE_S = 10.0
BROKEN = (StreamError, ReadError, WriteError, ConnectionError)


def revision(**changes: Any) -> Revision:
    """Return a revision of the sample service; ``environment`` are variables of its own."""
    environment = {"PYTHONPATH": str(ROOT), **changes.pop("environment", {})}
    argv = [sys.executable, "-m", "tests.doubles.cloud_run.sample_app"]
    content = Content(argv=argv, environment=environment, files=changes.pop("files", {}))
    return Revision(content=content, **changes)


def client(version: HTTPVersion = HTTPVersion.HTTP2) -> Client:
    return Client(HTTPTransport(http_version=version))


def key(cloud: CloudRun, name: str = "work") -> dict[str, str]:
    return {"x-serverless-authorization": f"Bearer {cloud.mint(name)}"}


async def get(
    cloud: CloudRun, path: str = "/about", headers: Mapping[str, str] = {}, name: str = "work"
) -> FullResponse:
    return await client().get(cloud.url(name) + path, {**key(cloud, name), **headers})


async def until(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(0.01)
    return seen


def said(answer: FullResponse) -> Any:
    """Return the JSON of an answer."""
    return json.loads(answer.content)


def statuses(pids: Iterable[int]) -> set[str]:
    """Return what processes do that have not ended."""
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(psutil.Process(pid).status())
    return found - {psutil.STATUS_ZOMBIE}


class Held:
    """A request that is open; ``say`` and ``hear`` go both ways at any time."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.pid = 0

    async def _content(self) -> AsyncIterator[bytes]:
        while (data := await self.said.get()) is not None:
            yield data

    @contextlib.asynccontextmanager
    async def open(
        self, cloud: CloudRun, path: str = "/echo", user: Client | None = None, **headers: str
    ) -> AsyncIterator[Held]:
        user = user or client()
        url = cloud.url("work") + path
        given = {**key(cloud), **headers}
        async with user.stream("POST", url, given, self._content()) as response:
            assert response.status == 200, response.status
            self.cookie = response.headers.get("set-cookie", "").partition(";")[0]
            self._pieces = response.content
            self.pid = int(await self.hear())
            yield self
            self.said.put_nowait(None)

    def say(self, data: bytes) -> None:
        self.said.put_nowait(data)

    async def hear(self) -> bytes:
        while not (data := bytes(await anext(self._pieces))):
            pass
        return data

"""What a start takes that is nothing but calls of the same libraries, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx2
from e2b import AsyncSandbox
from e2b.sandbox.filesystem.filesystem import WriteEntry
from pyqwest import Client, HTTPTransport, HTTPVersion

from benchmarks.figures import NotMeasured
from benchmarks.places_site import Site
from outpost.backends.fly import INSTANCE_HEADER
from outpost.backends.fly_machine import machine_config
from outpost.backends.fly_options import FlyOptions
from outpost.transports.archive import runner_archive
from outpost.transports.variables import moving
from outpost.wire.orders import Environment, WorkOrder

POLL_S = 0.002
PATIENCE_S = 60.0
OK = 200
LEASE_S = 900
FIRST, LAST = b'{"seq":', b'"type":"result"'
START = (
    'python3 -I -S runner.pyz start "$PWD/worker" <environment.json >&2'
    " && exec tail -n +1 -F worker/events.jsonl"
)


class Floor(ABC):
    """The starts of one provider by hand; ``order`` is what one of ours was, to be given again."""

    def __init__(self, site: Site, order: WorkOrder, environment: Environment) -> None:
        self._site = site
        self._order = order
        self._environment = moving(environment)

    async def run(self) -> float:
        """Go from nothing to the first event of a worker; return the seconds it took.

        Returns once the worker has ended. Raises ``NotMeasured`` where it never does.
        """
        worker_id = f"w-{secrets.token_hex(6)}"
        order = WorkOrder(**{**self._order, "worker_id": worker_id, "branch": f"floor-{worker_id}"})
        heard, first_s = b"", 0.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S), contextlib.aclosing(self._log(order)) as log:
                began = time.perf_counter()
                async for data in log:
                    heard += data
                    if not first_s and FIRST in heard:
                        first_s = time.perf_counter() - began
                    if LAST in heard:
                        return first_s
        raise NotMeasured(f"a worker started by hand did not end well: {heard[-200:]!r}")

    @abstractmethod
    def _log(self, order: WorkOrder) -> AsyncGenerator[bytes]:
        """Start a worker; yield its log as it comes, and what else is said beside it."""

    async def close(self) -> None:  # noqa: B027 - not everybody holds one
        """Let go of all connections."""


class FlyFloor(Floor):
    """``httpx2`` to the Machines API, ``pyqwest`` to the machine."""

    def __init__(self, site: Site, order: WorkOrder, environment: Environment) -> None:
        super().__init__(site, order, environment)
        self._options = FlyOptions.model_validate(site.options)
        self._machines = httpx2.AsyncClient(
            base_url=f"{self._options.api_url}/v1/apps/{self._options.app}",
            headers={"authorization": f"Bearer {site.variables['FLY_API_TOKEN']}"},
            timeout=PATIENCE_S,
        )
        self._servers = Client(HTTPTransport(http_version=HTTPVersion.HTTP2))

    async def close(self) -> None:
        await self._machines.aclose()

    async def _log(self, order: WorkOrder) -> AsyncGenerator[bytes]:
        name, token = order["worker_id"], secrets.token_hex()
        config = machine_config(self._options, {}, token=token)
        region = self._options.regions[0]
        wanted = {"name": name, "region": region, "config": config}
        machine = (await self._machines.post("/machines", json=wanted)).raise_for_status().json()
        path = f"/machines/{machine['id']}"
        while machine["state"] != "started":
            await self._machines.get(f"{path}/wait", params={"state": "started", "timeout": "10"})
            machine = (await self._machines.get(path)).raise_for_status().json()
        headers = {INSTANCE_HEADER: machine["id"], "authorization": f"Bearer {token}"}
        while (await self._servers.get(f"{self._options.app_url}/health", headers)).status != OK:
            await asyncio.sleep(POLL_S)
        async with contextlib.aclosing(self._work(order, headers)) as pieces:
            async for data in pieces:
                yield data

    async def _work(self, order: WorkOrder, headers: Mapping[str, str]) -> AsyncGenerator[bytes]:
        call = {"worker_id": order["worker_id"], "after": 0}
        first = json.dumps({**call, "order": order, "environment": self._environment})
        over = asyncio.Event()

        async def body() -> AsyncGenerator[bytes]:
            yield first.encode() + b"\n"
            await over.wait()  # the answer goes on as long as the request does

        url = f"{self._options.app_url}/work"
        async with self._servers.stream("POST", url, dict(headers), body()) as answer:
            if answer.status != OK:
                raise NotMeasured(f"the floor's order was answered with {answer.status}")
            try:
                async for piece in answer.content:
                    yield bytes(piece)
            finally:
                over.set()


class E2bFloor(Floor):
    """E2B's SDK: a sandbox, three files, a command."""

    async def _log(self, order: WorkOrder) -> AsyncGenerator[bytes]:
        options = self._site.options
        way: dict[str, Any] = {"api_url": options["api_url"], "sandbox_url": options["sandbox_url"]}
        way["api_key"] = self._site.variables["E2B_API_KEY"]
        sandbox = await AsyncSandbox.create(options["template"], timeout=LEASE_S, **way)
        path = {"PATH": os.environ["PATH"]}
        own = self._environment
        variables = Environment(agent={**own["agent"], **path}, git={**own["git"], **path})
        files = {
            "runner.pyz": runner_archive()[1],
            "worker/order.json": json.dumps(order).encode(),
            "environment.json": json.dumps(variables).encode(),
        }
        await sandbox.files.write_files(
            [WriteEntry(path=path, data=data) for path, data in files.items()]
        )
        said: asyncio.Queue[str] = asyncio.Queue()
        command = await sandbox.commands.run(
            START, background=True, on_stdout=said.put, timeout=0, retain_output=False
        )
        try:
            while True:
                yield (await said.get()).encode()
        finally:
            await command.kill()
            await sandbox.kill()


FLOORS: Mapping[str, type[Floor]] = {"fly": FlyFloor, "e2b": E2bFloor}

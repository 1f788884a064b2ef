"""``e2b`` outposts on the stand-in, in this process and in whole worlds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from outpost.backends.e2b import E2bOutpost
from outpost.backends.e2b_options import E2bOptions
from outpost.control.environment import worker_environment
from outpost.model import Handle, Liveness
from outpost.ports import Setup, Tended
from outpost.testing import Bench
from outpost.testing.bench import lines
from outpost.wire.orders import ORDER_VERSION, AgentOrder, WorkOrder
from outpost.wire.orders import Limits as OrderLimits
from tests.doubles.e2b.cloud import E2bCloud, Record
from tests.doubles.e2b.limits import Limits
from tests.world import DEADLINE_S, World

TEMPLATE = "outpost-worker"
KEY = "E2B_API_KEY"
FEDERATION = "f-0123456789"


def options_for(e2b: E2bCloud, **more: Any) -> dict[str, Any]:
    """Return the options of an outpost that is led to the stand-in."""
    return {
        "template": TEMPLATE,
        "api_url": e2b.api_url,
        "sandbox_url": e2b.sandbox_url,
        "min_free_mib": 0,
        **more,
    }


def outpost_on(
    e2b: E2bCloud, folder: Path, *, setup: Any = None, lease_s: float | None = None, **more: Any
) -> E2bOutpost:
    """Return an outpost for tests in this process; ``setup`` goes before what it would have.

    ``lease_s`` may be shorter than a configuration allows.
    """
    options = E2bOptions(**options_for(e2b, **more))
    if lease_s is not None:
        options = options.model_copy(update={"timeout_s": lease_s})
    fields: dict[str, Any] = {
        "name": "cloud",
        "federation_id": FEDERATION,
        "data_folder": str(folder),
        "environment": {KEY: e2b.api_key},
        **(setup or {}),
    }
    return E2bOutpost(Setup(**fields), options)


def place_of(sandbox: Record, worker_id: str) -> Path:
    """Return the private folder of a worker in its sandbox."""
    return sandbox.home / ".outpost" / "workers" / worker_id


def sandbox_of(e2b: E2bCloud, worker_id: str) -> Record:
    """Return the one sandbox of a worker."""
    [found] = [it for it in e2b.sandboxes() if it.metadata.get("outpost_worker") == worker_id]
    return found


def config_for(e2b: E2bCloud, **more: Any) -> str:
    """Return the configuration of a federation whose only outpost is the stand-in."""
    lines = [f"    {name}: {_written(value)}" for name, value in options_for(e2b, **more).items()]
    head = ["outposts:", "  - name: cloud", "    type: e2b", "    max_workers: 20"]
    return "\n".join((*head, *lines, "defaults:", "  stop_grace: 4s", ""))


def _written(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {it}" for name, it in value.items()) + "}"
    return str(value)


class Site:
    """An outpost on the stand-in, with what workers there need."""

    def __init__(self, world: World, e2b: E2bCloud, folder: Path) -> None:
        self.world = world
        self.e2b = e2b
        self.folder = folder
        self.made: list[E2bOutpost] = []
        self.environment = worker_environment(world.environment, agent_variables=(), extra=())

    def outpost(self, **more: Any) -> E2bOutpost:
        """Return another instance, as a controller started anew has it."""
        self.made.append(outpost_on(self.e2b, self.folder, **more))
        return self.made[-1]

    def order(self, script: str) -> WorkOrder:
        worker_id = Bench.new_id()
        return WorkOrder(
            version=ORDER_VERSION,
            federation_id=FEDERATION,
            worker_id=worker_id,
            task_id="t-e2b",
            issue_id="e2b",
            repo_url=self.world.remote.url,
            base=None,
            branch=f"outpost/e2b-{worker_id}",
            title="Mend the words",
            body="",
            prompt="Do what the script says.",
            agent=AgentOrder(name="command", argv=["sh", "-c", script], options={}),
            limits=OrderLimits(time_s=None, grace_s=2.0),
            keep_workspace=False,
        )

    async def start(self, outpost: E2bOutpost, script: str) -> Handle:
        """Start a worker, and wait until its agent has printed ``begun``."""
        handle = await outpost.spawn(self.order(f"echo begun; {script}"), self.environment)
        await self.until_said(outpost, handle, "begun")
        return handle

    async def until_said(self, outpost: E2bOutpost, handle: Handle, text: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while text not in lines([it async for it in outpost.worker(handle).events()]):
                await asyncio.sleep(0.05)

    def resumed(self) -> int:
        """Return how often a paused sandbox was resumed."""
        return [it[2] for it in self.e2b.requests() if it[1].endswith("/connect")].count(201)

    def sandbox(self, handle: Handle) -> Record:
        """Return the sandbox of a worker as it is."""
        return sandbox_of(self.e2b, handle.worker_id)

    async def close(self) -> None:
        for outpost in self.made:
            await outpost.close()


@contextlib.asynccontextmanager
async def site_in(world: World, folder: Path, **limits: Any) -> AsyncIterator[Site]:
    """Yield an outpost's site, whose stand-in has its template."""
    with E2bCloud(folder / "e2b", limits=Limits(**limits)) as e2b:
        e2b.add_template(TEMPLATE)
        site = Site(world, e2b, folder / "data")
        try:
            yield site
        finally:
            await site.close()


def tended(handle: Handle, waiting_s: float | None = None) -> list[Tended]:
    return [Tended(handle=handle, waiting_s=waiting_s)]


async def stop_strangers(outpost: E2bOutpost) -> None:
    """Stop all that is seen alive, as a controller does whose tasks have gone on without it."""
    for sighting in [it async for it in outpost.workers()]:
        if sighting.liveness is Liveness.ALIVE:
            await outpost.worker(sighting.handle).stop(grace_s=1, reason="by the test")

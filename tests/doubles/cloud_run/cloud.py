"""The stand-in for Cloud Run: services behind front ends, and all that can go wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.doubles.cloud_run.faults import Faults
from tests.doubles.cloud_run.fleet import Fleet
from tests.doubles.cloud_run.front import FrontEnd
from tests.doubles.cloud_run.instance import Instance
from tests.doubles.cloud_run.limits import Limits
from tests.doubles.cloud_run.metering import Meter, Usage
from tests.doubles.cloud_run.revision import Revision
from tests.doubles.cloud_run.tokens import INVOKER, LIFE_S, Tokens


class CloudRun:
    """A project in one region: ``async with CloudRun() as cloud``.

    ``environment`` is what every container finds besides what its service declares: what a real
    image brings along. ``faults`` and ``tokens`` are shared by all services. All of it runs in the
    event loop that it is entered in; ``tests.doubles.cloud_run.background`` is one in a thread.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
        region: str = "us-central1",
    ) -> None:
        self.region = region
        self.limits = limits or Limits()
        self.environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(environment or {})}
        self.faults = Faults()
        self.tokens = Tokens()
        self.fronts: dict[str, FrontEnd] = {}
        self.task_meters: list[Meter] = []
        self.folder = Path()

    async def __aenter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="cloud-run-"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for front in self.fronts.values():
            await front.listener.close()
        for front in self.fronts.values():
            await front.fleet.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def deploy(
        self,
        name: str,
        revision: Revision,
        *,
        public: bool = False,
        audiences: tuple[str, ...] = (),
    ) -> FrontEnd:
        """Make a service, or give it a new revision; its address stays the same."""
        names = {"K_SERVICE": name, "K_CONFIGURATION": name, "K_REVISION": revision.name}
        environment = {**self.environment, **names, **revision.content.environment}
        content = replace(revision.content, environment=environment)
        revision = replace(revision, content=content)
        front = self.fronts.get(name)
        if front is None:
            folder = self.folder / name
            fleet = Fleet(name, revision, limits=self.limits, faults=self.faults, folder=folder)
            front = self.fronts[name] = FrontEnd(fleet, self.faults, self.tokens)
            await front.listener.open()
        front.deleted, front.public, front.audiences = False, public, audiences
        front.fleet.adopt(revision)
        return front

    def undeploy(self, name: str) -> None:
        """Delete a service: its instances are ended, its address answers 404."""
        front = self.fronts[name]
        front.deleted = True
        front.fleet.adopt(replace(front.fleet.revision, min_instances=0))
        for instance in self.instances(name):
            front.fleet.end(instance)

    def url(self, name: str) -> str:
        return self.fronts[name].url

    def mint(self, name: str, *, email: str = INVOKER, life_s: float = LIFE_S) -> str:
        """Return an ID token for a service."""
        return self.tokens.mint(self.url(name), email=email, life_s=life_s)

    def instances(self, name: str) -> list[Instance]:
        """Return a service's instances that have not ended, the oldest first."""
        return self.fronts[name].fleet.living

    def cut(self, name: str | None = None) -> int:
        """Break every connection of clients (of one service); return how many there were."""
        fronts = [self.fronts[name]] if name else list(self.fronts.values())
        return sum(front.listener.cut() for front in fronts)

    @contextlib.asynccontextmanager
    async def cutting(self, every_s: float) -> AsyncIterator[None]:
        """Break every connection again and again."""

        async def cut_on() -> None:
            while True:
                await asyncio.sleep(every_s)
                self.cut()

        cutter = asyncio.get_running_loop().create_task(cut_on())
        try:
            yield
        finally:
            cutter.cancel()
            await asyncio.wait({cutter})

    def kill(self, name: str, instance_id: str | None = None) -> None:
        """Kill instances (all, or one) without a word: SIGKILL."""
        for instance in self._chosen(name, instance_id):
            instance.container.kill()

    async def evict(self, name: str, instance_id: str | None = None) -> None:
        """End instances though they have requests: SIGTERM, SIGKILL after the grace.

        They get no new ones from now on. Returns once they are gone.
        """
        chosen = self._chosen(name, instance_id)
        await asyncio.gather(*(instance.end() for instance in chosen))

    def drain(self, name: str, instance_id: str | None = None) -> None:
        """Give instances no new requests; each ends once it has none."""
        for instance in self._chosen(name, instance_id):
            instance.draining = True
        self.fronts[name].fleet.tend()

    def set_max_instances(self, name: str, most: int) -> None:
        """Change a service's bound; what is too much ends once it has no request."""
        fleet = self.fronts[name].fleet
        changed = replace(fleet.revision, max_instances=most)
        for instance in fleet.living:
            if instance.revision is fleet.revision:
                instance.revision = changed
        fleet.adopt(changed)

    def usage(self, name: str | None = None) -> Usage:
        """Return what was used until now by one service, or by all of them and by all jobs."""
        fronts = [self.fronts[name]] if name else list(self.fronts.values())
        meters = [instance.meter for front in fronts for instance in front.fleet.all]
        if name is None:
            meters += self.task_meters
        return Usage.total(meter.usage() for meter in meters)

    def _chosen(self, name: str, instance_id: str | None) -> list[Instance]:
        instances = self.instances(name)
        return [one for one in instances if instance_id in (None, one.id)]

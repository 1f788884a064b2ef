"""The stand-in for Fly Machines: its API and an app's proxy, with real processes for machines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.doubles.cloud_run.listener import Listener
from tests.doubles.fly.api import Api
from tests.doubles.fly.contract import contract
from tests.doubles.fly.faults import Faults
from tests.doubles.fly.flyd import Flyd, environment
from tests.doubles.fly.guest import Image
from tests.doubles.fly.limits import Limits
from tests.doubles.fly.machine import Machine
from tests.doubles.fly.platform import Platform
from tests.doubles.fly.proxy import Proxy
from tests.doubles.fly.volumes import Volumes
from tests.doubles.in_thread import InThread

STREAMS = 1000


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """A machine as it is at one moment."""

    id: str
    name: str
    state: str
    region: str
    metadata: Mapping[str, str]
    config: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]


class FlyCloud(InThread):
    """One app of one organisation: ``with FlyCloud(folder) as fly``.

    The servers live in a thread of their own, so that tests with a loop and without can use it.
    ``api_url`` is where the Machines API answers (without ``/v1``), ``url`` where the app's proxy
    does. ``faults`` and ``limits`` may be changed at any time. ``environment`` is what every
    machine finds besides its configuration, as it is: no path in it is taken for one of a machine.
    ``images`` are what other images than the worker's run, by their references.

    Leaving fails if a request or an answer was not as the contract has it.
    """

    answer_s: ClassVar[float | None] = 30.0

    def __init__(
        self,
        folder: Path,
        *,
        app: str = "workers",
        token: str = "FlyV1 test",
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
        images: Mapping[str, Image] | None = None,
    ) -> None:
        super().__init__()
        self.app = app
        self.token = token
        self.folder = folder
        self.limits = limits or Limits()
        self.faults = Faults()
        self._environment = environment
        self._images = images or {}

    def machines(self, *, destroyed: bool = False) -> list[MachineRecord]:
        """Return the machines there are, the oldest first, and if wished all that ever were."""

        def look() -> list[MachineRecord]:
            platform = self._platform
            found = list(platform.ever.values()) if destroyed else platform.living()
            return [_record(it) for it in found]

        return self.do(look)

    def requests(self) -> list[tuple[str, str, int]]:
        """Return method, path with query, and status of every request to the API; 0: no answer."""
        return self.do(lambda: list(self._api.requests))

    def own_s(self) -> list[float]:
        """Return how long the stand-in itself took for each of ``requests``."""
        return self.do(lambda: list(self._api.own_s))

    def violations(self) -> list[str]:
        """Return what was not as the contract has it."""
        return self.do(self.wrong)

    def metered_s(self) -> dict[str, float]:
        """Return the seconds that every machine ran, by its id."""
        ever = self._platform.ever
        return self.do(lambda: {key: it.meter.running_s() for key, it in ever.items()})

    def metered(self, machine_id: str) -> dict[str, float]:
        """Return the seconds of one machine, by its states."""
        return self.do(self._platform.ever[machine_id].meter.by_state)

    def root(self, machine_id: str) -> Path:
        """Return the folder that is the root file system of a machine."""
        return self.folder / "machines" / machine_id / "root"

    def output(self, machine_id: str) -> str:
        """Return what a machine has printed."""
        path = self.folder / "machines" / machine_id / "output.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def pids(self, machine_id: str) -> list[int]:
        """Return the processes that run in a machine, its command first."""

        def look() -> list[int]:
            guest = self._platform.flyd.guest(self._platform.ever[machine_id])
            return guest.container.pids if guest else []

        return self.do(look)

    def kill(self, machine_id: str) -> None:
        """Kill what runs in a machine: SIGKILL, as of a crash."""
        self.do(lambda: self._platform.flyd.kill(self._platform.ever[machine_id]))

    def oom(self, machine_id: str) -> None:
        """Have a machine run out of memory: its command is killed, and said to be for that."""
        self.do(lambda: self._platform.flyd.kill(self._platform.ever[machine_id], oom=True))

    def vanish(self, machine_id: str) -> None:
        """Have a machine be gone at once, without an event and without a record."""
        self.wait(lambda: self._platform.flyd.vanish(self._platform.ever[machine_id]))

    def cut(self, machine_id: str | None = None) -> None:
        """Break the proxy's open requests, all or a machine's."""
        proxy = self._proxy
        names = list(proxy.open) if machine_id is None else [machine_id]

        def cut() -> None:
            for name in names:
                proxy.cut(name)

        self.do(cut)

    def wrong(self) -> list[str]:
        return [*self._api.violations, *self._platform.flyd.defects]

    async def opened(self, stack: AsyncExitStack) -> None:
        self._build()
        api = Listener(self._api.serve, streams=STREAMS)
        front = Listener(self._proxy.serve, streams=STREAMS)
        tending = asyncio.get_running_loop().create_task(self._proxy.tend())
        stack.push_async_callback(self._platform.flyd.close)
        for listener in (api, front):
            await listener.open()
            stack.push_async_callback(listener.close)
        stack.push_async_callback(_cancelled, tending)
        self.api_url, self.url = api.url, front.url

    def _build(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        volumes = Volumes(folder=self.folder, now=self.faults.now)
        self._platform = Platform(
            app=self.app, limits=self.limits, faults=self.faults, volumes=volumes
        )
        self._platform.flyd = Flyd(
            folder=self.folder,
            limits=self.limits,
            faults=self.faults,
            volumes=volumes,
            base={**environment(self._environment), "FLY_APP_NAME": self.app},
            images=self._images,
            forget=self._platform.forget,
        )
        self._proxy = Proxy(self._platform)
        self._api = Api(self._platform, self.token, contract())


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _record(machine: Machine) -> MachineRecord:
    shown = machine.shown()
    return MachineRecord(
        id=machine.id,
        name=machine.name,
        state=machine.state,
        region=machine.region,
        metadata=dict(machine.metadata),
        config=shown.get("config") or shown["incomplete_config"],
        events=tuple(shown["events"]),
    )

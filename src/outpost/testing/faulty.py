"""An outpost of kind ``faulty``: workers really run on this machine, and it fails as it is told.

For trying out whatever has to live with outposts that fail. Its option ``faults`` names the JSON
file that says what goes wrong; ``outpost.testing.faults`` has the table of all faults. It may be
changed at any time, and any number of processes share it::

    faults = FaultFile(Path("/tmp/box.json"))
    faults.write(spawn=["ambiguous_started"], destroy=["lost"], list_lags=10)
    faults.change(partition="the cable is cut")

``bring`` makes the kind known to programs that are started, as an installed package would: by an
entry point.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, Field

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.errors import Ambiguous
from outpost.model import Handle, Health, Sighting
from outpost.ports import Completed, Setup, Shell
from outpost.testing.faults import (
    Fault,
    FaultFile,
    ailing,
    before_spawn,
    bring_kind,
    go_wrong,
    go_wrong_after,
    unreachable,
)
from outpost.transports.shell import ShellWorker
from outpost.wire.events import Event
from outpost.wire.orders import Environment, WorkOrder

__all__ = ["Fault", "FaultFile", "FaultyOptions", "FaultyOutpost", "bring"]


class FaultyOptions(LocalOptions):
    """What ``type: faulty`` takes: all that ``local`` does, and the file of faults."""

    faults: str = Field(description="The JSON file that says what goes wrong.")


class FaultyOutpost(LocalOutpost):
    """Workers on this machine, at an outpost that fails on demand."""

    kind: ClassVar[str] = "faulty"
    Options: ClassVar[type[BaseModel]] = FaultyOptions

    def __init__(self, setup: Setup, options: FaultyOptions) -> None:
        super().__init__(setup, options)
        self._faults = FaultFile(Path(options.faults))
        self._place = replace(self._place, shell=CutShell(self._place.shell, self._faults))

    async def ping(self) -> Health:
        return await ailing(self._faults, self.name) or await super().ping()

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        fault = await before_spawn(self._faults, self.name, order["worker_id"])
        if self._faults.seconds("clock_skew_s"):
            order = order.copy()
            order.pop("asked_at", None)
        handle = await super().spawn(order, environment)
        go_wrong_after(fault, self.name)
        return handle

    async def start(self, directory: str, environment: Environment) -> str:
        """Start the runner; where the place is cut off by now, nobody can tell what was done."""
        self._demand_answer()
        answer = await super().start(directory, environment)
        self._demand_answer()
        return answer

    async def find(self, worker_id: str) -> Handle | None:
        fault = self._faults.next(self.name, "find", worker_id)
        await go_wrong(fault, self.name)
        return None if fault.name == "none" else await super().find(worker_id)

    def workers(self) -> AsyncIterator[Sighting]:
        return self._listed(super().workers())

    def worker(self, handle: Handle) -> ShellWorker:
        super().worker(handle)
        return FaultyWorker(self, handle, self._faults)

    async def probe(self, worker_id: str | None = None) -> list[dict[str, str]]:
        await go_wrong(self._faults.next(self.name, "workers", worker_id or ""), self.name)
        return await super().probe(worker_id)

    async def destroy(self, handle: Handle) -> None:
        fault = self._faults.next(self.name, "destroy", handle.worker_id)
        await go_wrong(fault, self.name)
        if fault.name != "lost":
            await super().destroy(handle)

    def _demand_answer(self) -> None:
        if why := self._faults.partition():
            raise Ambiguous(unreachable(self.name, why).message, outpost=self.name)

    async def _listed(self, all_there: AsyncIterator[Sighting]) -> AsyncIterator[Sighting]:
        async for sighting in all_there:
            if age_s(Path(sighting.handle.data["directory"])) >= self._faults.seconds("list_lags"):
                yield sighting


class FaultyWorker(ShellWorker):
    """A worker whose place may have a clock of its own."""

    def __init__(self, outpost: FaultyOutpost, handle: Handle, faults: FaultFile) -> None:
        super().__init__(outpost, handle)
        self._faults = faults

    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        events = super().events(after=after, offset=offset, follow=follow)
        async with contextlib.aclosing(events):
            async for event in events:
                event.time = self._faults.told(event.time)
                yield event


class CutShell(Shell):
    """A shell whose connection breaks while its file of faults says so."""

    def __init__(self, shell: Shell, faults: FaultFile) -> None:
        self._shell = shell
        self._faults = faults

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Completed:
        self._reach()
        done = await self._shell.run(
            argv, stdin=stdin, environment=environment, timeout_s=timeout_s
        )
        self._reach()
        return done

    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self._reach()
        await self._shell.put(path, data, mode=mode)

    async def get(self, path: str, *, offset: int = 0) -> bytes:
        self._reach()
        return await self._shell.get(path, offset=offset)

    async def stream(self, path: str, *, offset: int = 0) -> AsyncGenerator[bytes, None]:
        self._reach()
        stream = self._shell.stream(path, offset=offset)
        async with contextlib.aclosing(stream):
            async for data in stream:
                self._reach()
                yield data

    def _reach(self) -> None:
        """Raise ``ConnectionError`` while no call gets through; also for an answer on its way."""
        if why := self._faults.partition():
            raise ConnectionError(why)


def age_s(directory: Path) -> float:
    """Return how long ago the worker of a folder was started; 0 before it runs."""
    try:
        # Unlike the order, which whoever orders it again writes anew, this is written once.
        return time.time() - (directory / "runner.pid").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def bring(folder: Path) -> str:
    """Bring the kind into ``folder``; return what a program's ``PYTHONPATH`` must hold for it."""
    bring_kind(folder, FaultyOutpost.kind, f"{__name__}:{FaultyOutpost.__name__}")
    return str(folder)

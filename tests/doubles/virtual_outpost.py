"""An outpost of kind ``virtual``: thousands of workers without a process, for tests of scale.

Its workers are files in ``folder`` (``tests.doubles.virtual_records``): they outlive whoever
started them, and any number of processes may look after them. Outposts that share a folder share
the fences of tasks too, as real workers share a remote. What fails is said by the file ``faults``,
as for ``outpost.testing.faulty``. No git is touched: branches and commits are made up.

The agent's argv is what a worker does, ``virtual --seconds 3 --events-per-s 2``: see ``Script``.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from outpost.errors import OutpostFault, Rejected, Unsupported
from outpost.model import (
    Capabilities,
    Handle,
    Health,
    Liveness,
    Observation,
    Quote,
    Sighting,
    Task,
)
from outpost.ports import Outpost, Setup, Worker
from outpost.testing.faults import (
    FaultFile,
    ailing,
    before_spawn,
    bring_kind,
    go_wrong,
    go_wrong_after,
    unreachable,
)
from outpost.wire.events import Event
from outpost.wire.orders import Environment, Message, WorkOrder
from tests.doubles.virtual_records import Record, Records

CHECKOUT = Path(__file__).parents[2]
LOOK_EVERY_S = 0.5
SOON_S = 0.002


class VirtualOptions(BaseModel):
    """What ``type: virtual`` takes: the shared folder; the file of faults, if not ``NAME.faults``
    in there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    faults: str | None = None


class VirtualOutpost(Outpost):
    """Workers that are files."""

    kind: ClassVar[str] = "virtual"
    capabilities: ClassVar[Capabilities] = Capabilities(attach=False, send=False, stop=True)
    Options: ClassVar[type[BaseModel]] = VirtualOptions

    def __init__(self, setup: Setup, options: VirtualOptions) -> None:
        self.name = setup.name
        self._federation_id = setup.federation_id
        folder = Path(options.folder)
        self._records = Records(folder)
        self._faults = FaultFile(Path(options.faults or folder / f"{setup.name}.faults"))

    async def ping(self) -> Health:
        return await ailing(self._faults, self.name) or Health(ok=True)

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        fault = await before_spawn(self._faults, self.name, order["worker_id"])
        line = {
            "worker_id": order["worker_id"],
            "task_id": order["task_id"],
            "federation_id": order["federation_id"],
            "outpost": self.name,
            "fence": order.get("fence", 1),
            "branch": order["branch"],
            "argv": order["agent"]["argv"],
            "started": time.time(),
            "run": secrets.token_hex(8),
            "pid": os.getpid(),
        }
        self._records.start(self.name, line)
        go_wrong_after(fault, self.name)
        return self._handle(order["worker_id"])

    async def find(self, worker_id: str) -> Handle | None:
        fault = self._faults.next(self.name, "find", worker_id)
        await go_wrong(fault, self.name)
        record = self._records.on(self.name, worker_id)
        ours = record and record.line["federation_id"] == self._federation_id
        return self._handle(worker_id) if ours and fault.name != "none" else None

    async def workers(self) -> AsyncIterator[Sighting]:
        await go_wrong(self._faults.next(self.name, "workers"), self.name)
        newest = time.time() - self._faults.seconds("list_lags")
        for record in await asyncio.to_thread(self._records.all_on, self.name):
            ours = record.line["federation_id"] == self._federation_id
            if ours and record.started <= newest:
                liveness = Liveness.DEAD if record.ended() else Liveness.ALIVE
                yield Sighting(handle=self._handle(record.line["worker_id"]), liveness=liveness)

    def worker(self, handle: Handle) -> Worker:
        if (handle.outpost, handle.kind) != (self.name, self.kind):
            said = f"{handle.worker_id} belongs to {handle.outpost}, not to {self.name}"
            raise Rejected(said, outpost=self.name)
        return VirtualWorker(handle, self._records, self._faults)

    async def destroy(self, handle: Handle) -> None:
        self.worker(handle)
        fault = self._faults.next(self.name, "destroy", handle.worker_id)
        await go_wrong(fault, self.name)
        if fault.name != "lost":
            self._records.destroy(self.name, handle.worker_id)

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="no machine at all")

    def _handle(self, worker_id: str) -> Handle:
        return Handle(outpost=self.name, kind=self.kind, worker_id=worker_id)


class VirtualWorker(Worker):
    """A worker that is a file."""

    def __init__(self, handle: Handle, records: Records, faults: FaultFile) -> None:
        self.id = handle.worker_id
        self.outpost = handle.outpost
        self._records = records
        self._faults = faults

    async def status(self) -> Observation:
        try:
            record = self._record()
        except OutpostFault as exc:
            return Observation(liveness=Liveness.UNSEEN, detail=exc.message)
        if record is None:
            return Observation(liveness=Liveness.ABSENT)
        return Observation(liveness=Liveness.DEAD if record.ended() else Liveness.ALIVE)

    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        record = self._record()
        while record:
            over = record.ended()
            events, due = record.told(after)
            for event in events:
                self._reach()
                after = event.seq
                event.time = self._faults.told(event.time)
                yield event
                if event.type == "result":
                    return
            if over or not follow:
                return
            # A mark that somebody sets meanwhile is seen soon enough.
            await asyncio.sleep(min(max(due - time.time(), SOON_S), LOOK_EVERY_S))
            self._reach()

    async def send(self, message: Message) -> None:
        raise Unsupported(f"nobody reads messages to {self.id}")

    async def stop(self, *, grace_s: float, reason: str) -> None:
        if record := self._record():
            record.mark("end", how="stopped", reason=reason)
            while not record.ended():
                await asyncio.sleep(SOON_S)

    async def recover(self, environment: Environment) -> bool:
        record = self._record()
        if record is None or not (end := record.ended()):
            return False
        if end.how == "dead":
            record.mark("rescue")
            await asyncio.sleep(LOOK_EVERY_S / 10)
        return any([event.type == "result" async for event in self.events()])

    async def unsaved(self) -> str:
        self._reach()
        return ""

    async def diff(self, options: Sequence[str]) -> bytes | None:
        self._reach()
        return None

    async def attach(self) -> Sequence[str]:
        raise Unsupported(f"{self.id} has no view")

    def _record(self) -> Record | None:
        self._reach()
        return self._records.on(self.outpost, self.id)

    def _reach(self) -> None:
        if why := self._faults.partition():
            raise unreachable(self.outpost, why)


def bring(folder: Path) -> str:
    """Bring the kind into ``folder``; return what a program's ``PYTHONPATH`` must hold for it."""
    bring_kind(folder, VirtualOutpost.kind, f"{__name__}:{VirtualOutpost.__name__}")
    return os.pathsep.join((str(folder), str(CHECKOUT)))

"""Workers in containers that nobody can reach, started as jobs and followed through a bucket.

The order lies in the bucket, the log comes there, messages go there: ``outpost.wire.jobs``. So
nobody needs to hold anything, and any process with the bucket can read and write. What was neither
pushed nor told when a container goes is lost with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from outpost.errors import Ambiguous, NotDispatched, OutpostFault, Rejected
from outpost.model import Handle, Liveness, Observation, Sighting
from outpost.ports import Clock, Outpost, Setup
from outpost.transports.cloud_job_folder import JobFolder
from outpost.transports.cloud_job_worker import JobWorker
from outpost.transports.gcs import Bucket, Changed
from outpost.transports.handles import check_owner
from outpost.transports.log_copy import LogCopy
from outpost.transports.tidying import leftover, named
from outpost.transports.variables import moving
from outpost.wire.jobs import Record, folder
from outpost.wire.orders import Environment, WorkOrder
from outpost.wire.tidying import Leftover, TidyOrder

START_S = 300.0
"""So long after it was asked for, a container of which nothing is known may still come."""
SETTLE_S = 5.0
"""So long whoever laid an order down has for having it run, before another one does."""
LOOKS_AT_ONCE = 16
LOOK_EVERY_S = 0.4
_WORKER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class JobOutpost(Outpost):
    """The part of an outpost of jobs that knows no provider of containers."""

    def __init__(self, setup: Setup, bucket: Bucket, clock: Clock) -> None:
        self.name = setup.name
        self.federation_id = setup.federation_id
        self.bucket = bucket
        self._clock = clock
        self._copies = Path(setup.data_folder) / "outposts" / setup.name / "workers"

    async def region(self) -> str:
        """Return where the next container is to run. Raises ``OutpostFault``."""
        raise NotImplementedError

    async def run(self, region: str, name: str) -> str:
        """Start a container for the order in a folder of the bucket; return what it is called.

        Raises ``Rejected`` or ``NotDispatched`` where none was started, and ``OutpostFault`` where
        one may have been.
        """
        raise NotImplementedError

    async def end_of(self, region: str, execution: str) -> str | None:
        """Say how a container ended; ``None``: it has not. Raises ``OutpostFault``."""
        raise NotImplementedError

    async def cancel(self, region: str, execution: str) -> None:
        """Have a container end: SIGTERM, and SIGKILL soon after. Raises ``OutpostFault``."""
        raise NotImplementedError

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        worker_id = order["worker_id"]
        handle, there = self.handle_of(worker_id), self.folder_of(worker_id)
        order = order.copy()
        order.pop("asked_at", None)
        try:
            record: Record = {
                "region": await self.region(),
                "asked_at": self._now_s(),
                "call": {
                    "worker_id": worker_id,
                    "after": 0,
                    "order": order,
                    "environment": moving(environment),
                },
            }
            generation = await there.write(record, 0)
        except Changed:
            # Whoever laid it down may have it run: from here on a fault is a doubt.
            found = await self._left_alone(there)
            if found is None:
                return handle
            record, generation = found
        except (NotDispatched, Rejected):
            raise
        except OutpostFault as exc:
            # An order that nobody was told of is carried out by nobody.
            raise NotDispatched(exc.message, outpost=self.name, hint=exc.hint) from exc
        await self._run(there, record, generation)
        return handle

    async def find(self, worker_id: str) -> Handle | None:
        found = await self.folder_of(worker_id).record()
        return self.handle_of(worker_id) if found else None

    async def workers(self) -> AsyncIterator[Sighting]:
        folders = await self.bucket.names(folder(self.federation_id), folders=True)
        found = [it.rstrip("/").rpartition("/")[2] for it in folders]
        # They become paths here, and agents can write to the bucket.
        names = [it for it in found if _WORKER_ID.fullmatch(it)]
        slots = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(name: str) -> Observation:
            async with slots:
                seen = await self.observe(name)
                if seen.liveness is Liveness.ABSENT and await self.folder_of(name).has_any():
                    # Nobody works on it any more; but it lies there, and is to be removed.
                    return Observation(liveness=Liveness.DEAD)
                return seen

        for name, seen in zip(names, await asyncio.gather(*map(look, names)), strict=True):
            if seen.liveness is not Liveness.ABSENT:
                yield Sighting(handle=self.handle_of(name), liveness=seen.liveness)

    def worker(self, handle: Handle) -> JobWorker:
        check_owner(self, handle)
        bucket = handle.data.get("bucket")
        if bucket != self.bucket.name:
            where = f"by way of the bucket {bucket}" if bucket else "in an instance of a service"
            raise Rejected(
                f"worker {handle.worker_id} was started {where}, and {self.name} is set up"
                f" for the bucket {self.bucket.name}",
                outpost=self.name,
                hint="set it up as it was until that worker has ended",
            )
        return JobWorker(self, handle.worker_id)

    async def destroy(self, handle: Handle) -> None:
        worker = self.worker(handle)
        if not await worker.has_ended():
            await worker.kill()
        await self.folder_of(handle.worker_id).remove()
        self.copy_of(handle.worker_id).remove()

    async def tidy(self, order: TidyOrder, handles: Sequence[Handle]) -> list[Leftover]:
        """Remove what lies in the bucket of workers; with their containers all else went."""
        ours = self.bucket.name
        elsewhere = {it.worker_id for it in handles if it.data.get("bucket") != ours}
        return [
            await self._taken(kind, name, dry_run=order["dry_run"])
            for kind, name in named(order)
            if name not in elsewhere
        ]

    async def close(self) -> None:
        await self.bucket.close()

    def handle_of(self, worker_id: str) -> Handle:
        """Return the handle of a worker here, whether or not there is one."""
        data = {"bucket": self.bucket.name}
        return Handle(outpost=self.name, kind=self.kind, worker_id=worker_id, data=data)

    def folder_of(self, worker_id: str) -> JobFolder:
        """Return what the bucket holds of a worker."""
        return JobFolder(self.bucket, folder(self.federation_id, worker_id), self.name)

    def copy_of(self, worker_id: str) -> LogCopy:
        """Return our copy of a worker's log: whole objects, as they are in the bucket."""
        return LogCopy(self._copies / worker_id)

    async def observe(self, worker_id: str) -> Observation:
        """Look at a worker once; never raises for what cannot be seen.

        The order of one that is dead is taken away: a container that comes late finds none.
        """
        there = self.folder_of(worker_id)
        try:
            found = await there.record()
            if found is None:
                return Observation(liveness=Liveness.ABSENT)
            record = found[0]
            # Its container may go on for a moment, but nothing of the worker does.
            if record.get("ended") or self.copy_of(worker_id).has_result:
                return Observation(liveness=Liveness.DEAD, detail=record.get("why", ""))
            if execution := record.get("execution"):
                why = await self.end_of(record["region"], execution)
                if why is None:
                    return Observation(liveness=Liveness.ALIVE)
            elif abs(self._now_s() - record["asked_at"]) < START_S:
                return Observation(liveness=Liveness.ALIVE, detail="its container has yet to start")
            else:
                why = "its container never started"
            if "call" in record and not await there.revoke(why):
                return Observation(liveness=Liveness.ALIVE)  # it has come just now
        except OutpostFault as exc:
            return Observation(liveness=Liveness.UNSEEN, detail=exc.message)
        return Observation(liveness=Liveness.DEAD, detail=why)

    async def _left_alone(self, there: JobFolder) -> tuple[Record, int] | None:
        """Return an order that somebody laid down and has nobody carry out; ``None``: it runs.

        Two containers for one order do no harm: one of them takes it, and the other ends.
        """
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            found = await there.record()
            if found is None:
                raise NotDispatched(f"{there.name} was removed meanwhile", outpost=self.name)
            if "call" not in found[0] or "execution" in found[0]:
                return None
            if asyncio.get_running_loop().time() > deadline:
                return found
            await asyncio.sleep(LOOK_EVERY_S)

    async def _run(self, there: JobFolder, record: Record, generation: int) -> None:
        try:
            execution = await self.run(record["region"], there.name)
        except (NotDispatched, Rejected):
            with contextlib.suppress(OutpostFault):
                await there.withdraw(generation)
            raise
        except OutpostFault as exc:
            raise Ambiguous(exc.message, outpost=self.name, hint=exc.hint) from exc
        # So that its end is seen should it never come to take the order; if it has, it says so.
        with contextlib.suppress(Changed, OutpostFault):
            await there.write({**record, "execution": execution}, generation)

    async def _taken(self, kind: str, name: str, *, dry_run: bool) -> Leftover:
        seen = await self.observe(name)
        kept = {Liveness.ALIVE: "it still runs", Liveness.UNSEEN: seen.detail}.get(seen.liveness)
        hint, size = "", self.copy_of(name).size()
        if not kept and not dry_run:
            try:
                await self.destroy(self.handle_of(name))
            except OutpostFault as exc:
                kept, hint = exc.message, exc.hint
        return leftover(kind, name, size=size, kept=kept or "", hint=hint)

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

"""What is known of an app's machines: one list, taken at most once a second, serves whoever asks.

Lists lag behind, and say so nowhere. So what was learnt of one machine by itself holds until a list
tells of something later, and that one is gone is believed only when it was asked for by its id.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from outpost.transports.fly_faults import ApiFault, Trouble
from outpost.transports.fly_machines import FlyMachines
from outpost.transports.fly_seen import Seen

FRESH_S = 1.0
LAG_S = 10.0
"""For so long a machine that was seen by itself may be missing in lists."""


class FlySight:
    """The machines that ``owns`` says are ours, as they were told of last."""

    def __init__(
        self, machines: FlyMachines, metadata: Mapping[str, str], owns: Callable[[Seen], bool]
    ) -> None:
        self._machines = machines
        self._metadata = metadata
        self._owns = owns
        self._seen: dict[str, Seen] = {}
        self._machine_of: dict[str, str] = {}
        self._gone: set[str] = set()
        self._listed_at = -math.inf
        self._listing = asyncio.Lock()

    async def all(self) -> list[Seen]:
        """Return all that are ours, as they were at most ``FRESH_S`` ago."""
        async with self._listing:
            now = asyncio.get_running_loop().time()
            if now - self._listed_at >= FRESH_S:
                self._take(await self._machines.list(self._metadata), now)
                self._listed_at = now
        return list(self._seen.values())

    async def of(self, worker_id: str) -> Seen | None:
        """Return the machine of a worker; ``None`` where it has none any more, or had none."""
        seen = self.known(worker_id)
        if seen is None or not _fresh(seen):
            await self.all()
            seen = self.known(worker_id)
        if seen is not None and _fresh(seen):
            return seen
        machine_id = seen.id if seen else self._machine_of.get(worker_id)
        return await self.look(machine_id) if machine_id else None

    async def look(self, machine_id: str) -> Seen | None:
        """Look at one machine itself; ``None`` where it is gone, or not ours."""
        if machine_id in self._gone:
            return None
        try:
            seen = await self._machines.get(machine_id)
        except ApiFault as exc:
            if exc.trouble is not Trouble.ABSENT:
                raise
            self.forget(machine_id)
            return None
        if seen.is_gone:
            self.forget(machine_id)
            return None
        seen = self._with_what_was_known(seen)
        if not self._owns(seen):
            if not seen.reachable:
                what = f"Fly cannot reach the host of {machine_id}, and does not say what it is"
                raise ApiFault(what, Trouble.FAILED)
            return None
        self.note(seen)
        return seen

    def known(self, worker_id: str) -> Seen | None:
        """Return what is remembered of a worker's machine; asks nobody."""
        found = [it for it in self._seen.values() if it.worker_id == worker_id]
        # There is one, unless somebody made two: then the one with its name is it.
        return min(found, key=lambda it: (it.name != worker_id, it.created_at), default=None)

    def note(self, seen: Seen) -> None:
        """Take note of a machine as it was just told of by itself."""
        if seen.id not in self._gone:
            self._seen[seen.id] = seen
            if seen.worker_id:
                self._machine_of[seen.worker_id] = seen.id

    def expect(self, worker_id: str, machine_id: str) -> None:
        """Take note of where a worker is, as somebody else has learnt it."""
        self._machine_of.setdefault(worker_id, machine_id)

    def had(self, worker_id: str) -> bool:
        """Whether a worker is known to have, or to have had, a machine."""
        return worker_id in self._machine_of

    def forget(self, machine_id: str) -> None:
        """Take note that a machine is gone; ids are not used twice."""
        self._gone.add(machine_id)
        self._seen.pop(machine_id, None)

    def _take(self, listed: list[Seen], began_at: float) -> None:
        taken = {}
        for told in listed:
            seen = self._with_what_was_known(told)
            if seen.is_gone:
                self._gone.add(seen.id)
            if seen.id not in self._gone and self._owns(seen):
                before = self._seen.get(seen.id, seen)
                taken[seen.id] = before if before.updated_at > seen.updated_at else seen
        for seen in self._seen.values():
            if seen.id not in self._gone and seen.seen_at > began_at - LAG_S:
                taken.setdefault(seen.id, seen)
        self._seen = taken

    def _with_what_was_known(self, seen: Seen) -> Seen:
        """Return a machine with what Fly does not tell while its host does not answer."""
        before = self._seen.get(seen.id)
        if seen.reachable or before is None:
            return seen
        return replace(before, state=seen.state, reachable=False, seen_at=seen.seen_at)


def _fresh(seen: Seen) -> bool:
    return asyncio.get_running_loop().time() - seen.seen_at < FRESH_S

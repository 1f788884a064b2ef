"""The end of machines: destroyed and seen to be gone, or stopped since they are too old."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime

from outpost.backends.fly_machine import STOP_S
from outpost.backends.fly_making import FlyMaker
from outpost.transports.fly_faults import ApiFault, Trouble
from outpost.transports.fly_machines import FlyMachines
from outpost.transports.fly_seen import STARTED, Seen
from outpost.transports.fly_sight import FlySight

REMOVE_S = 60.0
AGAIN_S = 10.0
"""After so long a machine that is still there is destroyed once more."""
PAUSE_LEAST_S, PAUSE_MOST_S = 0.05, 1.0
KEPT_S = 3600.0
"""How long a machine is left alone that was found to be needed still."""
WOKEN_S = 600.0
"""How long one runs, at least, that somebody starts once its worker has ended."""
_HOPELESS = (Trouble.REFUSED, Trouble.NO_APP, Trouble.INVALID, Trouble.UNREACHED)


class FlyEnding:
    """Ends the machines of one outpost; ``ttl_s`` is how old they get."""

    def __init__(
        self, machines: FlyMachines, sight: FlySight, maker: FlyMaker, ttl_s: float
    ) -> None:
        self._machines = machines
        self._sight = sight
        self._maker = maker
        self._ttl_s = ttl_s
        self._kept_until: dict[str, float] = {}

    async def destroy(self, seen: Seen) -> None:
        """Destroy a machine with its volumes; returns once it is seen to be gone.

        Raises ``ApiFault`` where that does not come, however often it was tried.
        """
        clock = asyncio.get_running_loop().time
        deadline, ask_at, pause_s, why = clock() + REMOVE_S, 0.0, PAUSE_LEAST_S, ""
        while True:
            try:
                if clock() >= ask_at:
                    await self._machines.delete(seen.id)
                    ask_at = clock() + AGAIN_S
                if await self._sight.look(seen.id) is None:
                    break
            except ApiFault as exc:
                if exc.trouble is Trouble.ABSENT:
                    self._sight.forget(seen.id)
                    break
                if exc.trouble in _HOPELESS:
                    raise
                why, ask_at = f": {exc.message}", 0.0
            if clock() > deadline:
                what = f"{seen.id} is still there {REMOVE_S:g} s after it was to go{why}"
                hint = f"fly machine destroy --force {seen.id} --app {self._machines.app}"
                raise ApiFault(what, Trouble.FAILED, hint=hint)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MOST_S)
        for volume in seen.volumes:
            await self._delete_volume(volume, deadline)

    async def end_old(self, living: Collection[str]) -> tuple[list[str], ApiFault | None]:
        """Stop machines that are too old; the work of workers that live is saved by that.

        Returns the workers of those that have ended and may go, if nothing is lost by it, and
        what stood in the way of the first that could not be stopped.
        """
        now = asyncio.get_running_loop().time()
        ended: list[str] = []
        trouble: ApiFault | None = None
        for seen in await self._sight.all():
            if not seen.worker_id or not self._is_old(seen):
                continue
            lives = seen.worker_id in living
            if seen.state == STARTED and (lives or not self._was_woken(seen)):
                try:
                    await self._machines.stop(seen.id, STOP_S)
                except ApiFault as exc:
                    trouble = trouble or exc
            elif not lives and seen.has_ended and self._kept_until.get(seen.worker_id, 0.0) <= now:
                ended.append(seen.worker_id)
        return ended, trouble

    def keep(self, worker_id: str) -> None:
        """Take note that a machine has to stay for now."""
        self._kept_until[worker_id] = asyncio.get_running_loop().time() + KEPT_S

    def _is_old(self, seen: Seen) -> bool:
        return (self._now() - seen.since).total_seconds() > self._ttl_s

    def _was_woken(self, seen: Seen) -> bool:
        """Whether somebody has started it of late, to read what is in it."""
        began_at = seen.runs[-1].began_at if seen.runs else 0.0
        return self._now().timestamp() - began_at < WOKEN_S

    def _now(self) -> datetime:
        # By Fly's own clock: by ours, if that is wrong, all would be too old at once.
        return self._machines.told_at or datetime.now(UTC)

    async def _delete_volume(self, volume: str, deadline: float) -> None:
        """Destroy a volume; one that does not go is swept later."""
        while True:
            try:
                await self._maker.delete_volume(volume)
            except ApiFault as exc:
                late = asyncio.get_running_loop().time() > deadline
                if exc.trouble is not Trouble.STATE or late:
                    return
            else:
                return
            await asyncio.sleep(PAUSE_MOST_S)

"""Having a worker's machine be there and run: one that waits, a new one, or the one it has."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from outpost.backends.fly_ending import FlyEnding
from outpost.backends.fly_making import FlyMaker, Wanted
from outpost.backends.fly_pool import FlyPool
from outpost.transports.fly_faults import ApiFault, Trouble
from outpost.transports.fly_machines import FlyMachines
from outpost.transports.fly_seen import STARTED, Seen, how_it_is
from outpost.transports.fly_sight import FlySight

BOOT_S = 300.0
"""How long a new machine may take until it runs: Fly fetches its image first."""
WAIT_S = 10.0
"""How long one question whether it runs by now is held open: one that failed says so to a look."""
WAKE_S = 60.0
NAME_S = 10.0
"""How long a name stays taken of a machine that is gone."""
PAUSE_S = 0.5
LOCK_POLL_S = 0.02
_AT_REST = ("stopped", "suspended")
_NOT_YET = (Trouble.ABSENT, Trouble.FAILED, Trouble.UNREACHED, Trouble.RATE)
"""What a question whether a machine runs may meet with: a look at it says more."""


class FlyStarter:
    """Starts the machines of one outpost; without a ``pool`` none wait."""

    def __init__(
        self,
        machines: FlyMachines,
        sight: FlySight,
        maker: FlyMaker,
        ending: FlyEnding,
        pool: FlyPool | None,
    ) -> None:
        self._machines = machines
        self._sight = sight
        self._maker = maker
        self._ending = ending
        self._pool = pool

    async def provide(self, wanted: Wanted, folder: Path) -> None:
        """Have a worker's machine run, or rest with what it did.

        Raises ``ApiFault``; of those ``LOST`` alone says that there may be one. ``TAKEN``: there
        is a stranger of its name. ``folder`` is the worker's own on this machine.
        """
        if self._pool is None:
            seen, fresh = await self._made(wanted)
        else:
            # A claim has no name that Fly would refuse a second time.
            async with _alone(folder):
                seen, fresh = await self._got(wanted, self._pool)
        try:
            await self._come_up(seen, fresh=fresh)
        except _NothingLeft:
            raise
        except ApiFault as exc:
            exc.trouble = Trouble.LOST
            raise

    async def wake(self, seen: Seen) -> None:
        """Start a machine that rests, and wait until it runs. Raises ``ApiFault``."""
        deadline = asyncio.get_running_loop().time() + WAKE_S
        while True:
            try:
                await self._machines.start(seen.id)
                break
            except ApiFault as exc:
                # Somebody has it for a moment, or it has only just stopped.
                if exc.trouble not in (Trouble.HELD, Trouble.STATE):
                    raise
                now = await self._sight.look(seen.id)
                late = asyncio.get_running_loop().time() > deadline
                if now is None or late:
                    raise
                if now.state == STARTED:
                    return
            await asyncio.sleep(PAUSE_S)
        await self._machines.wait(seen.id, STARTED, WAKE_S)
        await self._sight.look(seen.id)

    async def _got(self, wanted: Wanted, pool: FlyPool) -> tuple[Seen, bool]:
        worker_id = wanted.name
        seen = await self._sight.of(worker_id) or await pool.claim(wanted.metadata)
        return (seen, False) if seen else await self._made(wanted)

    async def _made(self, wanted: Wanted) -> tuple[Seen, bool]:
        """Return the machine of a name, and whether it was made just now."""
        deadline = asyncio.get_running_loop().time() + NAME_S
        while True:
            try:
                seen = await self._maker.make(wanted)
            except ApiFault as exc:
                if exc.trouble is not Trouble.TAKEN:
                    raise
                if adopted := await self._adopted(wanted, exc):
                    return adopted, False
                if asyncio.get_running_loop().time() > deadline:
                    exc.trouble = Trouble.FAILED
                    raise
                await asyncio.sleep(PAUSE_S)
            else:
                self._sight.note(seen)
                return seen, True

    async def _adopted(self, wanted: Wanted, taken: ApiFault) -> Seen | None:
        """Return the machine that has our name, ``None`` where it is going; strangers raise."""
        if not taken.machine_id:
            return await self._sight.of(wanted.name)
        try:
            seen = await self._sight.look(taken.machine_id)
            other = None if seen else await self._machines.get(taken.machine_id)
        except ApiFault as exc:
            if exc.trouble is Trouble.ABSENT:
                return None
            exc.trouble = Trouble.LOST
            raise
        if other and not other.is_gone and other.state != "destroying":
            taken.message = f"there is a machine called {wanted.name} that is not ours"
            taken.hint = f"fly machine status {other.id} --app {self._machines.app}"
            raise taken
        return None if seen is None or seen.state == "destroying" else seen

    async def _come_up(self, seen: Seen, *, fresh: bool) -> None:
        """Wait until a machine runs. One just made that does not is taken away again."""
        deadline = asyncio.get_running_loop().time() + BOOT_S
        now: Seen | None = seen
        while now is not None and now.state != STARTED:
            late = asyncio.get_running_loop().time() > deadline
            if late or now.has_ended or now.state in _AT_REST:
                if fresh:
                    await self._give_up(now)
                return
            now = await self._waited_for(now)
        if now is None:
            raise _NothingLeft(f"{seen.id} was gone before it ran", Trouble.FAILED)

    async def _waited_for(self, seen: Seen) -> Seen | None:
        """Return a machine as it is once it runs, or after a while; ``None``: it is gone."""
        try:
            if not await self._machines.wait(seen.id, STARTED, WAIT_S):
                await asyncio.sleep(PAUSE_S)
        except ApiFault as exc:
            if exc.trouble not in _NOT_YET:
                raise
            await asyncio.sleep(PAUSE_S)
        return await self._sight.look(seen.id)

    async def _give_up(self, seen: Seen) -> None:
        why = how_it_is(seen) or "it ended at once"
        await self._ending.destroy(seen)
        what = f"its machine in {seen.region} did not start: {why}"
        hint = f"fly logs --app {self._machines.app}: what its image printed may be there"
        raise _NothingLeft(what, Trouble.FAILED, hint=hint)


class _NothingLeft(ApiFault):
    """A machine did not come up, and is seen to be gone."""


@contextlib.asynccontextmanager
async def _alone(folder: Path) -> AsyncGenerator[None]:
    """Have nobody else on this machine start the same worker meanwhile."""
    fd = _opened(folder)
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            await asyncio.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(fd)


def _opened(folder: Path) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(folder / "claim", os.O_RDWR | os.O_CREAT, 0o600)

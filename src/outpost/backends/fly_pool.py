"""Machines made ahead: they wait, stopped or suspended, until a worker needs one.

One is claimed under a lease, and it is the worker's once its metadata say so. Whoever finds that
somebody else was quicker takes the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from outpost.backends.fly_machine import Owner, spec_of
from outpost.backends.fly_making import FlyMaker, Wanted
from outpost.backends.fly_options import FlyOptions
from outpost.transports.fly_faults import ApiFault, Trouble
from outpost.transports.fly_machines import FlyMachines
from outpost.transports.fly_seen import SINCE, STARTED, WARM, Seen
from outpost.transports.fly_sight import FlySight

LEASE_S = 30
RELEASE_S = 5.0
REST_S = 300.0
"""How long the pool is left as it is after a machine of it did not come to be."""
_READY = ("suspended", "stopped", STARTED)
_COMING = ("created", "creating", "starting", "stopping", "suspending")
_LOSING = (Trouble.HELD, Trouble.STATE, Trouble.ABSENT, Trouble.FULL, Trouble.FAILED)
"""What makes a machine of the pool no good for a worker, and another one may be."""


class FlyPool:
    """The machines of one outpost that wait. ``token_of`` returns a machine's token by its name."""

    def __init__(
        self,
        machines: FlyMachines,
        sight: FlySight,
        owner: Owner,
        options: FlyOptions,
        token_of: Callable[[str], str],
    ) -> None:
        self._machines = machines
        self._sight = sight
        self._owner = owner
        self._options = options
        self._maker = FlyMaker(machines, owner, options)
        self._token_of = token_of
        self._spec = spec_of(options)
        self._claiming: set[str] = set()
        self._rest_until = 0.0

    async def claim(self, metadata: Mapping[str, str]) -> Seen | None:
        """Make a machine that waits a worker's and start it; ``None`` where there is none.

        Raises ``ApiFault``: ``LOST`` where one may be the worker's now.
        """
        waiting = [it for it in await self._sight.all() if self._waits(it)]
        for seen in sorted(waiting, key=_soonest):
            if seen.id in self._claiming or not await self._is_ready(seen):
                continue
            self._claiming.add(seen.id)
            try:
                if claimed := await self._claim(seen.id, metadata):
                    return claimed
            finally:
                self._claiming.discard(seen.id)
        return None

    async def tend(self) -> None:
        """Have as many wait as are wanted, of the make that is wanted. Raises ``ApiFault``."""
        waiting = [it for it in await self._sight.all() if not it.worker_id]
        good = [it for it in waiting if self._waits(it)]
        failed = [it for it in waiting if it.has_ended and it.state != "stopped"]
        kept = sorted(good, key=lambda it: it.name)[: self._options.warm]
        for seen in waiting:
            if seen not in kept:
                await self._dismiss(seen)
            elif seen.state == STARTED and self._options.warm_state == "suspended":
                await self._suspend(seen)
        if failed:
            self._rest()
            what = f"a machine made ahead has {failed[0].state}"
            raise ApiFault(what, Trouble.FAILED, hint=f"fly machine status {failed[0].id}")
        await self._fill(self._options.warm - len(kept))

    async def _fill(self, number: int) -> None:
        if asyncio.get_running_loop().time() < self._rest_until:
            return
        for _ in range(number):
            name = f"warm-{secrets.token_hex(6)}"
            wanted = Wanted(
                name=name,
                metadata={**self._owner.metadata, WARM: self._spec},
                token=self._token_of(name),
                # One that is to be suspended has to run for that.
                launch=self._options.warm_state == "suspended",
            )
            try:
                self._sight.note(await self._maker.make(wanted))
            except ApiFault:
                self._rest()
                raise

    def _rest(self) -> None:
        self._rest_until = asyncio.get_running_loop().time() + REST_S

    def _waits(self, seen: Seen) -> bool:
        """Whether a machine waits, or soon will, and is of the make that is wanted now."""
        if seen.worker_id or seen.metadata.get(WARM) != self._spec or not seen.reachable:
            return False
        return seen.state in _READY or seen.state in _COMING

    async def _is_ready(self, seen: Seen) -> bool:
        """Whether a machine can be started; one that could not be a moment ago is looked at."""
        if seen.state in _READY:
            return True
        now = await self._sight.look(seen.id)
        return now is not None and now.state in _READY

    async def _claim(self, machine_id: str, metadata: Mapping[str, str]) -> Seen | None:
        try:
            async with self._leased(machine_id) as nonce:
                seen = await self._machines.get(machine_id)
                if not self._waits(seen) or seen.state not in _READY:
                    self._sight.note(seen)
                    return None
                return await self._take(seen, nonce, metadata)
        except _Doubtful:
            raise
        except ApiFault as exc:
            # It is as it was: another one may do, or a new one.
            if exc.trouble is Trouble.REFUSED:
                raise
            return None

    async def _take(self, seen: Seen, nonce: str, metadata: Mapping[str, str]) -> Seen | None:
        since = self._machines.told_at or datetime.now(UTC)
        new = {key: it for key, it in metadata.items() if seen.metadata.get(key) != it}
        marks = {**new, SINCE: str(int(since.timestamp()))}
        try:
            if not await self._started(seen, nonce, marks):
                return None
        except ApiFault as exc:
            raise _Doubtful(exc.message, Trouble.LOST, hint=exc.hint) from exc
        try:
            return await self._sight.look(seen.id)
        except ApiFault:
            # It is the worker's, whatever Fly does not say of it a moment later.
            claimed = replace(seen, state="starting", metadata={**seen.metadata, **marks})
            self._sight.note(claimed)
            return claimed

    async def _started(self, seen: Seen, nonce: str, marks: Mapping[str, str]) -> bool:
        """Mark a machine as a worker's and start it; whether that could be done."""
        try:
            await self._machines.mark(seen.id, marks, nonce)
            if seen.state != STARTED:
                await self._machines.start(seen.id, nonce)
        except ApiFault as exc:
            if exc.trouble not in _LOSING:
                raise
            await self._machines.mark(seen.id, dict.fromkeys(marks, ""), nonce)
            return False
        return True

    async def _dismiss(self, seen: Seen) -> None:
        """Destroy one that waits for nothing any more, unless somebody is just claiming it."""
        with contextlib.suppress(_Busy):
            async with self._unclaimed(seen.id) as nonce:
                await self._machines.delete(seen.id, nonce)
                self._sight.forget(seen.id)
                for volume in seen.volumes:
                    with contextlib.suppress(ApiFault):  # else it is swept
                        await self._maker.delete_volume(volume)

    async def _suspend(self, seen: Seen) -> None:
        with contextlib.suppress(_Busy):
            async with self._unclaimed(seen.id) as nonce:
                await self._machines.suspend(seen.id, nonce)

    @contextlib.asynccontextmanager
    async def _unclaimed(self, machine_id: str) -> AsyncGenerator[str]:
        """Hold a machine that is no worker's; raises ``_Busy`` where it is one's, or is leased."""
        try:
            async with self._leased(machine_id) as nonce:
                if (await self._machines.get(machine_id)).worker_id:
                    raise _Busy
                yield nonce
        except ApiFault as exc:
            if exc.trouble not in _LOSING:
                raise
            raise _Busy from exc

    @contextlib.asynccontextmanager
    async def _leased(self, machine_id: str) -> AsyncGenerator[str]:
        nonce = await self._machines.lease(machine_id, LEASE_S)
        try:
            yield nonce
        finally:
            # One that cannot be given back ends by itself.
            with contextlib.suppress(ApiFault, TimeoutError):
                async with asyncio.timeout(RELEASE_S):
                    await self._machines.release(machine_id, nonce)


def _soonest(seen: Seen) -> tuple[int, str]:
    """What machines are sorted by: those first that start soonest."""
    ready = _READY.index(seen.state) if seen.state in _READY else len(_READY)
    return ready, seen.name


class _Doubtful(ApiFault):
    """A machine may be a worker's by now, or may not."""


class _Busy(Exception):
    """Somebody else does something with it, or it is gone."""

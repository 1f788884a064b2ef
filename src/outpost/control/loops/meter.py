"""Billing ended workers for what their providers meter, where those tell."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from outpost.control.loops import Leased, Loop
from outpost.errors import OutpostFault
from outpost.model import Charge

if TYPE_CHECKING:
    from outpost.ports import Clock, Outpost, Store

EVERY_S = 15.0
PATIENCE = timedelta(hours=2)
"""So long after its end a worker's place is asked; then what we counted ourselves holds."""


class Meter(Loop):
    """Asks those of ``outposts`` (by name) that are ours for how long each ended worker is billed.

    A place goes on a little longer than its worker, and begins a little later than its slot was
    claimed: until its provider has the last word, a worker's bill is what we counted.
    """

    name: ClassVar[str] = "meter"

    def __init__(
        self, store: Store, clock: Clock, outposts: Mapping[str, Outpost], *, leased: Leased
    ) -> None:
        super().__init__()
        self.every_s = EVERY_S
        self._store = store
        self._clock = clock
        self._outposts = outposts
        self._leased = leased
        self._settled: set[str] = set()

    async def round(self) -> None:
        """Ask for all that have ended of late and are not settled yet."""
        since = self._clock.now() - PATIENCE
        charges = {it.attempt_id: it for it in await self._store.charges(since=since)}
        self._settled &= charges.keys()
        ours = [it for it in charges.values() if it.ended_at and self._is_ours(it)]
        waiting = [it for it in ours if it.attempt_id not in self._settled]
        for charge in waiting:
            with contextlib.suppress(OutpostFault):
                await self._ask(charge)
        self.waiting = sum(it.attempt_id not in self._settled for it in waiting)
        self.doing = f"{self.waiting} not settled yet" if self.waiting else ""

    def _is_ours(self, charge: Charge) -> bool:
        return charge.outpost in self._outposts and self._leased.mine(charge.outpost)

    async def _ask(self, charge: Charge) -> None:
        attempts = await self._store.attempts_of(charge.task_id)
        handle = next((it.handle for it in attempts if it.id == charge.attempt_id), None)
        told = await self._outposts[charge.outpost].metered(handle) if handle else None
        if told is not None:
            await self._store.note_metered(charge.attempt_id, told.seconds)
        if told is None or told.final:
            self._settled.add(charge.attempt_id)

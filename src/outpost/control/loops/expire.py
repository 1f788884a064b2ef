"""Ending what is over: its time, its money, or the patience with a worker that nobody can see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from outpost.control.deadlines import ASKED, Act, Due, View, due, extended
from outpost.control.loops import Leased, Loop, about
from outpost.control.loops.beside import Beside
from outpost.control.loops.leases import PREFIX
from outpost.control.spending import Spending
from outpost.errors import NotFound, OutpostError
from outpost.model import Attempt, Charge

if TYPE_CHECKING:
    from outpost.config.models import ControllerConfig
    from outpost.ports import Outpost

EVERY_S = 1.0
METERED_S = 60.0
"""How long an outpost may take to say what it bills, whatever deadlines it keeps by itself."""

logger = logging.getLogger("outpost.controller.expire")


class Expire(Loop):
    """Stops and gives up workers on our outposts, and gives up those that nobody looks after.

    ``stop`` ends a worker and says so in the store first. ``give_up`` stores an attempt as lost,
    unless it can be seen after all, and has its task tried again where that is allowed. A stop
    takes as long as its worker needs to save its work: it goes on beside the rounds, once for each
    worker. Whose time seems to be over has it extended by as long as its provider billed nothing.
    """

    name: ClassVar[str] = "expire"

    def __init__(
        self,
        spending: Spending,
        *,
        outposts: Callable[[str], Outpost],
        leased: Leased,
        settings: ControllerConfig,
        stop: Callable[[Attempt, str], Awaitable[object]],
        give_up: Callable[[Attempt, str], Awaitable[object]],
    ) -> None:
        super().__init__()
        self.every_s = EVERY_S
        self._spending = spending
        self._store = spending.store
        self._clock = spending.clock
        self._outposts = outposts
        self._leased = leased
        self._settings = settings
        self._stop = stop
        self._give_up = give_up
        self._charges: dict[str, Charge | None] = {}
        self._asked_at: dict[str, datetime] = {}
        self._extended: dict[str, datetime] = {}
        self._unasked_since: dict[str, datetime] = {}
        self._beside = Beside()

    async def round(self) -> None:
        """Begin what is due now; what it waits for does not hold up the next round."""
        attempts = await self._store.attempts()
        abandoned = await self._abandoned({attempt.outpost for attempt in attempts})
        ours = [it for it in attempts if self._leased.mine(it.outpost) or it.outpost in abandoned]
        now = self._clock.now()
        self._asked_at = {it.id: self._asked_at.get(it.id, now) for it in ours if it.stop_asked}
        self._extended = _of(ours, self._extended)
        self._unasked_since = _of(ours, self._unasked_since)
        lost_after_s = self._settings.lost_after_s
        view = View(
            now=now,
            charges=await self._charged(ours),
            used_up=await self._spending.used_up(ours),
            asked_at=self._asked_at,
            abandoned=abandoned,
            extended=self._extended,
            lost_after=None if lost_after_s is None else timedelta(seconds=lost_after_s),
        )
        acts = {it.attempt.id: partial(self._act, it) for it in due(ours, view)}
        self._beside.keep_at(acts)
        self.doing = self._said()

    async def close(self) -> None:
        """Let go of the stops that go on: what was asked of workers stands in the store."""
        await self._beside.close()

    async def _abandoned(self, outposts: set[str]) -> set[str]:
        """Return those of these outposts that we do not know and no controller looks after."""
        unknown = {name for name in outposts if not self._leased.mine(name)}
        unknown = {name for name in unknown if not self._is_configured(name)}
        if not unknown:
            return set()
        return unknown - {it.name.removeprefix(PREFIX) for it in await self._store.leases()}

    def _is_configured(self, name: str) -> bool:
        try:
            self._outposts(name)
        except NotFound:
            return False
        return True

    async def _charged(self, attempts: list[Attempt]) -> dict[str, Charge | None]:
        """Return what these are charged: price and time held never change, so each is read once."""
        ids = {attempt.id for attempt in attempts}
        if not ids <= self._charges.keys():
            read = {charge.attempt_id: charge for charge in await self._store.charges()}
            self._charges = {name: read.get(name) for name in ids}
        return self._charges

    async def _act(self, said: Due) -> None:
        attempt = said.attempt
        where = about(attempt)
        if said.by_the_clock and await self._extend(attempt):
            return
        logger.info("%s %s: %s", said.act, attempt.id, said.reason, extra=where)
        try:
            if said.act is Act.STOP:
                await self._stop(attempt, said.reason)
            else:
                await self._give_up(attempt, said.reason)
        except OutpostError as exc:
            logger.warning("cannot %s %s: %s", said.act, attempt.id, exc.message, extra=where)
            raise

    async def _extend(self, attempt: Attempt) -> bool:
        """Give a worker the time for which it was not billed; ``False``: it had none, or who knows.

        It need not be asked again before that is over, as a bill grows no faster than time.
        """
        charge = self._charges.get(attempt.id)
        if charge is None or attempt.handle is None:
            return False
        try:
            outpost = self._outposts(attempt.outpost)
            if not outpost.capabilities.metered:
                return False
            async with asyncio.timeout(METERED_S):
                told = await outpost.metered(attempt.handle)
        except (NotFound, TimeoutError):
            return False
        except OutpostError:
            # A machine that has just woken may have no network yet, and a wish to stop stands.
            now = self._clock.now()
            if now - self._unasked_since.setdefault(attempt.id, now) < ASKED:
                raise
            return False
        self._unasked_since.pop(attempt.id, None)
        # Of one that was never billed nobody knows that it ever will be.
        if told is None or not told.seconds:
            return False
        until = extended(charge, told.seconds, self._clock.now())
        if until is not None:
            self._extended[attempt.id] = until
        return until is not None

    def _said(self) -> str:
        troubles = [f"cannot end {name}: {why}" for name, why in self._beside.troubles.items()]
        going = [f"ending {self._beside.running}"] if self._beside.running else []
        return "; ".join(going + troubles[:1])


def _of(attempts: Sequence[Attempt], known: Mapping[str, datetime]) -> dict[str, datetime]:
    """Return what is known of these attempts only."""
    return {it.id: known[it.id] for it in attempts if it.id in known}

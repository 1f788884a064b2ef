"""Making the loops of one federation, each with no more than it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outpost.control.loops.dispatch import Dispatch
from outpost.control.loops.duties import CarryOut
from outpost.control.loops.leases import Leases
from outpost.control.loops.running import Running
from outpost.control.loops.supervise import Supervise

if TYPE_CHECKING:
    from outpost.control.parts import Ground, Parts


async def build(ground: Ground, parts: Parts, holder: str) -> Running:
    """Return all loops, ready to run. ``holder`` is what this controller calls itself."""
    store, clock = ground.store, ground.clock
    given = ground.config.controller
    configured = [it.name for it in ground.config.outposts if it.installed]
    follower = await parts.follower()
    leases = Leases(store, holder, lambda: configured)
    duties = CarryOut(parts.duties)

    def ended() -> None:
        dispatch.wake.set()
        duties.wake.set()

    supervise = Supervise(follower, leased=leases, silent_after_s=given.silent_after_s, ended=ended)
    dispatch = Dispatch(store, parts.queue, supervise.wake.set)
    woken = (supervise, dispatch, duties)
    return Running((leases, supervise, dispatch, duties), clock=clock, store=store, on_change=woken)

"""Making the loops of one federation, each with no more than it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outpost.control.loops.dispatch import Dispatch
from outpost.control.loops.duties import CarryOut
from outpost.control.loops.expire import Expire
from outpost.control.loops.leases import Leases
from outpost.control.loops.meter import Meter
from outpost.control.loops.reconcile import Reconcile
from outpost.control.loops.running import Running
from outpost.control.loops.supervise import Supervise
from outpost.control.loops.sweep import Sweep
from outpost.control.loops.tend import Tend

if TYPE_CHECKING:
    from outpost.control.parts import Whole


async def build(whole: Whole, holder: str) -> Running:
    """Return all loops, ready to run. ``holder`` is what this controller calls itself."""
    store, clock, parts = whole.store, whole.clock, whole.parts
    parts.stays = True
    given = whole.config.controller
    configured = [it.name for it in whole.config.outposts]
    sites = await parts.sites()
    follower = await parts.follower()
    leases = Leases(store, holder, configured)
    duties = CarryOut(parts.duties)

    def ended() -> None:
        dispatch.wake.set()
        duties.wake.set()

    supervise = Supervise(follower, leased=leases, silent_after_s=given.silent_after_s, ended=ended)
    dispatch = Dispatch(store, parts.queue, supervise.wake.set)
    expire = Expire(
        parts.spending,
        outposts=sites.backend,
        leased=leases,
        settings=given,
        stop=(await parts.stopper()).stop,
        give_up=follower.give_up,
    )
    reconcile = Reconcile(
        await parts.reconciler(), clock, leased=leases, orphan_grace_s=given.orphan_grace_s
    )
    outposts = {name: sites.backend(name) for name in configured}
    tended = {name: it for name, it in outposts.items() if it.capabilities.tended}
    metered = {name: it for name, it in outposts.items() if it.capabilities.metered}
    return Running(
        (
            *(leases, supervise, dispatch, duties, expire, reconcile),
            Sweep(whole, leased=leases),
            *([Tend(store, clock, tended, leased=leases)] if tended else ()),
            *([Meter(store, clock, metered, leased=leases)] if metered else ()),
        ),
        clock=clock,
        store=store,
        on_change=(supervise, dispatch, duties),
    )

"""The outposts and the workers: who can take work, what died, what was left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from outpost.control.checks import Check, Level, fixed, problem, warning, well
from outpost.control.foreseen import as_fault_of
from outpost.control.health import ask
from outpost.errors import OutpostFault, Unsupported
from outpost.model import Attempt, State

if TYPE_CHECKING:
    from outpost.control.follow import Follower
    from outpost.control.situation import Site
    from outpost.ports import Outpost, Store
    from outpost.wire.tidying import Leftover, TidyOrder

LEFT_BEHIND_S = 3600.0
FIX = "outpost doctor --fix"
CLOCK_SLACK = timedelta(minutes=2)
KINDS = {
    "session": ("the view of {name}, which is dead, is still open", "closed the view of {name}"),
    "secrets": ("{path} holds secrets that nobody will read", "removed {path}, with its secrets"),
    "scrap": ("{path} was never finished", "removed {path}, which was never finished"),
    "mode": ("{path} can be opened by others (mode {detail})", "shut {path} for others"),
}
"""What is looked for at each outpost, as it is said before and after it was mended."""


async def check_outpost(site: Site) -> Check:
    """Say whether an outpost can take work, and if not, what it lacks."""
    health = await ask(site)
    if not health.ok:
        return problem(site.name, f"{site.name}: {health.detail}", health.hint)
    price = site.quote(None)
    if price.microusd_per_hour is None and not site.allow_unpriced:
        what = f"{site.name} gets no work, as its price is not known ({price.source})"
        return problem(site.name, what, "set its price_hourly, or allow_unpriced: true")
    more = f": {health.detail}" if health.detail else ""
    return well(site.name, f"{site.name} can take work{more}")


async def check_place(
    site: Site, programs: Mapping[str, str], *, leftovers: bool, fix: bool
) -> list[Check]:
    """Look at an outpost, and if it answers at what is there, and what died there.

    ``programs`` are those that agents start, each with how to get it.
    """
    first = await check_outpost(site)
    is_well = first.level is Level.OK
    found = await check_agents_there(site.outpost, programs) if is_well else []
    if leftovers:
        left = await check_leftovers(site.outpost, fix=fix)
        # What does not answer has been told of already.
        found += [check for check in left if is_well or check.about != site.name]
    return [first, *found]


async def check_agents_there(outpost: Outpost, programs: Mapping[str, str]) -> list[Check]:
    """Find the agents' programs that an outpost of another machine has not."""
    name = outpost.name
    try:
        with as_fault_of(name):
            lacking = await outpost.lacking(list(programs))
    except OutpostFault as exc:
        return [problem(name, f"{name}: {exc.message}", exc.hint)]
    return [
        warning(
            name, f"{name}: {program} is not installed there", f"on {name}: {programs[program]}"
        )
        for program in lacking
    ]


async def check_leftovers(outpost: Outpost, *, fix: bool) -> list[Check]:
    """Find, and with ``fix`` remove, what died and left something behind."""
    order: TidyOrder = {
        "kinds": list(KINDS),
        "dry_run": not fix,
        "workers": [],
        "orphans": [],
        "grace_s": LEFT_BEHIND_S,
        "cache_idle_s": 0.0,
    }
    try:
        with as_fault_of(outpost.name):
            leftovers = await outpost.tidy(order, [])
    except Unsupported:
        return []
    except OutpostFault as exc:
        return [problem(outpost.name, f"{outpost.name}: {exc.message}", exc.hint)]
    return [_leftover(leftover, fix=fix) for leftover in leftovers]


def _leftover(leftover: Leftover, *, fix: bool) -> Check:
    before, after = KINDS[leftover["kind"]]
    words = {key: leftover[key] for key in ("name", "path", "detail")}
    if leftover["kept"]:
        detail = f"{before.format(**words)}: {leftover['kept']}"
        return warning(leftover["name"], detail, leftover["hint"])
    if fix:
        return fixed(leftover["name"], after.format(**words))
    return warning(leftover["name"], before.format(**words), FIX)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerChecks:
    """Looks at the workers of a store."""

    store: Store
    follower: Follower
    now: datetime

    async def check(self, *, fix: bool) -> list[Check]:
        """Find the lost, and with ``fix`` save what they did."""
        active = await self.store.attempts()
        known = await self.store.attempts(ended=True)
        lost = [attempt for attempt in known if attempt.state is State.LOST]
        act = self.follower.refresh if fix else self.follower.look
        seen = await asyncio.gather(*map(act, active))
        again = await asyncio.gather(*(map(self.follower.refresh, lost) if fix else ()))
        before = {attempt.id: attempt for attempt in active}
        checks = [self._check(before[attempt.id], attempt, fix=fix) for attempt in seen]
        checks += [self._check(attempt, attempt, fix=fix) for attempt in (again if fix else lost)]
        found = [check for check in checks if check is not None]
        running = sum(not attempt.state.ended for attempt in seen)
        said = "1 worker runs" if running == 1 else f"{running or 'no'} workers run"
        return [well("workers", said), *found, *self._clock(known)]

    @staticmethod
    def _check(before: Attempt, after: Attempt, *, fix: bool) -> Check | None:
        name = f"{after.id} ({after.issue_id})"
        if after.state is State.UNKNOWN:
            return warning(after.id, f"{name} cannot be seen: {after.reason}", "try again later")
        if after.state is State.LOST:
            hint = f"outpost status {after.id}" if fix else FIX
            return problem(after.id, f"{name} is lost: {after.reason}", hint)
        if fix and after.state.ended and before.state is not after.state:
            how = f": {after.reason}" if after.reason else ""
            return fixed(after.id, f"{name} had ended: it is {after.state} now{how}")
        return None

    def _clock(self, attempts: Sequence[Attempt]) -> list[Check]:
        """Find what happened in the future: then the clock was set back."""
        moments: Mapping[str, datetime] = {it.id: it.seen_at or it.created_at for it in attempts}
        ahead = {name: at for name, at in moments.items() if at > self.now + CLOCK_SLACK}
        if not ahead:
            return []
        name, at = max(ahead.items(), key=lambda item: item[1])
        minutes = (at - self.now).total_seconds() / 60
        detail = f"{name} was seen {minutes:.0f} minutes from now: was the clock set back?"
        return [warning("clock", detail, "timedatectl status")]

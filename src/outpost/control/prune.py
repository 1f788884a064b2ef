"""Taking away what is no longer needed: ended workers, then what nobody uses at the outposts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from outpost.control.foreseen import as_fault_of
from outpost.errors import OutpostFault, Unsupported
from outpost.model import Attempt, DutyState, Sighting

if TYPE_CHECKING:
    from outpost.control.parts import Whole
    from outpost.ports import Outpost
    from outpost.wire.tidying import Leftover, TidyOrder

BEFORE = timedelta(days=7)
GRACE = timedelta(hours=1)
CACHE_IDLE = timedelta(days=30)
KINDS = ("session", "secrets", "scrap", "archive", "cache")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something that went, or stays; ``attempt`` is what the store knows of a worker."""

    outpost: str
    leftover: Leftover
    attempt: Attempt | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What went (with ``dry_run``: what would), what stays, and which outposts could not be asked.

    ``bytes`` is the room made on the outposts' disks.
    """

    dry_run: bool
    removed: tuple[Item, ...]
    kept: tuple[Item, ...]
    problems: tuple[OutpostFault, ...]

    @property
    def bytes(self) -> int:
        """The room that all that went took."""
        return sum(item.leftover["bytes"] for item in self.removed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruner:
    """Prunes one federation: workers that ended longer than ``before`` ago, and litter.

    Without ``before`` nothing that has ended goes. ``only`` names the outposts to look at, if not
    all. A cache is litter once nobody has fetched into it for ``cache_idle``.
    """

    federation: Whole
    before: timedelta | None = BEFORE
    dry_run: bool = False
    cache_idle: timedelta = CACHE_IDLE
    only: Collection[str] | None = None

    async def prune(self) -> Pruned:
        """Look at every outpost, then at the store, then remove.

        In this order whatever is seen at an outpost is in the store, if it is anybody's: a worker
        is stored before its first file is written.
        """
        sites = await self.federation.parts.sites()
        configured = self.federation.config.outposts
        outposts = {it.name: sites.backend(it.name) for it in configured}
        looked_at = {
            name: it for name, it in outposts.items() if self.only is None or name in self.only
        }
        sightings, problems = await self._sightings(looked_at)
        attempts = await self.federation.store.attempts(ended=True)
        needed = await self._needed()
        known = {attempt.id for attempt in attempts}
        items: list[Item] = []
        for name, seen in sightings.items():
            there = [attempt for attempt in attempts if attempt.outpost == name]
            orphans = [it.handle.worker_id for it in seen if it.handle.worker_id not in known]
            try:
                items += await self._tidy(outposts[name], there, orphans, needed)
            except Unsupported:
                continue
            except OutpostFault as exc:
                problems.append(exc)
        items += await self._homeless(attempts, outposts)
        return Pruned(
            dry_run=self.dry_run,
            removed=tuple(item for item in items if not item.leftover["kept"]),
            kept=tuple(item for item in items if item.leftover["kept"]),
            problems=tuple(problems),
        )

    @staticmethod
    async def _sightings(
        outposts: Mapping[str, Outpost],
    ) -> tuple[dict[str, list[Sighting]], list[OutpostFault]]:
        async def look(outpost: Outpost) -> list[Sighting] | OutpostFault:
            try:
                with as_fault_of(outpost.name):
                    return [sighting async for sighting in outpost.workers()]
            except OutpostFault as exc:
                return exc

        looks = await asyncio.gather(*map(look, outposts.values()))
        seen = dict(zip(outposts, looks, strict=True))
        return (
            {name: found for name, found in seen.items() if not isinstance(found, OutpostFault)},
            [found for found in seen.values() if isinstance(found, OutpostFault)],
        )

    async def _needed(self) -> dict[str, str]:
        """Return the attempts that something yet to be done needs, and what that is."""
        store = self.federation.store
        needed = {
            duty.attempt_id: f"still to be done for it: {duty.kind}"
            for duty in await store.pending_duties()
            if duty.attempt_id and duty.state is DutyState.PENDING
        }
        for task in await store.queued():
            if task.resumes:
                needed[task.resumes] = f"{task.id} waits to go on with it"
        return needed

    async def _tidy(
        self,
        outpost: Outpost,
        attempts: Sequence[Attempt],
        orphans: list[str],
        needed: Mapping[str, str],
    ) -> list[Item]:
        old = {attempt.id: attempt for attempt in attempts if self._is_old(attempt)}
        going = {name: attempt for name, attempt in old.items() if name not in needed}
        order: TidyOrder = {
            "kinds": list(KINDS),
            "dry_run": self.dry_run,
            "workers": list(going),
            "orphans": orphans,
            "grace_s": GRACE.total_seconds(),
            "cache_idle_s": self.cache_idle.total_seconds(),
        }
        handles = [attempt.handle for attempt in going.values() if attempt.handle]
        with as_fault_of(outpost.name):
            leftovers = await outpost.tidy(order, handles)
        for leftover in leftovers:
            if leftover["kind"] == "worker" and not leftover["kept"] and not self.dry_run:
                await self.federation.store.forget(leftover["name"])
        leftovers += [stays(name, needed[name]) for name in old if name in needed]
        return [
            Item(outpost=outpost.name, leftover=it, attempt=old.get(it["name"])) for it in leftovers
        ]

    async def _homeless(
        self, attempts: Sequence[Attempt], outposts: Mapping[str, Outpost]
    ) -> list[Item]:
        """Forget what was never started on an outpost that is there no longer; keep the rest."""
        items = []
        for attempt in attempts:
            if attempt.outpost in outposts or not self._is_old(attempt):
                continue
            reason = ""
            if attempt.handle is not None:
                reason = f"its outpost '{attempt.outpost}' is no longer configured"
            elif not self.dry_run:
                await self.federation.store.forget(attempt.id)
            item = stays(attempt.id, reason)
            items.append(Item(outpost=attempt.outpost, leftover=item, attempt=attempt))
        return items

    def _is_old(self, attempt: Attempt) -> bool:
        if self.before is None or not attempt.state.ended:
            return False
        ended_at = attempt.ended_at or attempt.created_at
        return ended_at <= self.federation.clock.now() - self.before


def stays(name: str, reason: str) -> Leftover:
    """Return a worker that was not even looked at, and why."""
    return {
        "kind": "worker",
        "name": name,
        "path": "",
        "bytes": 0,
        "detail": "",
        "kept": reason,
        "hint": "",
    }

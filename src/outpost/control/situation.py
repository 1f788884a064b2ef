"""The outposts as they are now: load, money, trouble and health, seen at one moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from outpost.control.rules import Rules
from outpost.model import (
    Cap,
    CapView,
    CapWindow,
    Health,
    OutpostView,
    Quote,
    Snapshot,
    Task,
    Window,
)
from outpost.policy.windows import windows
from outpost.ports import Clock, Outpost, Store

WELL = Health(ok=True)
_TODAY = "today"


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """An outpost as configured; ``price`` puts the configuration's price in the backend's place."""

    name: str
    kind: str
    max_workers: int | None
    outpost: Outpost
    labels: Mapping[str, str] = field(default_factory=dict)
    allow_unpriced: bool = False
    price: Callable[[Quote], Quote] = lambda quote: quote

    @property
    def shared(self) -> str:
        """The name under which a worker finds what earlier ones there have left; empty: nowhere."""
        return "" if self.outpost.capabilities.apart else self.name

    @property
    def is_held(self) -> bool:
        """Whether its workers live only as long as whoever started them."""
        return self.outpost.capabilities.held

    def quote(self, task: Task | None) -> Quote:
        """Return what an hour of a worker costs there; unknown where somebody bills it unsaid."""
        quote = self.price(self.outpost.quote(task))
        if quote.microusd_per_hour is None and not self.outpost.capabilities.paid:
            return replace(quote, microusd_per_hour=0, source="nobody bills it")
        return quote


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """What a decision rests on, and the windows of all caps at that moment."""

    snapshot: Snapshot
    windows: tuple[CapWindow, ...]

    def troubled(self, outpost: str) -> bool:
        """Whether an outpost has failed of late."""
        return any(view.breakers for view in self.snapshot.outposts if view.name == outpost)


@dataclass(frozen=True, kw_only=True, slots=True)
class Looker:
    """Looks at the sites of one federation; asks the store only."""

    store: Store
    clock: Clock
    sites: tuple[Site, ...]
    rules: Rules

    async def look(
        self,
        task: Task | None = None,
        healths: Mapping[str, Health] | None = None,
        *,
        cost_of: Collection[str] = (),
    ) -> Situation:
        """Return all that placing a task depends on; outposts without a health are well.

        What was spent today is added up where a condition asks for it, and for ``cost_of``.
        """
        now = self.clock.now()
        caps = self.rules.caps
        every = windows((*caps, *self._today(cost_of)), now, self.rules.policy.time_zone)
        asked = task.id if task and task.max_cost_microusd else None
        seen = await self.store.look(every, now, task_id=asked)
        pairs = zip(every, seen.used, strict=True)
        views = [CapView(cap=window.cap, used=use) for window, use in pairs]
        spent = {view.cap: view.used.spent_microusd for view in views[len(caps) :]}
        outposts = tuple(
            OutpostView(
                name=site.name,
                kind=site.kind,
                active=seen.counts.get(site.name, 0),
                max_workers=site.max_workers,
                health=(healths or {}).get(site.name, WELL),
                labels=site.labels,
                quote=site.quote(task),
                allow_unpriced=site.allow_unpriced,
                caps=tuple(view for view in views[: len(caps)] if view.cap.covers(site.name)),
                spent_today_microusd=spent.get(_today(site.name), 0),
                breakers=tuple(it for it in seen.breakers if it.outpost == site.name),
                has_screen=site.outpost.capabilities.attach,
            )
            for site in self.sites
        )
        return Situation(
            snapshot=Snapshot(outposts=outposts, task_spent_microusd=seen.task_cost_microusd),
            windows=tuple(every[: len(caps)]),
        )

    def _today(self, cost_of: Collection[str]) -> list[Cap]:
        asked = {name for rule in self.rules.policy.rules for name in rule.condition.outposts}
        return [_today(name) for name in sorted(asked.union(cost_of))]


def _today(outpost: str) -> Cap:
    return Cap(name=_TODAY, window=Window.DAY, limit_microusd=0, outposts=frozenset({outpost}))

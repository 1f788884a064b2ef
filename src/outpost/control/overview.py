"""The configured outposts as they are now: load, health, money and trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from outpost.config import Config
from outpost.control.health import ask
from outpost.control.situation import WELL, Looker
from outpost.model import Breaker, CapView, Health, Quote


@dataclass(frozen=True, kw_only=True, slots=True)
class OutpostStatus:
    """One configured outpost and how it is now; ``active`` workers hold a slot.

    ``caps`` are those that what runs there counts towards. ``quote`` is ``None`` for one that
    gets no new work.
    """

    name: str
    kind: str
    active: int
    max_workers: int | None
    enabled: bool
    health: Health
    labels: Mapping[str, str] = field(default_factory=dict)
    quote: Quote | None = None
    caps: tuple[CapView, ...] = ()
    spent_today_microusd: int = 0
    breakers: tuple[Breaker, ...] = ()


async def overview(
    config: Config, looker: Looker, active: Mapping[str, int], *, ping: bool
) -> list[OutpostStatus]:
    """Return every configured outpost; without ``ping`` none is asked how it is."""
    asked = await asyncio.gather(*map(ask, looker.sites)) if ping else []
    healths = {site.name: health for site, health in zip(looker.sites, asked, strict=False)}
    names = frozenset(outpost.name for outpost in config.outposts)
    views = {view.name: view for view in (await looker.look(cost_of=names)).snapshot.outposts}
    statuses = []
    for configured in config.outposts:
        view = views.get(configured.name)
        statuses.append(
            OutpostStatus(
                name=configured.name,
                kind=configured.type,
                active=active.get(configured.name, 0),
                max_workers=configured.max_workers,
                enabled=configured.enabled,
                health=healths.get(configured.name, WELL),
                labels=configured.labels,
                quote=view.quote if view else None,
                caps=view.caps if view else (),
                spent_today_microusd=view.spent_today_microusd if view else 0,
                breakers=view.breakers if view else (),
            )
        )
    return statuses

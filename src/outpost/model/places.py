"""Outposts as they are at one moment, and what can be said of a worker seen there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from outpost.model.money import CapView, Quote


class Trouble(StrEnum):
    """What kind of failure an outpost showed; each is waited out differently."""

    FAILURE = "failure"
    CAPACITY = "capacity"
    RATE = "rate"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """How an outpost has failed of late. Stored, so that no process repeats what another learnt.

    ``scope`` is the part of the outpost that is troubled, such as a region or a size (empty: all
    of it); the policy leaves all of the outpost alone for it. Until ``open_until`` it gets no
    work; then one worker may try (``probe``: its attempt), and its success closes the breaker.
    ``trips`` counts how often it opened since it last worked.
    """

    outpost: str
    scope: str = ""
    failures: int = 0
    trips: int = 0
    open_until: datetime | None = None
    trouble: Trouble = Trouble.FAILURE
    reason: str = ""
    probe: str = ""
    probe_until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Metered:
    """For how many seconds a provider bills a worker so far; ``final``: no more will come."""

    seconds: float
    final: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """Whether an outpost can take work now, and if not, why and what to do about it."""

    ok: bool
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a backend can do; what it cannot raises ``Unsupported``.

    ``held``: its workers live only as long as whoever started them, so a controller has to.
    ``apart``: none of its workers finds what another has left there. ``tended``: something has to
    be done for it from time to time, by a controller. ``metered``: its provider tells for how long
    it bills each worker.
    """

    attach: bool = False
    send: bool = False
    stop: bool = True
    paid: bool = False
    held: bool = False
    apart: bool = False
    tended: bool = False
    metered: bool = False


FREE = Quote(microusd_per_hour=0, source="free")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutpostView:
    """One outpost as the policy sees it: configuration, load, money and health at one moment.

    ``caps`` are those that what runs here counts towards, whichever of them name it. ``breakers``
    are those of this outpost that matter now. An unknown price is refused unless allowed.
    ``has_screen``: a person can work with an agent there at its own screen.
    """

    name: str
    kind: str
    active: int
    max_workers: int | None = None
    health: Health = field(default_factory=lambda: Health(ok=True))
    labels: Mapping[str, str] = field(default_factory=dict)
    quote: Quote = FREE
    allow_unpriced: bool = False
    caps: tuple[CapView, ...] = ()
    spent_today_microusd: int = 0
    breakers: tuple[Breaker, ...] = ()
    has_screen: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Everything that a decision about one task depends on, besides the task and the rules.

    ``task_spent_microusd`` is what earlier attempts of the task cost or still hold.
    """

    outposts: tuple[OutpostView, ...]
    task_spent_microusd: int = 0

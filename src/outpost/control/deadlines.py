"""Which workers' time is over, and what is to be done about each of them. Pure.

A runner keeps its limits by itself; what stands here is for the one that does not, or that nobody
can see. One rule after the other is asked, the first that has something to say counts: a rule for
places kept warm, or for workers that idle, is one more function in ``_RULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from outpost.model import Attempt, Charge, State

MARGIN = timedelta(minutes=1)
"""How much longer than what was reserved for it a worker is left to end by itself."""
OVERDUE = "its time is over, and it had not ended by itself"
ASKED = timedelta(minutes=2)
"""How long whoever asked a worker to stop has for it, before somebody else does that."""


class Act(StrEnum):
    """What is to be done: stop a worker, its work saved, or give up one that nobody can see."""

    STOP = "stop"
    GIVE_UP = "give up"


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """Something to be done about a worker now, and why.

    ``by_the_clock``: because its time is over, had it run all the while.
    """

    attempt: Attempt
    act: Act
    reason: str
    by_the_clock: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What is known at one moment; what is said of workers stands by their ids.

    ``used_up`` says why a cap ends a worker, ``asked_at`` since when it has been known that it was
    asked to stop, ``abandoned`` which outposts nobody looks after, ``extended`` until when somebody
    may run whose bill stood still for a while. A worker on a place without a price is given up
    ``lost_after`` its last sign of life; ``None``: never.
    """

    now: datetime
    charges: Mapping[str, Charge | None] = field(default_factory=dict)
    used_up: Mapping[str, str] = field(default_factory=dict)
    asked_at: Mapping[str, datetime] = field(default_factory=dict)
    abandoned: Collection[str] = ()
    extended: Mapping[str, datetime] = field(default_factory=dict)
    lost_after: timedelta | None = None

    def out_of_contact(self, attempt: Attempt) -> bool:
        """Whether nobody can see a worker now."""
        return attempt.state is State.UNKNOWN or attempt.outpost in self.abandoned

    def overdue(self, attempt: Attempt) -> bool:
        """Whether a worker is paid for longer than was reserved for it."""
        charge, until = self.charges.get(attempt.id), self.extended.get(attempt.id)
        if charge is not None and until is not None:
            charge = replace(charge, held_until=max(charge.held_until, until))
        return overdue(charge, self.now)


def due(attempts: Iterable[Attempt], view: View) -> list[Due]:
    """Return what is to be done about which of these active attempts, at most one thing each."""
    found = []
    for attempt in attempts:
        for rule in _RULES:
            if said := rule(attempt, view):
                found.append(said)
                break
    return found


def overdue(charge: Charge | None, now: datetime) -> bool:
    """Whether a worker is paid for longer than was reserved for it; never for one without limit."""
    if charge is None or charge.microusd_per_hour == 0 or charge.held_until <= charge.started_at:
        return False
    return now > charge.held_until + MARGIN


def extended(charge: Charge, ran_s: float, now: datetime) -> datetime | None:
    """Return until when a worker may run that ran for so long; ``None``: its time is over."""
    left = charge.held_until - charge.started_at - timedelta(seconds=ran_s)
    return now + left if left >= -MARGIN else None


def _out_of_contact(attempt: Attempt, view: View) -> Due | None:
    """Give up who cannot be seen: where it costs money once its own time is over."""
    if not view.out_of_contact(attempt):
        return None
    charge = view.charges.get(attempt.id)
    priced = charge is not None and charge.microusd_per_hour != 0
    # A clock at its place that is slow makes it no older than it is.
    seen_at = max(attempt.seen_at or attempt.created_at, attempt.created_at)
    if priced:
        over = view.overdue(attempt)
    else:
        over = view.lost_after is not None and view.now - seen_at > view.lost_after
    if not over:
        return None
    why = attempt.reason if attempt.state is State.UNKNOWN else ""
    why = why or f"nobody looks after the outpost '{attempt.outpost}'"
    last = seen_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    reason = f"given up, last seen {last}: {why}"
    return Due(attempt=attempt, act=Act.GIVE_UP, reason=reason, by_the_clock=priced)


def _asked(attempt: Attempt, view: View) -> Due | None:
    """Stop who was asked to, where whoever did that has gone or could not reach it."""
    if not attempt.stop_asked or not _can_be_stopped(attempt, view):
        return None
    since = view.asked_at.get(attempt.id, view.now)
    if attempt.state is not State.UNKNOWN and view.now - since < ASKED:
        return None
    return Due(attempt=attempt, act=Act.STOP, reason=attempt.stop_asked)


def _overdue(attempt: Attempt, view: View) -> Due | None:
    if not _can_be_stopped(attempt, view) or not view.overdue(attempt):
        return None
    return Due(attempt=attempt, act=Act.STOP, reason=OVERDUE, by_the_clock=True)


def _used_up(attempt: Attempt, view: View) -> Due | None:
    reason = view.used_up.get(attempt.id)
    if reason is None or not _can_be_stopped(attempt, view):
        return None
    return Due(attempt=attempt, act=Act.STOP, reason=reason)


def _can_be_stopped(attempt: Attempt, view: View) -> bool:
    """Whether there is anything to stop, and anybody who could."""
    return attempt.handle is not None and attempt.outpost not in view.abandoned


_RULES: tuple[Callable[[Attempt, View], Due | None], ...] = (
    _out_of_contact,
    _asked,
    _overdue,
    _used_up,
)

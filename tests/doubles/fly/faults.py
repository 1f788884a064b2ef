"""Faults on demand: plain values that a test sets and the stand-in uses up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

CAPACITY = "capacity"
RESERVE = "reserve"
QUOTA = "quota"
DEADLINE = "deadline"
LOST = "lost"
CUT = "cut"
NEVER = "never"
AFTER = "after "
ANY = "*"
PROXY = "proxy"

TEXTS: dict[str, tuple[int, dict[str, str]]] = {
    CAPACITY: (
        412,
        {
            "error": "insufficient resources available to fulfill request: could not find capacity",
            "status": "insufficient_capacity",
        },
    ),
    RESERVE: (
        409,
        {
            "error": "aborted: could not reserve resource for machine: insufficient CPUs available"
            " to fulfill request"
        },
    ),
    QUOTA: (
        403,
        {"error": "memory of machines in this region would be over the allowed quota"},
    ),
    DEADLINE: (408, {"error": "deadline_exceeded: request timed out waiting for the host"}),
}
"""Refusals by name. Fly tells them apart in status and text only, as reported by its users."""


@dataclass(kw_only=True)
class Storm:
    """What an action is answered instead until an instant of ``time.monotonic``."""

    fault: int | str
    until: float


@dataclass(kw_only=True)
class Faults:
    """What goes wrong. Actions: list, get, create, update, start, stop, restart, suspend, delete,
    wait, signal, exec, events, lease, metadata, cordon, volumes, app; ``*`` is any of these.
    ``proxy`` is a request to the app.

    A fault is a status (429, 500, 503 …), the name of a refusal in ``TEXTS``, or: ``after 503``,
    the request is carried out, and that is said; ``lost``, it is carried out, and the connection is
    cut instead of an answer; ``cut``, it is cut at once; ``never``, nothing is ever answered; 0,
    all is well this time.

    ``no_capacity``: regions in which nothing is created or started. ``stuck``: states that no
    machine leaves by itself as long as they are in here. ``boot_delay_s``: on top of every start.
    ``list_lag_s``: how old lists are. ``unreachable``: machines whose host does not answer.
    ``no_launch``: images whose machines end as ``failed``. ``lost_snapshots``: a suspended machine
    starts cold. ``clock_skew_s``: how far the platform's clock is ahead. ``revoked``: the token is
    no longer good. ``retry_after_s``: what a 429 of ours says; ``None`` for nothing.
    """

    no_capacity: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    boot_delay_s: float = 0.0
    list_lag_s: float = 0.0
    unreachable: set[str] = field(default_factory=set)
    no_launch: set[str] = field(default_factory=set)
    lost_snapshots: bool = False
    clock_skew_s: float = 0.0
    revoked: bool = False
    retry_after_s: int | None = 1
    _next: dict[str, list[int | str]] = field(default_factory=dict)
    _storms: dict[str, Storm] = field(default_factory=dict)

    def now(self) -> float:
        """Return the platform's clock, in seconds since 1970."""
        return time.time() + self.clock_skew_s

    def next(self, action: str, *faults: int | str) -> None:
        """Have the next requests of an action fail, one for each fault."""
        self._next.setdefault(action, []).extend(faults)

    def storm(self, action: str, fault: int | str, seconds: float) -> None:
        """Have every request of an action fail for so long; 0 s ends it."""
        self._storms[action] = Storm(fault=fault, until=time.monotonic() + seconds)

    def due(self, action: str) -> int | str | None:
        """Return the fault that a request is to meet now; it is used up by that."""
        for name in (action,) if action == PROXY else (action, ANY):
            storm = self._storms.get(name)
            if storm and time.monotonic() < storm.until:
                return storm.fault
            if waiting := self._next.get(name):
                return waiting.pop(0) or None
        return None

"""Faults on demand: plain values that a test sets and the front end uses up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next. A number is how many times more; ``math.inf`` for always.

    ``statuses``: answered instead of asking an instance, one for each request (429, 500, 502, 503).
    ``black_holes``: requests that are taken and never answered. ``lost_answers``: requests that an
    instance gets and answers, and whose client is told nothing: its stream is cut.
    ``affinity_misses``: requests that go to another instance than their cookie says.
    ``cut_after_bytes``: where the next ``cuts`` answers are cut, in the way of ``cut_by``: its
    stream is reset, the connection breaks, or it ends in order too early. ``silent``: nothing of
    any answer is passed on as long as it is set, and nobody is told. ``stuck_starts``: instances
    that never listen. ``slow_start_s``: on top of every cold start.

    ``calls``: what the next calls of the control plane are answered, by their names: a code such as
    ``PERMISSION_DENIED``; ``after UNAVAILABLE`` for one that was carried out and whose answer is
    lost; ``never`` for no answer.
    """

    statuses: list[int] = field(default_factory=list)
    black_holes: float = 0
    lost_answers: float = 0
    affinity_misses: float = 0
    cuts: float = 0
    cut_after_bytes: int = 0
    cut_by: Literal["reset", "connection", "end"] = "reset"
    silent: bool = False
    stuck_starts: float = 0
    slow_start_s: float = 0.0
    calls: dict[str, list[str]] = field(default_factory=dict)

    def take(self, name: str) -> bool:
        """Whether a fault is due; it is used up by that."""
        left: float = getattr(self, name)
        if left <= 0:
            return False
        setattr(self, name, left - 1)
        return True

"""Faults on demand: plain values that a test sets and the stand-in uses up."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next. A number is how many times more; ``math.inf`` for always.

    Of the API: ``statuses`` are answered instead of doing anything, one for each call whose
    ``METHOD /path`` begins with ``only``; with ``retry_after_s`` they say when to come again, and
    with ``html`` their bodies are a page of the load balancer instead of JSON. ``black_holes``:
    such calls that are never answered. ``lost_answers``: such calls that are carried out, and
    whose connection breaks before the answer. ``key_revoked``: no key is known any more.

    Of what it does: ``no_capacity``: creations refused with 503. ``failed_boots``: sandboxes that
    do not come up. ``slow_boot_s``: on top of every boot. ``failing_deletes``, ``failing_pauses``,
    ``failing_resumes``: answered with 500, and nothing was done. ``overdue``: sandboxes whose time
    is over go on, as long as it is set. ``list_lag_s``: how far behind lists are. ``skew_s``: by
    how much its clock is ahead of ours. ``failing_builds``: commands of templates that fail.

    Of sandboxes: ``unreachable`` has the ids of those whose port is not open (``*``: all);
    ``envd_statuses`` are answered by the proxy instead of envd; ``envd_cuts``: calls of envd that
    are carried out and whose connection breaks before the answer.
    """

    only: str = ""
    statuses: list[int] = field(default_factory=list)
    retry_after_s: int | None = None
    html: bool = False
    black_holes: float = 0
    lost_answers: float = 0
    key_revoked: bool = False
    no_capacity: float = 0
    failed_boots: float = 0
    slow_boot_s: float = 0.0
    failing_deletes: float = 0
    failing_pauses: float = 0
    failing_resumes: float = 0
    overdue: bool = False
    list_lag_s: float = 0.0
    skew_s: float = 0.0
    failing_builds: float = 0
    unreachable: set[str] = field(default_factory=set)
    envd_statuses: list[int] = field(default_factory=list)
    envd_cuts: float = 0

    def take(self, name: str) -> bool:
        """Whether a fault is due; it is used up by that."""
        left: float = getattr(self, name)
        if left <= 0:
            return False
        setattr(self, name, left - 1)
        return True

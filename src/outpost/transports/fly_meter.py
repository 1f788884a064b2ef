"""For how long a machine ran, as its events tell: that is what Fly bills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_BEGIN = "started"
_RESTING = frozenset(("created", "stopped", "suspended", "failed", "launch_failed", "destroyed"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One time that a machine ran, in seconds since the epoch; ``None``: it still does.

    ``frozen``: it did not end, but was suspended.
    """

    began_at: float
    ended_at: float | None
    frozen: bool = False


def runs_of(events: Sequence[Any]) -> tuple[Run, ...] | None:
    """Return all runs, the oldest first; ``None`` where the events do not go back to its making.

    Fly keeps the last few events only. A machine that is about to stop still runs.
    """
    told = sorted(events, key=lambda it: (it.get("timestamp") or 0, it.get("id") or ""))
    if not any(it.get("type") == "launch" for it in told):
        return None
    runs: list[Run] = []
    began_at: float | None = None
    for event in told:
        at = (event.get("timestamp") or 0) / 1000
        if event.get("status") == _BEGIN and began_at is None:
            began_at = at
        elif event.get("status") in _RESTING and began_at is not None:
            frozen = event["status"] == "suspended"
            runs.append(Run(began_at=began_at, ended_at=at, frozen=frozen))
            began_at = None
    if began_at is not None:
        runs.append(Run(began_at=began_at, ended_at=None))
    return tuple(runs)


def running_s(runs: Sequence[Run], *, since: float, now: float) -> float:
    """Return for how long it ran for whom it was since an instant (0: always).

    What was suspended after it had begun before that was for nobody yet. ``since`` is exact to a
    second only, so that decides, and not when it was suspended.
    """
    ours = [it for it in runs if not (it.frozen and it.began_at < since)]
    return sum(
        (now if it.ended_at is None else it.ended_at) - max(it.began_at, since)
        for it in ours
        if it.ended_at is None or it.ended_at > since
    )

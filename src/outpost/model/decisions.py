"""What the policy answers: where a task may run, and for each outpost left out, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

_UNAVAILABLE = "the outpost asked for is not configured, or disabled"


class Refusal(StrEnum):
    """Why an outpost was not chosen; machine codes, never renamed.

    In the order in which they are looked for: an outpost is given the first that applies.
    """

    NOT_REQUESTED = "not_requested"
    DENIED = "denied"
    NOT_REQUIRED = "not_required"
    LACKS_LABEL = "lacks_label"
    NO_SCREEN = "no_screen"
    UNPRICED = "unpriced"
    UNBOUNDED = "unbounded"
    OVER_TASK_COST = "over_task_cost"
    BACKS_OFF = "backs_off"
    REJECTED = "rejected"
    COOLING_DOWN = "cooling_down"
    UNHEALTHY = "unhealthy"
    FULL = "full"
    OVER_CAP = "over_cap"
    WAITS_FOR_FREE = "waits_for_free"
    LEFT_OUT = "left_out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The most that an attempt may cost, which is what is reserved for it: micro-dollars.

    ``held_s`` is for how long compute is reserved, ``None`` where no time limit bounds it.
    """

    compute_microusd: int = 0
    tokens_microusd: int = 0
    held_s: float | None = None

    @property
    def total_microusd(self) -> int:
        """Compute and tokens."""
        return self.compute_microusd + self.tokens_microusd


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An outpost that may take the task: its price (``None``: unknown) and why at this rank."""

    outpost: str
    why: str = ""
    microusd_per_hour: int | None = 0
    estimate: Estimate = field(default_factory=Estimate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """An outpost not chosen: a code, the numbers that led to it, and a sentence.

    ``until`` is when that may be different, ``None`` where nobody can tell.
    """

    outpost: str
    code: Refusal
    detail: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    until: datetime | None = None
    microusd_per_hour: int | None = None
    estimate: Estimate | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Where a task may run, best first, and for each outpost left out, why. Always stored.

    ``notes`` say which rules applied, and which did not because the task does not say enough.
    """

    task_id: str
    decided_at: datetime
    ranked: tuple[Candidate, ...] = ()
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names of the outposts that may take the task, best first."""
        return tuple(candidate.outpost for candidate in self.ranked)

    @property
    def best(self) -> Candidate | None:
        """The first candidate, or ``None`` where no outpost can take the task now."""
        return self.ranked[0] if self.ranked else None

    @property
    def chosen(self) -> str | None:
        """The name of the first candidate, ``None`` where there is none."""
        return self.ranked[0].outpost if self.ranked else None

    def why(self) -> str:
        """Say in one line why the first candidate was chosen, or why none was.

        Where one outpost was asked for, nothing is said of the others.
        """
        wanted = [item for item in self.refused if item.code is not Refusal.NOT_REQUESTED]
        refused = " · ".join(f"{item.outpost} {item.detail}" for item in wanted)
        if not self.ranked:
            return refused or (_UNAVAILABLE if self.refused else "no outposts are configured")
        why = self.ranked[0].why
        return f"{why} ({refused})" if refused else why

"""What the stand-in would bill: seconds of instances and requests, exactly.

Source of the rules: "Billing settings" (cloud.google.com/run/docs/configuring/billing-settings) and
"Cloud Run pricing", in excerpts. Request-based: an instance costs while it starts, while at
least one request is open, and while it shuts down, each time rounded up to 100 ms; one that is kept
by ``min_instances`` costs a lower price while idle. Instance-based, and tasks of jobs: the whole
life, a minute at least. Requests cost only where billing is by request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from outpost.model.compute_prices import CLOUD_RUN_RATES, Rates
from outpost.model.money import MICROUSD

STEP = Fraction(1, 10)
LEAST_INSTANCE_S = Fraction(60)
IDLE_RATES = Rates(vcpu_second=Decimal("0.0000025"), gib_second=Decimal("0.0000025"))
REQUEST_MICROUSD = Fraction(4, 10)

Billing = Literal["request", "instance"]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was used: seconds, and what they cost in exact micro-dollars.

    ``compute_microusd`` is what the ledger of a federation knows of; ``idle_microusd`` and
    ``request_microusd`` come on top.
    """

    billable_s: Fraction = Fraction(0)
    idle_s: Fraction = Fraction(0)
    vcpu_s: Fraction = Fraction(0)
    gib_s: Fraction = Fraction(0)
    requests: int = 0
    compute_microusd: Fraction = Fraction(0)
    idle_microusd: Fraction = Fraction(0)
    request_microusd: Fraction = Fraction(0)

    @property
    def microusd(self) -> Fraction:
        return self.compute_microusd + self.idle_microusd + self.request_microusd

    @staticmethod
    def total(parts: Iterable[Usage]) -> Usage:
        rows = list(parts)
        return Usage(
            billable_s=sum((row.billable_s for row in rows), Fraction(0)),
            idle_s=sum((row.idle_s for row in rows), Fraction(0)),
            vcpu_s=sum((row.vcpu_s for row in rows), Fraction(0)),
            gib_s=sum((row.gib_s for row in rows), Fraction(0)),
            requests=sum(row.requests for row in rows),
            compute_microusd=sum((row.compute_microusd for row in rows), Fraction(0)),
            idle_microusd=sum((row.idle_microusd for row in rows), Fraction(0)),
            request_microusd=sum((row.request_microusd for row in rows), Fraction(0)),
        )


@dataclass(kw_only=True)
class Meter:
    """The record of one instance; ``busy`` are the times that cost under request-based billing.

    ``kept``: it was started for ``min_instances``. Instants are those of ``clock``.
    """

    clock: Callable[[], float]
    billing: Billing
    vcpus: float
    memory_gib: float
    kept: bool = False
    requests: int = 0
    started_at: float = 0.0
    ended_at: float | None = None
    busy: list[tuple[float, float]] = field(default_factory=list)
    _open: int = 0
    _since: float = 0.0

    def __post_init__(self) -> None:
        self.started_at = self.clock()

    def enter(self) -> None:
        """Something begins that costs: the start, a request, the shutdown."""
        if not self._open:
            self._since = self.clock()
        self._open += 1

    def leave(self) -> None:
        """It is over."""
        self._open -= 1
        if not self._open:
            self.busy.append((self._since, self.clock()))

    def end(self) -> None:
        """Nothing of the instance runs any more; later calls change nothing."""
        if self.ended_at is None:
            self.ended_at = self.clock()
            if self._open:
                self.busy.append((self._since, self.ended_at))
                self._open = 0

    def usage(self) -> Usage:
        """Return what it has used until now."""
        now = self.clock() if self.ended_at is None else self.ended_at
        life_s = _exact(now) - _exact(self.started_at)
        spans = [*self.busy, (self._since, now)] if self._open else self.busy
        busy_s = [_exact(end) - _exact(start) for start, end in spans]
        if self.billing == "instance":
            billable_s, idle_s = _rounded(max(life_s, LEAST_INSTANCE_S)), Fraction(0)
        else:
            billable_s = sum((_rounded(seconds) for seconds in busy_s), Fraction(0))
            idle_s = life_s - sum(busy_s) if self.kept else Fraction(0)
        rate = CLOUD_RUN_RATES[self.billing].second(self.vcpus, self.memory_gib)
        idle_rate = IDLE_RATES.second(self.vcpus, self.memory_gib)
        paid_requests = self.requests if self.billing == "request" else 0
        return Usage(
            billable_s=billable_s,
            idle_s=idle_s,
            vcpu_s=billable_s * _exact(self.vcpus),
            gib_s=billable_s * _exact(self.memory_gib),
            requests=self.requests,
            compute_microusd=billable_s * rate * MICROUSD,
            idle_microusd=idle_s * idle_rate * MICROUSD,
            request_microusd=paid_requests * REQUEST_MICROUSD,
        )


def _rounded(seconds: Fraction) -> Fraction:
    return math.ceil(seconds / STEP) * STEP


def _exact(number: float) -> Fraction:
    return Fraction(str(number))

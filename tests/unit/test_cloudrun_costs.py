"""What is said of Cloud Run's costs, against the provider's own arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from outpost.backends.cloudrun_costs import costs, keeping, price
from outpost.model import Charge
from tests.unit.cloudrun_values import some_options

VCPU, GIB = Decimal("0.000024"), Decimal("0.0000025")
PER_REQUEST = Decimal("0.40") / 1_000_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def charged(seconds: float, **more: object) -> Decimal:
    """Return US dollars for a worker that ran so long, as the ledger counts."""
    hourly = price(some_options(**more)).microusd_per_hour
    assert hourly is not None
    end = BEGIN + timedelta(seconds=seconds)
    charge = Charge(
        attempt_id="w-1",
        task_id="t-1",
        issue_id="i",
        outpost="burst",
        kind="cloudrun",
        agent="claude",
        repo="r",
        started_at=BEGIN,
        held_until=end,
        ended_at=end,
        microusd_per_hour=hourly,
    )
    return Decimal(charge.spent_microusd(end)) / 1_000_000


def test_five_minutes_of_two_cpus_and_four_gib() -> None:
    assert charged(300) == Decimal("0.0174")
    assert charged(300) == 300 * (2 * VCPU + 4 * GIB)
    assert charged(300, billing="instance") == Decimal("0.0132")


def test_fifty_of_them() -> None:
    assert 50 * charged(300) == Decimal("0.87")


def test_a_worker_s_requests_are_beneath_what_is_counted() -> None:
    # One request in 59 minutes, and its share of an hour's price.
    assert charged(3540) / 100_000 > PER_REQUEST


def test_the_dearest_region_counts_and_an_unknown_price_is_unknown() -> None:
    assert price(some_options(region=["us-central1", "europe-west1"])).microusd_per_hour == 208_800
    found = price(some_options(region=["us-central1", "europe-west3"]))
    assert found.microusd_per_hour is None
    assert "'europe-west3' is no region of tier 1" in found.source


def test_what_keeping_warm_costs_is_said() -> None:
    assert keeping(some_options()) == ""
    said = "holding an instance warm for 5 min after work costs up to $0.0174"
    assert keeping(some_options(keep_alive="5m")) == said
    assert keeping(some_options(keep_alive="5m", region="europe-west3")) == ""
    assert "for 90 s" in keeping(some_options(keep_alive="90s"))


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({}, [("an instance costs $0.2088 an hour", "request-based in us-central1")]),
        (
            {"min_instances": 2},
            [("$0.2088",), ("2 instances are kept all the time: up to $304.85 a month",)],
        ),
        (
            {"min_instances": 1, "billing": "instance", "keep_alive": "1m"},
            [
                ("$0.1584",),
                ("holding an instance warm for 1 min",),
                ("1 instance is kept all the time: $115.63 a month",),
            ],
        ),
        ({"region": "europe-west3"}, [("its price is not known", "set price_hourly")]),
    ],
)
def test_all_that_costs_is_said(fields: dict[str, object], lines: list[tuple[str, ...]]) -> None:
    said = list(costs(some_options(**fields)))
    assert len(said) == len(lines)
    for text, parts in zip(said, lines, strict=True):
        assert all(part in text for part in parts), text

"""Money as the command line shows it: exact, aligned, and unknown where it is unknown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console, RenderableType

from outpost.cli.cost import beginning
from outpost.cli.documents import charge_document, outpost_document
from outpost.cli.money import aligned, amount, amounts, at_most, clock, cost_rows, price, today
from outpost.cli.outpost_details import outpost_details
from outpost.cli.outposts import outposts_table, status_word
from outpost.control.costs import Amount
from outpost.control.overview import OutpostStatus
from outpost.errors import UserError
from outpost.model import (
    Breaker,
    Cap,
    CapView,
    Charge,
    Estimate,
    Health,
    OnCap,
    Quote,
    Trouble,
    Used,
    Window,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
CHARGE = Charge(
    attempt_id="w-1",
    task_id="t-1",
    issue_id="fix-login",
    outpost="burst",
    kind="local",
    agent="claude",
    repo="https://github.com/acme/shop",
    started_at=NOW - timedelta(minutes=30),
    held_until=NOW + timedelta(minutes=30),
    microusd_per_hour=500_000,
    price_source="price_hourly",
    token_budget_microusd=2_000_000,
    tokens_microusd=420_000,
)
OWN = Cap(
    name="daily cap", window=Window.DAY, limit_microusd=50_000_000, outposts=frozenset({"burst"})
)
BUDGET = Cap(name="hourly budget", window=Window.HOUR, limit_microusd=1_000_000, on_cap=OnCap.STOP)
STATUS = OutpostStatus(
    name="burst",
    kind="local",
    active=1,
    max_workers=4,
    enabled=True,
    health=Health(ok=True),
    labels={"gpu": "true", "region": "eu"},
    quote=Quote(microusd_per_hour=500_000, source="price_hourly", vcpus=2, memory_gib=4.5),
    caps=(
        CapView(cap=BUDGET, used=Used(spent_microusd=1_000_000, frees_at=NOW)),
        CapView(cap=OWN, used=Used(spent_microusd=420_000, held_microusd=2_000_001)),
    ),
    spent_today_microusd=420_000,
)


def shown(*renderables: RenderableType, width: int = 80) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, markup=False, highlight=False)
    for renderable in renderables:
        console.print(renderable)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def console(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width, color_system=None)


def test_a_price_that_nobody_knows_is_not_free() -> None:
    assert [price(it) for it in (None, 0, 500_000, 1)] == [
        "unknown",
        "free",
        "$0.50/h",
        "$0.000001/h",
    ]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Amount(), "$0.00"),
        (Amount(microusd=420_000), "$0.42"),
        (Amount(microusd=420_000, unknown=1), "≥ $0.42"),
        (Amount(unknown=1), "unknown"),
    ],
)
def test_an_amount_says_what_is_unknown_of_it(given: Amount, text: str) -> None:
    assert amount(given) == text


def test_a_column_has_its_points_below_each_other() -> None:
    assert aligned([420_000, 1, 50_000_000]) == ["$0.420000", "$0.000001", "$50.000000"]
    assert amounts([Amount(microusd=1_500), Amount(unknown=2), Amount()]) == [
        "$0.0015",
        "unknown",
        "$0.0000",
    ]
    assert aligned([]) == []


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (None, "-"),
        (Estimate(), "-"),
        (Estimate(compute_microusd=4_200), "$0.0042"),
        (Estimate(compute_microusd=10_001), "$0.02"),
        (Estimate(compute_microusd=1_016_667, tokens_microusd=2_000_000), "$3.02"),
    ],
)
def test_an_estimate_is_never_less_than_it_is(estimate: Estimate | None, text: str) -> None:
    assert at_most(estimate) == text


def test_a_clock_has_a_date_where_it_is_not_today() -> None:
    assert clock(NOW + timedelta(hours=2), NOW, UTC) == "14:00"
    assert clock(NOW + timedelta(hours=2), NOW, BERLIN) == "15:00"
    assert clock(NOW + timedelta(seconds=61), NOW, UTC) == "12:02"
    assert clock(NOW + timedelta(hours=11), NOW, BERLIN) == "2026-11-22 00:00"


def test_today_names_the_cap_of_the_outpost_itself_only() -> None:
    assert today(STATUS) == "$0.42 / $50.00 cap"
    assert today(replace(STATUS, caps=STATUS.caps[:1])) == "$0.42"


def test_a_worker_that_runs_costs_something_so_far() -> None:
    assert cost_rows(CHARGE, NOW) == [
        ("cost", "$0.67 so far: compute $0.25, tokens $0.42"),
        ("price", "$0.50/h (price_hourly)"),
        ("held", "$1.83 more, until it ends"),
    ]


def test_a_worker_that_has_ended_holds_nothing_and_may_have_cost_nobody_knows_what() -> None:
    ended = replace(CHARGE, ended_at=NOW, microusd_per_hour=None, price_source="")
    assert cost_rows(ended, NOW) == [
        ("cost", "≥ $0.42: compute unknown, tokens $0.42"),
        ("price", "unknown"),
    ]


def test_the_document_of_a_charge_has_null_for_what_is_unknown() -> None:
    assert charge_document(None, NOW) is None
    document = charge_document(replace(CHARGE, tokens_known=False), NOW)
    assert document is not None
    assert (document["compute_usd"], document["tokens_usd"], document["cost_usd"]) == (
        0.25,
        None,
        None,
    )
    assert document["reserved_usd"] == 2.5
    assert json.dumps(document)


def test_all_about_the_money_of_an_outpost() -> None:
    broken = Breaker(
        outpost="burst",
        failures=3,
        trips=1,
        open_until=NOW + timedelta(hours=2, minutes=3),
        reason="ssh: connection\nrefused",
    )
    status = replace(STATUS, breakers=(broken,))
    assert shown(*outpost_details(status, NOW, UTC, console())) == [
        "",
        "Price         $0.50/h for 2 vCPU, 4.5 GiB (price_hourly)",
        "Labels        gpu=true, region=eu",
        "Cost (today)  $0.42 / $50.00 cap",
        "Left alone    until 14:03 after 3 failures: ssh: connection refused",
        "",
        "CAP                   IN           LIMIT  SPENT       HELD        LEFT  FREES",
        "hourly budget (stop)  60 minutes   $1.00  $1.00  $0.000000   $0.000000  12:00",
        "daily cap             day         $50.00  $0.42  $2.000001  $47.579999  -",
    ]


@pytest.mark.parametrize(
    ("breaker", "line"),
    [
        (
            Breaker(outpost="burst", failures=1, reason="timed out"),
            "Trouble       1 failure of late: timed out",
        ),
        (
            Breaker(
                outpost="burst",
                scope="eu-west1",
                trips=1,
                open_until=NOW + timedelta(minutes=1),
                trouble=Trouble.CAPACITY,
                reason="no machines",
            ),
            "Left alone    eu-west1: until 12:01, it has no room: no machines",
        ),
        (
            Breaker(
                outpost="burst", trips=1, open_until=NOW, trouble=Trouble.REJECTED, reason="no key"
            ),
            "Trouble       one worker tries it out first, it refuses: no key",
        ),
    ],
)
def test_trouble_in_words(breaker: Breaker, line: str) -> None:
    status = replace(STATUS, breakers=(breaker,))
    assert line in shown(*outpost_details(status, NOW, UTC, console()))


def test_an_outpost_that_gets_no_work_for_a_while_is_left_alone() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    breaker = Breaker(outpost="burst", trips=1, open_until=later)
    assert status_word(replace(STATUS, breakers=(breaker,))) == "left alone"
    assert status_word(replace(STATUS, breakers=(replace(breaker, scope="eu"),))) == "left alone"
    past = replace(breaker, open_until=datetime.now(UTC) - timedelta(hours=1))
    assert status_word(replace(STATUS, breakers=(past,))) == "ok"


def test_the_table_of_outposts_shows_costs_once_there_are_some() -> None:
    free = replace(STATUS, name="local", spent_today_microusd=0)
    assert shown(outposts_table([free, STATUS], console())) == [
        "NAME   TYPE   WORKERS  TODAY  STATUS",
        "local  local  1/4      $0.00  ok",
        "burst  local  1/4      $0.42  ok",
    ]


def test_the_document_of_an_outpost_has_its_money() -> None:
    document = json.loads(json.dumps(outpost_document(STATUS, "ok")))
    assert document["price"] == {
        "hourly_usd": 0.5,
        "source": "price_hourly",
        "vcpus": 2,
        "memory_gib": 4.5,
    }
    assert document["cost_today_usd"] == 0.42
    assert document["caps"][1] == {
        "name": "daily cap",
        "window": "day",
        "on_cap": "hold",
        "outposts": ["burst"],
        "limit_usd": 50.0,
        "spent_usd": 0.42,
        "held_usd": 2.000001,
        "left_usd": 47.579999,
        "frees_at": None,
    }


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("12h", NOW - timedelta(hours=12)),
        ("2026-11-01", datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("2026-07-01", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-11-01T06:00:00Z", datetime(2026, 11, 1, 6, tzinfo=UTC)),
        ("2026-11-01T06:00", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    ],
)
def test_since_is_a_span_or_a_day_of_the_time_zone(text: str, instant: datetime) -> None:
    assert beginning(text, NOW, BERLIN) == instant


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "7"])
def test_since_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match="neither a duration nor a day") as error:
        beginning(text, NOW, BERLIN)
    assert "--since 7d" in error.value.hint

"""Every reason why an outpost is left out: code, sentence and numbers, and which comes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from outpost.model import (
    Breaker,
    Estimate,
    Health,
    OutpostView,
    Refusal,
    Refused,
    Snapshot,
    Task,
    Trouble,
    Window,
)
from outpost.policy.plugin import refine
from outpost.policy.rules import Policy
from tests.unit.policy_values import (
    CENT,
    DOLLAR,
    NOW,
    a_cap,
    a_task,
    a_view,
    chosen,
    decided,
    refused_as,
    rules,
)

PAGE = Path(__file__).parents[2] / "docs/reference/reasons.md"
SOON = NOW + timedelta(minutes=30)
LATER = NOW + timedelta(minutes=45)
BURST = "cloudrun-burst"


def breaker(**changes: Any) -> Breaker:
    values: dict[str, Any] = {"outpost": BURST, "failures": 3, "trips": 1, "open_until": SOON}
    return Breaker(**{**values, **changes})


def denying(condition: str = "sensitivity == secret") -> Policy:
    return Policy(rules=rules(("type == bug", {}), (condition, {"deny": chosen(BURST)})))


def requiring(*names: str | dict[str, str]) -> Policy:
    return Policy(rules=rules(("label contains gpu", {"require": chosen(*names)})))


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A situation in which the only outpost is refused, and what is said of it."""

    code: Refusal
    detail: str
    view: OutpostView = field(default_factory=lambda: a_view(BURST))
    task: Task = field(default_factory=a_task)
    policy: Policy = field(default_factory=Policy)
    spent: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    until: datetime | None = None


CASES = (
    Case(
        code=Refusal.NOT_REQUESTED,
        detail="not asked for: local is",
        task=a_task(outpost="local"),
    ),
    Case(
        code=Refusal.DENIED,
        detail="denied by rule 2 (sensitivity == secret)",
        task=a_task(sensitivity="secret"),
        policy=denying(),
        numbers={"rule": 2},
    ),
    Case(
        code=Refusal.NOT_REQUIRED,
        detail="is not what rule 1 requires: gce-worker-1 or gpu=true, region=eu"
        " (label contains gpu)",
        view=a_view(BURST, labels={"gpu": "true", "region": "us"}),
        task=a_task(labels=("gpu",)),
        policy=requiring("gce-worker-1", {"gpu": "true", "region": "eu"}),
        numbers={"rule": 1},
    ),
    Case(
        code=Refusal.LACKS_LABEL,
        detail="lacks gpu=true (it has no gpu), region=eu (it has region=us)",
        view=a_view(BURST, labels={"region": "us", "disk": "big"}),
        task=a_task(requires={"disk": "big", "gpu": "true", "region": "eu"}),
    ),
    Case(
        code=Refusal.NO_SCREEN,
        detail="has no screen to work with the agent at",
        view=a_view(BURST, has_screen=False),
        task=a_task(interactive=True),
    ),
    Case(
        code=Refusal.UNPRICED,
        detail="has no known price",
        view=a_view(BURST, None),
    ),
    Case(
        code=Refusal.UNBOUNDED,
        detail="costs $0.48/h, and the task has no time limit",
        view=a_view(BURST, 48 * CENT),
        task=a_task(time_limit_s=None),
        numbers={"microusd_per_hour": 48 * CENT},
    ),
    Case(
        code=Refusal.UNBOUNDED,
        detail="counts the agent's tokens towards the daily budget, and nothing limits them",
        view=a_view(BURST, caps=(a_cap(DOLLAR, name="daily budget", window=Window.DAY),)),
        task=a_task(token_budget_microusd=None),
    ),
    Case(
        code=Refusal.OVER_TASK_COST,
        detail="needs $0.12, $0.05 of the task's $2.00 left",
        view=a_view(BURST, 12 * CENT),
        task=a_task(max_cost_microusd=2 * DOLLAR),
        spent=195 * CENT,
        numbers={
            "needed_microusd": 12 * CENT,
            "left_microusd": 5 * CENT,
            "limit_microusd": 2 * DOLLAR,
            "spent_microusd": 195 * CENT,
        },
    ),
    Case(
        code=Refusal.OVER_TASK_COST,
        detail="needs $0.05 and money for tokens, $0.05 of the task's $2.00 left",
        view=a_view(BURST, 5 * CENT),
        task=a_task(max_cost_microusd=2 * DOLLAR, token_budget_microusd=DOLLAR),
        spent=195 * CENT,
        numbers={
            "needed_microusd": 5 * CENT,
            "left_microusd": 5 * CENT,
            "limit_microusd": 2 * DOLLAR,
            "spent_microusd": 195 * CENT,
        },
    ),
    Case(
        code=Refusal.OVER_TASK_COST,
        detail="needs money for tokens, $0.00 of the task's $2.00 left",
        task=a_task(max_cost_microusd=2 * DOLLAR, token_budget_microusd=None),
        policy=Policy(token_budget_microusd=DOLLAR),
        spent=3 * DOLLAR,
        numbers={
            "needed_microusd": 0,
            "left_microusd": 0,
            "limit_microusd": 2 * DOLLAR,
            "spent_microusd": 3 * DOLLAR,
        },
    ),
    Case(
        code=Refusal.BACKS_OFF,
        detail="waits: the task is tried again at 14:00",
        task=a_task(due_at=SOON),
        until=SOON,
    ),
    Case(
        code=Refusal.REJECTED,
        detail="refuses us until 14:00 (the key is not valid)",
        view=a_view(
            BURST,
            breakers=(breaker(trouble=Trouble.REJECTED, reason="the key is not valid"),),
        ),
        numbers={"failures": 3, "trips": 1},
        until=SOON,
    ),
    Case(
        code=Refusal.COOLING_DOWN,
        detail="cools down until 14:00 (connection refused)",
        view=a_view(BURST, breakers=(breaker(reason="connection refused"),)),
        numbers={"failures": 3, "trips": 1},
        until=SOON,
    ),
    Case(
        code=Refusal.COOLING_DOWN,
        detail="cools down until 14:00 in us-central1 (no capacity)",
        view=a_view(
            BURST,
            breakers=(
                breaker(scope="us-central1", trouble=Trouble.CAPACITY, reason="no capacity"),
            ),
        ),
        numbers={"failures": 3, "trips": 1},
        until=SOON,
    ),
    Case(
        code=Refusal.COOLING_DOWN,
        detail="cools down: one worker is trying it (connection refused)",
        view=a_view(
            BURST,
            breakers=(
                breaker(open_until=NOW, probe="w-1", probe_until=SOON, reason="connection refused"),
            ),
        ),
        numbers={"failures": 3, "trips": 1},
        until=SOON,
    ),
    Case(
        code=Refusal.UNHEALTHY,
        detail="tmux is not installed",
        view=a_view(BURST, health=Health(ok=False, detail="tmux is not installed")),
    ),
    Case(
        code=Refusal.UNHEALTHY,
        detail="is not well",
        view=a_view(BURST, health=Health(ok=False)),
    ),
    Case(
        code=Refusal.FULL,
        detail="full 4/4",
        view=a_view(BURST, active=4),
        numbers={"active": 4, "max_workers": 4},
    ),
    Case(
        code=Refusal.FULL,
        detail="full 5/4",
        view=a_view(BURST, active=5),
        numbers={"active": 5, "max_workers": 4},
    ),
    Case(
        code=Refusal.OVER_CAP,
        detail="needs $0.12, $0.05 left until 14:00 (hourly cap)",
        view=a_view(
            BURST, 12 * CENT, caps=(a_cap(5 * DOLLAR, 3 * DOLLAR, 195 * CENT, frees_at=SOON),)
        ),
        numbers={
            "needed_microusd": 12 * CENT,
            "left_microusd": 5 * CENT,
            "limit_microusd": 5 * DOLLAR,
            "spent_microusd": 3 * DOLLAR,
            "held_microusd": 195 * CENT,
        },
        until=SOON,
    ),
    Case(
        code=Refusal.OVER_CAP,
        detail="needs $0.12, $0.00 left (hourly cap)",
        view=a_view(BURST, 12 * CENT, caps=(a_cap(DOLLAR, held=3 * DOLLAR),)),
        numbers={
            "needed_microusd": 12 * CENT,
            "left_microusd": 0,
            "limit_microusd": DOLLAR,
            "spent_microusd": 0,
            "held_microusd": 3 * DOLLAR,
        },
    ),
    Case(
        code=Refusal.OVER_CAP,
        detail="needs $6.00, $5.00 is all there is (hourly cap)",
        view=a_view(BURST, 6 * DOLLAR, caps=(a_cap(5 * DOLLAR, DOLLAR, frees_at=SOON),)),
        numbers={
            "needed_microusd": 6 * DOLLAR,
            "left_microusd": 4 * DOLLAR,
            "limit_microusd": 5 * DOLLAR,
            "spent_microusd": DOLLAR,
            "held_microusd": 0,
        },
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}: {case.detail}")
def test_a_reason(case: Case) -> None:
    refused = refused_as(case.view, case.task, case.policy, case.spent)
    assert (refused.outpost, refused.code, refused.detail) == (BURST, case.code, case.detail)
    assert dict(refused.numbers) == case.numbers
    assert refused.until == case.until
    assert refused.microusd_per_hour == case.view.quote.microusd_per_hour


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}: {case.detail}")
def test_the_page_of_reasons_shows_it(case: Case) -> None:
    assert case.code in sections()
    if case.detail not in ("full 5/4", "is not well"):
        assert f"{BURST} {case.detail}\n" in sections()[case.code]


def test_the_page_of_reasons_has_every_code_in_order() -> None:
    assert list(sections()) == [code.value for code in Refusal]
    for section in sections().values():
        assert "**What to do.**" in section


def sections() -> dict[str, str]:
    """Return the page's parts by the code in their heading."""
    parts = PAGE.read_text(encoding="utf-8").split("\n## `")[1:]
    return {code: text for code, _, text in (part.partition("`") for part in parts)}


# In the order of Refusal: from everything wrong at once, what mends the first fault left.
MENDING: tuple[tuple[Refusal, Callable[[OutpostView, Task], tuple[OutpostView, Task]]], ...] = (
    (Refusal.NOT_REQUESTED, lambda view, task: (view, replace(task, outpost=None))),
    (Refusal.DENIED, lambda view, task: (view, replace(task, sensitivity="public"))),
    (Refusal.NOT_REQUIRED, lambda view, task: (view, replace(task, labels=()))),
    (Refusal.LACKS_LABEL, lambda view, task: (view, replace(task, requires={}))),
    (Refusal.NO_SCREEN, lambda view, task: (view, replace(task, interactive=False))),
    (Refusal.UNPRICED, lambda view, task: (replace(view, quote=a_view("", DOLLAR).quote), task)),
    (Refusal.UNBOUNDED, lambda view, task: (view, replace(task, time_limit_s=3_480.0))),
    (Refusal.OVER_TASK_COST, lambda view, task: (view, replace(task, max_cost_microusd=DOLLAR))),
    (Refusal.BACKS_OFF, lambda view, task: (view, replace(task, due_at=NOW))),
    (Refusal.REJECTED, lambda view, task: (replace(view, breakers=view.breakers[:1]), task)),
    (Refusal.COOLING_DOWN, lambda view, task: (replace(view, breakers=()), task)),
    (Refusal.UNHEALTHY, lambda view, task: (replace(view, health=Health(ok=True)), task)),
    (Refusal.FULL, lambda view, task: (replace(view, active=0), task)),
    (Refusal.OVER_CAP, lambda view, task: (replace(view, caps=(a_cap(DOLLAR),)), task)),
)


def test_the_first_reason_that_applies_is_given() -> None:
    policy = Policy(
        rules=rules(
            ("label contains gpu", {"require": chosen("local")}),
            ("sensitivity == secret", {"deny": chosen(BURST)}),
        )
    )
    view = a_view(
        BURST,
        None,
        active=4,
        has_screen=False,
        health=Health(ok=False, detail="is down"),
        caps=(a_cap(DOLLAR, DOLLAR),),
        breakers=(breaker(), breaker(scope="us", trouble=Trouble.REJECTED)),
    )
    task = a_task(
        outpost="local",
        sensitivity="secret",
        labels=("gpu",),
        requires={"gpu": "true"},
        interactive=True,
        time_limit_s=None,
        max_cost_microusd=0,
        due_at=SOON,
    )
    for code, mend in MENDING:
        assert refused_as(view, task, policy).code is code
        view, task = mend(view, task)
    assert decided([view], task, policy).candidates == (BURST,)


def test_what_costs_money_waits_for_what_does_not() -> None:
    policy = Policy(burst_after_s=90)
    views = [a_view("local", active=4), a_view(BURST, DOLLAR)]
    full, waits = decided(views, policy=policy).refused
    assert full.code is Refusal.FULL
    assert (waits.code, waits.outpost) == (Refusal.WAITS_FOR_FREE, BURST)
    assert waits.detail == "waits until 13:31 for local, which costs nothing"
    assert f"{BURST} {waits.detail}\n" in sections()[Refusal.WAITS_FOR_FREE]
    assert waits.until == NOW + timedelta(seconds=30)
    assert waits.numbers == {"burst_after_s": 90}
    assert waits.estimate == Estimate(compute_microusd=DOLLAR, held_s=3_600)


def test_left_out_stands_on_the_page() -> None:
    view = a_view(BURST)
    snapshot = Snapshot(outposts=(view,))
    decision = refine(decided([view]), a_task(), snapshot, leave_all_out)
    (refused,) = decision.refused
    assert refused.code is Refusal.LEFT_OUT
    assert refused.detail == f"left out by {__name__}:leave_all_out"
    assert f"{BURST} left out by " in sections()[Refusal.LEFT_OUT]


def leave_all_out(*_given: object) -> list[str]:
    return []


def breakers_refuse(*breakers: Breaker) -> Refused:
    return refused_as(a_view(BURST, breakers=breakers))


def test_of_several_troubles_the_worst_is_told() -> None:
    rejected = breaker(trouble=Trouble.REJECTED, reason="bad key")
    longest = breaker(scope="us", open_until=LATER)
    tried = breaker(open_until=NOW, probe="w-1", probe_until=NOW + timedelta(hours=2))
    assert breakers_refuse(longest, rejected).code is Refusal.REJECTED
    assert breakers_refuse(breaker(), longest).until == LATER
    assert breakers_refuse(longest, breaker()).until == LATER
    assert breakers_refuse(tried, longest).until == tried.probe_until


@pytest.mark.parametrize(
    "harmless",
    [
        breaker(open_until=None, trips=0),
        breaker(open_until=NOW),
        breaker(open_until=NOW, trouble=Trouble.REJECTED),
        breaker(open_until=NOW, probe="w-1", probe_until=NOW),
    ],
)
def test_what_is_closed_or_may_be_tried_refuses_nothing(harmless: Breaker) -> None:
    assert decided([a_view(BURST, breakers=(harmless,))]).candidates == (BURST,)


@pytest.mark.parametrize(
    ("until", "shown"),
    [
        (NOW + timedelta(seconds=1), "14:31"),
        (NOW + timedelta(minutes=1), "14:31"),
        (NOW.replace(hour=22, minute=59, second=0), "23:59"),
        (NOW.replace(hour=22, minute=59, second=1), "2026-11-22 00:00"),
        (NOW + timedelta(days=40), "2026-12-31 14:30"),
    ],
)
def test_times_are_those_of_the_zone_and_never_too_early(until: datetime, shown: str) -> None:
    task, policy = a_task(due_at=until), Policy(time_zone=ZoneInfo("Europe/Berlin"))
    refused = refused_as(a_view(BURST), task, policy)
    assert refused.detail == f"waits: the task is tried again at {shown}"
    assert refused.until == until

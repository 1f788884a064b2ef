"""How long a task waits for an outpost that costs nothing, and for which."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from outpost.model import Breaker, Health, Trouble
from outpost.policy.rules import Policy
from tests.unit.policy_values import DOLLAR, NOW, a_task, a_view, chosen, decided, rules

BURST = "cloudrun-burst"


def breaker(**changes: Any) -> Breaker:
    return Breaker(outpost="local", open_until=NOW + timedelta(minutes=30), trips=1, **changes)


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({"active": 4}, True),
        ({"health": Health(ok=False, detail="is down")}, True),
        ({"breakers": (breaker(),)}, True),
        ({"breakers": (breaker(trouble=Trouble.REJECTED),)}, False),
        ({"labels": {"slow": "true"}, "active": 4}, False),
        ({"quote": a_view("", 1).quote, "active": 4}, False),
        ({"quote": a_view("", None).quote, "active": 4, "allow_unpriced": True}, False),
    ],
)
def test_only_what_may_have_room_soon_is_waited_for(changes: dict[str, Any], waits: bool) -> None:
    policy = Policy(
        burst_after_s=90, rules=rules(("priority >= P0", {"deny": chosen({"slow": "true"})}))
    )
    decision = decided([a_view("local", **changes), a_view(BURST, DOLLAR)], policy=policy)
    assert decision.candidates == (() if waits else (BURST,))


def test_waiting_ends() -> None:
    views = [a_view("local", active=4), a_view(BURST, DOLLAR)]
    for burst_after_s, candidates in ((61, ()), (60, (BURST,)), (0, (BURST,))):
        assert decided(views, policy=Policy(burst_after_s=burst_after_s)).candidates == candidates


def test_what_would_not_be_taken_anyway_is_not_waited_for() -> None:
    views = [a_view("local", active=4), a_view(BURST, DOLLAR)]
    dearer_first = Policy(burst_after_s=90, preference=(chosen(BURST), chosen("local")))
    assert decided(views, policy=dearer_first).candidates == (BURST,)
    asked = a_task(outpost=BURST)
    assert decided(views, asked, Policy(burst_after_s=90)).candidates == (BURST,)


def test_an_outpost_of_unknown_price_waits_as_well() -> None:
    unpriced = a_view(BURST, None, allow_unpriced=True)
    decision = decided([a_view("local", active=4), unpriced], policy=Policy(burst_after_s=90))
    assert decision.candidates == ()

"""In which order outposts are tried, and what is said of why."""

from __future__ import annotations

import pytest

from outpost.model import Priority
from outpost.policy.rules import Placement, Policy
from tests.unit.policy_values import a_task, a_view, chosen, decided, rules, tiers

LOCAL = a_view("local", labels={"region": "here"})
BOX = a_view("box", labels={"region": "eu"})
FLY = a_view("fly", labels={"region": "eu", "gpu": "true"})
E2B = a_view("e2b", labels={"region": "us"})
ALL = (LOCAL, BOX, FLY, E2B)


def order(policy: Policy, **task: object) -> tuple[str, ...]:
    return decided(ALL, a_task(**task), policy).candidates


def whys(policy: Policy, **task: object) -> dict[str, str]:
    return {it.outpost: it.why for it in decided(ALL, a_task(**task), policy).ranked}


def test_without_rules_it_is_the_order_of_the_configuration() -> None:
    assert order(Policy()) == ("local", "box", "fly", "e2b")
    assert list(whys(Policy()).values()) == [
        "first in the configuration that can take it",
        *["next in the configuration"] * 3,
    ]


def test_the_preference_goes_first_and_the_rest_follows() -> None:
    policy = Policy(preference=tiers("e2b", "nowhere", {"region": "eu"}))
    assert order(policy) == ("e2b", "box", "fly", "local")
    assert whys(policy) == {
        "e2b": "preference 1 of 3",
        "box": "preference 3 of 3",
        "fly": "preference 3 of 3",
        "local": "next in the configuration",
    }


def test_what_a_rule_prefers_moves_to_the_front() -> None:
    policy = Policy(
        preference=tiers("local", "box", "fly"),
        rules=rules(("priority >= P3", {"prefer": tiers("fly", "e2b")})),
    )
    assert order(policy, priority=Priority.P3) == ("fly", "e2b", "local", "box")
    assert order(policy, priority=Priority.P2) == ("local", "box", "fly", "e2b")
    found = whys(policy, priority=Priority.P4)
    assert found["fly"] == found["e2b"] == "rule 1: priority >= P3"
    assert found["local"] == "preference 1 of 3"


def test_all_rules_that_hold_apply_in_the_order_of_the_file() -> None:
    policy = Policy(
        rules=rules(
            ("type == bug", {"prefer": tiers("e2b")}),
            ("type == chore", {"prefer": tiers("local")}),
            ("label contains urgent", {"prefer": tiers("fly", "e2b"), "avoid": chosen("local")}),
            ("repo contains words", {"deny": chosen("box"), "avoid": chosen("e2b")}),
        )
    )
    task = {"type": "bug", "labels": ("urgent",)}
    assert order(policy, **task) == ("fly", "e2b", "local")
    assert whys(policy, **task) == {
        "fly": "rule 3: label contains urgent",
        "e2b": "avoided by rule 4: repo contains words",
        "local": "avoided by rule 3: label contains urgent",
    }


def test_what_rules_avoid_goes_last_in_its_own_order() -> None:
    policy = Policy(
        preference=tiers("fly", "box"),
        rules=rules(("priority >= P0", {"avoid": chosen({"region": "eu"}, "local")})),
    )
    assert order(policy) == ("e2b", "fly", "box", "local")


def test_requirements_add_up() -> None:
    policy = Policy(
        rules=rules(
            ("type == bug", {"require": chosen({"region": "eu"}, "local")}),
            ("label contains gpu", {"require": chosen({"gpu": "true"}, "e2b")}),
        )
    )
    assert order(policy, type="bug") == ("local", "box", "fly")
    assert order(policy, labels=("gpu",)) == ("fly", "e2b")
    assert order(policy, type="bug", labels=("gpu",)) == ("fly",)


def test_an_outpost_asked_for_by_name_is_the_only_one() -> None:
    assert whys(Policy(), outpost="fly") == {"fly": "asked for by name"}
    assert decided([]).why() == "no outposts are configured"


def test_of_the_others_nothing_is_said_in_one_line() -> None:
    assert decided(ALL, a_task(outpost="fly")).why() == "asked for by name"
    full = a_view("fly", active=4)
    assert decided([LOCAL, full, E2B], a_task(outpost="fly")).why() == "fly full 4/4"
    nowhere = decided(ALL, a_task(outpost="nowhere"))
    assert nowhere.why() == "the outpost asked for is not configured, or disabled"
    assert {it.detail for it in nowhere.refused} == {"not asked for: nowhere is"}


def test_an_outpost_stands_in_the_first_tier_that_means_it() -> None:
    by_label = Policy(preference=(chosen({"region": "eu"}), chosen("fly"), chosen("local")))
    assert order(by_label) == ("box", "fly", "local", "e2b")
    by_name = Policy(preference=(chosen("fly"), chosen({"region": "eu"}), chosen("local")))
    assert order(by_name) == ("fly", "box", "local", "e2b")


def test_a_tier_in_order_is_tried_as_written() -> None:
    policy = Policy(preference=(chosen("e2b", {"region": "eu"}, "local"),))
    assert order(policy) == ("e2b", "box", "fly", "local")
    within = Policy(preference=(chosen({"gpu": "true"}, {"region": "eu"}),))
    assert order(within) == ("fly", "box", "local", "e2b")


BUSY = (
    a_view("half", active=2),
    a_view("full", active=4),
    a_view("idle"),
    a_view("three", active=3),
    a_view("endless", active=1, max_workers=None),
)


@pytest.mark.parametrize(
    ("placement", "candidates", "why"),
    [
        (
            Placement.IN_ORDER,
            ("half", "idle", "three", "endless"),
            "first in the configuration that can take it",
        ),
        (
            Placement.SPREAD,
            ("idle", "half", "endless", "three"),
            "the emptiest that can take it",
        ),
        (
            Placement.PACK,
            ("three", "half", "endless", "idle"),
            "the fullest that can take it",
        ),
    ],
)
def test_placement_orders_equals(
    placement: Placement, candidates: tuple[str, ...], why: str
) -> None:
    decision = decided(BUSY, policy=Policy(placement=placement))
    assert decision.candidates == candidates
    assert decision.ranked[0].why == why
    assert [refused.outpost for refused in decision.refused] == ["full"]


@pytest.mark.parametrize("placement", list(Placement))
def test_placement_never_crosses_tiers(placement: Placement) -> None:
    policy = Policy(placement=placement, preference=(chosen("three", "idle"), chosen("endless")))
    found = decided(BUSY, policy=policy).candidates
    assert set(found[:2]) == {"three", "idle"}
    assert found[2:] == ("endless", "half")


def test_an_outpost_without_a_limit_fills_beside_those_with_one() -> None:
    active = {"four": 0, "endless": 0}
    placed = []
    for _ in range(8):
        views = [
            a_view("four", active=active["four"]),
            a_view("endless", active=active["endless"], max_workers=None),
        ]
        name = decided(views, policy=Policy(placement=Placement.SPREAD)).chosen
        assert name
        active[name] += 1
        placed.append(name)
    assert placed == ["four", "endless", "four", "four", "endless", "endless", "four", "endless"]


def test_who_is_waited_for_depends_on_the_placement() -> None:
    views = [a_view("cloud", 1_000_000), a_view("local", active=4)]
    in_order = Policy(burst_after_s=90)
    assert decided(views, policy=in_order).candidates == ("cloud",)
    spread = Policy(burst_after_s=90, placement=Placement.SPREAD)
    assert decided(views, policy=spread).candidates == ()


def test_notes_say_what_applied_and_what_was_not_known() -> None:
    policy = Policy(
        rules=rules(
            ("priority >= P3", {"prefer": tiers("fly")}),
            ("estimated_duration > 30m", {"prefer": tiers("box")}),
            ("type == bug", {"prefer": tiers("e2b")}),
            ("not (epic == gt-1) and not (sensitivity == public)", {"avoid": chosen("e2b")}),
        )
    )
    decision = decided(ALL, a_task(priority=Priority.P3, type="chore"), policy)
    assert decision.notes == (
        "rule 1 (priority >= P3) applies",
        "rule 2 (estimated_duration > 30m): estimated_duration is not known",
        "rule 4 (not (epic == gt-1) and not (sensitivity == public)) applies",
        "rule 4 (not (epic == gt-1) and not (sensitivity == public)):"
        " epic and sensitivity are not known",
    )


def test_rules_see_what_was_spent_and_the_time_of_the_zone() -> None:
    views = [a_view("local", spent_today_microusd=11_000_000), a_view("fly")]
    policy = Policy(
        rules=rules(
            ("cost_today(local) > 10", {"avoid": chosen("local")}),
            ("cost_today(fly) > 10 or cost_today(nowhere) > 0", {"deny": chosen("fly")}),
            ("hour == 13 and weekday == sat", {"prefer": tiers("local")}),
        )
    )
    decision = decided(views, policy=policy)
    assert decision.candidates == ("fly", "local")
    assert decision.notes == (
        "rule 1 (cost_today(local) > 10) applies",
        "rule 3 (hour == 13 and weekday == sat) applies",
    )

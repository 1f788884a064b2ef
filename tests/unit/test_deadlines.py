"""Whose time is over, and what is then to be done."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from outpost.control.deadlines import ASKED, MARGIN, Act, View, due, overdue
from outpost.model import Attempt, Handle, State
from tests.unit.store_values import NOON, a_charge, a_task, an_attempt

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
PRICE = 3_600_000
UNSEEN: dict[str, Any] = {"state": State.UNKNOWN, "reason": "no route"}


def an_active(**changes: Any) -> Attempt:
    """Return a worker at work since noon, sharp."""
    attempt = replace(an_attempt(a_task()), created_at=NOON)
    handle = Handle(outpost=attempt.outpost, kind="local", worker_id=attempt.id)
    return replace(attempt, **{"handle": handle, "state": State.WORKING, **changes})


def said(attempt: Attempt, now: datetime, **view: Any) -> tuple[Act, str] | None:
    """Return what is to be done about one worker, and why."""
    price = view.pop("price", 0)
    charges = {} if price is False else {attempt.id: a_charge(attempt, price=price)}
    found = due([attempt], View(now=now, charges=charges, **view))
    assert all(it.attempt is attempt for it in found)
    return (found[0].act, found[0].reason) if found else None


@pytest.mark.parametrize(
    ("price", "held", "after", "over"),
    [
        (PRICE, HOUR, HOUR + MARGIN, False),
        (PRICE, HOUR, HOUR + MARGIN + SECOND, True),
        (None, HOUR, HOUR + MARGIN + SECOND, True),  # what nobody knows the price of may cost
        (0, HOUR, 100 * HOUR, False),
        (PRICE, timedelta(0), 100 * HOUR, False),  # no limit was reserved for
        (PRICE, HOUR, -HOUR, False),  # our clock was set back
    ],
)
def test_only_who_costs_money_is_over_time(
    price: int | None, held: timedelta, after: timedelta, over: bool
) -> None:
    attempt = an_active()
    assert overdue(a_charge(attempt, price=price, held=held), NOON + after) is over
    assert overdue(None, NOON + after) is False


def test_who_is_over_time_is_stopped_once_it_can_be() -> None:
    late = NOON + HOUR + MARGIN + SECOND
    assert said(an_active(), late, price=PRICE) == (
        Act.STOP,
        "its time is over, and it had not ended by itself",
    )
    assert said(an_active(), late - 2 * SECOND, price=PRICE) is None
    assert said(an_active(handle=None, state=State.RESERVED), late, price=PRICE) is None


@pytest.mark.parametrize(
    ("changes", "after", "price", "lost_after", "given_up"),
    [
        # Where it is free: since it was last seen, or else made.
        (UNSEEN, 12 * HOUR, 0, 12 * HOUR, False),
        (UNSEEN, 12 * HOUR + SECOND, 0, 12 * HOUR, True),
        (UNSEEN, 12 * HOUR + SECOND, False, 12 * HOUR, True),
        ({**UNSEEN, "seen_at": NOON + HOUR}, 12 * HOUR + SECOND, 0, 12 * HOUR, False),
        ({**UNSEEN, "seen_at": NOON + HOUR}, 13 * HOUR + SECOND, 0, 12 * HOUR, True),
        ({**UNSEEN, "handle": None}, 12 * HOUR + SECOND, 0, 12 * HOUR, True),
        (UNSEEN, 9999 * HOUR, 0, None, False),
        # Its clock was slow: it is no older than it is.
        ({**UNSEEN, "seen_at": NOON - 13 * HOUR}, HOUR, 0, 12 * HOUR, False),
        # Where it is paid for: at the end of its own time, sooner or later than that.
        (UNSEEN, HOUR + MARGIN, PRICE, SECOND, False),
        (UNSEEN, HOUR + MARGIN + SECOND, PRICE, 12 * HOUR, True),
        (UNSEEN, HOUR + MARGIN + SECOND, PRICE, None, True),
        # Who is in contact is never given up.
        ({}, 9999 * HOUR, 0, SECOND, False),
    ],
)
def test_who_is_out_of_contact_is_given_up_in_the_end(
    changes: dict[str, Any],
    after: timedelta,
    price: int | bool,
    lost_after: timedelta | None,
    given_up: bool,
) -> None:
    found = said(an_active(**changes), NOON + after, price=price, lost_after=lost_after)
    assert (found is not None) is given_up
    if found:
        assert found[0] is Act.GIVE_UP
        assert found[1].startswith("given up, last seen 2026-03-01T1")
        assert found[1].endswith(": no route")


def test_who_is_on_an_outpost_that_nobody_looks_after_counts_as_unseen() -> None:
    attempt = an_active(stop_asked="by hand")
    view: dict[str, Any] = {"abandoned": {"local"}, "lost_after": HOUR}
    assert said(attempt, NOON + HOUR, **view) is None, "nobody here could stop it"
    found = said(attempt, NOON + HOUR + SECOND, **view)
    assert found
    assert found[0] is Act.GIVE_UP
    assert "nobody looks after the outpost 'local'" in found[1]
    assert said(an_active(outpost="other"), NOON + 99 * HOUR, **view) is None


def test_who_was_asked_to_stop_has_a_while_for_it() -> None:
    attempt = an_active(stop_asked="by hand")
    asked_at = {attempt.id: NOON}
    assert said(attempt, NOON) is None
    assert said(attempt, NOON + ASKED - SECOND, asked_at=asked_at) is None
    assert said(attempt, NOON + ASKED, asked_at=asked_at) == (Act.STOP, "by hand")
    # Whoever asked could not reach it: there is nobody to wait for.
    unseen = replace(attempt, **UNSEEN)
    assert said(unseen, NOON) == (Act.STOP, "by hand")
    assert said(replace(unseen, handle=None), NOON) is None


def test_a_used_up_cap_stops_and_contact_comes_first() -> None:
    attempt = an_active()
    used_up = {attempt.id: "the daily cap is used up"}
    assert said(attempt, NOON, used_up=used_up) == (Act.STOP, "the daily cap is used up")
    assert said(attempt, NOON, used_up={"w-another": "the daily cap is used up"}) is None
    unseen = replace(attempt, **UNSEEN)
    found = said(unseen, NOON + 2 * HOUR, price=PRICE, used_up=used_up)
    assert found
    assert found[0] is Act.GIVE_UP


def test_each_is_told_at_most_one_thing() -> None:
    first = an_active(stop_asked="by hand")
    second = replace(an_active(), id="w-second")
    view = View(
        now=NOON + HOUR,
        asked_at={first.id: NOON},
        used_up={first.id: "the daily cap is used up", second.id: "the daily cap is used up"},
    )
    assert [(it.attempt.id, it.reason) for it in due([first, second], view)] == [
        (first.id, "by hand"),
        (second.id, "the daily cap is used up"),
    ]

"""Whose bill stood still for a while: until when it may run then."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from outpost.control.deadlines import MARGIN, Act, Due, View, due, extended
from outpost.model import Attempt, Handle, State
from tests.unit.store_values import NOON, a_charge, a_task, an_attempt

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
MORNING = NOON + 15 * HOUR


def an_active(state: State = State.WORKING) -> Attempt:
    attempt = replace(an_attempt(a_task()), created_at=NOON, state=state)
    handle = Handle(outpost=attempt.outpost, kind="local", worker_id=attempt.id)
    return replace(attempt, handle=handle)


def said(attempt: Attempt, now: datetime, until: datetime) -> list[Due]:
    charges = {attempt.id: a_charge(attempt, price=3_600_000, held=HOUR)}
    return due([attempt], View(now=now, charges=charges, extended={attempt.id: until}))


@pytest.mark.parametrize(
    ("ran", "left"),
    [
        (HOUR / 2, HOUR / 2),
        (HOUR, timedelta(0)),
        (HOUR + MARGIN, -MARGIN),
        (HOUR + MARGIN + SECOND, None),
    ],
)
def test_it_may_run_for_what_it_did_not_run_before(ran: timedelta, left: timedelta | None) -> None:
    charge = a_charge(an_active(), price=3_600_000, held=HOUR)
    until = extended(charge, ran.total_seconds(), MORNING)
    assert until == (None if left is None else MORNING + left)


@pytest.mark.parametrize(
    ("state", "act"), [(State.WORKING, Act.STOP), (State.UNKNOWN, Act.GIVE_UP)]
)
def test_once_that_is_over_too_it_is_ended(state: State, act: Act) -> None:
    attempt, until = an_active(state), MORNING + HOUR / 2
    assert said(attempt, until + MARGIN, until) == []
    [found] = said(attempt, until + MARGIN + SECOND, until)
    assert found.act is act
    assert found.by_the_clock


def test_nobody_loses_time_by_it() -> None:
    assert said(an_active(), NOON + HOUR, NOON) == []

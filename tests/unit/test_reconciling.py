"""What outposts run against what the store says, and when something is done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from outpost.control.reconciling import Finding, Kind, Known, Looks, compare
from outpost.model import Attempt, Handle, Liveness, Sighting, State
from tests.unit.store_values import NOON, a_task, an_attempt

GRACE, SECOND = timedelta(minutes=10), timedelta(seconds=1)
ALIVE, DEAD = Liveness.ALIVE, Liveness.DEAD


def a_handle(name: str, outpost: str = "local") -> Handle:
    return Handle(outpost=outpost, kind="local", worker_id=name)


def seen(name: str, liveness: Liveness = ALIVE) -> Sighting:
    return Sighting(handle=a_handle(name), liveness=liveness)


def an_attempt_in(state: State, *, outpost: str = "local", name: str = "w-1") -> Attempt:
    attempt = replace(an_attempt(a_task(), outpost=outpost), id=name, state=state)
    return replace(attempt, handle=a_handle(name, outpost))


def known(state: State, task: State, newest: str = "w-1", outpost: str = "local") -> Known:
    return Known(
        attempt=an_attempt_in(state, outpost=outpost),
        task=replace(a_task(), state=task),
        newest_id=newest,
    )


def kinds(found: Sequence[Finding]) -> list[tuple[Kind, bool]]:
    return [(finding.kind, finding.went_on) for finding in found]


@pytest.mark.parametrize(
    ("stored", "liveness", "expected"),
    [
        (None, ALIVE, [(Kind.ORPHAN, False)]),
        (None, DEAD, []),
        (None, Liveness.UNSEEN, []),
        (known(State.DONE, State.DONE), DEAD, []),
        (known(State.DONE, State.DONE), ALIVE, [(Kind.ZOMBIE, False)]),
        (known(State.STOPPED, State.STOPPED), ALIVE, [(Kind.ZOMBIE, False)]),
        (known(State.FAILED, State.WORKING, "w-2"), ALIVE, [(Kind.ZOMBIE, True)]),
        (known(State.FAILED, State.WORKING, "w-2"), DEAD, []),
        # Given up, and nobody in its place: it may finish.
        (known(State.LOST, State.LOST), ALIVE, [(Kind.RETURNED, False)]),
        (known(State.LOST, State.LOST), DEAD, [(Kind.RETURNED, False)]),
        # Its task goes on elsewhere, or will.
        (known(State.LOST, State.WORKING, "w-2"), ALIVE, [(Kind.ZOMBIE, True)]),
        (known(State.LOST, State.QUEUED), ALIVE, [(Kind.ZOMBIE, True)]),
        (known(State.LOST, State.QUEUED), DEAD, [(Kind.RETURNED, True)]),
        # It was cancelled while it waited to be tried again.
        (known(State.LOST, State.STOPPED), ALIVE, [(Kind.ZOMBIE, False)]),
        # Two outposts that share a folder: whose it is looks after its log.
        (known(State.LOST, State.LOST, outpost="twin"), DEAD, []),
        (known(State.LOST, State.LOST, outpost="twin"), ALIVE, [(Kind.ZOMBIE, False)]),
        # It began while the outposts were asked.
        (known(State.STARTING, State.STARTING), ALIVE, []),
    ],
)
def test_what_is_seen_and_not_active(
    stored: Known | None, liveness: Liveness, expected: list[tuple[Kind, bool]]
) -> None:
    by_id = {"w-1": stored} if stored else {}
    found = compare("local", [seen("w-1", liveness)], [], by_id)
    assert kinds(found) == expected
    assert all(it.handle == a_handle("w-1") and it.why for it in found)


@pytest.mark.parametrize("liveness", list(Liveness))
def test_what_is_active_and_seen_is_as_it_should_be(liveness: Liveness) -> None:
    active = an_attempt_in(State.WORKING)
    assert compare("local", [seen("w-1", liveness)], [active], {}) == []
    assert compare("twin", [seen("w-1", liveness)], [active], {}) == []


def test_who_is_missing() -> None:
    active = an_attempt_in(State.WORKING)
    (missing,) = compare("local", [], [active], {})
    assert (missing.kind, missing.attempt, missing.handle) == (Kind.MISSING, active, active.handle)
    assert compare("other", [], [active], {}) == []
    assert compare("local", [], [replace(active, handle=None)], {}) == []


def finding(kind: Kind = Kind.ORPHAN, **changes: object) -> Finding:
    made = Finding(kind=kind, outpost="local", handle=a_handle("w-1"), alive=True)
    return replace(made, **changes)  # type: ignore[arg-type]  # checked where it is made


@pytest.mark.parametrize(
    ("kind", "went_on", "looks", "age", "due"),
    [
        (Kind.ORPHAN, False, 1, 2 * GRACE, False),
        (Kind.ORPHAN, False, 2, GRACE - SECOND, False),
        (Kind.ORPHAN, False, 2, GRACE, True),
        (Kind.ZOMBIE, False, 2, GRACE - SECOND, False),
        (Kind.ZOMBIE, False, 2, GRACE, True),
        (Kind.ZOMBIE, True, 1, 2 * GRACE, False),
        (Kind.ZOMBIE, True, 2, SECOND, True),
        (Kind.RETURNED, False, 1, timedelta(0), True),
        (Kind.MISSING, False, 9, 9 * GRACE, False),
    ],
)
def test_nothing_is_stopped_before_its_time(
    kind: Kind, went_on: bool, looks: int, age: timedelta, due: bool
) -> None:
    found = finding(kind, went_on=went_on, looks=looks, since=NOON - age)
    assert found.is_due(NOON, GRACE) is due


def test_looks_are_counted_for_as_long_as_they_find_the_same() -> None:
    looks, here = Looks(), {"local"}
    (first,) = looks.note([finding()], here, NOON)
    assert (first.looks, first.since) == (1, NOON)
    (second,) = looks.note([finding()], here, NOON + SECOND)
    assert (second.looks, second.since) == (2, NOON)
    assert looks.note([], here, NOON + 2 * SECOND) == []
    (again,) = looks.note([finding()], here, NOON + 3 * SECOND)
    assert (again.looks, again.since) == (1, NOON + 3 * SECOND)
    # What it is has changed: that is another finding.
    (other,) = looks.note([finding(Kind.ZOMBIE)], here, NOON + 4 * SECOND)
    assert (other.looks, other.since) == (1, NOON + 4 * SECOND)


def test_an_outpost_that_cannot_be_asked_is_no_look() -> None:
    looks = Looks()
    looks.note([finding()], {"local"}, NOON)
    assert looks.note([], set(), NOON + SECOND) == []
    (second,) = looks.note([finding()], {"local"}, NOON + GRACE)
    assert (second.looks, second.since) == (2, NOON)


def test_a_clock_set_back_makes_nobody_older() -> None:
    looks = Looks()
    looks.note([finding()], {"local"}, NOON)
    earlier = NOON - 24 * timedelta(hours=1)
    (found,) = looks.note([finding()], {"local"}, earlier)
    assert found.since == earlier
    assert not found.is_due(earlier + GRACE - SECOND, GRACE)

"""For how long a machine ran, as its events tell."""

from __future__ import annotations

import pytest

from outpost.transports.fly_meter import Run, running_s, runs_of


def told(*pairs: tuple[str, float]) -> list[dict[str, object]]:
    """Return events with these states at these seconds, the newest first, as Fly has them."""
    made = [{"type": "launch", "status": "created", "timestamp": 1000}]
    made += [{"type": "x", "status": state, "timestamp": round(at * 1000)} for state, at in pairs]
    return made[::-1]


@pytest.mark.parametrize(
    ("events", "runs"),
    [
        ((), ()),
        ((("started", 5.0),), (Run(began_at=5, ended_at=None),)),
        (
            (("started", 5.0), ("stopping", 7.0), ("stopped", 7.5), ("stopped", 9.0)),
            (Run(began_at=5, ended_at=7.5),),
        ),
        (
            (("started", 5.0), ("suspended", 6.0), ("started", 8.0), ("destroyed", 9.0)),
            (Run(began_at=5, ended_at=6, frozen=True), Run(began_at=8, ended_at=9)),
        ),
    ],
)
def test_runs_are_read_off_the_events(
    events: tuple[tuple[str, float], ...], runs: tuple[Run, ...]
) -> None:
    assert runs_of(told(*events)) == runs


def test_events_that_do_not_go_back_to_the_beginning_tell_nothing() -> None:
    assert runs_of(told(("started", 5.0))[:-1]) is None


@pytest.mark.parametrize(
    ("since", "seconds"),
    [(0.0, 1 + 3 + 10), (6.0, 3 + 10), (9.0, 2 + 10), (100.0, 0.0)],
)
def test_only_what_ran_for_a_worker_counts(since: float, seconds: float) -> None:
    runs = (
        Run(began_at=5, ended_at=6, frozen=True),
        Run(began_at=8, ended_at=11),
        Run(began_at=20, ended_at=None),
    )
    assert running_s(runs, since=since, now=max(30.0, since)) == seconds

"""The lines of the federation's log on terminals and on a pipe, and as JSON."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console

from outpost.cli.events import transition_document
from outpost.cli.screen import PIPE_COLUMNS
from outpost.cli.transitions import Layout
from outpost.model import State, Transition

NOW = datetime(2026, 11, 21, 9, 30, 1, 250_000, tzinfo=UTC)
WHY = "exited with code 1: tests/test_sessions.py fails in 3 of 97 tests, see the log"
QUEUED = Transition(
    id=1,
    at=NOW,
    task_id="t-c4c4c4c4",
    attempt_id="",
    outpost="",
    before=None,
    after=State.QUEUED,
    by="spawn@laptop:4711",
    reason="",
)
RESERVED = replace(
    QUEUED,
    id=2,
    attempt_id="w-k3f9a2pq",
    outpost="gce-worker-1",
    before=State.QUEUED,
    after=State.RESERVED,
    reason="preference 1 of 2",
)
FAILED = replace(
    RESERVED,
    id=3,
    at=NOW + timedelta(hours=20),
    before=State.WORKING,
    after=State.FAILED,
    by="up@ip-10-0-0-12:1048576",
    reason=f"{WHY}\nand below it",
)
ASKED = replace(RESERVED, before=State.WORKING, after=State.WORKING, reason="asked to stop: lunch")
LOG = (QUEUED, RESERVED, FAILED, ASKED)


def shown(width: int, *, terminal: bool = True, log: tuple[Transition, ...] = LOG) -> list[str]:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, color_system=None, markup=False
    )
    layout = Layout.fitting(log, console)
    for line in (layout.header(), *(line for it in log for line in layout.lines(it))):
        console.print(line)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_at_80_columns_why_stands_below_and_nothing_of_it_is_cut() -> None:
    assert shown(80) == [
        "TIME (UTC)      WORKER      OUTPOST     CHANGE               BY",
        "11-21 09:30:01  t-c4c4c4c4  -           → queued             spawn@laptop:4711",
        "11-21 09:30:01  w-k3f9a2pq  gce-worke…  queued → reserved    spawn@laptop:4711",
        "                preference 1 of 2",
        "11-22 05:30:01  w-k3f9a2pq  gce-worke…  working → failed     up@ip-10-0-0-12:10…",
        "                exited with code 1: tests/test_sessions.py fails in 3 of 97",
        "                tests, see the log and below it",
        "11-21 09:30:01  w-k3f9a2pq  gce-worke…  working              spawn@laptop:4711",
        "                asked to stop: lunch",
    ]


def test_at_160_columns_why_stands_beside_where_it_fits() -> None:
    assert shown(160) == [
        "TIME (UTC)      WORKER      OUTPOST       CHANGE               BY"
        "                       WHY",
        "11-21 09:30:01  t-c4c4c4c4  -             → queued             spawn@laptop:4711",
        "11-21 09:30:01  w-k3f9a2pq  gce-worker-1  queued → reserved    spawn@laptop:4711"
        "        preference 1 of 2",
        "11-22 05:30:01  w-k3f9a2pq  gce-worker-1  working → failed     up@ip-10-0-0-12:1048576",
        f"                {WHY} and below it",
        "11-21 09:30:01  w-k3f9a2pq  gce-worker-1  working              spawn@laptop:4711"
        "        asked to stop: lunch",
    ]


def test_on_a_pipe_a_change_is_one_line_with_its_year_and_nothing_is_cut() -> None:
    assert shown(PIPE_COLUMNS, terminal=False)[2:4] == [
        "2026-11-21T09:30:01Z  w-k3f9a2pq  gce-worker-1  queued → reserved    spawn@laptop:4711"
        "        preference 1 of 2",
        "2026-11-22T05:30:01Z  w-k3f9a2pq  gce-worker-1  working → failed     "
        f"up@ip-10-0-0-12:1048576  {WHY} and below it",
    ]


@pytest.mark.parametrize("width", [72, 80, 100, 120, 160, 240])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = shown(width)
    assert max(cell_len(line) for line in lines) <= width
    assert "".join(lines).count("w-k3f9a2pq") == 3


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_very_narrow_terminal_loses_no_word_of_why(width: int) -> None:
    said = " ".join(" ".join(shown(width)).split())
    assert all(word in said for word in WHY.split() if len(word) < 8)


def test_what_comes_later_and_is_longer_is_whole_on_a_pipe() -> None:
    console = Console(file=io.StringIO(), width=PIPE_COLUMNS)
    layout = Layout.fitting((QUEUED,), console)
    (line,) = layout.lines(FAILED)
    assert "gce-worker-1  working → failed     up@ip-10-0-0-12:1048576  exited" in str(line)


def test_what_comes_later_has_its_usual_room_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    layout = Layout.fitting((), console, ["gce-1"])
    assert "queued → reserved    spawn@laptop:4711" in str(layout.lines(RESERVED)[0])


def test_the_documents() -> None:
    assert transition_document(FAILED) == {
        "id": 3,
        "at": "2026-11-22T05:30:01.250000Z",
        "task": "t-c4c4c4c4",
        "worker": "w-k3f9a2pq",
        "outpost": "gce-worker-1",
        "before": "working",
        "after": "failed",
        "by": "up@ip-10-0-0-12:1048576",
        "reason": f"{WHY}\nand below it",
    }
    alone = transition_document(QUEUED)
    assert [key for key, value in alone.items() if value is None] == ["worker", "outpost", "before"]

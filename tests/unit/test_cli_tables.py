"""The tables at the widths of a narrow and a wide terminal, and on a pipe."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console

from outpost.cli.outposts import load_word, outposts_table, status_word
from outpost.cli.screen import PIPE_COLUMNS
from outpost.cli.workers import workers_table
from outpost.control.overview import OutpostStatus
from outpost.model import AgentSpec, Attempt, Health, State, Task, Usage

LONG = "edits src/app/session_store.py and then runs the whole suite of tests once more"


def attempts() -> list[Attempt]:
    now = datetime.now(UTC)
    first = Attempt(
        id="w-k3f9a2pq",
        task_id="t-1",
        issue_id="keep-the-sessions-of-users-over-a-restart",
        number=1,
        fence=1,
        outpost="local",
        kind="local",
        branch="outpost/x",
        created_at=now - timedelta(minutes=12, seconds=5),
        state=State.WORKING,
        activity=LONG,
        active_at=now - timedelta(seconds=7, milliseconds=200),
        usage=Usage(cost_microusd=1_234_567),
    )
    ended = now - timedelta(hours=2, seconds=5)
    failed = replace(
        first,
        id="w-zz22bb33",
        issue_id="acme/shop#12",
        state=State.FAILED,
        reason="the agent exited 3",
        ended_at=ended,
        usage=Usage(),
    )
    return [first, failed, replace(first, id="w-55667788", issue_id="語の修正", activity="直す")]


def queued() -> Task:
    return Task(
        id="t-c4c4c4c4",
        issue_id="later",
        source="text",
        title="Later",
        body="",
        repo_url="/r",
        created_at=datetime.now(UTC) - timedelta(seconds=3, milliseconds=200),
        agent=AgentSpec(name="claude"),
        reason="local full 2/2",
    )


def shown(width: int, *, terminal: bool) -> list[str]:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, color_system=None, markup=False
    )
    console.print(workers_table(attempts(), [queued()], console))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_at_80_columns_only_names_and_activity_are_cut() -> None:
    assert shown(80, terminal=True) == [
        "WORKER      ISSUE             OUTPOST  STATE    AGE   COST  AGO  LAST ACTIVITY",
        "w-k3f9a2pq  keep-the-sessio…  local    working  12m  $1.23   7s  edits src/app/…",
        "w-zz22bb33  acme/shop#12      local    failed   12m      -   2h  the agent exit…",
        "w-55667788  語の修正          local    working  12m  $1.23   7s  直す",
        "t-c4c4c4c4  later             -        queued    3s      -    -  waits: local f…",
    ]


def test_at_160_columns_the_activity_takes_what_is_left() -> None:
    lines = shown(160, terminal=True)
    assert lines[1] == (
        "w-k3f9a2pq  keep-the-sessions-of-users-over…  local    working  12m  $1.23   7s  " + LONG
    )


def test_on_a_pipe_nothing_is_cut() -> None:
    lines = shown(PIPE_COLUMNS, terminal=False)
    assert lines == [
        "WORKER      ISSUE                                      OUTPOST  STATE    AGE   COST  AGO"
        "  LAST ACTIVITY",
        "w-k3f9a2pq  keep-the-sessions-of-users-over-a-restart  local    working  12m  $1.23   7s"
        f"  {LONG}",
        "w-zz22bb33  acme/shop#12                               local    failed   12m      -   2h"
        "  the agent exited 3",
        "w-55667788  語の修正                                   local    working  12m  $1.23   7s"
        "  直す",
        "t-c4c4c4c4  later                                      -        queued    3s      -    -"
        "  waits: local full 2/2",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 72, 80, 100, 120, 160, 240])
def test_ids_stand_whole_at_every_width_and_no_line_is_wider(width: int) -> None:
    lines = shown(width, terminal=True)
    assert [line[:10] for line in lines[1:]] == [
        "w-k3f9a2pq",
        "w-zz22bb33",
        "w-55667788",
        "t-c4c4c4c4",
    ]
    assert max(cell_len(line) for line in lines) <= width


STATUS = OutpostStatus(
    name="local",
    kind="local",
    active=1,
    max_workers=4,
    enabled=True,
    health=Health(ok=True),
)


@pytest.mark.parametrize(
    ("status", "load", "word"),
    [
        (STATUS, "1/4", "ok"),
        (replace(STATUS, max_workers=None), "1", "ok"),
        (replace(STATUS, active=4), "4/4", "full"),
        (replace(STATUS, enabled=False), "1/4", "disabled"),
        (
            replace(STATUS, active=4, health=Health(ok=False, detail="git is not installed")),
            "4/4",
            "unhealthy: git is not installed",
        ),
    ],
)
def test_an_outpost_in_two_words(status: OutpostStatus, load: str, word: str) -> None:
    assert (load_word(status), status_word(status)) == (load, word)


def test_the_table_of_outposts() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, color_system=None)
    full = replace(STATUS, name="gce-worker-1", kind="ssh", active=12, max_workers=12)
    console.print(outposts_table([STATUS, full], console))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "NAME          TYPE   WORKERS  STATUS",
        "local         local  1/4      ok",
        "gce-worker-1  ssh    12/12    full",
    ]

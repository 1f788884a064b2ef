"""What is said of the controller: a line, what is wrong with it, its loops."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from outpost.cli.standing import (
    SILENT_S,
    standing_details,
    standing_document,
    standing_lines,
)
from outpost.control.loops import LoopStanding
from outpost.controller import Standing

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SUPERVISE = LoopStanding(
    name="supervise",
    every_s=1.0,
    rounds=1800,
    round_at="2026-11-21T09:29:58.5+00:00",
    round_s=0.012,
    lag_s=0.001,
    doing="follows 12 workers",
)
SWEEP = LoopStanding(
    name="sweep",
    every_s=600.0,
    rounds=3,
    round_at="2026-11-21T09:20:30+00:00",
    round_s=95.26,
    lag_s=1.4,
)
BEGINS = LoopStanding(name="expire", every_s=5.0)
OLD = Standing(
    pid=4711,
    started_at="2026-11-21T09:00:00+00:00",
    round_at="2026-11-21T09:29:58.5+00:00",
    rounds=1800,
)
UP = replace(OLD, loops=(SUPERVISE, SWEEP))
NEW = Standing(pid=0, started_at="")
AWAY = replace(SUPERVISE, trouble="the server\nis away", failures=1)
LINE = "A controller is up, process 4711; its last round was 1s ago"


def lines(standing: Standing | None, *, needed: bool = True) -> list[str]:
    return [line.plain for line in standing_lines(standing, NOW, needed=needed)]


@pytest.mark.parametrize(
    ("standing", "needed", "line", "style"),
    [
        (UP, True, f"{LINE}.", ""),
        (OLD, True, f"{LINE}.", ""),
        (NEW, True, "A controller is up; its first round goes on.", ""),
        (None, False, "No controller is up, and none is needed.", ""),
        (None, True, "No controller is up. To have these looked after: outpost up", "yellow"),
    ],
)
def test_one_that_is_well_costs_a_line(
    standing: Standing | None, needed: bool, line: str, style: str
) -> None:
    (shown,) = standing_lines(standing, NOW, needed=needed)
    assert (shown.plain, shown.style) == (line, style)


def test_one_that_goes_round_no_more_stands_out() -> None:
    (shown,) = standing_lines(UP, NOW + timedelta(seconds=SILENT_S), needed=True)
    assert (shown.plain[-26:], shown.style) == ("its last round was 3m ago.", "yellow")


def test_every_trouble_has_a_line() -> None:
    failing = replace(SWEEP, trouble="no room on the disk", failures=3)
    troubled = replace(UP, loops=(AWAY, BEGINS, failing), trouble="supervise: the server\nis away")
    assert lines(troubled) == [
        f"{LINE}, with trouble:",
        "  supervise failed 1s ago: the server is away",
        "  expire has not come round for 30m",
        "  sweep failed 3 times in a row, last 9m ago: no room on the disk",
    ]
    assert lines(replace(UP, trouble="outposts.yaml: no\nmapping")) == [
        f"{LINE}, with trouble:",
        "  outposts.yaml: no mapping",
    ]
    assert standing_lines(troubled, NOW, needed=True)[0].style == "yellow"


def test_a_loop_is_late_by_its_own_measure_and_says_what_it_is_about() -> None:
    def after(loop: LoopStanding, seconds: float) -> list[str]:
        last = datetime.fromisoformat(UP.round_at) - timedelta(seconds=seconds)
        return lines(replace(UP, loops=(replace(loop, round_at=last.isoformat()),)))

    assert after(SWEEP, SILENT_S + 600) == [f"{LINE}."]
    assert after(SWEEP, SILENT_S + 601)[1:] == ["  sweep has not come round for 13m"]
    assert after(SUPERVISE, SILENT_S + 2)[1:] == [
        "  supervise has not come round for 3m: follows 12 workers"
    ]


def test_the_table_of_loops() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, color_system=None)
    told = replace(UP, loops=(*UP.loops, BEGINS), config="/etc/outposts.yaml", idle=True)
    for part in standing_details(told, NOW, console):
        console.print(part)
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "process        4711",
        "up since       2026-11-21T09:00:00Z (30m ago)",
        "configuration  /etc/outposts.yaml",
        "leaves         once nothing is to do",
        "",
        "LOOP       EVERY  ROUNDS  AGO  TOOK   LAG  DOING",
        "supervise     1s   1,800   1s  12ms   1ms  follows 12 workers",
        "sweep        10m       3   9m    1m  1.4s  -",
        "expire        5s       0    -     -     -  -",
    ]


def test_the_document() -> None:
    assert standing_document(None) is None
    assert standing_document(replace(UP, loops=(AWAY, BEGINS))) == {
        "pid": 4711,
        "started_at": "2026-11-21T09:00:00Z",
        "round_at": "2026-11-21T09:29:58.500000Z",
        "round_s": 0.012,
        "rounds": 1800,
        "trouble": None,
        "loops": [
            {
                "name": "supervise",
                "every_s": 1.0,
                "doing": "follows 12 workers",
                "rounds": 1800,
                "round_at": "2026-11-21T09:29:58.500000Z",
                "round_s": 0.012,
                "lag_s": 0.001,
                "trouble": "the server\nis away",
                "failures": 1,
            },
            {
                "name": "expire",
                "every_s": 5.0,
                "doing": "",
                "rounds": 0,
                "round_at": None,
                "round_s": None,
                "lag_s": None,
                "trouble": None,
                "failures": 0,
            },
        ],
    }
    new = standing_document(NEW)
    assert new == {**dict.fromkeys(new or {}), "rounds": 0, "loops": []}

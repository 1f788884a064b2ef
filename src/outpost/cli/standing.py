"""Whether a controller is up and how it and its loops do: in a line, at length, for programs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from outpost.cli.documents import Document, instant
from outpost.cli.phrases import NOTHING, one_line, since, span, to_the_second

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from outpost.control.loops import LoopStanding
    from outpost.controller import Standing

SILENT_S = 180
"""A loop pauses for a minute at most beyond its usual time; one that is later than this hangs."""


def standing_document(standing: Standing | None) -> Document | None:
    """Return what a controller says of itself, ``None`` where none is up.

    One that has only just begun knows neither its process nor a round yet. ``round_s`` is the
    longest last round of any loop.
    """
    if standing is None:
        return None
    rounds_s = [loop.round_s for loop in standing.loops if loop.rounds]
    return {
        "pid": standing.pid or None,
        "started_at": instant(_moment(standing.started_at)),
        "round_at": instant(_moment(standing.round_at)),
        "round_s": max(rounds_s, default=None),
        "rounds": standing.rounds,
        "trouble": standing.trouble or None,
        "loops": [_loop_document(loop) for loop in standing.loops],
    }


def _loop_document(loop: LoopStanding) -> Document:
    return {
        "name": loop.name,
        "every_s": loop.every_s,
        "doing": loop.doing,
        "rounds": loop.rounds,
        "round_at": instant(_moment(loop.round_at)),
        "round_s": loop.round_s if loop.rounds else None,
        "lag_s": loop.lag_s if loop.rounds else None,
        "trouble": loop.trouble or None,
        "failures": loop.failures,
    }


def standing_lines(standing: Standing | None, now: datetime, *, needed: bool) -> list[Text]:
    """Say in a line whether a controller is up, and below it what is wrong, if anything is.

    ``needed`` is whether anything runs or waits.
    """
    from rich.text import Text  # noqa: PLC0415 - JSON does without rich

    if standing is None:
        if needed:
            return [Text("No controller is up. To have these looked after: outpost up", "yellow")]
        return [Text("No controller is up, and none is needed.")]
    process = f", process {standing.pid}" if standing.pid else ""
    round_at = _moment(standing.round_at)
    if round_at is None:
        return [Text(f"A controller is up{process}; its first round goes on.")]
    said = f"A controller is up{process}; its last round was {since(round_at, now)} ago"
    troubles = list(_troubles(standing, round_at, now))
    if troubles:
        return [Text(f"{said}, with trouble:", "yellow"), *(Text(f"  {it}") for it in troubles)]
    return [Text(f"{said}.", "yellow" if _silent(round_at, now) else "")]


def standing_details(standing: Standing, now: datetime, console: Console) -> list[RenderableType]:
    """Return all that a controller says of itself, with a table of its loops."""
    from outpost.cli.screen import Column, pairs, table  # noqa: PLC0415 - JSON does without rich

    started_at = _moment(standing.started_at)
    since_start = (
        f"{to_the_second(started_at)} ({since(started_at, now)} ago)" if started_at else ""
    )
    known = {
        "process": str(standing.pid or ""),
        "up since": since_start,
        "configuration": standing.config,
        "leaves": "once nothing is to do" if standing.idle else "",
    }
    shown: list[RenderableType] = [pairs((name, it) for name, it in known.items() if it)]
    columns = (
        Column("LOOP"),
        Column("EVERY", right=True),
        Column("ROUNDS", right=True),
        Column("AGO", right=True),
        Column("TOOK", right=True),
        Column("LAG", right=True),
        Column("DOING", flexible=True),
    )
    rows = [_row(loop, now) for loop in standing.loops]
    return [*shown, "", table(columns, rows, console)] if rows else shown


def _row(loop: LoopStanding, now: datetime) -> list[str]:
    known = loop.rounds > 0
    return [
        loop.name,
        _short(loop.every_s),
        f"{loop.rounds:,}",
        since(_moment(loop.round_at), now),
        _short(loop.round_s) if known else NOTHING,
        _short(loop.lag_s) if known else NOTHING,
        one_line(loop.doing) or NOTHING,
    ]


def _troubles(standing: Standing, round_at: datetime, now: datetime) -> Iterator[str]:
    """Yield a line for each thing that is wrong."""
    named = {f"{loop.name}: {loop.trouble}" for loop in standing.loops if loop.trouble}
    if standing.trouble and standing.trouble not in named:
        yield one_line(standing.trouble)
    begun = _moment(standing.started_at) or round_at
    for loop in standing.loops:
        last = _moment(loop.round_at) or begun
        ago = f"{since(last, now)} ago"
        if loop.trouble:
            times = f"{loop.failures} times in a row, last {ago}" if loop.failures > 1 else ago
            yield f"{loop.name} failed {times}: {one_line(loop.trouble)}"
        # As it was when it was written: one that is dead silent has no loop that is late.
        elif _silent(last, round_at, loop.every_s):
            doing = f": {one_line(loop.doing)}" if loop.doing else ""
            yield f"{loop.name} has not come round for {since(last, now)}{doing}"


def _silent(last: datetime, now: datetime, every_s: float = 0.0) -> bool:
    return (now - last).total_seconds() > SILENT_S + every_s


def _short(seconds: float) -> str:
    """Return a time that may be very short: ``0ms``, ``12ms``, ``1.4s``, ``3m``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s".replace(".0s", "s") if seconds < 60 else span(seconds)


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

"""The table of workers, which several commands show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from outpost.cli.phrases import NOTHING, STYLES, activity, dollars, one_line, since
from outpost.cli.screen import Cell, Column, Row, table
from outpost.model import Attempt, State, Task

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_FREE: Mapping[str, int] = {}
COLUMNS = (
    Column("WORKER"),
    Column("ISSUE", share=1 / 5),
    Column("OUTPOST", share=1 / 8),
    Column("STATE"),
    Column("AGE", right=True),
    Column("COST", right=True),
    Column("AGO", right=True),
    Column("LAST ACTIVITY", flexible=True),
)


def workers_table(
    attempts: Sequence[Attempt],
    queued: Sequence[Task],
    console: Console,
    compute: Mapping[str, int] = _FREE,
) -> RenderableType:
    """Return the workers, oldest first, and below them the tasks that wait for a slot.

    What a worker costs is its tokens and, of those in ``compute``, its place.
    """
    now = datetime.now(UTC)
    rows = [_worker(attempt, now, compute.get(attempt.id)) for attempt in attempts]
    return table(COLUMNS, rows + [_queued(task, now) for task in queued], console)


def _worker(attempt: Attempt, now: datetime, compute: int | None) -> Row:
    tokens = attempt.usage.cost_microusd
    cost = tokens if compute is None else (tokens or 0) + compute
    # One out of contact may have gone on with its work; what counts is since when.
    last = attempt.seen_at if attempt.state is State.UNKNOWN else attempt.active_at
    return (
        Cell(attempt.id, "bold"),
        one_line(attempt.issue_id),
        attempt.outpost,
        Cell(attempt.state.value, STYLES[attempt.state]),
        since(attempt.created_at, now),
        dollars(cost),
        since(attempt.ended_at or last, now),
        activity(attempt),
    )


def _queued(task: Task, now: datetime) -> Row:
    return (
        task.id,
        one_line(task.issue_id),
        task.outpost or NOTHING,
        Cell(task.state.value, STYLES[task.state]),
        since(task.created_at, now),
        NOTHING,
        NOTHING,
        f"waits: {one_line(task.reason)}" if task.reason else "waits for a slot",
    )

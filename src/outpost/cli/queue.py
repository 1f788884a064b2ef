"""``outpost queue``: the tasks that wait, in the order in which they will start."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.documents import Document, instant, print_json, queued_document
from outpost.cli.options import ConfigOption, JsonOption, run
from outpost.cli.phrases import one_line, since, span

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from outpost.cli.screen import Row
    from outpost.federation import Federation
    from outpost.model import Task

app = typer.Typer()


@app.command()
def queue(
    limit: Annotated[
        int, typer.Option("-n", "--limit", metavar="N", min=1, help="Show the first N.")
    ] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the tasks that wait, in the order they will start.

    The most urgent start first; 6 hours of waiting make up for one priority.
    """

    async def work(federation: Federation) -> None:
        tasks = await federation.queued(limit=limit)
        length = await federation.queue_length()
        if as_json:
            documents = [_document(place, task) for place, task in enumerate(tasks, 1)]
            print_json({"length": length, "tasks": documents})
        elif tasks:
            _print(tasks, length)
        else:
            typer.echo("Nothing waits. What runs: outpost ps")

    run(config, work, read_only=True)


def _document(place: int, task: Task) -> Document:
    return {
        "position": place,
        "task": task.id,
        "issue": task.issue_id,
        "title": task.title,
        "priority": task.priority.name,
        "outpost": task.outpost,
        "reason": task.reason,
        "retries": task.retries,
        "due_at": instant(task.due_at),
        "created_at": queued_document(task)["created_at"],
    }


def _print(tasks: list[Task], length: int) -> None:
    from rich.text import Text  # noqa: PLC0415 - JSON does without rich

    from outpost.cli.screen import make_console, show  # noqa: PLC0415 - as above
    from outpost.model.tasks import AGEING  # noqa: PLC0415 - as above

    console = make_console()
    shown: list[RenderableType] = [_table(tasks, console)]
    if length > len(tasks):
        more = f"and {length - len(tasks):,} more; all of them: outpost queue -n {length}"
        shown.append(Text(more))
    if console.is_terminal:
        shown += ["", Text("All that keeps one waiting: outpost explain TASK", "dim")]
        if length > 1:
            ageing = span(AGEING.total_seconds())
            rule = f"The most urgent start first; {ageing} of waiting make up for one priority."
            shown.append(Text(rule, "dim"))
    show(*shown, console=console)


def _table(tasks: list[Task], console: Console) -> RenderableType:
    from outpost.cli.screen import Column, table  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    columns = (
        Column("#", right=True),
        Column("TASK"),
        Column("ISSUE", share=1 / 4),
        Column("PRIORITY"),
        Column("AGE", right=True),
        Column("WAITS FOR", flexible=True),
    )
    rows = [_row(place, task, now) for place, task in enumerate(tasks, 1)]
    return table(columns, rows, console)


def _row(place: int, task: Task, now: datetime) -> Row:
    from outpost.cli.screen import Cell  # noqa: PLC0415 - as above

    return (
        str(place),
        Cell(task.id, "bold"),
        one_line(task.issue_id),
        task.priority.name,
        since(task.created_at, now),
        waits_for(task, now),
    )


def waits_for(task: Task, now: datetime) -> str:
    """Say what a queued task waits for: room, its outpost, or the time of its next try."""
    reason = one_line(task.reason) or "a slot"
    if task.due_at is not None and task.due_at > now:
        return f"{since(now, task.due_at)} before it is tried again: {reason}"
    return reason

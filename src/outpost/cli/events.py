"""``outpost events``: what happened to tasks and workers: when, by whom, and why."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.documents import Document, instant, print_json_line
from outpost.cli.options import ConfigOption, complete_task, run
from outpost.cli.phrases import to_the_second
from outpost.errors import NotFound, UserError
from outpost.model import Transition

if TYPE_CHECKING:
    from outpost.federation import Federation

app = typer.Typer()

LAST = 50
_PAGE = 1000
_LOOK_AGAIN_S = 0.2
_LOOK_EVERY_S = 5.0
"""How often to look for more where nothing says that there is some."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which part of the log: of one task, the newest ``limit``, none from before ``start``."""

    task_id: str | None = None
    limit: int | None = None
    start: datetime | None = None


@app.command()
def events(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK|WORKER|ISSUE",
            help="Of one task and its workers only: an id or its beginning, an issue, a branch.",
            autocompletion=complete_task,
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("-f", "--follow", help="Go on, where a task is named until it has ended."),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--limit",
            metavar="N",
            min=0,
            help=f"Show the last N; without it {LAST}, or all with --since.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="How far back: such as 2h, or a day, 2026-11-01."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show what became of tasks and workers: when, by whom, why.

    A line for each change of a state, such as queued → reserved.
    """

    async def work(federation: Federation) -> None:
        wanted = Wanted(
            task_id=None if name is None else await _task_id(federation, name),
            limit=LAST if limit is None and since is None else limit,
            start=None if since is None else _start(federation, since),
        )
        put = _put_documents if as_json else _screen(federation, follow)
        shown = False
        async with contextlib.aclosing(log(federation, wanted, follow=follow)) as pieces:
            async for piece in pieces:
                put(piece)
                shown = shown or bool(piece)
        if not (shown or follow or as_json):
            typer.echo(_nothing(wanted))

    run(config, work, read_only=True)


async def log(
    federation: Federation, wanted: Wanted, *, follow: bool = False
) -> AsyncGenerator[Sequence[Transition], None]:
    """Yield what happened, oldest first, in pieces; the first may be empty.

    With ``follow`` it goes on with what happens from now on, of one task until that has ended.
    """
    ended = await _has_ended(federation, wanted.task_id)
    found = await _newest(federation, wanted)
    newest = found[-1].id if found else 0
    shown = [it for it in found if wanted.start is None or it.at >= wanted.start]
    yield shown if wanted.limit is None else shown[len(shown) - min(wanted.limit, len(shown)) :]
    # What is written before the first wait wakes nobody.
    pause_s = _LOOK_AGAIN_S
    while follow and not ended:
        await federation.wait_for_change(pause_s)
        pause_s = _LOOK_EVERY_S
        ended = await _has_ended(federation, wanted.task_id)
        more = await federation.transitions(after=newest, task_id=wanted.task_id)
        if more:
            newest = more[-1].id
            yield more


async def _newest(federation: Federation, wanted: Wanted) -> list[Transition]:
    """Return the newest of the log, as many as are wanted or more."""
    # One at least: it says where to go on.
    size = _PAGE if wanted.limit is None else max(1, wanted.limit)
    while True:
        found = await federation.transitions(limit=size, task_id=wanted.task_id)
        whole = len(found) < size or wanted.limit is not None
        if whole or (wanted.start is not None and found[0].at < wanted.start):
            return found
        size *= 4


async def _has_ended(federation: Federation, task_id: str | None) -> bool:
    if task_id is None:
        return False
    try:
        return (await federation.task(task_id)).state.ended
    except NotFound:
        return True


async def _task_id(federation: Federation, name: str) -> str:
    """Return the id of the task that ``name`` means, of an issue the newest; else ``NotFound``."""
    tasks = await federation.store.find_tasks(name)
    if tasks:
        return tasks[0].id
    try:
        return (await federation.worker(name)).attempt.task_id
    except NotFound:
        # The log goes back further than what it tells of.
        if await federation.transitions(task_id=name, limit=1):
            return name
        raise


def _start(federation: Federation, since: str) -> datetime:
    """Return the instant that ``--since`` names. Raises ``UserError``."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - rarely asked for

    from outpost.cli.cost import beginning  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    start = beginning(since, now, ZoneInfo(federation.config.budget.time_zone))
    if start > now:
        raise UserError(f"--since: '{since[:40]}' is yet to come", hint="for example: --since 2h")
    return start


def _nothing(wanted: Wanted) -> str:
    """Say that there is nothing to show, and what else to do."""
    if wanted.limit == 0:
        return "Nothing was asked for. The last one: outpost events -n 1"
    if wanted.start is not None:
        return f"Nothing happened since {to_the_second(wanted.start)}. Earlier: outpost events"
    if wanted.task_id is not None:
        known = f"outpost explain {wanted.task_id}"
        return f"Nothing is logged of {wanted.task_id} any more. What is known of it: {known}"
    return "Nothing has happened yet. Start a worker: outpost spawn ISSUE"


def _put_documents(piece: Sequence[Transition]) -> None:
    for transition in piece:
        print_json_line(transition_document(transition))


def transition_document(transition: Transition) -> Document:
    """Return a line of the log; ``worker`` and ``outpost`` are null for what a task did alone."""
    before = transition.before
    return {
        "id": transition.id,
        "at": instant(transition.at),
        "task": transition.task_id,
        "worker": transition.attempt_id or None,
        "outpost": transition.outpost or None,
        "before": None if before is None else before.value,
        "after": transition.after.value,
        "by": transition.by,
        "reason": transition.reason,
    }


def _screen(federation: Federation, follow: bool) -> Callable[[Sequence[Transition]], None]:
    """Return what shows pieces of the log below each other, in columns as wide as the first's."""
    from outpost.cli.screen import make_console, show  # noqa: PLC0415 - JSON does without rich
    from outpost.cli.transitions import Layout  # noqa: PLC0415 - as above

    console = make_console()
    outposts = [outpost.name for outpost in federation.config.outposts]
    layout: Layout | None = None

    def put(piece: Sequence[Transition]) -> None:
        nonlocal layout
        if layout is None and (piece or follow):
            layout = Layout.fitting(piece, console, outposts if follow else ())
            show(layout.header(), console=console)
        if layout is not None and piece:
            show(*(line for it in piece for line in layout.lines(it)), console=console)

    return put

"""``outpost status``: all of it at a glance, or everything known of an outpost or a worker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.asking import open_question, questions
from outpost.cli.documents import (
    Document,
    attempt_document,
    charge_document,
    decision_document,
    outpost_document,
    print_json,
    queued_document,
    task_document,
)
from outpost.cli.following import duty_document
from outpost.cli.glance import View, look
from outpost.cli.names import worker_or_task
from outpost.cli.options import ConfigOption, JsonOption, complete_target, run
from outpost.cli.outposts import outposts_table, status_word
from outpost.cli.ps import empty
from outpost.cli.standing import standing_details, standing_document, standing_lines
from outpost.errors import UserError
from outpost.model import Decision, State, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from outpost.control.overview import OutpostStatus
    from outpost.federation import Federation, SpawnedWorker

app = typer.Typer()


@app.command()
def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="OUTPOST|WORKER",
            help="An outpost's name; or a worker's id, issue or branch.",
            autocompletion=complete_target,
        ),
    ] = None,
    controller: Annotated[
        bool, typer.Option("--controller", help="Show all about the controller and its loops.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show it all at a glance, or all about one outpost or worker."""
    if controller and name is not None:
        raise UserError(
            "--controller and a name exclude each other", hint="outpost status --controller"
        )

    async def show(federation: Federation) -> None:
        if controller:
            await _controller(federation, as_json)
            return
        outposts = [outpost.name for outpost in federation.config.outposts]
        if name is None:
            await _overview(federation, as_json)
            return
        if name in outposts:
            await _outpost(federation, name, as_json)
            return
        found = await worker_or_task(federation, name, or_outpost=True)
        if isinstance(found, Task):
            await _queued(federation, found, as_json)
        else:
            await _worker(federation, found, as_json)

    run(config, show, read_only=True)


async def _overview(federation: Federation, as_json: bool) -> None:
    """Show all outposts with what runs there, and whether a controller looks after it."""
    from outpost.controller import standing  # noqa: PLC0415 - here only

    statuses = await federation.outposts()
    view = await look(federation, whole=as_json)
    counts = await federation.count_by_state()
    running = standing(federation.home)
    if as_json:
        document = _document(statuses, view)
        document["tasks"] = {state.value: counts.get(state, 0) for state in State}
        document["controller"] = standing_document(running)
        print_json(document)
        return
    from outpost.cli.screen import make_console, show  # noqa: PLC0415 - JSON does without rich

    console = make_console()
    show(outposts_table(statuses, console), "", *_workers(view, console), "", console=console)
    ended = [f"{counts[state]} {state}" for state in State if state.ended and counts.get(state)]
    if ended:
        show(f"Ended: {', '.join(ended)}. All of them: outpost ps -a", console=console)
    needed = bool(view.attempts or view.queued)
    show(*standing_lines(running, federation.clock.now(), needed=needed), console=console)


async def _controller(federation: Federation, as_json: bool) -> None:
    """Show how the controller of this home is, and each of its loops."""
    from outpost.controller import standing  # noqa: PLC0415 - here only

    running = standing(federation.home)
    if as_json:
        print_json(standing_document(running))
        return
    from outpost.cli.screen import make_console, show  # noqa: PLC0415 - JSON does without rich

    console, now = make_console(), federation.clock.now()
    needed = bool(await federation.store.attempts(limit=1) or await federation.queue_length())
    show(*standing_lines(running, now, needed=needed), console=console)
    if running is not None and running.pid:
        show("", *standing_details(running, now, console), console=console)


async def _outpost(federation: Federation, name: str, as_json: bool) -> None:
    """Show all about one outpost, with what runs there."""
    statuses = [status for status in await federation.outposts() if status.name == name]
    both = await look(federation, whole=True)
    view = View(
        [attempt for attempt in both.attempts if attempt.outpost == name],
        [task for task in both.queued if task.outpost == name],
        compute=both.compute,
    )
    if as_json:
        print_json(_document(statuses, view))
        return
    from outpost.cli.screen import make_console, show  # noqa: PLC0415 - JSON does without rich

    console = make_console()
    details = _details(statuses[0], federation.config.budget.time_zone, console)
    table = outposts_table(statuses, console)
    show(table, *details, "", *_workers(view, console), console=console)


def _document(statuses: Sequence[OutpostStatus], view: View) -> Document:
    return {
        "outposts": [outpost_document(status, status_word(status)) for status in statuses],
        "workers": [attempt_document(attempt) for attempt in view.attempts],
        "queued": [queued_document(task) for task in view.queued],
    }


def _workers(view: View, console: Console) -> list[RenderableType]:
    from outpost.cli.workers import workers_table  # noqa: PLC0415 - JSON does without rich

    if not (view.attempts or view.queued):
        return [empty({})]
    table = workers_table(view.attempts, view.queued, console, view.compute)
    return [table, *view.hints(), *questions(view.attempts, console)]


def _details(status: OutpostStatus, zone: str, console: Console) -> list[RenderableType]:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - here only

    from outpost.cli.outpost_details import outpost_details  # noqa: PLC0415 - as above

    return outpost_details(status, datetime.now(UTC), ZoneInfo(zone), console)


async def _queued(federation: Federation, task: Task, as_json: bool) -> None:
    decision = await federation.decision(task.id)
    if as_json:
        extra = {"asked": task_document(task), "decision": decision_document(decision)}
        print_json({**queued_document(task), **extra})
        return
    from outpost.cli.details import place_in_queue, queued_details  # noqa: PLC0415 - JSON does without rich
    from outpost.cli.screen import pairs, show  # noqa: PLC0415 - as above

    position = await federation.store.queue_length(before=task) + 1
    place = place_in_queue(position, await federation.queue_length())
    show(pairs(queued_details(task, decision, datetime.now(UTC), place)))


async def _worker(federation: Federation, worker: SpawnedWorker, as_json: bool) -> None:
    attempt = await worker.status()
    question = await open_question(worker) if attempt.state is State.WAITING else None
    task = await federation.task(attempt.task_id)
    decision: Decision | None = await federation.decision(attempt.task_id)
    duties = await federation.store.duties_of(attempt.task_id)
    now = datetime.now(UTC)
    charge = await federation.store.charge(attempt.id)
    if charge is not None:
        from outpost.control.costs import as_seen  # noqa: PLC0415 - here only

        charge = as_seen(charge, attempt, now)
    if as_json:
        extra = {
            "asked": task_document(task),
            "decision": decision_document(decision),
            "follow_up": [duty_document(duty) for duty in duties],
            "question": question.document() if question else None,
            "charge": charge_document(charge, now),
        }
        print_json({**attempt_document(attempt), **extra})
        return
    from outpost.cli.details import worker_details  # noqa: PLC0415 - JSON does without rich
    from outpost.cli.screen import pairs, show  # noqa: PLC0415 - as above

    rows = worker_details(attempt, task, decision, now, duties, question, charge)
    show(pairs(rows))

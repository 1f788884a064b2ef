"""``outpost explain``: what was decided about a task and why, and what would be decided now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.documents import (
    Document,
    attempt_document,
    charge_document,
    decision_document,
    print_json,
    queued_document,
    task_document,
)
from outpost.cli.options import ConfigOption, JsonOption, complete_task, run
from outpost.cli.phrases import STYLES, one_line, since

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from outpost.cli.details import Details
    from outpost.control.explain import Explanation
    from outpost.federation import Federation
    from outpost.model import Attempt, Decision

app = typer.Typer()


@app.command()
def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TASK|WORKER|ISSUE",
            help="A task's or a worker's id or its beginning, an issue, or a branch.",
            autocompletion=complete_task,
        ),
    ],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show why a task runs where it does, or why it waits.

    Every outpost with its price and what spoke for or against it; of a task that waits also as
    it is now.
    """

    async def work(federation: Federation) -> None:
        explanation = await federation.explain(name)
        if explanation.attempts and not explanation.attempts[-1].state.ended:
            worker = await federation.worker(explanation.attempts[-1].id)
            explanation = explanation.as_seen(await worker.status(), datetime.now(UTC))
        now = datetime.now(UTC)
        if as_json:
            print_json(_document(explanation, now))
        else:
            _print(explanation, await federation.queue_length(), now)

    run(config, work, read_only=True)


def _document(explanation: Explanation, now: datetime) -> Document:
    return {
        **{
            key: queued_document(explanation.task)[key]
            for key in ("task", "issue", "state", "reason", "created_at")
        },
        "position": explanation.position,
        "asked": task_document(explanation.task),
        "attempts": [attempt_document(attempt) for attempt in explanation.attempts],
        "decision": decision_document(explanation.decision),
        "now": decision_document(explanation.now),
        "charge": charge_document(explanation.charge, now),
    }


def _print(explanation: Explanation, queue_length: int, now: datetime) -> None:
    from outpost.cli.screen import make_console, pairs, show  # noqa: PLC0415 - JSON: no rich

    console = make_console()
    shown: list[RenderableType] = [pairs(_rows(explanation, queue_length, now)), ""]
    shown += _decisions(explanation, now, console)
    show(*shown, console=console)


def _rows(explanation: Explanation, queue_length: int, now: datetime) -> Details:
    from outpost.cli.details import place_in_queue  # noqa: PLC0415 - with the screen
    from outpost.cli.money import cost_rows  # noqa: PLC0415 - as above
    from outpost.cli.screen import Cell  # noqa: PLC0415 - as above

    task = explanation.task
    rows: Details = [
        ("task", Cell(task.id, "bold")),
        ("issue", one_line(task.issue_id)),
        ("title", one_line(task.title)),
        ("priority", task.priority.name),
        ("state", Cell(task.state.value, STYLES[task.state])),
    ]
    if explanation.now is not None and not _knows(explanation.now, task.outpost):
        rows.append(("reason", one_line(task.reason)))
    if explanation.position is not None:
        rows.append(("place", place_in_queue(explanation.position, queue_length)))
    if task.due_at is not None and task.due_at > now:
        rows.append(("tried again", f"in {since(now, task.due_at)}"))
    rows += [("attempt", _attempt(attempt, now)) for attempt in explanation.attempts]
    if explanation.charge:
        rows += cost_rows(explanation.charge, now)
    return rows


def _knows(decision: Decision, outpost: str | None) -> bool:
    """Whether the outpost that a task is for, if it is for one, is among those decided about."""
    refused = (it.outpost for it in decision.refused)
    return outpost is None or outpost in (*decision.candidates, *refused)


def _attempt(attempt: Attempt, now: datetime) -> str:
    """Say what became of an attempt, and why if it did not go well."""
    ended = f" {since(attempt.ended_at, now)} ago" if attempt.ended_at else ""
    reason = f": {one_line(attempt.reason)}" if attempt.reason else ""
    return f"{attempt.id} on {attempt.outpost}, {attempt.state}{ended}{reason}"


def _decisions(explanation: Explanation, now: datetime, console: Console) -> list[RenderableType]:
    """Return the stored decision, and the one of now unless it is no other."""
    stored, fresh = explanation.decision, explanation.now
    if stored is None and fresh is None:
        return ["Nothing has been decided yet."]
    shown: list[RenderableType] = []
    if stored is not None:
        same = fresh is not None and _alike(stored, fresh)
        still = ", and no different now" if same else ""
        shown += _decision(f"decided {since(stored.decided_at, now)} ago{still}", stored, console)
        if same:
            return shown
    if fresh is not None:
        shown += (
            ["", *_decision("as of now", fresh, console)]
            if shown
            else _decision("as of now", fresh, console)
        )
    return shown


def _decision(when: str, decision: Decision, console: Console) -> list[RenderableType]:
    from rich.text import Text  # noqa: PLC0415 - JSON does without rich

    from outpost.cli.candidates import candidates  # noqa: PLC0415 - as above

    outcome = f"on {decision.chosen}" if decision.chosen else "waits"
    heading = Text.assemble((outcome, "bold"), "  ", (when, "dim"))
    return [heading, *candidates(decision, console)]


def _alike(first: Decision, second: Decision) -> bool:
    """Whether two decisions look the same; what they were reckoned from may differ."""
    verdicts = [
        [(it.outpost, it.code, it.detail, it.estimate) for it in decision.refused]
        for decision in (first, second)
    ]
    return (
        first.ranked == second.ranked and first.notes == second.notes and verdicts[0] == verdicts[1]
    )

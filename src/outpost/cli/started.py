"""What ``outpost spawn`` says: what was started where and why, and what to type next."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from outpost.cli.documents import (
    Document,
    attempt_document,
    decision_document,
    print_json_line,
    queued_document,
    task_document,
)
from outpost.cli.failures import colourful, say
from outpost.cli.lines import fitted
from outpost.cli.phrases import one_line
from outpost.model import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outpost.federation import Federation, SpawnedWorker, Submitted
    from outpost.model import Attempt, Decision, Task


@dataclass(slots=True)
class Begun:
    """What this command has brought about so far: it matters when it is interrupted.

    ``older`` are tasks that waited already and got a slot now, ``refused`` are queued although
    an error was told: the only outpost for them refuses us.
    """

    workers: list[SpawnedWorker] = field(default_factory=list)
    queued: list[Task] = field(default_factory=list)
    older: list[Submitted] = field(default_factory=list)
    refused: list[Task] = field(default_factory=list)


def print_plan(task: Task, decision: Decision, *, as_json: bool) -> None:
    """Say where a task would run now, and why."""
    if as_json:
        document: Document = {
            "issue": task.issue_id,
            "outpost": decision.chosen,
            "asked": task_document(task),
            "decision": decision_document(decision),
        }
        print_json_line(document)
        return
    from outpost.cli.candidates import candidates  # noqa: PLC0415 - JSON does without rich
    from outpost.cli.screen import make_console, show  # noqa: PLC0415 - as above

    verb = _bold(f"would {'start' if decision.chosen else 'queue'}")
    typer.echo(f"{verb} {_issue(task)}")
    console = make_console()
    show(*candidates(decision, console), console=console)


def print_submitted(submitted: Submitted, *, as_json: bool) -> None:
    """Say what became of a task: its worker, where and why there; or why it waits."""
    task, decision, worker = submitted.task, submitted.decision, submitted.worker
    if as_json:
        document = attempt_document(worker.attempt) if worker else queued_document(task)
        if not worker:
            document["reason"] = decision.why()
        print_json_line({**document, "decision": decision_document(decision)})
    elif worker:
        attempt = worker.attempt
        why = one_line(attempt.reason) if is_doubtful(attempt) else decision.why()
        where = fitted(f"on {attempt.outpost}: {why}", 1, 2)
        typer.echo(f"{started_word(attempt)} {_bold(worker.id)}  {_issue(task)}\n  {where}")
    else:
        waits = fitted(f"waits: {decision.why()}", 1, 2)
        typer.echo(f"queued {_bold(task.id)}  {_issue(task)}\n  {waits}")


def is_doubtful(attempt: Attempt) -> bool:
    """Whether nobody knows yet if it was started: its outpost's answer did not come."""
    return attempt.state is State.UNKNOWN and attempt.handle is None


def started_word(attempt: Attempt) -> str:
    """Say of a worker that it was started, or may have been."""
    return "may have been started:" if is_doubtful(attempt) else "started"


async def print_next(federation: Federation, begun: Begun, *, waits: bool) -> None:
    """Print the commands to type next."""
    for submitted in begun.older:
        assert submitted.worker
        runs = "may run" if is_doubtful(submitted.worker.attempt) else "runs"
        name = submitted.worker.id
        say("note", f"{submitted.task.issue_id}, queued before, {runs} as {name}", "33")
    lines = [] if waits else await _commands(federation, begun)
    if lines:
        width = max(len(command) for command, _ in lines)
        shown = (f"  {command.ljust(width)}  {_dim(meaning)}" for command, meaning in lines)
        typer.echo("\n" + "\n".join(shown))


def print_interrupted(begun: Begun) -> None:
    """Say that the workers go on, and how to look at and to stop them."""
    if sys.stderr.isatty():
        # Behind the ^C that the terminal wrote.
        sys.stderr.write("\n")
    if begun.workers:
        names = [worker.id for worker in begun.workers]
        subject = f"worker {names[0]} goes" if len(names) == 1 else f"{len(names)} workers go"
        say("note", f"you no longer wait; {subject} on", "33")
        say("hint", f"outpost ps\noutpost logs -f {names[0]}\noutpost stop {' '.join(names)}", "36")
    if begun.queued:
        names = [task.id for task in begun.queued]
        say("note", f"still queued: {' '.join(names)}; they start once there is room", "33")
        say("hint", f"to take them back: outpost cancel {' '.join(names)}", "36")


async def _commands(federation: Federation, begun: Begun) -> list[tuple[str, str]]:
    lines = []
    sure = [worker for worker in begun.workers if not is_doubtful(worker.attempt)]
    doubtful = [worker for worker in begun.workers if is_doubtful(worker.attempt)]
    if len(begun.workers) > 1:
        lines.append(("outpost ps", "see them all"))
    if sure:
        lines.append((f"outpost logs -f {sure[0].id}", "see what it does"))
        if shown := await _with_a_view(federation, sure):
            lines.append((f"outpost attach {shown.id}", "look over its shoulder"))
        lines.append((f"outpost stop {sure[0].id}", "end it; what it did is pushed"))
    if doubtful:
        lines.append((f"outpost status {doubtful[0].id}", "see whether it was started"))
    if begun.queued:
        lines.append(("outpost queue", "see what waits, and for what"))
        lines.append((f"outpost cancel {begun.queued[0].id}", "take it back"))
    return lines


async def _with_a_view(
    federation: Federation, workers: Sequence[SpawnedWorker]
) -> SpawnedWorker | None:
    """Return the first worker that a terminal can show."""
    for worker in workers:
        if (await federation.capabilities(worker.attempt.outpost)).attach:
            return worker
    return None


def _issue(task: Task) -> str:
    issue, title = one_line(task.issue_id), one_line(task.title)
    return issue if issue == title else f"{issue}  {_dim(title)}"


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colourful(1) else text


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if colourful(1) else text

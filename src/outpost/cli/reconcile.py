"""``outpost reconcile``: compare what really runs with what is stored, and settle what differs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.complaints import complain
from outpost.cli.documents import print_json
from outpost.cli.failures import FAILED
from outpost.cli.lines import fitted
from outpost.cli.options import ConfigOption, JsonOption, run
from outpost.cli.phrases import one_line
from outpost.errors import OutpostError

if TYPE_CHECKING:
    from outpost.control.reconciler import Reconciled, Settled
    from outpost.federation import Federation

app = typer.Typer()


@app.command()
def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what differs and what would be done.")
    ] = False,
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="Stop at once what nobody knows of; else the controller does after a while.",
        ),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Compare what outposts really run with what is known.

    What differs is settled, as the controller does by itself every 30 seconds. Stopped are workers
    whose task went on without them, and with --now those that nobody knows of or that have ended
    and still run. Their work is committed and pushed first. What was given up as lost and is there
    again is read on.

    Exits with 1 if an outpost cannot be asked; the others are settled all the same.
    """

    async def work(federation: Federation) -> Reconciled:
        return await federation.reconcile(dry_run=dry_run, now=now)

    # Where there is no store there is nothing to compare with, and none is made for it.
    reconciled = run(config, work, read_only=True)
    if as_json:
        print_json(_document(reconciled))
    else:
        _print(reconciled)
    problems = list(_problems(reconciled))
    for outpost, problem in problems:
        complain(outpost, problem)
    if problems:
        raise typer.Exit(FAILED)


def _print(reconciled: Reconciled) -> None:
    width = max(map(len, reconciled.answers), default=0)
    for name, answer in reconciled.answers.items():
        there = [it for it in reconciled.settled if it.finding.outpost == name]
        said = "cannot be asked"
        if not isinstance(answer, OutpostError):
            workers = f"{answer} worker{'' if answer == 1 else 's'}"
            said = workers if there else f"{workers}, as it should be"
        typer.echo(f"{name:{width}}  {said}")
        for settled in there:
            sys.stdout.write(_lines(settled, dry_run=reconciled.dry_run))


def _lines(settled: Settled, *, dry_run: bool) -> str:
    finding = settled.finding
    issue = [one_line(finding.attempt.issue_id)] if finding.attempt else []
    parts = [finding.kind, one_line(finding.worker_id), *issue, finding.why]
    lines = [f"  {fitted('  '.join(parts), 1, 2)}"]
    lines.append(f"    {fitted(_what(settled, dry_run=dry_run), 1, 4)}")
    return "".join(f"{line}\n" for line in lines)


def _what(settled: Settled, *, dry_run: bool) -> str:
    """Say what was done, would be, or is to be done by somebody else."""
    from outpost.control.reconciler import Step  # noqa: PLC0415 - help does without

    if settled.step is Step.LEAVE:
        if settled.finding.stops:
            return (
                "left alone: the controller stops it after a while, outpost reconcile --now at once"
            )
        return f"left alone: outpost status {one_line(settled.finding.worker_id)}  tells more"
    if settled.problem:
        return f"failed: {one_line(settled.problem.message)}"
    if dry_run:
        return "would be stopped" if settled.step is Step.STOP else "its log would be read"
    return settled.outcome


def _problems(reconciled: Reconciled) -> Iterator[tuple[str, OutpostError]]:
    """Yield which outposts could not be asked, then where something could not be settled."""
    for name, answer in reconciled.answers.items():
        if isinstance(answer, OutpostError):
            yield name, answer
    for settled in reconciled.settled:
        if settled.problem:
            yield settled.finding.outpost, settled.problem


def _document(reconciled: Reconciled) -> dict[str, object]:
    return {
        "dry_run": reconciled.dry_run,
        "outposts": [
            {
                "name": name,
                "workers": None if isinstance(answer, OutpostError) else answer,
                "error": _error(answer if isinstance(answer, OutpostError) else None),
            }
            for name, answer in reconciled.answers.items()
        ],
        "findings": [_finding(settled) for settled in reconciled.settled],
    }


def _finding(settled: Settled) -> dict[str, object]:
    finding, attempt = settled.finding, settled.finding.attempt
    return {
        "kind": finding.kind.value,
        "outpost": finding.outpost,
        "worker": finding.worker_id,
        "task": attempt.task_id if attempt else None,
        "issue": attempt.issue_id if attempt else None,
        "state": attempt.state.value if attempt else None,
        "alive": finding.alive,
        "why": finding.why,
        "step": settled.step.value,
        "outcome": settled.outcome or None,
        "error": _error(settled.problem),
    }


def _error(problem: OutpostError | None) -> object:
    return problem.to_json()["error"] if problem else None

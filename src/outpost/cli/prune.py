"""``outpost prune``: remove ended workers and what nobody needs, never work that is not saved."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.complaints import complain
from outpost.cli.documents import print_json
from outpost.cli.failures import FAILED
from outpost.cli.lines import fitted
from outpost.cli.options import ConfigOption, JsonOption, duration, run
from outpost.cli.phrases import one_line, room, since
from outpost.wire.render import harmless

if TYPE_CHECKING:
    from outpost.control.prune import Item, Pruned
    from outpost.errors import OutpostFault
    from outpost.federation import Federation

app = typer.Typer()

_WORDS = {
    "worker": ("worker", "workers"),
    "orphan": ("worker that nobody knows", "workers that nobody knows"),
    "session": ("view of a dead worker", "views of dead workers"),
    "secrets": ("file with secrets that was never read", "files with secrets that were never read"),
    "scrap": ("unfinished file", "unfinished files"),
    "cache": ("cache", "caches"),
    "archive": ("old runner", "old runners"),
}


@app.command()
def prune(
    before: Annotated[
        str,
        typer.Option(
            "--before", metavar="TIME", help="Only workers that ended longer ago than this."
        ),
    ] = "7d",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove ended workers, unused caches and litter. Work that exists nowhere else stays.

    Exits with 1 if an outpost cannot be asked; the others are pruned all the same.
    """
    before_s = duration("--before", before)

    async def work(federation: Federation) -> Pruned:
        return await federation.prune(before_s=before_s, dry_run=dry_run)

    # Where there is no store there is nothing to prune, and none is made for it.
    pruned = run(config, work, read_only=True)
    if as_json:
        print_json(_document(pruned))
    else:
        _print(pruned)
    for problem in pruned.problems:
        complain(problem.outpost, problem)
    if pruned.problems:
        raise typer.Exit(FAILED)


def _print(pruned: Pruned) -> None:
    now = datetime.now(UTC)
    verb = "would remove" if pruned.dry_run else "removed"
    lines = [f"{verb}  {fitted(_line(item, now), 1, len(verb) + 2)}" for item in pruned.removed]
    for item in pruned.kept:
        lines.append(f"kept  {fitted(_line(item, now), 1, 6)}")
        lines.append(f"  {fitted(one_line(item.leftover['kept']), 1, 2)}")
        lines += [f"  {harmless(hint)}" for hint in item.leftover["hint"].splitlines()]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    typer.echo(_summary(pruned))


def _line(item: Item, now: datetime) -> str:
    """Return what something is: its kind, its name, what else is known, and the room it takes."""
    leftover, attempt = item.leftover, item.attempt
    parts = [_WORDS[leftover["kind"]][0], one_line(leftover["name"])]
    if attempt is not None:
        ended = since(attempt.ended_at or attempt.created_at, now)
        parts += [one_line(attempt.issue_id), f"{attempt.state} {ended} ago"]
    if leftover["detail"]:
        parts.append(one_line(leftover["detail"]))
    parts.append(room(leftover["bytes"]))
    return "  ".join(parts)


def _summary(pruned: Pruned) -> str:
    counts = Counter(item.leftover["kind"] for item in pruned.removed)
    named = [f"{n} {_WORDS[kind][n > 1]}" for kind in _WORDS if (n := counts[kind])]
    stays = f"{len(pruned.kept)} kept" if pruned.kept else ""
    if not named:
        return f"Nothing to remove{f', {stays}' if stays else ''}."
    verb = "Would free" if pruned.dry_run else "Freed"
    return f"{verb} {room(pruned.bytes)}: {', '.join(filter(None, [*named, stays]))}."


def _document(pruned: Pruned) -> dict[str, object]:
    return {
        "dry_run": pruned.dry_run,
        "bytes": pruned.bytes,
        "removed": [_item(item) for item in pruned.removed],
        "kept": [_item(item) for item in pruned.kept],
        "problems": [_problem(problem) for problem in pruned.problems],
    }


def _problem(problem: OutpostFault) -> dict[str, object]:
    return {
        "outpost": problem.outpost,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
    }


def _item(item: Item) -> dict[str, object]:
    leftover, attempt = item.leftover, item.attempt
    return {
        "kind": leftover["kind"],
        "name": leftover["name"],
        "outpost": item.outpost,
        "path": leftover["path"],
        "bytes": leftover["bytes"],
        "detail": leftover["detail"],
        "issue": attempt.issue_id if attempt else None,
        "state": attempt.state.value if attempt else None,
        "kept": leftover["kept"] or None,
        "hint": leftover["hint"],
    }

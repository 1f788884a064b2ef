"""``outpost remove``: take an outpost out of the configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.changes import DryRunOption, Manner, YesOption, make
from outpost.cli.failures import say
from outpost.cli.options import ConfigOption, complete_outpost, run
from outpost.errors import UserError

if TYPE_CHECKING:
    from outpost.config.files import ConfigFile
    from outpost.federation import Federation
    from outpost.model import Attempt, Task

app = typer.Typer()

MOST_NAMED = 5


@app.command()
def remove(
    name: Annotated[
        str,
        typer.Argument(
            metavar="OUTPOST", help="An outpost's name.", autocompletion=complete_outpost
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Remove it even while workers run there.")
    ] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove an outpost from the configuration file. Refuses while workers run there."""
    from outpost.config.editing import without_outpost  # noqa: PLC0415 - loads pydantic and yaml
    from outpost.config.files import read  # noqa: PLC0415 - as above

    file = read(config, environment=os.environ, directory=Path.cwd())
    _must_have(file, name)
    text = without_outpost(file.text, name, file=file.shown)
    _look_around(file, name, force=force)
    if make(file, text, Manner(yes=yes, dry_run=dry_run)):
        typer.echo(f"removed {name} from {file.path}")


def _must_have(file: ConfigFile, name: str) -> None:
    from outpost.config.editing import has_outposts  # noqa: PLC0415 - loads pydantic and yaml
    from outpost.control.naming import unknown_outpost  # noqa: PLC0415 - with the former

    names = [outpost.name for outpost in file.config.outposts]
    if name not in names:
        raise unknown_outpost(name, names)
    if not has_outposts(file.text):
        raise UserError(
            f"'{name}' is what there is without a configuration: it stands in no file",
            hint="add another outpost first: outpost add KIND",
        )


def _look_around(file: ConfigFile, name: str, *, force: bool) -> None:
    """Refuse while workers run there; say what else is left there."""

    async def work(federation: Federation) -> tuple[list[Attempt], list[Task]]:
        return await federation.workers(ended=True), await federation.queued()

    attempts, queued = run(str(file.path), work, read_only=True)
    there = [attempt for attempt in attempts if attempt.outpost == name]
    running = [attempt for attempt in there if not attempt.state.ended]
    if running and not force:
        raise UserError(
            f"{_counted(len(running), 'worker')} on '{name}': {_named(running)}",
            hint=f"outpost stop {' '.join(it.id for it in running)}\n"
            f"--force removes it all the same: nobody looks after them any more",
        )
    if running:
        say("warning", f"nobody looks after {_named(running)} on '{name}' any more", "33")
    if ended := len(there) - len(running):
        left = f"{_counted(ended, 'ended worker')} on '{name}': what is left of them stays there"
        say("warning", f"{left}, out of reach of outpost rm and prune", "33")
    if waiting := [task for task in queued if task.outpost == name]:
        ids = " ".join(task.id for task in waiting[:MOST_NAMED])
        say("warning", f"{_counted(len(waiting), 'task')} waiting for '{name}' alone: {ids}", "33")


def _counted(number: int, word: str) -> str:
    return f"1 {word} is" if number == 1 else f"{number} {word}s are"


def _named(attempts: list[Attempt]) -> str:
    named = [f"{attempt.id} ({attempt.issue_id})" for attempt in attempts[:MOST_NAMED]]
    return ", ".join([*named, "…"] if len(attempts) > MOST_NAMED else named)

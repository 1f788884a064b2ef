"""A change of the configuration file: shown first, agreed to, then made."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.failures import FAILED, INTERRUPTED, colourful, say
from outpost.wire.render import harmless

if TYPE_CHECKING:
    from outpost.config.files import ConfigFile

_COLOURS = {"+": "32", "-": "31", "@": "36"}

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would change in the file.")
]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a change is made: ``yes`` asks nothing, ``dry_run`` changes nothing."""

    yes: bool
    dry_run: bool

    @property
    def asks(self) -> bool:
        """Whether there is somebody to ask."""
        return not (self.yes or self.dry_run) and sys.stdin.isatty() and sys.stderr.isatty()


def make(file: ConfigFile, text: str, manner: Manner) -> bool:
    """Show a change and make it, unless it is not to be made. Raises what ``replace`` raises."""
    file.parse(text)
    for line in _difference(file, text):
        sys.stdout.write(coloured(harmless(line)) + "\n")
    sys.stdout.flush()
    if manner.dry_run:
        say("note", "nothing was written: this was a dry run", "36")
        return False
    if manner.asks:
        agree(f"Write {file.path}?", default=True)
    file.replace(text)
    return True


def ask(text: str, default: str | None = None) -> str:
    """Ask for a word on the terminal; exits where there is none to come."""
    try:
        answer: str = typer.prompt(text, default=default, err=True)
    except typer.Abort:
        raise _interrupted() from None
    return answer


def agree(text: str, *, default: bool) -> None:
    """Ask for a yes on the terminal; exits where none comes."""
    try:
        agreed = typer.confirm(text, default=default, err=True)
    except typer.Abort:
        raise _interrupted() from None
    if not agreed:
        say("note", "nothing was written", "36")
        raise typer.Exit(FAILED)


def _interrupted() -> typer.Exit:
    sys.stderr.write("\n")
    say("note", "nothing was written", "36")
    return typer.Exit(INTERRUPTED)


def _difference(file: ConfigFile, text: str) -> Iterator[str]:
    before = "/dev/null" if file.data is None else file.shown
    lines = difflib.unified_diff(
        file.text.splitlines(), text.splitlines(), before, file.shown, lineterm=""
    )
    return iter(lines)


def coloured(line: str) -> str:
    """Return a line of a difference in its colour, where that is shown."""
    colour = _COLOURS.get(line[:1])
    return f"\x1b[{colour}m{line}\x1b[0m" if colour and colourful(1) else line

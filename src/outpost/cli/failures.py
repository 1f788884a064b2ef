"""How commands end when something went wrong: what is said where, and the exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from outpost.cli.lines import fitted
from outpost.errors import OutpostError
from outpost.wire.render import harmless

if TYPE_CHECKING:
    from outpost.wire.redact import Redactor

FAILED, USAGE, BUG, INTERRUPTED = 1, 2, 70, 130
EXIT_CODES = {
    0: "What was asked for is done.",
    FAILED: "A task did not end as `done`, or an operation failed.",
    USAGE: "The command line, the configuration, an issue or a name cannot be used.",
    BUG: "A bug in Outpost; `OUTPOST_DEBUG=1` shows where.",
    INTERRUPTED: "Interrupted with Ctrl-C. Workers go on.",
}
ABOUT_BUGS = "this is a bug in outpost; OUTPOST_DEBUG=1 shows where it happened"


def tell(error: OutpostError, arguments: Sequence[str] | None = None) -> None:
    """Say on standard error what happened and what to type next; for ``--json`` both ways."""
    sys.stdout.flush()
    say("error", error.message, "31")
    if error.hint:
        say("hint", error.hint, "36")
    if wants_json(sys.argv[1:] if arguments is None else arguments):
        line = _redactor().line(json.dumps(error.to_json()).encode() + b"\n")
        sys.stdout.write(line.decode())


def bug(error: Exception) -> int:
    """Say that an error nobody foresaw is ours, and return the exit code for it."""
    if os.environ.get("OUTPOST_DEBUG"):
        import traceback  # noqa: PLC0415 - only for bugs

        sys.stderr.write(_redactor().text("".join(traceback.format_exception(error))))
    say("error", f"{type(error).__name__}: {error}".splitlines()[0], "31")
    say("hint", ABOUT_BUGS, "36")
    return BUG


def say(label: str, text: str, style: str) -> None:
    """Print a labelled text on standard error, its further lines below its first."""
    start = f"\x1b[{style}m{label}:\x1b[0m" if colourful(2) else f"{label}:"
    shown, indent = harmless(_redactor().text(text)), len(label) + 2
    # What is to be typed is taken over from the screen: it is not broken by us.
    lines = (
        shown.replace("\n", "\n" + " " * indent) if label == "hint" else fitted(shown, 2, indent)
    )
    sys.stderr.write(f"{start} {lines}\n")


def _redactor() -> Redactor:
    """Return what takes the secrets of our environment out of complaints."""
    from outpost.wire.redact import Redactor, secrets_of  # noqa: PLC0415 - only where we complain

    return Redactor(secrets_of(os.environ))


def colourful(descriptor: int) -> bool:
    """Whether a standard stream is a terminal that shows colours, and its user wants them."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in (None, "", "dumb")
    return wanted and os.isatty(descriptor)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` stands among our own arguments, those in front of ``--``."""
    for argument in arguments:
        if argument == "--":
            return False
        if argument == "--json":
            return True
    return False

"""The reference page of the command line, made from the commands themselves.

``python -m outpost.cli.reference > docs/reference/cli.md`` writes it anew.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.main import get_command

from outpost.cli.commands import app
from outpost.cli.failures import EXIT_CODES

WIDTH = 88
_HEAD = """\
# The command line

This page is made from the commands themselves: `python -m outpost.cli.reference`.

- Data goes to standard output, talk to standard error.
- `--json` prints one document; `spawn`, `stop`, `cancel`, `logs` and `events` print one object a
  line. An error is then an object too: `{"error": {"code": …, "message": …, "hint": …}}`.
- A worker is named by its id or the beginning of it, by its issue, or by its branch.
- On a pipe nothing is cut, coloured or boxed. `NO_COLOR` and `TERM=dumb` are heeded.
- `--config PATH` may stand in front of the command or behind it.
- Money (`…_usd`) is US dollars, a number with exactly the digits that are known, or null if
  nothing of it is known.
- A decision's `offers` are the outposts that can take the task, best first; its `refused` are the
  others, each with a `code`, the `numbers` behind it, and `until` when that may change.

## Environment

| variable | meaning |
|---|---|
| `OUTPOST_HOME` | The home folder, of store, logs and workspaces. |
| `XDG_STATE_HOME` | Without the former it is `outpost` in there, or in `~/.local/state`. |
| `OUTPOST_CONFIG` | [The configuration file](configuration.md#where-it-is-looked-for) to use. |
| `OUTPOST_CONTROLLER` | `off`: no [controller](../how-to/controller.md) starts in the background. |
| `OUTPOST_DEBUG` | `1`: of a bug, show where it happened. |
| `NO_COLOR` | Not empty: no colours. |

## Exit codes

| code | meaning |
|---|---|
"""


def reference() -> str:
    """Return the page as Markdown."""
    root = get_command(app)
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    return _HEAD + codes + "".join(_sections(root, "outpost", None))


def _sections(command: Any, name: str, parent: Any) -> list[str]:
    context = typer.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **command.context_settings,
    )
    level = "##" if parent is None or parent.parent is None else "###"
    sections = [f"\n{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"]
    for child in command.list_commands(context) if hasattr(command, "list_commands") else ():
        sections += _sections(command.get_command(context, child), child, context)
    return sections


if __name__ == "__main__":
    sys.stdout.write(reference())

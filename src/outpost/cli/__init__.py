"""The command ``outpost``: one file for each command, loaded when that command is called.

Importing this package loads no backend, no database and no configuration; see ``commands``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import NoReturn, TextIO

__all__ = ["main"]

OBJECTS_BETWEEN_COLLECTIONS = 100_000


def main() -> None:
    """Run the command line and exit: the entry point ``outpost``."""
    # Loading modules makes many objects and no garbage; looking for it, at the start and again at
    # the end, takes a fifth of the time of a short command.
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    for stream in (sys.stdout, sys.stderr):
        _never_refuse(stream)
    code = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output went away; the interpreter must not complain on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    gc.freeze()
    if "pyqwest" in sys.modules:
        # Its threads may abort the interpreter on its way out, and the exit status is ours.
        _leave_at_once(code)
    sys.exit(code)


def _leave_at_once(code: int | str | None) -> NoReturn:
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _run() -> int | str | None:
    """Return the exit code; no error a user can cause ends in a traceback."""
    from outpost.cli.failures import INTERRUPTED, bug, tell  # noqa: PLC0415 - as in commands
    from outpost.errors import OutpostError  # noqa: PLC0415 - as above

    try:
        from outpost.cli.commands import app  # noqa: PLC0415 - loads typer

        app(prog_name="outpost")
    except SystemExit as exc:
        return exc.code
    except OutpostError as exc:
        tell(exc)
        return exc.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the top of the program
        return bug(exc)
    return 0


def _never_refuse(stream: TextIO) -> None:
    """Let a terminal without Unicode show ``?`` for what it cannot show."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="replace")

"""The help of every command, as it is on a terminal of 80 columns."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from outpost.cli.commands import MODULES
from tests.snapshots import check, names_in

COMMANDS = [
    (),
    *((name,) for name in MODULES),
    ("config", "check"),
    ("config", "schema"),
    ("add", "local"),
]


def help_of(*command: str, width: int = 80) -> str:
    """Return what ``--help`` prints, to its last line."""
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "COLUMNS": str(width)}
    done = subprocess.run(
        [sys.executable, "-m", "outpost", *command, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def snapshot_of(command: tuple[str, ...]) -> str:
    return f"help/{'-'.join(command) or 'outpost'}"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "outpost")
def test_help(command: tuple[str, ...]) -> None:
    text = help_of(*command)
    assert max(map(len, text.splitlines())) <= 80
    usage, *lines = text.splitlines()
    assert usage.startswith("Usage: outpost")
    assert not [line for line in lines if line.endswith("...")], "a sentence is cut"
    check(snapshot_of(command), text)


def test_every_snapshot_of_a_help_is_of_a_command() -> None:
    assert names_in("help") == {snapshot_of(command) for command in COMMANDS}

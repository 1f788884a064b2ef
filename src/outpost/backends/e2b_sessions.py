"""For how long a sandbox ran: E2B tells of its latest session only, so each is noted here."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outpost.transports.e2b_api import Sandbox

MADE = "made"


class Sessions:
    """The sessions of one sandbox that are over, in a file: begin and end of each on a line.

    Its first line says that the sandbox was made from here: else there may be earlier ones. Any
    number of processes may add to it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "sessions"

    def note_made(self) -> None:
        """Note that the sandbox was made from here just now."""
        self._add(MADE)

    def note(self, seen: Sandbox) -> None:
        """Note the session that a paused sandbox has behind it, once."""
        if seen.started_at not in self._read():
            self._add(f"{seen.started_at.isoformat()} {seen.end_at.isoformat()}")

    def seconds(self) -> float | None:
        """Return how long they took together; ``None``: the first may be unknown here."""
        if self._lines()[:1] != [MADE]:
            return None
        return sum((end - begin).total_seconds() for begin, end in self._read().items())

    def _add(self, line: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(f"{line}\n")

    def _read(self) -> dict[datetime, datetime]:
        found = {}
        for line in self._lines():
            begin, _, end = line.partition(" ")
            # What a process that was killed left half is noted again.
            with contextlib.suppress(ValueError):
                found[datetime.fromisoformat(begin)] = datetime.fromisoformat(end)
        return found

    def _lines(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return self._path.read_text().splitlines()
        return []

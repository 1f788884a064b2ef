"""When which line of a log was written: a table that its writer shares with who measures."""

from __future__ import annotations

import mmap
from pathlib import Path

_CELL_BYTES = 8


class Board:
    """A row for each worker, a column for each line: seconds of the machine's monotonic clock.

    The file has ``workers`` times ``lines`` cells, of which only those written take room. Column 0
    holds the number of the last line written.
    """

    def __init__(self, path: Path, workers: int, lines: int) -> None:
        self._columns = lines + 1
        with path.open("a+b") as file:
            size = workers * self._columns * _CELL_BYTES
            file.truncate(size)
            self._cells = memoryview(mmap.mmap(file.fileno(), size)).cast("d")

    @property
    def lines(self) -> int:
        """How many lines of one worker fit."""
        return self._columns - 1

    def note(self, worker: int, seq: int, at_s: float) -> None:
        """Note that a line is about to be written."""
        row = worker * self._columns
        self._cells[row + seq] = at_s
        self._cells[row] = seq

    def written_at(self, worker: int, seq: int) -> float:
        """Return when a line was written, 0 if it was not."""
        return self._cells[worker * self._columns + seq]

    def last(self, worker: int) -> int:
        """Return the number of the last line of a worker."""
        return int(self._cells[worker * self._columns])

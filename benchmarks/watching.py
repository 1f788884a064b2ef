"""Watching a store from outside: when it first shows which line of a worker's log."""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.board import Board
from benchmarks.figures import NotMeasured

LOOK_S = 0.004
_SEQ = "SELECT id, seq FROM attempts"
_ENDED = "SELECT count(*) FROM attempts WHERE state = 'done'"


class Watcher:
    """Reads a store on a connection of its own, and only once somebody has written to it.

    ``lags_s`` has the lag of every line seen so far: from the moment before it was written to the
    one after a look showed it, so the pause between two looks counts as lag.
    """

    def __init__(self, store: Path, names: Sequence[str], board: Board) -> None:
        self._connection = sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=30)
        self._board = board
        self._numbers = {name: number for number, name in enumerate(sorted(names))}
        self._version = -1
        self.seen = [0] * len(names)
        self.lags_s = array("d")

    def look(self) -> None:
        """Note what is new since the last look."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        self._version = version
        rows = self._connection.execute(_SEQ).fetchall()
        now_s = time.monotonic()
        for name, seq in rows:
            number = self._numbers[name]
            for line in range(self.seen[number] + 1, seq + 1):
                self.lags_s.append(now_s - self._board.written_at(number, line))
            self.seen[number] = seq

    def behind(self, written: Sequence[int]) -> int:
        """Return how many workers the store does not yet know up to the line given for each."""
        return sum(seen < line for seen, line in zip(self.seen, written, strict=True))

    def written(self) -> list[int]:
        """Return the last line that each worker has written by now."""
        return [self._board.last(number) for number in range(len(self.seen))]

    def ended(self) -> int:
        """Return how many attempts are done."""
        (count,) = self._connection.execute(_ENDED).fetchone()
        return int(count)

    def forget_lags(self) -> None:
        """Measure from now on."""
        del self.lags_s[:]

    def close(self) -> None:
        self._connection.close()


def watch_until(watcher: Watcher, done: Callable[[], bool], within_s: float, what: str) -> float:
    """Watch until something is so; return how many seconds that took."""
    begun_s = time.monotonic()
    while True:
        watcher.look()
        took_s = time.monotonic() - begun_s
        if done():
            return took_s
        if took_s > within_s:
            raise NotMeasured(f"not within {within_s:g} s: {what}")
        time.sleep(LOOK_S)


def percentiles_ms(lags_s: array[float], of: Sequence[int]) -> Mapping[int, float]:
    """Return percentiles in milliseconds; 100 is the most."""
    ordered = sorted(lags_s)
    return {each: ordered[min(len(ordered) * each // 100, len(ordered) - 1)] * 1e3 for each in of}

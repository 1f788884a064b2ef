"""Reads every command line of the machine, as anybody on it could."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path


class Watcher:
    """Collects command lines, over and over, until it is told to stop.

    Those whose third word is ``but`` are passed over: they are the test's own.
    """

    def __init__(self, but: str = "") -> None:
        self.seen: set[str] = set()
        self.rounds = 0
        self._but = but
        self._round = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        with self._round:
            self._round.notify_all()

    def look_around(self) -> None:
        """Return once every process that runs now was looked at."""
        with self._round:
            # The round that is under way may have passed by already.
            now = self.rounds
            self._round.wait_for(lambda: self._stop.is_set() or self.rounds >= now + 2)

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        self._add((entry / "cmdline").read_bytes().decode("utf-8", "replace"))
            with self._round:
                self.rounds += 1
                self._round.notify_all()

    def _add(self, line: str) -> None:
        words = line.split("\0")
        if not self._but or self._but not in words[:4]:
            self.seen.add(line)

"""Copies of event logs whose place may be gone tomorrow, byte for byte, on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

PIECE_BYTES = 1 << 20
TAIL_BYTES = 1 << 16
_RESULT = b'"type":"result"'


class LogCopy:
    """The copy of one worker's log, in its folder here.

    It is a beginning of the log, whole lines only; any number of processes may add to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "events.jsonl"

    def size(self) -> int:
        """Return how much of the log is here, in bytes."""
        with contextlib.suppress(FileNotFoundError):
            return self._path.stat().st_size
        return 0

    def read(self, offset: int) -> bytes:
        """Return a piece of what is here from ``offset`` on; empty at its end."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)
        return b""

    @property
    def has_result(self) -> bool:
        """Whether what is here of the log ends with its result."""
        size = self.size()
        for tail_bytes in (TAIL_BYTES, PIECE_BYTES):
            tail = self.read(max(0, size - tail_bytes))
            _, newline, last = tail.rstrip(b"\n").rpartition(b"\n")
            if newline or size <= tail_bytes:
                # An event's own fields come last: what an agent prints cannot stand there unquoted.
                return _RESULT in last[:200]
        return False

    def add(self, offset: int, lines: bytes) -> None:
        """Add lines that stand at ``offset`` of the log; what is here already stays as it is.

        Lines that do not follow on what is here are left out: a later reader brings them.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            known = os.fstat(fd).st_size - offset
            if 0 <= known < len(lines):
                _write(fd, lines[known:])
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove the copy and all that lies beside it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(fd: int, data: bytes) -> None:
    """Write all, or nothing: half a line would stand in the way of what follows."""
    before = os.fstat(fd).st_size
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        os.ftruncate(fd, before)
        raise

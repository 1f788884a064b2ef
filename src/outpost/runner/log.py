"""Writing the event log: append only, whole lines, one writer at a time (the lock's holder)."""

from __future__ import annotations

import errno
import math
import os
import time
from collections import deque
from itertools import groupby

from outpost.runner.reserve import NO_ROOM, Reserve
from outpost.wire.events import VOID, Event, decode, encode, timestamp
from outpost.wire.redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

READ_BYTES = 1 << 20
LINES_BYTES = 16 << 20
STEPS_BYTES = 64 << 20
TAIL_LINES = 500  # of what was left out, the end is written after all
TAIL_CHARS = 64 << 10
HELD_BYTES = 4 << 20  # kept in memory while the disk is full
PIECE_BYTES = 1 << 20
RESERVE_BYTES = 64 << 10
GAP_S = 10.0
RETRY_S = 0.5
PATIENCE_S = 5.0
TALK = frozenset({"log", "agent", "progress"})


class Line:
    """A line to be written, and the numbers it stands for; ``spare`` if it may be left out."""

    __slots__ = ("data", "first", "last", "spare")

    def __init__(self, first: int, last: int, data: bytes, *, spare: bool) -> None:
        self.first = first
        self.last = last
        self.data = data
        self.spare = spare


class EventLog:
    """The log of one worker, opened for writing behind whatever it already holds.

    A line cut short by a writer's death is ended as void: a reader may hold its beginning, so it
    is not taken away. ``show`` is called with each event written, for the live view. Neither gets
    to see what ``redactor`` takes out.

    In a log of more than ``lines_bytes`` what an agent prints is left out, and counted in ``gap``
    events, its steps beyond ``steps_bytes``; never what becomes of the work. The last lines of
    output are written when the work comes to its next state. So it is where the disk is full
    and memory holds ``HELD_BYTES``: what it has no room for goes out with a later ``flush``.
    """

    def __init__(
        self, path: str, lines_bytes: int = LINES_BYTES, steps_bytes: int = STEPS_BYTES
    ) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.show: Callable[[Event], None] | None = None
        self.redactor = Redactor()
        self._lines_bytes = lines_bytes
        self._steps_bytes = steps_bytes
        self._size = os.fstat(self._fd).st_size
        self._pending: list[Line] = []
        self._pending_bytes = 0
        self._torn = b""  # what is still to come of a line that the disk took half
        self._retry_at = 0.0
        self._left_out = 0
        self._tail: deque[Event] = deque()
        self._tail_chars = 0
        self._gap_due = math.inf
        self._reserve = Reserve(path + ".reserve", RESERVE_BYTES)
        self.last = self._open_end()
        self.seq = self.last.seq if self.last else 0
        if not self.finished:
            self._reserve.take()

    @property
    def finished(self) -> bool:
        """Whether the log ends with a result: nothing may follow."""
        return self.last is not None and self.last.type == "result"

    def write(self, type: str, **fields: Any) -> None:  # noqa: A002 - the wire's own word
        """Append one event and flush."""
        self.add(type, fields)
        self.flush()

    def add(self, type: str, fields: dict[str, Any]) -> None:  # noqa: A002 - the wire's own word
        """Append one event at the next ``flush``, or leave it out where there is no room."""
        event = self.last = Event(self.seq + 1, timestamp(), type, fields)
        if _is_talk(event) and self._is_full(type):
            self._leave_out(event)
        else:
            self._end_gap(keep_tail=type in ("status", "result"))
            self.last = self._append_event(event)
        self.seq = event.seq
        if self._pending_bytes > PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was added to the operating system; what a full disk refuses stays here."""
        now = time.monotonic()
        if now >= self._gap_due:
            self._end_gap(keep_tail=False)
        if now >= self._retry_at and not self._write_pending():
            self._retry_at = now + RETRY_S

    def leave_out_unwritten(self) -> None:
        """Leave out what may be of all that a full disk has refused so far."""
        if not self._write_pending():
            self._squeeze()

    def sync(self) -> None:
        """Make the log survive a crash of the machine.

        On a full disk it spends the reserve, leaves out what it can, and then waits for room;
        raises ``OSError`` where none comes in time.
        """
        deadline = time.monotonic() + PATIENCE_S
        if not self._write_pending():
            self._squeeze()
            self._reserve.free()
            while not self._write_pending():
                if time.monotonic() > deadline:
                    raise OSError(errno.ENOSPC, "no space left for the log's end")
                time.sleep(0.1)
        self._reserve.free()
        os.fsync(self._fd)

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        os.close(self._fd)

    def _is_full(self, type: str) -> bool:  # noqa: A002 - the wire's own word
        limit = self._lines_bytes if type == "log" else self._steps_bytes
        return self._size > limit or self._pending_bytes > HELD_BYTES

    def _append_event(self, event: Event) -> Event:
        """Append an event and show it; return it as others get to see it."""
        line = encode(event.seq, event.time, event.type, event.fields)
        clean = self.redactor.line(line)
        if clean is not line:
            event = decode(clean)
        self._append(Line(event.seq, event.seq, clean, spare=_is_talk(event)))
        if self.show:
            self.show(event)
        return event

    def _append(self, line: Line) -> None:
        self._pending.append(line)
        self._pending_bytes += len(line.data)
        self._size += len(line.data)

    def _write_pending(self) -> bool:
        """Write what is pending; ``False`` if the disk is full."""
        while self._pending or self._torn:
            data = self._torn + b"".join(line.data for line in self._pending)
            try:
                written = os.write(self._fd, data)
            except OSError as exc:
                if exc.errno in NO_ROOM:
                    return False
                raise
            self._drop_written(written)
        self._retry_at = 0.0
        return True

    def _drop_written(self, written: int) -> None:
        if written < len(self._torn):
            self._torn = self._torn[written:]
            return
        written -= len(self._torn)
        self._torn = b""
        for number, line in enumerate(self._pending):
            if written < len(line.data):
                whole = number if not written else number + 1
                self._torn = line.data[written:] if written else b""
                break
            written -= len(line.data)
        else:
            whole = len(self._pending)
        self._pending = self._pending[whole:]
        self._pending_bytes = sum(len(line.data) for line in self._pending)

    def _squeeze(self) -> None:
        """Leave out of what is pending all that may be."""
        pending, self._pending = self._pending, []
        for spare, group in groupby(pending, lambda line: line.spare):
            lines = list(group)
            self._pending += [_gap(lines[0].first, lines[-1].last)] if spare else lines

    def _leave_out(self, event: Event) -> None:
        """Count an event instead of writing it; the last lines of output are kept for the end."""
        if not self._tail and not self._left_out:
            self._gap_due = time.monotonic() + GAP_S
        self._tail.append(event)
        self._tail_chars += _chars(event)
        while self._tail and (self._tail_chars > TAIL_CHARS or len(self._tail) > TAIL_LINES):
            self._tail_chars -= _chars(self._tail.popleft())
            self._left_out += 1

    def _end_gap(self, *, keep_tail: bool) -> None:
        """Say which events before the present one were left out, all or all but the last lines."""
        first = self.seq - len(self._tail) - self._left_out + 1
        kept = list(self._tail) if keep_tail else []
        last = self.seq - len(kept)
        self._tail.clear()
        self._left_out = self._tail_chars = 0
        self._gap_due = math.inf
        if first <= last:
            self._append(_gap(first, last))
        for event in kept:
            self._append_event(event)

    def _open_end(self) -> Event | None:
        start = os.fstat(self._fd).st_size
        tail = b""
        while True:
            step = min(READ_BYTES, start)
            start -= step
            tail = os.pread(self._fd, step, start) + tail
            *lines, torn = tail.split(b"\n")
            # The first piece may be the end of a longer line, unless the file starts with it.
            known = [line for line in lines[start > 0 :] if not line.endswith(VOID)]
            if known or not start:
                break
        if torn:
            self._torn = VOID + b"\n"
            self.flush()
        return decode(known[-1]) if known else None


def _chars(event: Event) -> int:
    """Return how much of the tail an event takes: all of it, if it is more than a line."""
    return len(event.fields["text"]) if event.type == "log" else TAIL_CHARS + 1


def _gap(first: int, last: int) -> Line:
    fields = {"from_seq": first, "to_seq": last}
    return Line(first, last, encode(last, timestamp(), "gap", fields), spare=True)


def _is_talk(event: Event) -> bool:
    """Whether an event is only what an agent says, and not what became of the work."""
    fields = event.fields
    ours = fields.get("stream") == "runner" or fields.get("kind") == "session"
    return event.type in TALK and not ours

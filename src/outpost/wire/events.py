"""The event log: one JSON object a line, ``seq`` counting from 1 without a gap.

Writing is the runner's, reading is everybody's. A reader may be cut anywhere and resumed
anywhere: it hands out whole lines only, each sequence number once, and never skips one in silence.
What was written is never changed: a line cut short by its writer's death is ended by the next
writer with the byte CAN and a newline, and readers pass it over.

==============  ================================================================================
type            fields beside ``seq``, ``time`` and ``type``
==============  ================================================================================
``status``      ``state`` (starting, preparing, working, waiting, pushing), ``reason``, ``pid``
``log``         ``stream`` (stdout, stderr, runner), ``text``
``agent``       ``kind`` (session, text, thinking, tool_call, tool_result), ``text``, ``tool``,
                ``raw``; for ``session``: ``session_id``, ``model``
``usage``       a delta: ``model``, ``input_tokens``, ``output_tokens``, ``cache_read_tokens``,
                ``cache_write_tokens``, ``cost_microusd`` (null: unknown)
``progress``    ``text``
``question``    ``question_id``, ``kind`` (permission, question), ``text``, ``options``: the agent
                waits for a human
``answer``      ``question_id``, ``text``, ``by`` (message, time limit, agent: no longer asked)
``message``     ``message_id``, ``text``, ``delivered`` (now, later, answer, never), ``reason``:
                what became of a message
``checkpoint``  ``ref``, ``commit``, ``kept`` (remote, relay)
``heartbeat``   nothing
``gap``         ``from_seq``, ``to_seq``: lines trimmed from the log
``error``       ``code``, ``message``
``result``      ``outcome`` (done, failed, stopped), ``reason``, ``branch``, ``commit``,
                ``pr_url``, ``summary``, ``exit_code``, ``kept``, ``rescued`` (true: its runner
                died by itself, and somebody else wrote this), ``evicted`` (true: its place has
                ended it, and the work is to be gone on with elsewhere)
==============  ================================================================================
"""

from __future__ import annotations

import json
import time as _time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

RELAY = "relay"  # how work is kept that its worker has pushed and the controller not yet
VOID = b"\x18"  # ends a line cut short by its writer's death; JSON never holds this byte

LINE_MOST_BYTES = 64 << 20

EVENT_TYPES = (
    "status",
    "log",
    "agent",
    "usage",
    "progress",
    "question",
    "answer",
    "message",
    "checkpoint",
    "heartbeat",
    "gap",
    "error",
    "result",
)


class Event:
    """One line of a worker's log. ``fields`` holds all but ``seq``, ``time`` and ``type``.

    ``end`` is the byte offset behind the line in the log it was read from (0: unknown).
    """

    __slots__ = ("end", "fields", "seq", "time", "type")

    def __init__(self, seq: int, time: str, type: str, fields: dict[str, Any]) -> None:  # noqa: A002 - the wire's own word
        self.seq = seq
        self.time = time
        self.type = type
        self.fields = fields
        self.end = 0

    def to_json(self) -> dict[str, Any]:
        """Return the event as the object on the wire."""
        return {"seq": self.seq, "time": self.time, "type": self.type, **self.fields}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.seq, self.time, self.type))

    def __repr__(self) -> str:
        return f"Event({self.seq} {self.type} {self.fields!r})"


class LogDamaged(Exception):
    """A line of the log is not an event, or sequence numbers jump without a gap event."""


def timestamp(seconds: float | None = None) -> str:
    """Return an instant (seconds since the epoch; now, if absent) as RFC 3339 in UTC."""
    nanoseconds = _time.time_ns() if seconds is None else int(seconds * 1e9)
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    return _time.strftime("%Y-%m-%dT%H:%M:%S", _time.gmtime(whole)) + f".{rest // 1000:06d}Z"


def encode(seq: int, time: str, type: str, fields: dict[str, Any]) -> bytes:  # noqa: A002 - the wire's own word
    """Return one line of the log, newline included."""
    line = json.dumps(
        {"seq": seq, "time": time, "type": type, **fields}, separators=(",", ":"), default=str
    )
    return line.encode("utf-8", "backslashreplace") + b"\n"


def decode(line: bytes) -> Event:
    """Return the event on one line; raise ``LogDamaged`` if it is none."""
    try:
        fields = json.loads(line)
        return Event(
            int(fields.pop("seq")), str(fields.pop("time")), str(fields.pop("type")), fields
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise LogDamaged(f"not an event: {line[:80]!r}") from exc


class EventReader:
    """Turns the bytes of a log, in whatever pieces they arrive, into events.

    ``seq`` is the last sequence number handed out, ``offset`` the byte behind its line: a reader
    made with both goes on exactly there. Bytes of a line without its newline are held back and
    count for nothing, so a writer killed in mid-line costs no reader anything.
    """

    def __init__(self, seq: int = 0, offset: int = 0) -> None:
        self.seq = seq
        self.offset = offset
        self._held = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events completed by ``data``, the bytes that follow all those fed before.

        Lines whose ``seq`` was handed out already are passed over in silence (a log read again
        from its start). Raises ``LogDamaged`` for a line that is no event or a jump in ``seq``,
        after what stands before it.
        """
        *lines, self._held = (self._held + data).split(b"\n")
        if len(self._held) > LINE_MOST_BYTES:
            raise LogDamaged("a line without an end")
        for line in lines:
            end = self.offset + len(line) + 1
            if not line.endswith(VOID):
                event = decode(line)
                event.end = end
                last = self._last_of(event)
                if last > self.seq:
                    self.seq, self.offset = last, end
                    yield event
            self.offset = end

    @property
    def read_offset(self) -> int:
        """The byte to read from next: ``offset`` plus what is held back of an unfinished line."""
        return self.offset + len(self._held)

    def _last_of(self, event: Event) -> int:
        """Return the last number an event stands for; raise if lines before it are missing."""
        first = last = event.seq
        if event.type == "gap":
            try:
                first, last = int(event.fields["from_seq"]), int(event.fields["to_seq"])
            except (KeyError, TypeError, ValueError) as exc:
                raise LogDamaged(f"event {event.seq} is a gap of unknown size") from exc
        if first > self.seq + 1:
            raise LogDamaged(f"event {event.seq} follows {self.seq}: lines are missing")
        return last

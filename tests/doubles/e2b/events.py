"""What streams of processes are made of."""

from __future__ import annotations

import signal
from typing import Literal

from connectrpc.errors import ConnectError
from e2b.envd.process.process_pb import ProcessEvent
from protobuf import Oneof

Event = ProcessEvent | ConnectError
"""What a stream sends next, or how it breaks."""


def started(pid: int) -> ProcessEvent:
    start: Oneof[Literal["start"], ProcessEvent.StartEvent]
    start = Oneof("start", ProcessEvent.StartEvent(pid=pid))
    return ProcessEvent(event=start)


def said(where: Literal["stdout", "stderr"], data: bytes) -> ProcessEvent:
    output: Oneof[Literal["stdout"], bytes] | Oneof[Literal["stderr"], bytes]
    output = Oneof(where, data)  # type: ignore[assignment]  # one of both it is
    piece: Oneof[Literal["data"], ProcessEvent.DataEvent]
    piece = Oneof("data", ProcessEvent.DataEvent(output=output))
    return ProcessEvent(event=piece)


def keepalive() -> ProcessEvent:
    nothing: Oneof[Literal["keepalive"], ProcessEvent.KeepAlive]
    nothing = Oneof("keepalive", ProcessEvent.KeepAlive())
    return ProcessEvent(event=nothing)


def ended(code: int) -> ProcessEvent:
    """Return an end as Go words it: a signal's number comes negative, its exit code is -1."""
    text = f"exit status {code}"
    if code < 0:
        text = f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"
    end: Oneof[Literal["end"], ProcessEvent.EndEvent] = Oneof(
        "end",
        ProcessEvent.EndEvent(
            exit_code=max(code, -1), exited=code >= 0, status=text, error=text if code else None
        ),
    )
    return ProcessEvent(event=end)


def is_end(event: ProcessEvent) -> bool:
    return event.event is not None and isinstance(event.event.value, ProcessEvent.EndEvent)

"""The lines of the controller's log: for people and as JSON, without secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from outpost.cli.log_lines import JsonLines, TextLines, log_to_standard_error
from outpost.errors import UserError
from outpost.wire.redact import MARK, Redactor

SECRET = "k3y-0123456789"
NOW = datetime(2026, 11, 21, 9, 30, 7, 123_456, tzinfo=UTC)
FULL = {"worker": "w-k3f9a2pq", "task": "t-c4c4c4c4", "outpost": "local", "loop": "supervise"}


def record(
    message: str,
    *arguments: object,
    about: Mapping[str, object] | None = None,
    name: str = "outpost.controller",
    trace: bool = False,
) -> logging.LogRecord:
    """Return a record as a logger makes it, with what is given as ``extra``."""
    logger = logging.getLogger(name)
    caught = None
    if trace:
        try:
            {"no": 1}[SECRET]
        except KeyError:
            caught = sys.exc_info()
    made = logger.makeRecord(
        logger.name, logging.WARNING, "", 0, message, arguments, caught, extra=about
    )
    made.created = NOW.timestamp()
    return made


def text(of: logging.LogRecord) -> str:
    return TextLines(Redactor([SECRET])).format(of)


def document(of: logging.LogRecord) -> dict[str, object]:
    line = JsonLines(Redactor([SECRET])).format(of)
    assert "\n" not in line
    found: dict[str, object] = json.loads(line)
    return found


def test_a_line_of_text_ends_with_what_it_is_about() -> None:
    assert text(record("up, process %d", 4711)) == "2026-11-21T09:30:07Z WARNING up, process 4711"
    assert text(record("is dead", about=FULL)) == (
        "2026-11-21T09:30:07Z WARNING is dead"
        " loop=supervise worker=w-k3f9a2pq task=t-c4c4c4c4 outpost=local"
    )
    some = {"task": "t-c4c4c4c4", "worker": None, "outpost": ""}
    assert text(record("is queued", about=some)).endswith(" is queued task=t-c4c4c4c4")


def test_json_has_every_key_and_the_time_to_the_millisecond() -> None:
    assert document(record("is %s", "dead", about=FULL)) == {
        "time": "2026-11-21T09:30:07.123Z",
        "level": "warning",
        "logger": "outpost.controller",
        "message": "is dead",
        **FULL,
    }
    alone = document(record("up"))
    assert [key for key in FULL if alone[key] is None] == list(FULL)


def test_each_loop_has_a_logger() -> None:
    said = record("is dead", about={"worker": "w-k3f9a2pq"}, name="outpost.controller.supervise")
    assert text(said).endswith(" is dead loop=supervise worker=w-k3f9a2pq")
    assert document(said)["loop"] == "supervise"
    assert document(record("is slow", name="asyncio"))["loop"] is None


def test_a_message_is_one_line_and_cannot_drive_a_terminal() -> None:
    said = record("git said:\n  fatal: \x1b[31mno\r\n", about={"outpost": "a\nb"})
    assert text(said) == "2026-11-21T09:30:07Z WARNING git said: fatal: [31mno outpost=a b"
    assert document(said)["message"] == "git said:\n  fatal: \x1b[31mno\r\n"


def test_secrets_are_in_neither_nor_in_what_they_are_about_nor_in_tracebacks() -> None:
    said = record(f"the key is %s\n{SECRET}", SECRET, about={"task": SECRET}, trace=True)
    line, found = text(said), document(said)
    assert SECRET not in line
    assert SECRET not in json.dumps(found)
    assert line.splitlines()[0].endswith(f"the key is {MARK} {MARK} task={MARK}")
    assert found["message"] == f"the key is {MARK}\n{MARK}"
    for trace in (line, str(found["exception"])):
        assert "Traceback (most recent call last):" in trace
        assert f"KeyError: '{MARK}'" in trace


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UserError, match="no format 'jason'; did you mean 'json'") as failed:
        log_to_standard_error("jason", {})
    assert failed.value.hint == "one of text, json"

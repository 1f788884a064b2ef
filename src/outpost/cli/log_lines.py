"""What `outpost up` says on standard error: a line a record, for people or as JSON.

A record may say what it is about: ``extra`` with ``loop``, ``worker``, ``task``, ``outpost``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from outpost.cli.failures import ABOUT_BUGS, BUG
from outpost.cli.phrases import one_line
from outpost.errors import OutpostError, UserError, nearest
from outpost.wire.redact import Redactor, secrets_of
from outpost.wire.render import harmless

ABOUT = ("loop", "worker", "task", "outpost")
"""What a record may be about, as ``extra`` of the call that logs it."""
_CONTROLLER = "outpost.controller"


def log_to_standard_error(form: str, environment: Mapping[str, str]) -> None:
    """Log there what we do, and of the libraries only what is wrong.

    ``form`` is ``text`` or ``json``, else it raises ``UserError``. No secret of ``environment``
    gets into a line.
    """
    known = {"text": TextLines, "json": JsonLines}
    if form not in known:
        raise UserError(
            f"--log-format: there is no format '{form}'{nearest(form, known)}",
            hint=f"one of {', '.join(known)}",
        )
    handler = logging.StreamHandler(_StandardError())
    handler.setFormatter(known[form](Redactor(secrets_of(environment))))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("outpost").setLevel(logging.INFO)
    # A connection that broke is our own store's to tell of, in words.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


@contextlib.contextmanager
def ending(form: str) -> Iterator[None]:
    """Have the error that ends the program be a line like the others, where these are JSON.

    The program exits with the error's code then.
    """
    try:
        yield
    except Exception as exc:
        if form != "json":
            raise
        raise SystemExit(_log_last(exc)) from None


def _log_last(error: Exception) -> int:
    """Log the error that ends the program; return the exit code for it."""
    logger = logging.getLogger("outpost")
    if isinstance(error, OutpostError):
        logger.error(error.message, extra={"code": error.code, "hint": error.hint})
        return error.exit_code
    said, shown = f"{type(error).__name__}: {error}", bool(os.environ.get("OUTPOST_DEBUG"))
    logger.critical(said, exc_info=error if shown else None, extra={"hint": ABOUT_BUGS})
    return BUG


class TextLines(logging.Formatter):
    """A line for people: ``TIME LEVEL MESSAGE``, and what it is about as ``worker=w-…``.

    A traceback follows on lines of its own.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text, without its secrets."""
        time = _moment(record, "seconds")
        about = "".join(f" {key}={one_line(value)}" for key, value in _about(record).items())
        line = f"{time} {record.levelname} {one_line(record.getMessage())}{about}"
        trace = _trace(self, record)
        return self._redactor.text(f"{line}\n{harmless(trace)}" if trace else line)


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, logger, message, what it is about, the traceback.

    For the error that ends the program also its code, and a hint.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON, without its secrets; what it is not about is null."""
        about = _about(record)
        document = {
            "time": _moment(record, "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: about.get(key) for key in ABOUT},
        }
        more = {"code": record.__dict__.get("code"), "hint": record.__dict__.get("hint")}
        document |= {key: said for key, said in more.items() if said}
        trace = _trace(self, record)
        if trace:
            document["exception"] = trace
        return self._redactor.line(json.dumps(document).encode()).decode()


class _StandardError:
    """Standard error without a buffer: a line is one write, and one nobody reads is dropped."""

    def __init__(self) -> None:
        # Where it is closed another file may have its number.
        self._is_open = sys.stderr is not None

    def write(self, text: str) -> None:
        if self._is_open:
            with contextlib.suppress(OSError):
                os.write(2, text.encode(errors="replace"))

    def flush(self) -> None:
        """Nothing is held back."""


def _about(record: logging.LogRecord) -> dict[str, str]:
    """Return what a record is about; each loop of the controller has a logger of its name."""
    _, _, loop = record.name.partition(f"{_CONTROLLER}.")
    said = {"loop": loop, **record.__dict__}
    return {key: str(said[key]) for key in ABOUT if said.get(key)}


def _moment(record: logging.LogRecord, precision: str) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""

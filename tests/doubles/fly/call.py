"""One request to the API and its answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NONCE = "fly-machine-lease-nonce"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request. ``path`` has no query and begins with ``/v1``; names of headers are lower case."""

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body; an empty one where there is none."""
        found: dict[str, Any] = json.loads(self.body) if self.body else {}
        return found

    def asks(self, name: str, default: str = "") -> str:
        """Return the value of a query, the last one."""
        return dict(self.query).get(name, default)

    def is_true(self, name: str) -> bool:
        return self.asks(name) in ("true", "1")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``body`` is JSON, or ``None`` for none."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return b"" if self.body is None else json.dumps(self.body).encode()


class Refused(Exception):
    """A request is not carried out; the text is what ``error`` says."""

    def __init__(self, status: int, text: str, *, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.answer = Answer(status=status, body=dict(body) if body else {"error": text})


Handler = Callable[..., Awaitable[Answer]]
"""Takes a call and what its path names, as keywords."""

OK = Answer(body={"ok": True})

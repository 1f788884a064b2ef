"""One whole request and its answer, as both of the stand-in's REST interfaces see them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from werkzeug.datastructures import Headers, MultiDict

from tests.doubles.cloud_run.exchange import Exchange

JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request; ``path`` is decoded."""

    method: str
    target: str
    headers: Headers
    body: bytes

    @classmethod
    async def of(cls, exchange: Exchange) -> Self:
        """Return what comes over a connection, once all of it is there."""
        body = b"".join([piece async for piece in exchange.body()])
        headers = Headers(list(exchange.headers))
        return cls(method=exchange.method, target=exchange.target, headers=headers, body=body)

    @cached_property
    def raw_path(self) -> str:
        return urlsplit(self.target).path

    @cached_property
    def path(self) -> str:
        return unquote(self.raw_path)

    @cached_property
    def query(self) -> MultiDict[str, str]:
        return MultiDict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def json(self) -> Any:
        """Return the body, ``{}`` where there is none; raises ``Refused``."""
        try:
            return json.loads(self.body) if self.body else {}
        except ValueError as exc:
            raise Refused(400, f"Error when parsing request: {exc}") from exc


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, value: Any, **headers: str) -> Self:
        """Return an answer in JSON; headers' names have ``_`` for ``-``."""
        named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        body = json.dumps(value).encode()
        return cls(status=status, body=body, content_type=JSON, headers=named)

    async def send(self, exchange: Exchange) -> None:
        headers = list(self.headers.items())
        if self.content_type:
            headers.append(("content-type", self.content_type))
        await exchange.answer(self.status, headers, self.body)


class Refused(Exception):
    """An error that the caller is told: ``code`` and ``message`` in JSON."""

    def __init__(self, status: int, message: str, *, error_code: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.reply = Reply.of(
            status,
            {"code": status, "message": message}
            | ({"error_code": error_code} if error_code else {}),
            **headers,
        )

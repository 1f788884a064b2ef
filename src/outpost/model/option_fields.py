"""Types of fields that options of several kinds of outposts have, as editors are shown them too."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from outpost.durations import PATTERN, duration_field

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The name of an environment variable, whole."""
_LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))
AS_DURATION = WithJsonSchema({"type": "string", "pattern": PATTERN})
Duration: TypeAlias = Annotated[float, BeforeValidator(duration_field), AS_DURATION]
"""Seconds, written as people do: ``45s``, ``30m``, ``2h``."""


def one_or_more(value: object) -> object:
    """Return one text as a tuple of that one, and a list as a tuple; all else is left to others."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def one_or_more_schema(pattern: str) -> WithJsonSchema:
    """Return what editors are told of a field that takes one text, or several, of a pattern."""
    one = {"type": "string", "pattern": pattern}
    return WithJsonSchema({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})


def server_address(text: str, *, within: tuple[str, ...] = ()) -> str:
    """Return the address of a server that secrets are sent to.

    ``http://`` is for this machine, and for hosts whose names end in one of ``within``. Raises
    ``ValueError``, whose words show nothing of it.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - slow to import, rarely needed

    if "@" in text:
        raise ValueError("no user and no password here: an address is there for all to see")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or port == 0:
        raise ValueError("expected an address such as https://example.com or http://127.0.0.1:8080")
    if text.startswith("http:") and host not in _LOOPBACK and not host.endswith(within):
        raise ValueError("https:// is needed: tokens, orders and logs go there")
    return text

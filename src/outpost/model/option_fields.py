"""Types of fields that options of several kinds of outposts have, as editors are shown them too."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from outpost.durations import PATTERN, duration_field

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The name of an environment variable, whole."""
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

"""Files of this machine that the options of an outpost name."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, WithJsonSchema


def _whole(path: str) -> str:
    if not path.startswith(("/", "~")):
        raise ValueError("expected a whole path, which begins with / or ~/")
    return path


FileHere: TypeAlias = Annotated[
    str,
    AfterValidator(_whole),
    WithJsonSchema({"type": "string", "format": "file-path", "pattern": "^[/~]"}),
]
"""A path that means the same file wherever ``outpost`` is run; on the command line any will do."""

"""Terraform's files of an example, as much of them as tests look at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

_REFERENCE = re.compile(r"\b(var|local|google_\w+|random_\w+)\.(\w+)")
_AS_TEXT = SerializationOptions(
    with_comments=False, explicit_blocks=False, strip_string_quotes=True, preserve_heredocs=False
)


def loads(text: str) -> dict[str, list[Any]]:
    """Return what a file says, by the kind of block."""
    found: dict[str, list[Any]] = hcl2.loads(text, serialization_options=_AS_TEXT)
    return found


class Terraform:
    """What all files of a folder say together; ``blocks`` by their kind."""

    def __init__(self, folder: Path) -> None:
        self.blocks: dict[str, list[Any]] = {}
        for path in sorted(folder.glob("*.tf")):
            for kind, found in loads(path.read_text()).items():
                self.blocks.setdefault(kind, []).extend(found)

    def named(self, kind: str) -> Mapping[str, Any]:
        """Return the blocks of one kind by their names."""
        return {name: body for block in self.blocks[kind] for name, body in block.items()}

    def declared(self) -> set[tuple[str, str]]:
        """Return what may be referred to: kind and name."""
        declared = {("var", name) for name in self.named("variable")}
        declared |= {("local", name) for name in self.named("locals")}
        for block in self.blocks["resource"]:
            declared |= {(kind, name) for kind, bodies in block.items() for name in bodies}
        return declared

    def used(self) -> set[tuple[str, str]]:
        """Return what is referred to."""
        return {found for text in _texts(self.blocks) for found in _REFERENCE.findall(text)}


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value: expressions are among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)

"""Values as YAML text that every reader of YAML, old or new, understands the same way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import yaml

from outpost.config.document import resolve

# What needs no quotes, also between brackets; a colon must not end a word.
_PLAIN = re.compile(r"[\w./~]([\w./~@%+= -]|:(?=[^\s:]))*(?<!\s)")
_TEXT_TAG = "tag:yaml.org,2002:str"
_RESOLVER: Any = yaml.resolver.Resolver()


def inline(value: Any, *, as_json: bool = False) -> str:
    """Return a value on one line; with ``as_json`` as JSON, which is YAML too."""
    if isinstance(value, Mapping):
        pairs = [
            f"{inline(k, as_json=as_json)}: {inline(v, as_json=as_json)}" for k, v in value.items()
        ]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(inline(item, as_json=as_json) for item in value) + "]"
    if isinstance(value, str):
        return value if not as_json and _is_plain(value) else _quoted(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    return json.dumps(value)


def block(entry: Mapping[str, Any]) -> list[str]:
    """Return a mapping as lines of ``key: value``."""
    return [f"{inline(key)}: {inline(value)}" for key, value in entry.items()]


def _is_plain(text: str) -> bool:
    """Whether a text needs no quotes: YAML 1.1 reads ``yes`` and ``1:30`` otherwise than 1.2."""
    if not _PLAIN.fullmatch(text) or not isinstance(resolve(text), str):
        return False
    return bool(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False)) == _TEXT_TAG)


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(map(_escaped, quoted))


def _escaped(character: str) -> str:
    # Half a surrogate pair has no escape: it is no text, which whoever encodes it will find.
    if character.isprintable() or "\ud800" <= character <= "\udfff":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

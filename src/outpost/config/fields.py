"""The types of single fields: how each is written in YAML, checked, and shown to editors."""

from __future__ import annotations

import re
from decimal import Decimal
from string import Formatter
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from outpost.durations import duration_field
from outpost.model import Priority
from outpost.model.option_fields import AS_DURATION, VARIABLE
from outpost.runner.permissions import PATTERN
from outpost.secrets import SecretRef

BRANCH_PLACEHOLDERS = ("issue", "attempt", "task")
MOST_DOLLARS = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HTTP_URL = re.compile(r"https?://[^\s@/?#]+(/[^\s@?#]*)?")
# What git refuses in a branch name, from git-check-ref-format(1).
_BAD_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.(/|$)|\.lock(/|$)|^[-/.]|/$")
_STORE_SCHEMES = ("sqlite", "postgresql")


def is_name(text: str) -> bool:
    """Whether an outpost may be called that."""
    return _NAME.fullmatch(text) is not None


def _outpost_name(text: str) -> str:
    if not is_name(text):
        raise ValueError(
            "a name is 1 to 63 letters, digits, '.', '_' and '-', and begins with a letter or digit"
        )
    return text


def _time_limit(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than 0s")
    return seconds


def _dollars(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("expected US dollars as a number, such as 5.00")  # noqa: TRY004 - as above
    # By way of its shortest text, so that 0.1 is a tenth.
    return Decimal(str(value))


def _priority(value: object) -> Priority:
    if isinstance(value, Priority):
        return value
    if isinstance(value, str) and value in Priority.__members__:
        return Priority[value]
    raise ValueError("expected P0 (most urgent), P1, P2, P3 or P4 (least urgent)")


def _agent(text: str) -> str:
    if not is_name(text):
        raise ValueError("an agent's name is 1 to 63 letters, digits, '.', '_' and '-'")
    return text


def _permission_pattern(text: str) -> str:
    if not PATTERN.fullmatch(text):
        raise ValueError("expected a tool, or a tool and what it is used on, such as Bash(git *)")
    return text


def _variable(text: str) -> str:
    if not VARIABLE.fullmatch(text):
        raise ValueError("expected the name of an environment variable, without its value")
    return text


def _branch(template: str) -> str:
    """Check a template by what it makes of harmless values."""
    known = ", ".join(f"{{{name}}}" for name in BRANCH_PLACEHOLDERS)
    try:
        parts = list(Formatter().parse(template))
    except ValueError as exc:
        raise ValueError(f"a brace is not closed; placeholders are {known}") from exc
    names = [name for _, name, _, _ in parts if name is not None]
    for _, name, specification, conversion in parts:
        if name is not None and name not in BRANCH_PLACEHOLDERS:
            raise ValueError(f"unknown placeholder {{{name[:40]}}}; placeholders are {known}")
        if specification or conversion:
            raise ValueError(f"a placeholder is a name in braces and nothing else: {known}")
    if not names:
        raise ValueError(f"every worker would use the same branch: use one of {known}")
    example = template.format(**dict.fromkeys(BRANCH_PLACEHOLDERS, "x"))
    if _BAD_IN_REF.search(example) or example == "@":
        raise ValueError("git does not allow such a branch name (see git help check-ref-format)")
    return template


def _api_url(text: str) -> str:
    if not _HTTP_URL.fullmatch(text):
        raise ValueError("expected a URL such as https://github.example.com/api/v3")
    return text.rstrip("/")


def _store_url(value: object) -> str | SecretRef:
    if isinstance(value, SecretRef):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a URL or a reference to one")  # noqa: TRY004 - pydantic collects ValueError
    scheme, separator, rest = value.partition("://")
    if scheme in ("env", "file", "cmd"):
        return SecretRef.parse(value)
    if not separator or scheme.partition("+")[0] not in _STORE_SCHEMES:
        raise ValueError(
            "expected a URL such as sqlite:////var/lib/outpost/outpost.db or"
            " postgresql://HOST/DATABASE, or a reference to one such as env://NAME"
        )
    user, at, _ = rest.rpartition("@")
    if (at and ":" in user) or "password=" in rest:
        raise ValueError(
            "a URL with a password is given as a reference: env://NAME or file:///PATH"
        )
    return value


def _text(pattern: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


OutpostName: TypeAlias = Annotated[str, AfterValidator(_outpost_name), _text(f"^{_NAME.pattern}$")]
TimeLimit: TypeAlias = Annotated[
    float, BeforeValidator(duration_field), AfterValidator(_time_limit), AS_DURATION
]
PriorityName: TypeAlias = Annotated[
    Priority, PlainValidator(_priority), WithJsonSchema({"enum": list(Priority.__members__)})
]
AgentName: TypeAlias = Annotated[str, AfterValidator(_agent), _text(f"^{_NAME.pattern}$")]
PermissionPattern: TypeAlias = Annotated[
    str, AfterValidator(_permission_pattern), _text(r"^(\*|[A-Za-z_][A-Za-z0-9_.:-]*\*?)(\(.*\))?$")
]
VariableName: TypeAlias = Annotated[str, AfterValidator(_variable), _text(f"^{VARIABLE.pattern}$")]
BranchTemplate: TypeAlias = Annotated[
    str, AfterValidator(_branch), _text(r"\{(issue|attempt|task)\}")
]
ApiUrl: TypeAlias = Annotated[str, AfterValidator(_api_url), _text("^https?://")]
StoreUrl: TypeAlias = Annotated[
    str | SecretRef,
    PlainValidator(_store_url),
    _text(r"^(sqlite|postgresql)(\+[a-z0-9]+)?://|^(env|file|cmd)://.+"),
]
Dollars: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_dollars),
    Field(ge=0, le=MOST_DOLLARS, decimal_places=6),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MOST_DOLLARS}),
]

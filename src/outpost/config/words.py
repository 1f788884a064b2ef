"""What a model refused, said to a person and put where it stands in the file."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from outpost.config.nodes import Node, Path, Problem, show_path
from outpost.errors import nearest

_WORDS: Mapping[str, str] = {
    "missing": "is required",
    "string_type": "expected text, got {got}",
    "bool_type": "expected true or false, got {got}",
    "int_type": "expected a whole number, got {got}",
    "int_from_float": "expected a whole number, got {got}",
    "float_type": "expected a number, got {got}",
    "decimal_type": "expected a number, got {got}",
    "decimal_parsing": "expected a number, got {got}",
    "tuple_type": "expected a list, got {got}",
    "list_type": "expected a list, got {got}",
    "dict_type": "expected a mapping (key: value), got {got}",
    "mapping_type": "expected a mapping (key: value), got {got}",
    "model_type": "expected a mapping (key: value), got {got}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must not be empty",
    "decimal_max_places": "has more than {decimal_places} digits after the point",
}


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    root: Node,
    *,
    at: Path = (),
    beside: tuple[str, ...] = (),
) -> Iterator[Problem]:
    """Yield what ``model`` refused of the value at path ``at``.

    ``beside`` are fields that stand beside those of the model in the file but are not its own.
    """
    for detail in error.errors(include_url=False):
        own: Path = tuple(step for step in detail["loc"] if step != "[key]")
        path = at + own
        if detail["type"] == "extra_forbidden":
            names = fields_at(model, own[:-1]) + (beside if len(own) == 1 else ())
            text = f"unknown field{nearest(str(own[-1]), names)}"
            yield Problem(root.index_of(path, key=True), show_path(path), text)
        else:
            at_key = "[key]" in detail["loc"]
            text = _words(detail, _walk(model, own)[1])
            yield Problem(root.index_of(path, key=at_key), show_path(path), text)


def fields_at(model: type[BaseModel], path: Path = ()) -> tuple[str, ...]:
    """Return the fields that may stand at ``path`` inside a model, as written in a file."""
    return tuple(_fields(_walk(model, path)[0]))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _walk(model: type[BaseModel], path: Path) -> tuple[type[BaseModel], FieldInfo | None]:
    """Return the model that a path ends in, and the last field on it."""
    info: FieldInfo | None = None
    for step in path:
        # Steps that are no fields are indexes of a list or keys of a mapping of models.
        if found := _fields(model).get(str(step)):
            info, inner = found, _model_in(found.annotation)
            if inner is None:
                break
            model = inner
    return model, info


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(part) for part in typing.get_args(annotation))
    return next((model for model in found if model), None)


def describe(value: Any) -> str:
    """Name the kind of a plain value, without showing it: it may be a misplaced secret."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a mapping" if isinstance(value, Mapping) else "a list"


def _words(detail: ErrorDetails, field: FieldInfo | None) -> str:
    context = {
        name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        for name, bound in detail.get("ctx", {}).items()
    }
    if detail["type"] == "value_error":
        return str(context.get("error", detail["msg"]))
    if detail["type"] == "literal_error":
        allowed = re.findall("'([^']*)'", str(context["expected"]))
        return f"expected {context['expected']}{nearest(str(detail['input']), allowed)}"
    if detail["type"] == "string_pattern_mismatch" and field:
        if field.examples:
            return f"must be written like {' or '.join(map(str, field.examples))}"
        if field.description:
            return f"does not fit; what belongs here: {field.description.rstrip('.')}"
    if words := _WORDS.get(detail["type"]):
        return words.format(**context, got=describe(detail["input"]))
    return detail["msg"][:1].lower() + detail["msg"][1:]

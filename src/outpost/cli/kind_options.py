"""A flag for each option of a kind of outposts, from the options' own schema."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from outpost.config.document import Unreadable, read_document, resolve
from outpost.config.nodes import Lines
from outpost.errors import UserError

Form = Literal["switch", "text", "number", "any", "one_or_more", "list", "pairs"]

_REPEATED: tuple[Form, ...] = ("one_or_more", "list", "pairs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """An option ``field`` as it is given on the command line.

    A ``switch`` that is not off by itself has an ``opposite``, ``--no-…``; ``one_or_more`` texts, a
    ``list`` and ``pairs`` may be given again. ``item`` is the form of what these hold. ``is_file``
    says that it names a file of this machine.
    """

    field: str
    option: str
    form: Form
    item: Form
    metavar: str
    help: str
    required: bool = False
    opposite: bool = False
    is_file: bool = False

    @property
    def key(self) -> str:
        """Its name among a command's parameters, which no other parameter has."""
        return f"option_{self.field}"

    def parameter(self) -> inspect.Parameter:
        """Return the parameter that typer makes an option of; ``None`` or empty: not given."""
        kind: Any = bool | None if self.form == "switch" else str | None
        if self.form in _REPEATED:
            kind = list[str] | None
        metavar = None if self.form == "switch" else self.metavar
        names = self.option
        if self.opposite:
            names += f"/--no-{self.option.removeprefix('--')}"
        option = typer.Option(names, metavar=metavar, help=self.help, show_default=False)
        return inspect.Parameter(
            self.key,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind, option],
        )

    def value(self, given: Any) -> Any:
        """Return what was given as the plain value that stands in a configuration.

        What has the wrong form stays text, so that the option's own check can say what is wrong. A
        file is that of the folder we are in, whoever reads the configuration from elsewhere.
        """
        if self.is_file and given and not given.startswith("~"):
            return str(Path(given).absolute())
        if self.form == "switch":
            return given
        if self.form == "list":
            return [self._scalar(text, self.item) for text in given]
        if self.form == "one_or_more":
            # A list may stand in one of them, as in a file: [a, b].
            found = [self._scalar(it, "any" if it[:1] == "[" else self.item) for it in given]
            return found[0] if len(found) == 1 else found
        if self.form == "pairs":
            return dict(self._pair(text) for text in given)
        return self._scalar(given, self.form)

    def answer(self, text: str) -> Any:
        """Return what was typed as the answer to a question as such a value."""
        if self.form == "switch":
            return resolve(text)
        return self.value(shlex.split(text) if self.form in _REPEATED else text)

    def _pair(self, text: str) -> tuple[str, Any]:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UserError(f"{self.option}: expected KEY=VALUE, got {text!r}")
        return key, self._scalar(value, self.item)

    def _scalar(self, text: str, form: Form) -> Any:
        if form == "text":
            return text
        value = resolve(text)
        if isinstance(value, float):
            # As it was typed: 0.10 stays 0.10.
            return Decimal(text)
        return self._collection(text) if form == "any" and text[:1] in ("[", "{") else value

    def _collection(self, text: str) -> Any:
        try:
            document = read_document(text, Lines(text))
        except Unreadable as exc:
            problems = exc.problems
        else:
            problems = document.problems
        if problems:
            raise UserError(f"{self.option}: {problems[0].text}: {text!r}")
        return document.root.plain() if document.root else None


def flags(
    schema: Mapping[str, Any], *, kind: str = "", reserved: Collection[str] = ()
) -> list[Flag]:
    """Return the flags for the fields of a JSON schema, in its order.

    One whose flag would be among those ``reserved`` has the kind in front: ``--ssh-config``.
    """
    required = schema.get("required", ())
    definitions = schema.get("$defs", {})
    found = []
    for field, given in schema.get("properties", {}).items():
        words = field.replace("_", "-")
        types, details = _types(given, definitions)
        form = _form(types, details)
        flag = Flag(
            field=field,
            option=f"--{kind}-{words}" if words in reserved else f"--{words}",
            form=form,
            item=_item_form(form, details, definitions),
            metavar=_metavar(form, details),
            help=_help(given, form),
            required=field in required,
            opposite=form == "switch" and given.get("default") is not False,
            is_file=form == "text" and details.get("format") == "file-path",
        )
        found.append(flag)
    return found


def _types(
    given: Mapping[str, Any], definitions: Mapping[str, Any]
) -> tuple[set[str], Mapping[str, Any]]:
    """Return what a field may be besides nothing, and the part of its schema that says more."""
    types: set[str] = set()
    details: Mapping[str, Any] = {}
    for option in _options(given, definitions):
        if option.get("type") == "null":
            continue
        named = option.get("type", "any")
        types |= {named} if isinstance(named, str) else set(named)
        if "enum" in option and "type" not in option:
            types = (types - {"any"}) | {"string"}
        # Of a text or a list of texts the list says more.
        details = details if "items" in details else option
    return types, details


def _options(
    given: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield a schema's alternatives, with what they refer to in place of the reference."""
    if reference := given.get("$ref"):
        yield from _options(definitions[reference.rpartition("/")[2]], definitions)
    elif alternatives := given.get("anyOf") or given.get("allOf"):
        for alternative in alternatives:
            yield from _options(alternative, definitions)
    else:
        yield given


def _form(types: set[str], details: Mapping[str, Any]) -> Form:
    if types == {"boolean"}:
        return "switch"
    if types == {"string"}:
        return "text"
    if types and types <= {"integer", "number"}:
        return "number"
    if types == {"array"}:
        return "list"
    if types == {"array", "string"}:
        return "one_or_more"
    if types == {"object"} and isinstance(details.get("additionalProperties"), Mapping):
        return "pairs"
    return "any"


def _item_form(form: Form, details: Mapping[str, Any], definitions: Mapping[str, Any]) -> Form:
    if form not in _REPEATED:
        return form
    held = "additionalProperties" if form == "pairs" else "items"
    item, more = _types(details.get(held) or {}, definitions)
    found = _form(item, more)
    return found if found in ("text", "number") else "any"


def _metavar(form: Form, details: Mapping[str, Any]) -> str:
    if choices := details.get("enum"):
        return "|".join(map(str, choices))
    return {"number": "N", "pairs": "KEY=VALUE", "any": "VALUE"}.get(form, "TEXT")


def _help(given: Mapping[str, Any], form: Form) -> str:
    text, default = str(given.get("description", "")), given.get("default")
    if form in _REPEATED:
        text = f"{text.removesuffix('.')}; may be given again." if text else "May be given again."
    if form == "switch":
        return f"{text}  [default: on]" if default is True else text
    return text if default in (None, "", [], {}) else f"{text}  [default: {default}]"

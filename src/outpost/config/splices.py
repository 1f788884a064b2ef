"""Single changes to YAML text: an item put into a list, or an item or key taken out.

Everything else stays as it is, byte for byte: comments, blank lines, quotes, indentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from outpost.config.nodes import Path
from outpost.config.places import Place, Places, Span
from outpost.config.rendering import block, inline

Edit: TypeAlias = tuple[int, int, str]
"""From where to where, and what stands there instead."""

_COMMENTED_ITEM = re.compile(r"^\s*#\s*-\s", re.MULTILINE)
_STEP = 2


class Stuck(Exception):
    """The place is written in a way that cannot be changed without changing more."""


def splice(text: str, *edits: Edit) -> str:
    """Return the text with all edits made, which do not overlap."""
    for start, end, instead in sorted(edits, reverse=True):
        text = text[:start] + instead + text[end:]
    return text


def insert(text: str, path: Path, value: Any, *, at: int | None = None) -> str:
    """Put a value into the list at ``path`` in front of item ``at`` (``None``: as the last one).

    It is written as its neighbour is: over several lines, or between braces. Raises ``Stuck``.
    """
    places = Places(text)
    place = places.at(path)
    if place is None or not place.is_list:
        raise Stuck
    number = len(place.items) if at is None else at
    if not place.items:
        return splice(text, (place.start + 1, place.start + 1, inline(value)))
    if place.is_flow:
        return splice(text, *_insert_flow(places, place, value, number))
    return splice(text, _insert_block(places, place, value, number))


def cut(text: str, path: Path) -> str:
    """Take the item or key at ``path`` out, with the comments that are its own.

    These are the lines directly above it and those indented below it. Raises ``Stuck``.
    """
    places = Places(text)
    parent = places.at(path[:-1])
    number = parent.index(path[-1]) if parent else None
    if parent is None or number is None:
        raise Stuck
    around = _Around(places, places.spans(parent), number)
    edits = _cut_flow(around, parent.end) if parent.is_flow else [_cut_block(around)]
    return splice(text, *edits)


@dataclass(frozen=True, slots=True)
class _Around:
    """An item and its neighbours."""

    places: Places
    spans: list[Span]
    number: int

    @property
    def span(self) -> Span:
        return self.spans[self.number]

    @property
    def before(self) -> Span | None:
        return self.spans[self.number - 1] if self.number else None

    @property
    def behind(self) -> Span | None:
        return self.spans[self.number + 1] if self.number + 1 < len(self.spans) else None


def _comments_start(places: Places, span: Span) -> int:
    """Return where the comments directly above an item begin, or the item's own line."""
    text, column = places.text, places.column(span.start)
    start = places.line_start(span.start)
    while start:
        line = places.line_start(start - 1 - text.endswith("\r\n", 0, start))
        indent = line + column
        if text[line:indent].strip() or not text.startswith("#", indent):
            break
        start = line
    return start


def _own_start(places: Places, span: Span) -> int:
    """Return where an item's lines begin, with the comments directly above it.

    Where one of them is an item that was commented out, they belong to nobody.
    """
    start, line = _comments_start(places, span), places.line_start(span.start)
    return line if _COMMENTED_ITEM.search(places.text, start, line) else start


def _own_end(places: Places, span: Span) -> int:
    """Return where an item's lines end, with the comments that are indented below it."""
    text, column = places.text, places.column(span.start)
    end = line = places.line_end(span.end)
    while line < len(text):
        behind = places.line_end(line)
        words = text[line:behind].strip()
        if words:
            if not words.startswith("#") or text.index("#", line) - line <= column:
                break
            end = behind
        line = behind
    return end


def _insert_block(places: Places, place: Place, value: Any, number: int) -> Edit:
    spans = places.spans(place)
    last = number == len(spans)
    model = place.items[-1 if last else number]
    dash = spans[0].start
    lines = _block_lines(places, model, value, spans[-1 if last else number])
    nl, indent = places.line_break, " " * places.column(dash)
    written = nl.join(f"{indent}{line}" for line in lines)
    gap = nl if _are_apart(places, spans) else ""
    if last:
        start = min(_own_end(places, spans[-1]), places.end)
        if places.text[:start].endswith(("\n", "\r")):
            return start, start, f"{gap}{written}{nl}"
        return start, start, f"{nl}{gap}{written}"
    if not places.begins_line(spans[number].start):
        raise Stuck
    start = _comments_start(places, spans[number])
    return start, start, f"{written}{nl}{gap}"


def _block_lines(places: Places, model: Place, value: Any, span: Span) -> list[str]:
    """Return the lines of a new item as ``model`` is written, from its dash on."""
    if not isinstance(value, Mapping) or (model.is_mapping and model.is_flow):
        return [f"- {_padded(places, model, inline(value))}"]
    width = places.column(model.keys[0].start) - places.column(span.start) if model.keys else _STEP
    first, *rest = block(value)
    return [f"-{' ' * (width - 1)}{first}", *(f"{' ' * width}{line}" for line in rest)]


def _padded(places: Places, model: Place, written: str) -> str:
    """Put blanks inside the braces where the neighbour has some."""
    inside = places.text[model.start : model.end]
    if written.startswith("{") and inside.startswith("{ ") and inside.endswith(" }"):
        return f"{{ {written[1:-1]} }}"
    return written


def _are_apart(places: Places, spans: list[Span]) -> bool:
    """Whether blank lines stand between the items."""
    if len(spans) == 1:
        return False
    between = places.text[_own_end(places, spans[-2]) : places.line_start(spans[-1].start)]
    return any(not line.strip() for line in between.splitlines())


def _insert_flow(places: Places, place: Place, value: Any, number: int) -> list[Edit]:
    text, spans, nl = places.text, places.spans(place), places.line_break
    last = number == len(spans)
    span = spans[-1 if last else number]
    model = place.items[-1 if last else number]
    as_json = model.is_mapping and bool(model.keys) and text[model.keys[0].start] == '"'
    written = _padded(places, model, inline(value, as_json=as_json))
    indent = text[places.line_start(span.start) : span.start]
    if not last:
        if places.begins_line(span.start):
            start = _comments_start(places, span)
            return [(start, start, f"{indent}{written},{nl}")]
        return [(span.start, span.start, f"{written}, ")]
    comma = places.comma_behind(span, place.end)
    behind = places.line_end(span.end if comma is None else comma)
    if not places.begins_line(span.start) or behind >= place.end:
        return [(span.end, span.end, f", {written}")]
    line = f"{indent}{written}{',' if comma is not None else ''}{nl}"
    return [(behind, behind, line)] + ([(span.end, span.end, ",")] if comma is None else [])


def _cut_block(around: _Around) -> Edit:
    places, span, text = around.places, around.span, around.places.text
    if not places.begins_line(span.start):
        # The first item behind a dash: the next one takes its place.
        behind = around.behind
        if behind is None or "#" in text[span.end : behind.start]:
            raise Stuck
        return span.start, behind.start, ""
    start, end = _own_start(places, span), _own_end(places, span)
    blank_above = _blank_above(places, start)
    if around.before is None and around.behind is not None and blank_above == start:
        while end < len(text) and not text[end : places.line_end(end)].strip():
            end = places.line_end(end)
    elif around.behind is None or not text[end : places.line_end(end)].strip():
        start = blank_above
    if end == len(text) and not text.endswith(("\n", "\r")):
        start = len(text[:start].rstrip("\r\n"))
    return start, end, ""


def _blank_above(places: Places, start: int) -> int:
    """Return where the blank lines directly above begin."""
    text = places.text
    while start:
        line = places.line_start(start - 1 - text.endswith("\r\n", 0, start))
        if text[line:start].strip():
            break
        start = line
    return start


def _cut_flow(around: _Around, limit: int) -> list[Edit]:
    places, span, text = around.places, around.span, around.places.text
    comma = places.comma_behind(span, limit)
    stop = span.end if comma is None else comma + 1
    line_end = places.line_end(stop)
    rest = text[stop:line_end].strip()
    if places.begins_line(span.start) and (not rest or rest.startswith("#")):
        edits = [(_own_start(places, span), line_end, "")]
        if comma is None and around.before:
            extra = places.comma_behind(around.before, limit)
            assert extra is not None
            edits.append((extra, extra + 1, ""))
        return edits
    if comma is not None:
        blanks = len(text[stop:]) - len(text[stop:].lstrip(" "))
        return [(span.start, stop + blanks, "")]
    start = around.before.end if around.before else span.start
    if "#" in text[start : span.start]:
        raise Stuck
    return [(start, span.end, "")]

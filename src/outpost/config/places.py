"""Where every part of a YAML document begins and ends, so that one of them alone can be changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from yaml.tokens import BlockEntryToken, FlowEntryToken

from outpost.config.nodes import Path

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
# As the document is read: libyaml takes tabs in places where its twin in Python does not.
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Span:
    """The text from ``start`` up to ``end``."""

    start: int
    end: int


@dataclass(slots=True)
class Place:
    """A scalar, an alias, a list or a mapping in the text, from its anchor on.

    ``items`` are the values of a list or mapping, ``keys`` and ``names`` a mapping's keys.
    """

    start: int
    end: int
    is_alias: bool = False
    is_list: bool = False
    is_mapping: bool = False
    is_flow: bool = False
    items: list[Place] = field(default_factory=list)
    keys: list[Place] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def index(self, step: str | int) -> int | None:
        """Return which item stands at a step of a path, ``None`` if none does."""
        if isinstance(step, int):
            return step if self.is_list and step < len(self.items) else None
        return self.names.index(step) if step in self.names else None


class Places:
    """The places of one document, which has been read before without a problem."""

    def __init__(self, text: str) -> None:
        self.text = text
        found = _LINE_BREAK.search(text)
        self.line_break = found.group() if found else "\n"
        tokens = list(yaml.scan(text, Loader=_LOADER))
        self.dashes = _starts(tokens, BlockEntryToken)
        self.commas = _starts(tokens, FlowEntryToken)
        self.anchors: dict[str, int] = {}
        self.aliases: list[tuple[int, str]] = []
        self.end = len(text)
        """Where the document ends: in front of ``...``, or with the text."""
        self.root: Place | None = None
        self._open: list[Place] = []
        for event in yaml.parse(text, Loader=_LOADER):
            self._take(event)

    def at(self, path: Path) -> Place | None:
        """Return the place at ``path``; ``None`` where there is none or only an alias leads to."""
        place = self.root
        for step in path:
            index = place.index(step) if place else None
            if place is None or index is None:
                return None
            place = place.items[index]
        return place

    def spans(self, place: Place) -> list[Span]:
        """Return a list's or mapping's items with all that is theirs: dash or key, and value."""
        if place.is_mapping:
            pairs = zip(place.keys, place.items, strict=True)
            return [Span(key.start, max(key.end, value.end)) for key, value in pairs]
        if place.is_flow:
            return [Span(item.start, item.end) for item in place.items]
        return [Span(self._dash(item.start), item.end) for item in place.items]

    def line_start(self, index: int) -> int:
        """Return where the line of a character begins."""
        breaks = (self.text.rfind("\n", 0, index), self.text.rfind("\r", 0, index))
        return max(breaks) + 1

    def line_end(self, index: int) -> int:
        """Return where the next line begins, or the text ends."""
        found = _LINE_BREAK.search(self.text, index)
        return found.end() if found else len(self.text)

    def column(self, index: int) -> int:
        """Return how many characters stand in front on the same line."""
        return index - self.line_start(index)

    def begins_line(self, index: int) -> bool:
        """Whether there are only blanks in front on the same line."""
        return not self.text[self.line_start(index) : index].strip()

    def comma_behind(self, span: Span, limit: int) -> int | None:
        """Return the comma behind an item of a flow collection that ends at ``limit``."""
        return next((comma for comma in self.commas if span.end <= comma < limit), None)

    def _dash(self, index: int) -> int:
        # An empty value begins right behind its dash, any other behind the blanks that follow.
        return max(dash for dash in self.dashes if dash < index)

    def _take(self, event: Event) -> None:
        if isinstance(event, CollectionEndEvent):
            closed = self._open.pop()
            if closed.is_flow:
                closed.end = _index(event.end_mark)
            else:
                closed.end = max((item.end for item in closed.items), default=closed.end)
            self._finish(closed)
        elif isinstance(event, NodeEvent):
            self._begin(event)
        elif isinstance(event, DocumentEndEvent) and event.explicit:
            self.end = _index(event.start_mark)

    def _begin(self, event: NodeEvent) -> None:
        start, end = _index(event.start_mark), _index(event.end_mark)
        if isinstance(event, AliasEvent):
            self.aliases.append((start, str(event.anchor)))
            self._finish(Place(start, end, is_alias=True))
            return
        if event.anchor is not None:
            self.anchors[event.anchor] = start
        if isinstance(event, CollectionStartEvent):
            is_mapping = isinstance(event, MappingStartEvent)
            flow = bool(event.flow_style)
            place = Place(start, end, is_list=not is_mapping, is_mapping=is_mapping, is_flow=flow)
            self._open.append(place)
            return
        # A block of text ends with its last line, not with the blank lines behind it.
        end = start + len(self.text[start:end].rstrip())
        place = Place(start, end)
        if self._awaits_key():
            assert isinstance(event, ScalarEvent)
            self._open[-1].names.append(event.value)
            self._open[-1].keys.append(place)
        else:
            self._finish(place)

    def _finish(self, place: Place) -> None:
        if self._open:
            self._open[-1].items.append(place)
        else:
            self.root = place

    def _awaits_key(self) -> bool:
        top = self._open[-1] if self._open else None
        return top is not None and top.is_mapping and len(top.keys) == len(top.items)


def _starts(tokens: list[Any], kind: type[yaml.Token]) -> list[int]:
    return [_index(token.start_mark) for token in tokens if isinstance(token, kind)]


def _index(mark: Any) -> int:
    """Return where a mark stands; the parser's own types say that there may be none."""
    index: int = mark.index
    return index

"""Adds outposts to the text of a configuration and takes them out; all else stays as it is.

Text goes in, text comes out. What came out was read again, and means what went in but for the
change; whether it is a valid configuration is for ``loading.parse`` to say.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from outpost.config.choosing import check_choices, labels_of
from outpost.config.document import Unreadable, read_document
from outpost.config.models import default_outposts
from outpost.config.nodes import Lines, Node, Path, Problem, show_path
from outpost.config.places import Place, Places
from outpost.config.rendering import block, inline
from outpost.config.splices import Stuck, cut, insert, splice
from outpost.errors import ConfigError

_OUTPOSTS: Path = ("outposts",)
_PREFERENCE: Path = ("policy", "default_preference")
_OVERRIDES: Path = ("policy", "overrides")
_CHOICES = ("prefer", "require", "avoid", "deny")


def with_outpost(text: str, entry: Mapping[str, Any], *, before: str | None = None) -> str:
    """Add an outpost behind the others, or in front of the one named ``before``.

    A text without outposts means this machine, which is written out first so that it stays.
    Raises ``ConfigError`` where the list is written in a way that only a person can change.
    """
    plain = _plain(text)
    present = plain.get("outposts")
    wanted = list(built_in(str(entry["name"])) if present is None else present)
    names = [item.get("name") for item in wanted]
    at = len(names) if before is None else names.index(before)
    wanted.insert(at, _as_read(entry))

    def edit() -> str:
        if present is None:
            return _with_section(text, [*wanted[:at], entry, *wanted[at + 1 :]])
        return insert(text, _OUTPOSTS, entry, at=at)

    return _sure({**plain, "outposts": wanted}, edit)


def with_preference(text: str, name: str, *, at: int | None = None) -> str:
    """Put a name into ``default_preference`` in front of its item ``at``, or as the last one."""
    plain = copy.deepcopy(_plain(text))
    present = plain["policy"]["default_preference"]
    wanted = list(present) if isinstance(present, list) else [present]
    wanted.insert(len(wanted) if at is None else at, name)
    plain["policy"]["default_preference"] = wanted

    def edit() -> str:
        place = Places(text).at(_PREFERENCE)
        if place is None or place.is_list:
            return insert(text, _PREFERENCE, name, at=at)
        if place.is_mapping and not place.is_flow:
            raise Stuck
        written = text[place.start : place.end]
        both = [inline(name), written] if at == 0 else [written, inline(name)]
        return splice(text, (place.start, place.end, f"[{', '.join(both)}]"))

    return _sure(plain, edit)


def without_outpost(text: str, name: str, *, file: str = "outposts.yaml") -> str:
    """Take an outpost that the text has out, and its name out of the lists that choose outposts.

    Raises ``ConfigError`` saying where it is needed still: ``file`` is what that calls the text.
    """
    lines = Lines(text)
    root = _root(text, lines)
    plain = root.plain()
    names = [item.get("name") for item in plain["outposts"]]
    path: Path = ("outposts", names.index(name))
    cuts = [path, *_mentions(plain, name)]
    problems = [*_needed(root, plain, name, cuts, lines), *_built_on(text, name, path)]
    if problems:
        shown = [f"{file}:{lines.position(it.index)[0]}: {it.path}: {it.text}" for it in problems]
        message = f"outpost '{name}' cannot be removed: something depends on it"
        raise ConfigError(
            message, problems=tuple(shown), hint=f"change that first, then: outpost remove {name}"
        )
    return _sure(_without(plain, cuts), lambda: _cut_all(text, cuts))


def has_outposts(text: str) -> bool:
    """Whether a text says itself which outposts there are."""
    return _plain(text).get("outposts") is not None


def built_in(name: str) -> list[dict[str, Any]]:
    """Return what a configuration without outposts has, unless an outpost takes its name."""
    return [
        {"name": outpost.name, "type": outpost.type, "max_workers": outpost.max_workers}
        for outpost in default_outposts()
        if outpost.name != name
    ]


def _root(text: str, lines: Lines) -> Node:
    root = read_document(text, lines).root
    return root if root is not None and isinstance(root.value, dict) else Node({}, 0)


def _plain(text: str) -> dict[str, Any]:
    plain: dict[str, Any] = _root(text, Lines(text)).plain()
    return plain


def _as_read(value: Any) -> Any:
    """Return a value as it is once it was written and read."""
    if isinstance(value, Mapping):
        return {key: _as_read(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_read(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value


def _sure(wanted: Mapping[str, Any], edit: Callable[[], str]) -> str:
    """Make an edit and see that it came to what is wanted and to nothing else."""
    try:
        edited = edit()
        if _plain(edited) == wanted:
            return edited
    except (Stuck, Unreadable):
        pass
    raise ConfigError(
        "the configuration is written in a way that only a person can change without changing more",
        hint="change it with an editor; outpost config check says whether it holds",
    )


def _with_section(text: str, entries: list[Mapping[str, Any]]) -> str:
    """Write the key ``outposts``: where it stands without a value, or as the last one."""
    places = Places(text)
    root, nl = places.root, places.line_break
    if root is not None and root.is_flow:
        as_json = bool(root.keys) and text[root.keys[0].start] == '"'
        written = f"{inline('outposts', as_json=as_json)}: {inline(entries, as_json=as_json)}"
        at = root.items[-1].end if root.items else root.start + 1
        return splice(text, (at, at, f", {written}" if root.items else written))
    indent = places.column(root.keys[0].start) if root is not None and root.keys else 0
    section = []
    for entry in entries:
        first, *rest = block(entry)
        section += [f"  - {first}", *(f"    {line}" for line in rest)]
    if root is not None and "outposts" in root.names:
        return _fill(places, root, [" " * indent + line for line in section])
    section = [" " * indent + line for line in ["outposts:", *section]]
    front = text[: places.end]
    gap = nl if front.strip() and not front.endswith((nl * 2, "---" + nl)) else ""
    if front and not front.endswith(("\n", "\r")):
        return splice(text, (places.end, places.end, nl + gap + nl.join(section)))
    return splice(text, (places.end, places.end, gap + nl.join(section) + nl))


def _fill(places: Places, root: Place, section: list[str]) -> str:
    """Write the outposts below their key, which has no value or ``null``."""
    number = root.names.index("outposts")
    value, nl = root.items[number], places.line_break
    behind = places.line_end(max(value.end, root.keys[number].end))
    written = nl.join(section)
    ended = places.text[:behind].endswith(("\n", "\r"))
    addition = written + nl if ended else nl + written
    return splice(places.text, (value.start, value.end, ""), (behind, behind, addition))


def _mentions(plain: Mapping[str, Any], name: str) -> list[Path]:
    """Return what goes with an outpost: its name in lists, and what says nothing without it.

    A ``require`` of it alone stays: without that the tasks would run anywhere.
    """
    policy = plain.get("policy")
    if not isinstance(policy, dict):
        return []
    cuts: list[Path] = []
    if _goes(policy.get("default_preference"), _PREFERENCE, name, cuts):
        cuts.append(_PREFERENCE)
    overrides = policy.get("overrides") or []
    gone = [
        (*_OVERRIDES, number)
        for number, override in enumerate(overrides)
        if _override_goes(override, (*_OVERRIDES, number), name, cuts)
    ]
    if gone and len(gone) == len(overrides):
        gone = [_OVERRIDES]
    cuts += gone
    if {path[1] for path in cuts if len(path) == 2} == set(policy):
        return [("policy",)]
    return cuts


def _override_goes(override: Mapping[str, Any], path: Path, name: str, cuts: list[Path]) -> bool:
    given = [choice for choice in _CHOICES if override.get(choice)]
    found: list[Path] = []
    gone = [it for it in given if _goes(override[it], (*path, it), name, found)]
    if "require" in gone:
        return False
    if gone and gone == given:
        return True
    cuts += found
    cuts += [(*path, choice) for choice in gone]
    return False


def _goes(value: Any, path: Path, name: str, cuts: list[Path]) -> bool:
    """Whether nothing is left of a choice without a name; else add what goes to ``cuts``."""
    if not isinstance(value, list):
        return bool(value == name)
    found: list[Path] = []
    gone = [
        (*path, number)
        for number, item in enumerate(value)
        if _goes(item, (*path, number), name, found)
    ]
    if gone and len(gone) == len(value):
        return True
    cuts += [*found, *gone]
    return False


def _needed(
    root: Node, plain: Mapping[str, Any], name: str, cuts: list[Path], lines: Lines
) -> Iterator[Problem]:
    """Yield what would not hold without the outpost, at its place in the text."""
    outposts = {item["name"]: labels_of(item) for item in plain["outposts"] if item["name"] != name}
    if not outposts:
        yield Problem(root.index_of(_OUTPOSTS), "outposts", "it is the only outpost")
    going = tuple(map(show_path, cuts))
    for problem in check_choices(root, plain, outposts, lines):
        if not any(
            problem.path == it or problem.path.startswith((f"{it}.", f"{it}[")) for it in going
        ):
            yield problem


def _built_on(text: str, name: str, path: Path) -> Iterator[Problem]:
    """Yield what is built on an anchor that stands in the outpost's entry."""
    places = Places(text)
    place = places.at(path)
    if place is None:
        return
    for start, anchor in places.aliases:
        if place.start <= places.anchors[anchor] < place.end and start >= place.end:
            yield Problem(start, f"*{anchor}", f"is built on '{name}', which carries &{anchor}")


def _cut_all(text: str, cuts: list[Path]) -> str:
    """Make the cuts, the last in the text first, so that the places of the others stay."""
    places = Places(text)
    found = [(place.start, path) for path in cuts if (place := places.at(path))]
    for _, path in sorted(found, reverse=True):
        text = cut(text, path)
    return text


def _without(plain: Mapping[str, Any], cuts: list[Path]) -> dict[str, Any]:
    left = copy.deepcopy(dict(plain))
    # The last items of a list first: those in front of them keep their numbers.
    for *path, last in sorted(
        cuts, key=lambda it: [(isinstance(s, int), s) for s in it], reverse=True
    ):
        parent: Any = left
        for step in path:
            parent = parent[step]
        del parent[last]
    return left

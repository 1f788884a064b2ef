"""What no single field can tell: names that must agree, kinds, and the options they take.

All checks look at plain values that may be of any shape: what has the wrong one is reported by
the models, and passed over here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from outpost.config.choosing import check_choices, labels_of, listing
from outpost.config.fields import is_name
from outpost.config.kinds import WITHOUT_REQUIRED_OPTIONS, KindRegistry
from outpost.config.models import OutpostConfig, default_outposts
from outpost.config.nodes import Lines, Node, Path, Problem, show_path
from outpost.config.words import fields_at, problems_of
from outpost.errors import nearest
from outpost.runner.agents import NAMES

COMMON_FIELDS = tuple(name for name in fields_at(OutpostConfig) if name != "options")
_REQUIRED_FIELDS = ("name", "type")
_PRICE_PARTS = ("price_vcpu_hourly", "price_gib_hourly")
OUR_AGENTS = tuple(name for name in NAMES if name != "acp")
"""The agents that can be used as they are; any other runs what stands under its key ``acp``."""
_AGENT_WITH_ARGV = "command"
_NOT_FOR_ARGV: tuple[str, ...] = (
    *("model", "executable", "args", "permissions"),
    *("max_steps", "max_budget_usd", "acp"),
)


def split_options(plain: Any) -> Any:
    """Move what is not common to all outposts into their ``options``."""
    items = plain.get("outposts")
    if not isinstance(items, list):
        return plain
    return {**plain, "outposts": [_split(item) for item in items]}


def _split(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    common = {key: value for key, value in item.items() if key in COMMON_FIELDS}
    options = {key: value for key, value in item.items() if key not in COMMON_FIELDS}
    return {**common, "options": options}


def check(root: Node, plain: Any, kinds: KindRegistry, lines: Lines) -> Iterator[Problem]:
    """Yield every fault that concerns more than one field."""
    names: dict[str, int] = {}
    labels: dict[str, Mapping[str, str]] = {}
    if plain.get("outposts") == []:
        text = "needs at least one outpost; without this key it is this machine"
        yield Problem(root.index_of(("outposts",)), "outposts", text)
    for path, item in _mappings(plain, "outposts"):
        yield from _check_kind(root, path, item, kinds)
        yield from _check_prices(root, path, item)
        name, index = item.get("name"), root.index_of((*path, "name"))
        if isinstance(name, str) and name in names:
            line = lines.position(names[name])[0]
            text = f"the name {name[:63]!r} is taken by the outpost in line {line}"
            yield Problem(index, show_path((*path, "name")), text)
        elif isinstance(name, str):
            names[name], labels[name] = index, labels_of(item)
    if "outposts" not in plain:
        labels = {outpost.name: outpost.labels for outpost in default_outposts()}
    yield from check_choices(root, plain, labels, lines)
    yield from _check_agents(root, plain)


def _check_kind(
    root: Node, path: Path, item: dict[str, Any], kinds: KindRegistry
) -> Iterator[Problem]:
    options = {key: value for key, value in item.items() if key not in COMMON_FIELDS}
    yield from _check_misspelt(root, path, item, options)
    kind = item.get("type")
    if not isinstance(kind, str):
        return
    at_type = (*path, "type")
    if not kinds.installed(kind):
        known = kinds.names()
        hint = nearest(kind, known) or listing("known", known)
        text = f"unknown type {kind[:40]!r}{hint}"
        yield Problem(root.index_of(at_type), show_path(at_type), text)
        return
    if not options and kind in WITHOUT_REQUIRED_OPTIONS:
        return
    try:
        kinds.parse_options(kind, options)
    except ValidationError as exc:
        model = kinds.backend(kind).Options
        yield from problems_of(exc, model, root, at=path, beside=COMMON_FIELDS)
    except ImportError as exc:
        text = f"the backend of type '{kind}' cannot be loaded: {exc}"
        yield Problem(root.index_of(at_type), show_path(at_type), text)


def _check_misspelt(
    root: Node, path: Path, item: dict[str, Any], options: dict[str, Any]
) -> Iterator[Problem]:
    """Without a required field nothing is known of the others: is it one of them, misspelt?"""
    absent = [name for name in _REQUIRED_FIELDS if name not in item]
    for key in options:
        if hint := nearest(key, absent):
            at_key = (*path, key)
            index = root.index_of(at_key, key=True)
            yield Problem(index, show_path(at_key), f"unknown field{hint}")


def _check_prices(root: Node, path: Path, item: dict[str, Any]) -> Iterator[Problem]:
    parts = [name for name in _PRICE_PARTS if item.get(name) is not None]
    if item.get("price_hourly") is not None and parts:
        at_price = (*path, "price_hourly")
        text = f"is the whole price of a worker: leave out {' and '.join(parts)}, or this"
        yield Problem(root.index_of(at_price, key=True), show_path(at_price), text)


def _check_agents(root: Node, plain: Any) -> Iterator[Problem]:
    agents = plain.get("agents")
    sections = agents if isinstance(agents, dict) else {}
    own = [name for name, section in sections.items() if _has(section, "acp")]
    known = (*OUR_AGENTS, *(name for name in own if name not in OUR_AGENTS))
    for name, section in sections.items():
        if name not in known:
            yield _unknown_agent(root, ("agents", name), name, known, key=True)
        for key in _refused_keys(name, section):
            path = ("agents", name, key)
            yield Problem(root.index_of(path, key=True), show_path(path), _why_refused(name))
    defaults = plain.get("defaults")
    chosen = defaults.get("agent") if isinstance(defaults, dict) else None
    if isinstance(chosen, str) and is_name(chosen) and chosen not in known:
        yield _unknown_agent(root, ("defaults", "agent"), chosen, known)


def _refused_keys(name: str, section: Any) -> Iterator[str]:
    if name == _AGENT_WITH_ARGV:
        refused = _NOT_FOR_ARGV
    else:
        refused = ("argv", "acp") if name in OUR_AGENTS else ("argv",)
    yield from (key for key in refused if _has(section, key))


def _why_refused(name: str) -> str:
    if name == _AGENT_WITH_ARGV:
        return f"the agent '{name}' takes argv and env only"
    if name in OUR_AGENTS:
        return f"the agent '{name}' has a command line of its own; use executable and args"
    return "only the agent 'command' takes argv; what this one runs stands under acp"


def _has(section: Any, key: str) -> bool:
    return isinstance(section, dict) and key in section


def _unknown_agent(
    root: Node, path: Path, name: Any, known: tuple[str, ...], *, key: bool = False
) -> Problem:
    own = f"; one of your own has its command line under {show_path(('agents', name, 'acp'))}"
    hint = nearest(str(name), known) or listing("known", known) + own
    text = f"unknown agent {str(name)[:40]!r}{hint}"
    return Problem(root.index_of(path, key=key), show_path(path), text)


def _mappings(plain: Any, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    items = plain.get(key)
    for number, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield (key, number), item

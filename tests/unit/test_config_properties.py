"""Whatever a file holds: a configuration, or an error that points into the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from outpost.config import Config, KindRegistry, parse
from outpost.config.document import Unreadable, read_document
from outpost.config.kinds import BUILT_IN
from outpost.config.nodes import Lines, Node
from outpost.errors import ConfigError

ROOT = Path(__file__).parents[2]
VALID = [
    (ROOT / "tests/data/original-design.yaml").read_bytes(),
    (ROOT / "outposts.example.yaml").read_bytes(),
    b"outposts: [{name: a, type: camp, host: h, port: 3}]\ndefaults: {time_limit: 1h}\n",
    b"""outposts: [{name: a, type: local, labels: {gpu: true}}, {name: b, type: tin, labels: [x]}]
policy:
  default_preference: [a, [b, {x: true}]]
  overrides:
    - {condition: 'label contains "x" and cost_today(a) > 3', require: {gpu: true}}
    - {condition: "title matches /a\\\\.b/i or hour in (1, 2)", deny: [b], avoid: a}
budget: {daily: 3, groups: [{labels: {gpu: true}, hourly: 1}]}
""",
]
SPICE = [b"\t", b"\0", b"\xff", b"*x", b"&x ", b"<<: ", b"- ", b": ", b"[", b"{", b"'", b'"',
         b"!t ", b"|", b"\r", b"\xe2\x80\xa8", b"---\n", b"9" * 30, b"# ", b"name: ",
         b"type: camp\n", b" and ", b"(", b"not "]  # fmt: skip


class CampOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    port: int = 22
    tents: dict[str, list[str]] = {}


class Camp:
    Options: ClassVar[type[BaseModel]] = CampOptions


class TinOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tin:
    Options: ClassVar[type[BaseModel]] = TinOptions


KINDS = KindRegistry({**BUILT_IN, "camp": Camp, "tin": Tin})
# Loading it is not to count as the time of the first example.
KINDS.backend("ssh")
POSITION = re.compile(r"o\.yaml:(\d+):(\d+): ")


def problems(data: bytes) -> tuple[str, ...]:
    """Return what is wrong with a file; anything but a configuration or an error raises."""
    try:
        assert isinstance(parse(data, file="o.yaml", kinds=KINDS), Config)
    except ConfigError as exc:
        return exc.problems or ("an error without a problem",)
    return ()


def must_load_or_say_why(data: bytes) -> None:
    lines = re.split(r"\r\n|\r|\n", data.decode("utf-8-sig", "replace"))
    for problem in problems(data):
        match = POSITION.match(problem)
        assert match, problem
        line, column = map(int, match.groups())
        assert 1 <= line <= len(lines), problem
        assert 1 <= column <= len(lines[line - 1]) + 1, problem
        # A fault inside a condition is shown below, on lines of their own.
        assert problem.replace("\n", "").isprintable(), problem


@st.composite
def mutated_bytes(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        data = data[:start] + draw(st.sampled_from(SPICE) | st.binary(max_size=4)) + data[end:]
    return data


@st.composite
def mutated_lines(draw: st.DrawFn) -> bytes:
    lines = draw(st.sampled_from(VALID)).splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(lines) - 1))
        change: Callable[[bytes], bytes] = draw(
            st.sampled_from(
                [
                    lambda _: b"",
                    lambda line: line + line,
                    lambda line: b"  " + line,
                    lambda line: line.lstrip(),
                    lambda line: line.replace(b":", b"", 1),
                    lambda line: line.replace(b": ", b": [", 1),
                ]
            )
        )
        lines[number] = change(lines[number])
    return b"".join(lines)


KEYS = ["outposts", "name", "type", "max_workers", "policy", "default_preference", "overrides",
        "condition", "prefer", "agents", "claude", "command", "argv", "env", "defaults", "branch",
        "time_limit", "priority", "sources", "github", "token", "store", "url", "host", "options",
        "<<", "", "labels", "tents", "require", "deny", "kind", "entry", "budget",
        "groups"]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["local", "camp", "ssh", "claude", "P1", "1h", "env://A", "{issue}", "a"])
    | st.sampled_from(["hour > 3", "priority >= P9", "python", "a.b:c"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=25,
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a value with each of its keys or indexes."""
    found: list[tuple[Any, Any]] = []
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in list(children):
        found.append((value, key))
        if isinstance(child, dict | list):
            found += places(child)
    return found


@st.composite
def mutated_values(draw: st.DrawFn) -> bytes:
    document = yaml.safe_load(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(document)))
        container[key] = draw(VALUES)
    return json.dumps(document).encode()


@given(mutated_bytes() | mutated_lines())
def test_mutated_text(data: bytes) -> None:
    must_load_or_say_why(data)


@given(mutated_values() | DOCUMENTS.map(lambda value: json.dumps(value).encode()))
def test_mutated_values(data: bytes) -> None:
    must_load_or_say_why(data)


@given(DOCUMENTS)
def test_values_written_in_blocks(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    must_load_or_say_why(text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_random_bytes_and_text(data: bytes) -> None:
    must_load_or_say_why(data)


def positions(node: Node) -> Any:
    """Return where everything stands; of an absent value the parsers say different things."""
    if isinstance(node.value, dict):
        return node.index, node.keys, [positions(child) for child in node.value.values()]
    if isinstance(node.value, list):
        return node.index, [positions(child) for child in node.value]
    return None if node.value is None else node.index


@given(mutated_bytes() | mutated_lines())
def test_both_parsers_read_the_same(data: bytes) -> None:
    """Where both accept a text they must agree on its values and on where they stand."""
    text = data.decode("utf-8", "replace")
    readings = []
    for loader in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        try:
            root = read_document(text, Lines(text), loader=loader).root
        except Unreadable:
            return
        readings.append(root and (root.plain(), positions(root)))
    assert readings[0] == readings[1]

"""Outposts added to and taken out of a file's text: all else stays, byte for byte."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from outpost.config import KindRegistry, parse
from outpost.config.document import read_document
from outpost.config.editing import has_outposts, with_outpost, with_preference, without_outpost
from outpost.config.kinds import BUILT_IN
from outpost.config.nodes import Lines
from outpost.config.rendering import inline
from outpost.errors import ConfigError
from tests.unit.configurations import FILES, WITHOUT_OUTPOSTS

ROOT = Path(__file__).parents[2]
SHIPPED = ("outposts.example.yaml", "tests/data/original-design.yaml")
TEXTS = {**FILES, **{name: (ROOT / name).read_text() for name in SHIPPED}}
ENTRY = {"name": "build-7", "type": "local", "max_workers": 4, "labels": {"region": "eu"}}


class AnyOptions(BaseModel):
    model_config = ConfigDict(extra="allow")


class AnyKind:
    Options: ClassVar[type[BaseModel]] = AnyOptions


# Whatever these kinds take in truth, here their options may be anything.
KINDS = KindRegistry(
    {"local": BUILT_IN["local"], "ssh": AnyKind, "cloudrun": AnyKind}, entry_points=False
)


def plain(text: str) -> Any:
    root = read_document(text, Lines(text)).root
    return root.plain() if root else None


def names(text: str) -> list[str]:
    return [outpost.name for outpost in parse(text.encode(), kinds=KINDS).outposts]


def changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """Return the lines that went and those that came."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0))[2:]
    gone = [line[1:] for line in lines if line.startswith("-")]
    return gone, [line[1:] for line in lines if line.startswith("+")]


@pytest.mark.parametrize("file", TEXTS)
def test_what_is_added_and_taken_out_again_leaves_no_trace(file: str) -> None:
    before = TEXTS[file]
    after = with_outpost(before, ENTRY)
    assert names(after) == [*names(before), "build-7"]
    assert without_outpost(after, "build-7") == before


@pytest.mark.parametrize("file", TEXTS)
def test_what_is_added_in_front_and_taken_out_again_leaves_no_trace(file: str) -> None:
    before = TEXTS[file]
    for at, follower in enumerate(names(before)):
        after = with_outpost(before, ENTRY, before=follower)
        assert names(after).index("build-7") == at
        assert without_outpost(after, "build-7") == before


@pytest.mark.parametrize("file", TEXTS)
def test_of_all_other_lines_none_is_touched(file: str) -> None:
    before = TEXTS[file]
    after = with_outpost(before, ENTRY)
    gone, come = changed(before, after)
    # Between brackets the line in front gets a comma, or is the one that everything stands in.
    assert len(gone) <= 1
    left = iter(after)
    assert all(character in left for character in before), "something was replaced"
    assert any("build-7" in line for line in come)


@pytest.mark.parametrize("file", TEXTS)
def test_an_outpost_that_is_taken_out_takes_nothing_of_others_with_it(file: str) -> None:
    before = TEXTS[file]
    taken = 0
    for name in names(before):
        try:
            after = without_outpost(before, name)
        except ConfigError:
            continue
        taken += 1
        assert name not in names(after)
        assert plain(after).keys() <= plain(before).keys()
        gone, come = changed(before, after)
        assert after.count("KEEP") == before.count("KEEP"), (name, gone)
        # What came are lines that lost a part: a name, or a comma.
        assert len(come) <= len(gone)
    assert taken or len(names(before)) == 1


@pytest.mark.parametrize("text", WITHOUT_OUTPOSTS)
def test_without_a_list_this_machine_is_written_out_first(text: str) -> None:
    after = with_outpost(text, ENTRY)
    assert names(after) == ["local", "build-7"]
    kept = {key: value for key, value in (plain(text) or {}).items() if value is not None}
    assert {**plain(after), **kept} == plain(after)
    assert after.count("KEEP") == text.count("KEEP")
    assert after.endswith(("\n", "\r")) == (not text or text.endswith(("\n", "\r")))


def test_without_a_list_the_name_of_this_machine_may_be_taken_over() -> None:
    after = with_outpost("", {"name": "local", "type": "local", "max_workers": 9})
    assert after == "outposts:\n  - name: local\n    type: local\n    max_workers: 9\n"


def test_an_added_outpost_looks_like_its_neighbours() -> None:
    assert with_outpost("outposts:\n- { name: a, type: local }\n", ENTRY) == (
        "outposts:\n- { name: a, type: local }\n"
        "- { name: build-7, type: local, max_workers: 4, labels: {region: eu} }\n"
    )
    wide = "outposts:\n  -   name: a\n      type: local\n"
    assert with_outpost(wide, {"name": "b", "type": "local"}) == (
        f"{wide}  -   name: b\n      type: local\n"
    )
    assert with_outpost('{"outposts": [{"name": "a", "type": "local"}]}', {"name": "b"}) == (
        '{"outposts": [{"name": "a", "type": "local"}, {"name": "b"}]}'
    )


def test_money_is_written_as_it_was_typed() -> None:
    entry = {"name": "b", "type": "local", "price_hourly": Decimal("0.10")}
    assert "price_hourly: 0.10\n" in with_outpost(FILES["blank lines between"], entry)


PREFERENCES = {
    "[a, b]  # best first": ("[a, b, build-7]  # best first", "[build-7, a, b]  # best first"),
    "[a, [b, c]]": ("[a, [b, c], build-7]", "[build-7, a, [b, c]]"),
    "a": ("[a, build-7]", "[build-7, a]"),
    "{x: true}": ("[{x: true}, build-7]", "[build-7, {x: true}]"),
    "\n  - a # A\n  - b": ("\n  - a # A\n  - b\n  - build-7", "\n  - build-7\n  - a # A\n  - b"),
    "\n  - - a\n    - b": ("\n  - - a\n    - b\n  - build-7", "\n  - build-7\n  - - a\n    - b"),
}


@pytest.mark.parametrize("given", PREFERENCES)
def test_a_preference_gets_the_name_at_its_end_or_its_beginning(given: str) -> None:
    def policy(preference: str) -> str:
        blank = "" if preference.startswith("\n") else " "
        return f"policy:\n  default_preference:{blank}{preference}\n  placement: spread\n"

    last, first = map(policy, PREFERENCES[given])
    assert with_preference(policy(given), "build-7") == last
    assert with_preference(policy(given), "build-7", at=0) == first


HEAD = """\
outposts:
  - {name: a, type: local, labels: {fast: true}}
  - {name: b, type: local, labels: {fast: true, far: true}}
policy:
"""


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        ("  default_preference: [a, b]\n", "  default_preference: [a]\n"),
        ("  default_preference: b\n  placement: pack\n", "  placement: pack\n"),
        ("  default_preference: [[a, b], {fast: true}]\n",
         "  default_preference: [[a], {fast: true}]\n"),
        ("  placement: pack\n  default_preference:\n    - b  # far\n    - a\n",
         "  placement: pack\n  default_preference:\n    - a\n"),
        ("  placement: pack\n  overrides:\n    - condition: priority >= P3\n      prefer: b\n",
         "  placement: pack\n"),
        ("  overrides:\n    - condition: priority >= P3\n      prefer: b # why\n      deny: a\n",
         "  overrides:\n    - condition: priority >= P3\n      deny: a\n"),
        ("  overrides:\n    - {condition: priority >= P3, require: [a, b]}\n",
         "  overrides:\n    - {condition: priority >= P3, require: [a]}\n"),
        ("  overrides:\n    - {avoid: [b], condition: priority >= P3, prefer: a}\n",
         "  overrides:\n    - {condition: priority >= P3, prefer: a}\n"),
        ("  overrides:\n    - condition: cost_today(b) > 3\n      avoid: b\n    # A\n"
         "    - condition: priority >= P3\n      prefer: a\n",
         "  overrides:\n    # A\n    - condition: priority >= P3\n      prefer: a\n"),
    ],
)  # fmt: skip
def test_a_name_goes_from_the_lists_that_choose_by_it(policy: str, left: str) -> None:
    after = without_outpost(HEAD + policy, "b")
    assert after == HEAD.replace(HEAD.splitlines(True)[2], "") + left
    parse(after.encode())


def test_a_policy_of_which_nothing_is_left_goes_too() -> None:
    assert without_outpost(HEAD + "  default_preference: [b]\nbudget: {daily: 1}\n", "b") == (
        "outposts:\n  - {name: a, type: local, labels: {fast: true}}\nbudget: {daily: 1}\n"
    )


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("  overrides: [{condition: priority >= P3, require: b}]\n",
         "5: policy.overrides[0].require: no outpost is named 'b'"),
        ("  overrides: [{condition: priority >= P3, require: {far: true}}]\n",
         "5: policy.overrides[0].require.far: no outpost has the label 'far'"),
        ("  overrides: [{condition: cost_today(b) > 3, prefer: [a, b]}]\n",
         "5: policy.overrides[0].condition: no outpost is named 'b'"),
        ("  placement: pack\nbudget:\n  groups:\n    - labels: {far: true}\n      daily: 1\n",
         "8: budget.groups[0].labels.far: no outpost has the label 'far'"),
    ],
)  # fmt: skip
def test_what_needs_an_outpost_is_said_to_do_so(policy: str, told: str) -> None:
    parse((HEAD + policy).encode())
    with pytest.raises(ConfigError, match="outpost 'b' cannot be removed") as caught:
        without_outpost(HEAD + policy, "b", file="o.yaml")
    assert caught.value.problems[0].startswith(f"o.yaml:{told}")
    assert caught.value.hint == "change that first, then: outpost remove b"


def test_what_others_are_built_on_stays() -> None:
    text = TEXTS["outposts.example.yaml"]
    with pytest.raises(ConfigError) as caught:
        without_outpost(text, "vm-1")
    assert "is built on 'vm-1', which carries &vm" in caught.value.problems[0]


def test_the_only_outpost_stays() -> None:
    with pytest.raises(ConfigError, match="it is the only outpost"):
        without_outpost("outposts: [{name: a, type: local}]\n", "a")


@pytest.mark.parametrize(
    "text",
    [
        "x: &x [{name: a, type: local}]\noutposts: *x\n",
        "base: &base {outposts: [{name: a, type: local}]}\n<<: *base\n",
    ],
)
def test_what_stands_behind_an_alias_is_left_to_a_person(text: str) -> None:
    with pytest.raises(ConfigError, match="only a person can change"):
        with_outpost(text, ENTRY)


def test_a_commented_out_outpost_belongs_to_nobody() -> None:
    text = (
        "outposts:\n  # A\n  - name: a\n    type: local\n    # root: /x\n"
        "  # - name: old\n  #   type: ssh\n  # B is far\n  - name: b\n    type: local\n"
    )
    assert without_outpost(text, "b") == text[: text.index("  - name: b")]
    assert without_outpost(text, "a") == "outposts:\n" + text[text.index("  # - name: old") :]


LEAVES = st.one_of(
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.sampled_from(["yes", "1:30", "0o17", "~", "2020-01-01", "a: b", "a #b", "- a", "x:", "=",
                     "<<", "[a", "cmd://gh auth token", "\u2028", "\x85", "null ", "---", "?"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab1-", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(value=VALUES, as_json=st.booleans())
def test_every_value_is_read_as_it_was_written(value: Any, as_json: bool) -> None:
    written = inline(value, as_json=as_json)
    assert "\n" not in written
    assert plain(f"x: {written}\n") == {"x": value}
    assert plain(f"[{written}, {{x: {written}}}]") == [value, {"x": value}]
    assert yaml.safe_load(f"x: {written}\n") == {"x": value}


COMMENTS = st.sampled_from(["", "  # KEEP", "\t# - name: KEEP", " #"])


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """Return a configuration with outposts in any style, and other sections around them."""
    indent, inner = draw(st.sampled_from(["", "  ", "    "])), " " * draw(st.integers(1, 3))
    gap = draw(st.booleans())
    items = []
    for number in range(draw(st.integers(1, 3))):
        end = draw(COMMENTS)
        if draw(st.booleans()):
            lines = [f"{indent}-{inner}{{name: o{number}, type: local}}{end}"]
        else:
            below = f"{indent} {inner}"
            lines = [f"{indent}-{inner}name: o{number}{end}", f"{below}type:   'local'"]
            lines += draw(
                st.sampled_from([[], [f"{below}# root: /o"], [f"{below}root: |-\n{below}  /o"]])
            )
        items.append([*draw(st.sampled_from([[], [f"{indent}# o{number} is fine"]])), *lines])
        if gap:
            items[-1].append("")
    if gap and draw(st.booleans()):
        items[-1].pop()
    section = [f"outposts:{draw(COMMENTS)}", *(line for item in items for line in item)]
    front = draw(
        st.sampled_from([[], ["---"], ["# KEEP", "", "budget:   {daily: 3}"], ["%YAML 1.2", "---"]])
    )
    behind = draw(
        st.sampled_from([[], ["..."], ["# KEEP", 'defaults: {agent:  "claude"}'], ["# KEEP"]])
    )
    text = "\n".join([*front, *section, *behind]) + draw(st.sampled_from(["", "\n"]))
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@given(text=configurations(), data=st.data())
def test_any_file_is_the_same_again_without_what_was_added(text: str, data: st.DataObject) -> None:
    present = names(text)
    before = data.draw(st.sampled_from([None, *present]))
    after = with_outpost(text, ENTRY, before=before)
    assert sorted(names(after)) == sorted([*present, "build-7"])
    assert without_outpost(after, "build-7") == text


@given(text=configurations(), data=st.data())
def test_of_any_file_only_what_is_the_outposts_own_goes(text: str, data: st.DataObject) -> None:
    present = names(text)
    name = data.draw(st.sampled_from(present))
    if len(present) == 1:
        return
    after = without_outpost(text, name)
    assert names(after) == [it for it in present if it != name]
    gone, come = changed(text, after)
    assert not come
    assert after.endswith(("\n", "\r")) == text.endswith(("\n", "\r"))
    assert ("\r" in after) == ("\r" in text)
    rest = [line for line in gone if line.strip()]
    assert not [line for line in rest if line.startswith("# KEEP")]
    assert all(other not in "".join(rest) for other in present if other != name)


SPICE = ["\t", " ", "\n", "\n\n", "\r\n", "# x\n", " # - x", "*x", "&x ", "- ", "[", "]", "{", "}",
         ",", "'", '"', ": ", "|\n", "---\n", "...\n", "\x85", "\u2028", "build-7", "<<: *x\n",
         "ä"]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Return one of the files with something put in, cut out or doubled at a few places."""
    text = draw(st.sampled_from(sorted(TEXTS.values())))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 8)))
        middle = draw(st.sampled_from([*SPICE, "", text[start:end] * 2]))
        text = text[:start] + middle + text[end:]
    return text


@given(text=damaged(), data=st.data())
def test_whatever_loads_is_changed_rightly_or_not_at_all(text: str, data: st.DataObject) -> None:
    try:
        present = parse(text.encode(), kinds=KINDS).outposts
    except ConfigError:
        return
    if not has_outposts(text):
        return
    name = data.draw(st.sampled_from([outpost.name for outpost in present]))
    after = None
    with contextlib.suppress(ConfigError):
        after = with_outpost(text, ENTRY, before=name)
    if after is not None:
        assert len(plain(after)["outposts"]) == len(present) + 1
    after = None
    with contextlib.suppress(ConfigError):
        after = without_outpost(text, name)
    if after is not None:
        assert names(after) == [outpost.name for outpost in present if outpost.name != name]


def test_other_kinds_of_text_are_left_to_the_loader() -> None:
    entry: Mapping[str, Any] = {"name": "b", "type": "local", "max_workers": 0}
    after = with_outpost("outposts: [{name: a, type: local}]\n", entry)
    with pytest.raises(ConfigError, match="must be at least 1"):
        parse(after.encode())

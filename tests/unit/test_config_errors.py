"""Every kind of fault in a file: the exact words, at the exact place."""

from __future__ import annotations

from typing import ClassVar

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from outpost.config import KindRegistry, parse
from outpost.config.document import Unreadable, read_document
from outpost.config.kinds import BUILT_IN
from outpost.config.nodes import Lines
from outpost.errors import ConfigError


class CampOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    port: int = 22
    tents: list[str] = []


class Camp:
    Options: ClassVar[type[BaseModel]] = CampOptions


class TinOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tin:
    Options: ClassVar[type[BaseModel]] = TinOptions


KINDS = KindRegistry({**BUILT_IN, "camp": Camp, "tin": Tin})
BROKEN_KINDS = KindRegistry({"gone": "outpost.no_such_module:Gone", "half": "outpost.errors:Half"})
LOCAL = "outposts: [{name: local, type: local}]\n"
LABELLED = (
    "outposts: [{name: a, type: local, labels: {region: eu, gpu: true}},"
    " {name: b, type: tin, labels: {region: asia}}]\n"
)


def problems(text: str | bytes, kinds: KindRegistry = KINDS) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse(data, file="o.yaml", kinds=kinds)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return list(caught.value.problems)


SHAPES = {
    "": "1:1: the file is empty: write 'outposts:' and a list, or remove the file",
    "\n\n# nothing\n": "1:1: the file is empty: write 'outposts:' and a list, or remove the file",
    "- a\n": "1:1: expected a mapping that begins with 'outposts:', got a list",
    "\n\n  hello\n": "3:3: expected a mapping that begins with 'outposts:', got text",
    "outposts: []": "1:11: outposts: needs at least one outpost;"
    " without this key it is this machine",
    "outposts: 3": "1:11: outposts: expected a list, got a number",
    "outposts:\n  - local\n": "2:5: outposts[0]: expected a mapping (key: value), got text",
    "policy: [a]": "1:9: policy: expected a mapping (key: value), got a list",
    "agents: []": "1:9: agents: expected a mapping (key: value), got a list",
    "polcy: {}": "1:1: polcy: unknown field; did you mean 'policy'?",
    "zzz: {}": "1:1: zzz: unknown field",
    '"a b\\tc": {}': "1:1: ['a b\\tc']: unknown field",
}


@pytest.mark.parametrize("text", SHAPES)
def test_the_shape_of_the_file(text: str) -> None:
    assert problems(text) == [f"o.yaml:{SHAPES[text]}"]


SYNTAX = {
    "outposts:\n\t- name: x\n": "2:1: a tab cannot indent: use spaces",
    "store:\n  url: @home\n": "2:8: a value cannot begin with '@': put it in quotes",
    "a: 'x\nb: c\n": "1:4: this quotation mark is never closed",
    "a: b: c": "1:5: a ': ' is not expected here:"
    " quote a value that contains one, or mend the indentation",
    "a: [1, 2\nb: c\n": "2:2: the bracket that starts in line 1 is not closed,"
    " or a comma is missing before this",
    "a: [\n\n": "1:5: a value is missing here, or a bracket is not closed",
    "a: 1\nabc\nd: 1\n": "3:1: a ':' is missing after a key in the lines above",
    "a: *x": "1:4: a: *x stands for nothing: &x must end before it",
    "a: &a [*a]": "1:8: a[0]: *a stands for nothing: &a must end before it",
    "store:\n---\nstore:\n": "2:1: a second document begins: one file holds one document",
    "? [a]\n: b\n": "1:3: a key must be text, not a list or a mapping",
    "a: &x b\n*x : c\n": "2:1: a key must be text, not an alias",
    "%YAML 9.9\n---\na: b": "1:1: only YAML 1.x is understood: remove the %YAML line",
    "a: \0": "1:4: control character U+0000: is this a binary file?",
}


@pytest.mark.parametrize("text", SYNTAX)
@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_what_is_no_yaml(text: str, loader: type[yaml.SafeLoader]) -> None:
    lines = Lines(text)
    with pytest.raises(Unreadable) as caught:
        read_document(text, lines, loader=loader)
    (problem,) = caught.value.problems
    line, column = lines.position(problem.index)
    path = f"{problem.path}: " if problem.path else ""
    assert f"{line}:{column}: {path}{problem.text}" == SYNTAX[text]


def test_indentation_that_does_not_fit() -> None:
    text = "a:\n  b: 1\n c: 2\n"
    expected = "the indentation does not fit the mapping that starts in line 1"
    assert problems(text) == [f"o.yaml:3:2: {expected}"]
    text = "- a\nb: c\n"
    expected = "the list that starts in line 1 ends here: indent like its other '- ' lines"
    assert problems(text) == [f"o.yaml:2:1: {expected}"]


def test_bytes_that_are_no_text() -> None:
    assert problems("é: ü".encode("latin-1")) == ["o.yaml:1:1: byte 0xe9 is not UTF-8 text"]
    assert problems(b"store:\n  url: \xff") == ["o.yaml:2:8: byte 0xff is not UTF-8 text"]
    assert problems("store:".encode("utf-16")) == ["o.yaml:1:1: byte 0xff is not UTF-8 text"]
    assert problems(b"\x7fELF\x02\x01") == [
        "o.yaml:1:1: control character U+007F: is this a binary file?"
    ]


VALUES = {
    LOCAL + "store: !!python/object/apply:os.system [id]\n": [
        "2:8: store: expected a mapping (key: value), got a list",
        "2:8: store: tags (!…) are not used here: write plain values",
    ],
    'store: {url: "a\\0b"}': [
        "1:14: store.url: expected a URL such as sqlite:////var/lib/outpost/outpost.db or"
        " postgresql://HOST/DATABASE, or a reference to one such as env://NAME",
        "1:14: store.url: holds the control character U+0000",
    ],
    "store:\n  <<: 3\n": ["2:7: store: << takes an alias of a mapping, or a list of them"],
    "store: {}\npolicy: {}\nstore: {}": ["3:1: store: given twice; the first is in line 1"],
    "outposts:\n  - name: a\n    type: local\n    name: b\n": [
        "4:5: outposts[0].name: given twice; the first is in line 2"
    ],
    "outposts:\n  - {type: local}\n": ["2:5: outposts[0].name: is required"],
    "outposts:\n  - nmae: a\n    type: local\n": [
        "2:5: outposts[0].name: is required",
        "2:5: outposts[0].nmae: unknown field; did you mean 'name'?",
    ],
    "outposts:\n  - name: 'a b'\n    type: local\n": [
        "2:11: outposts[0].name: a name is 1 to 63 letters, digits, '.', '_' and '-',"
        " and begins with a letter or digit"
    ],
    "outposts:\n  - name: 7\n    type: local\n": [
        "2:11: outposts[0].name: expected text, got a number"
    ],
    "outposts:\n  - {name: a, type: lcoal}\n": [
        "2:21: outposts[0].type: unknown type 'lcoal'; did you mean 'local'?"
    ],
    "outposts:\n  - {name: a, type: zzz}\n": [
        "2:21: outposts[0].type: unknown type 'zzz'"
        " (known: camp, cloudrun, docker, e2b, fly, local, ssh, tin)"
    ],
    "outposts:\n  - {name: a, type: local, max_workers: 0}\n": [
        "2:41: outposts[0].max_workers: must be at least 1"
    ],
    "outposts:\n  - {name: a, type: local, max_workers: '4'}\n": [
        "2:41: outposts[0].max_workers: expected a whole number, got text"
    ],
    "outposts:\n  - {name: a, type: local, max_workers: 2.5}\n": [
        "2:41: outposts[0].max_workers: expected a whole number, got a number"
    ],
    "outposts:\n  - {name: a, type: local, max_workers: true}\n": [
        "2:41: outposts[0].max_workers: expected a whole number, got true"
    ],
    "outposts:\n  - {name: a, type: local, enabled: yes}\n": [
        "2:37: outposts[0].enabled: expected true or false, got text"
    ],
    "outposts:\n  - {name: a, type: tin, price_hourly: -1}\n": [
        "2:40: outposts[0].price_hourly: must be at least 0"
    ],
    "outposts:\n  - {name: a, type: tin, cost_cap_daily: 0.0000001}\n": [
        "2:42: outposts[0].cost_cap_daily: has more than 6 digits after the point"
    ],
    "outposts:\n  - {name: a, type: tin, cost_cap_daily: '5'}\n": [
        "2:42: outposts[0].cost_cap_daily: expected US dollars as a number, such as 5.00"
    ],
    "outposts:\n  - name: a\n    type: camp\n    host: h\n    max_workres: 3\n": [
        "5:5: outposts[0].max_workres: unknown field; did you mean 'max_workers'?"
    ],
    "outposts:\n  - name: a\n    type: camp\n    prot: 3\n    tents: [x, 4]\n": [
        "2:5: outposts[0].host: is required",
        "4:5: outposts[0].prot: unknown field; did you mean 'port'?",
        "5:16: outposts[0].tents[1]: expected text, got a number",
    ],
    "outposts:\n  - {name: a, type: local}\n  - {name: b, type: tin}\n  - {name: a, type: tin}\n": [
        "4:12: outposts[2].name: the name 'a' is taken by the outpost in line 2"
    ],
    LOCAL + "policy: {default_preference: [locl]}": [
        "2:31: policy.default_preference[0]: no outpost is named 'locl'; did you mean 'local'?"
    ],
    "policy: {overrides: [{condition: hour > 3, prefer: vm}]}": [
        "1:52: policy.overrides[0].prefer: no outpost is named 'vm' (configured: local)"
    ],
    LOCAL + "policy:\n  overrides:\n    - prefer: [local, 3]\n": [
        "4:7: policy.overrides[0].condition: is required",
        "4:15: policy.overrides[0].prefer: expected an outpost's name,"
        " or labels such as {gpu: true}",
    ],
    LABELLED + "policy: {default_preference: [a, [zzz, {regoin: eu}]]}": [
        "2:35: policy.default_preference[1][0]: no outpost is named 'zzz' (configured: a, b)",
        "2:41: policy.default_preference[1][1].regoin: no outpost has the label 'regoin';"
        " did you mean 'region'?",
    ],
    LABELLED + "policy: {default_preference: {region: us}}": [
        "2:39: policy.default_preference.region: no outpost has 'us' for the label 'region'"
        " (some have: asia, eu)",
    ],
    LABELLED
    + "policy: {overrides: [{condition: hour > 3, require: [{region: asia, gpu: true}]}]}": [
        "2:54: policy.overrides[0].require[0]: no outpost has all of these labels",
    ],
    LABELLED + "policy: {overrides: [{condition: hour > 3, avoid: c, deny: {x: 1}}]}": [
        "2:51: policy.overrides[0].avoid: no outpost is named 'c' (configured: a, b)",
        "2:61: policy.overrides[0].deny.x: no outpost has the label 'x' (labels: gpu, region)",
    ],
    LABELLED + "budget: {groups: [{labels: {gpo: true}, daily: 3}]}": [
        "2:29: budget.groups[0].labels.gpo: no outpost has the label 'gpo'; did you mean 'gpu'?",
    ],
    "budget: {groups: [{labels: {gpu: true}, daily: 3}]}": [
        "1:29: budget.groups[0].labels.gpu: no outpost has the label 'gpu': none has any",
    ],
    "policy: {overrides: [{condition: hour > 3}]}": [
        "1:22: policy.overrides[0]: says nothing:"
        " it needs at least one of prefer, require, avoid, deny",
    ],
    "policy: {overrides: [{condition: hour > 3, prefer: [], deny: null}]}": [
        "1:22: policy.overrides[0]: says nothing:"
        " it needs at least one of prefer, require, avoid, deny",
        "1:62: policy.overrides[0].deny: expected an outpost's name, or labels such as {gpu: true}",
    ],
    "policy: {kind: python}": [
        "1:16: policy.entry: is required with kind: python, as package.module:function"
    ],
    "policy: {entry: 'a.b:c'}": ["1:10: policy.entry: is used with kind: python only: add that"],
    "policy: {kind: python, entry: a.b}": ["1:31: policy.entry: expected package.module:function"],
    "outposts: [{name: a, type: tin, price_hourly: 1, price_gib_hourly: 2}]": [
        "1:33: outposts[0].price_hourly: is the whole price of a worker:"
        " leave out price_gib_hourly, or this"
    ],
    "outposts: [{name: a, type: local, labels: {gpu: [x]}}]": [
        "1:43: outposts[0].labels: the value of a label is a word, a number, true or false"
    ],
    "agents: {claud: {}}": ["1:10: agents.claud: unknown agent 'claud'; did you mean 'claude'?"],
    "agents: {claude: {modle: x}}": [
        "1:19: agents.claude.modle: unknown field; did you mean 'model'?"
    ],
    "agents: {claude: {argv: [x]}}": [
        "1:19: agents.claude.argv: the agent 'claude' has a command line of its own;"
        " use executable and args"
    ],
    "agents: {claude: {acp: [x]}}": [
        "1:19: agents.claude.acp: the agent 'claude' has a command line of its own;"
        " use executable and args"
    ],
    "agents: {goose: {acp: [x], argv: [y]}}": [
        "1:28: agents.goose.argv: only the agent 'command' takes argv;"
        " what this one runs stands under acp"
    ],
    "agents: {goose: {acp: []}}": ["1:23: agents.goose.acp: must not be empty"],
    "agents: {goose: {acp: goose}}": ["1:23: agents.goose.acp: expected a list, got text"],
    "agents: {goose: {modle: x}}": [
        "1:10: agents.goose: unknown agent 'goose'"
        " (known: builtin, claude, codex, command, gemini);"
        " one of your own has its command line under agents.goose.acp",
        "1:18: agents.goose.modle: unknown field; did you mean 'model'?",
    ],
    "agents: {'g o': {acp: [x]}}": [
        "1:10: agents['g o']: an agent's name is 1 to 63 letters, digits, '.', '_' and '-'"
    ],
    "agents: {claude: {permissions: {defalt: ask}}}": [
        "1:33: agents.claude.permissions.defalt: unknown field; did you mean 'default'?"
    ],
    "agents: {claude: {permissions: {default: alow}}}": [
        "1:42: agents.claude.permissions.default: expected 'allow', 'ask' or 'deny';"
        " did you mean 'allow'?"
    ],
    "agents: {claude: {permissions: {deny: ['Bash(']}}}": [
        "1:40: agents.claude.permissions.deny[0]: expected a tool,"
        " or a tool and what it is used on, such as Bash(git *)"
    ],
    "agents: {claude: {max_steps: 0, max_budget_usd: 1000001}}": [
        "1:30: agents.claude.max_steps: must be at least 1",
        "1:49: agents.claude.max_budget_usd: must be at most 1000000",
    ],
    "agents: {command: {model: x}}": [
        "1:20: agents.command.model: the agent 'command' takes argv and env only"
    ],
    "agents: {claude: {env: ['TOKEN=abc']}}": [
        "1:25: agents.claude.env[0]: expected the name of an environment variable,"
        " without its value"
    ],
    "defaults: {agent: zzz}": [
        "1:19: defaults.agent: unknown agent 'zzz'"
        " (known: builtin, claude, codex, command, gemini);"
        " one of your own has its command line under agents.zzz.acp"
    ],
    "defaults: {agent: acp}": [
        "1:19: defaults.agent: unknown agent 'acp'"
        " (known: builtin, claude, codex, command, gemini);"
        " one of your own has its command line under agents.acp.acp"
    ],
    "agents: {acp: {model: x}}\ndefaults: {agent: acp}": [
        "1:10: agents.acp: unknown agent 'acp'"
        " (known: builtin, claude, codex, command, gemini);"
        " one of your own has its command line under agents.acp.acp",
        "2:19: defaults.agent: unknown agent 'acp'"
        " (known: builtin, claude, codex, command, gemini);"
        " one of your own has its command line under agents.acp.acp",
    ],
    "agents: {goose: {acp: [x]}}\ndefaults: {agent: gose}": [
        "2:19: defaults.agent: unknown agent 'gose'; did you mean 'goose'?"
    ],
    "defaults: {silence_limit: 0s}": ["1:27: defaults.silence_limit: must be longer than 0s"],
    "defaults: {answer_limit: 30}": [
        "1:26: defaults.answer_limit: write a duration with its unit,"
        " such as 45s, 30m, 2h, 1h30m or 1d"
    ],
    "defaults: {pr: yes}": ["1:16: defaults.pr: expected 'draft' or 'ready'"],
    "defaults: {pr: drft}": [
        "1:16: defaults.pr: expected 'draft' or 'ready'; did you mean 'draft'?"
    ],
    "prices: {m: {input: -1, output: x, cahce_read: 1}}": [
        "1:21: prices.m.input: must be at least 0",
        "1:33: prices.m.output: expected a number, got text",
        "1:36: prices.m.cahce_read: unknown field; did you mean 'cache_read'?",
    ],
    "sources: {beads: {exectable: bd}}": [
        "1:19: sources.beads.exectable: unknown field; did you mean 'executable'?"
    ],
    "outposts:\n  - {name: a, type: local, min_free_mib: '1', cache_max_mb: 3}\n": [
        "2:42: outposts[0].min_free_mib: expected a whole number, got text",
        "2:47: outposts[0].cache_max_mb: unknown field; did you mean 'cache_max_mib'?",
    ],
    "outposts:\n  - {name: a, type: ssh, host: b, ssh_key: keys/id, known_hosts: ''}\n": [
        "2:44: outposts[0].ssh_key: expected a whole path, which begins with / or ~/",
        "2:66: outposts[0].known_hosts: expected a whole path, which begins with / or ~/",
    ],
    "defaults: {time_limit: 30}": [
        "1:24: defaults.time_limit: write a duration with its unit,"
        " such as 45s, 30m, 2h, 1h30m or 1d"
    ],
    "defaults: {time_limit: 2.5}": [
        "1:24: defaults.time_limit: write a duration with its unit,"
        " such as 45s, 30m, 2h, 1h30m or 1d"
    ],
    "defaults: {time_limit: 0s}": ["1:24: defaults.time_limit: must be longer than 0s"],
    "defaults: {priority: 2}": [
        "1:22: defaults.priority: expected P0 (most urgent), P1, P2, P3 or P4 (least urgent)"
    ],
    "defaults: {branch: work}": [
        "1:20: defaults.branch: every worker would use the same branch:"
        " use one of {issue}, {attempt}, {task}"
    ],
    "defaults: {branch: 'x-{isue}'}": [
        "1:20: defaults.branch: unknown placeholder {isue};"
        " placeholders are {issue}, {attempt}, {task}"
    ],
    "defaults: {branch: '{issue!r}'}": [
        "1:20: defaults.branch: a placeholder is a name in braces and nothing else:"
        " {issue}, {attempt}, {task}"
    ],
    "defaults: {branch: '{issue'}": [
        "1:20: defaults.branch: a brace is not closed; placeholders are {issue}, {attempt}, {task}"
    ],
    "defaults: {branch: 'a b/{issue}'}": [
        "1:20: defaults.branch: git does not allow such a branch name"
        " (see git help check-ref-format)"
    ],
    "sources: {github: {token: ghp_0123}}": [
        "1:27: sources.github.token: a secret is never written here itself but as a reference to"
        " it: env://NAME, file:///PATH, file://~/PATH or cmd://COMMAND ARGUMENTS"
    ],
    "sources: {github: {api_url: 'ftp://x'}}": [
        "1:29: sources.github.api_url: expected a URL such as https://github.example.com/api/v3"
    ],
    "store: {url: 'postgresql://me:pw@host/db'}": [
        "1:14: store.url: a URL with a password is given as a reference: env://NAME or file:///PATH"
    ],
}


@pytest.mark.parametrize("text", VALUES)
def test_values_that_cannot_be_used(text: str) -> None:
    assert problems(text) == [f"o.yaml:{line}" for line in VALUES[text]]


CONDITIONS = {
    "priorty >= P3": "4:18",
    "'priorty >= P3'": "4:19",
    '"priorty >= P3"': "4:19",
    "hour > 3 and priorty >= P3": "4:31",
    "&a 'hour > 3 and priorty >= P3'": "4:35",
    '"label == \\"x\\" and priorty >= P3"': "4:18",
    "'label == ''x'' and priorty >= P3'": "4:18",
    '"priorty >= P3 and label == \\"x\\""': "4:19",
    ">-\n        hour > 3 and\n        priorty >= P3": "4:18",
    "hour > 3\n        and priorty >= P3": "4:18",
}


@pytest.mark.parametrize("written", CONDITIONS)
def test_a_fault_in_a_condition_is_shown_where_it_is(written: str) -> None:
    text = f"{LOCAL}policy:\n  overrides:\n    - condition: {written}\n      prefer: local\n"
    (problem,) = problems(text)
    first, shown, carets = problem.splitlines()
    assert first == (
        f"o.yaml:{CONDITIONS[written]}: policy.overrides[0].condition:"
        " unknown field 'priorty'; did you mean 'priority'?"
    )
    start = shown.index("priorty")
    assert carets == " " * start + "^" * len("priorty")


def test_a_condition_names_outposts_that_there_are() -> None:
    rule = "{condition: cost_today(local) > 3 or cost_today(locl) > 3, prefer: local}"
    assert problems(f"{LOCAL}policy: {{overrides: [{rule}]}}") == [
        "o.yaml:2:70: policy.overrides[0].condition: no outpost is named 'locl';"
        " did you mean 'local'?\n"
        "    cost_today(local) > 3 or cost_today(locl) > 3\n"
        "                                        ^^^^"
    ]


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = "zzz: 1\noutposts:\n  - {name: a, type: b}\nstore: 1\nstore: 2\ndefaults: {agnt: x}\n"
    found = problems(text)
    assert [line.split(":")[1] for line in found] == ["1", "3", "4", "5", "6"]


def test_the_message_names_the_file_and_the_count() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(b"a: 1\nb: 2\n", file="dir/o.yaml")
    assert caught.value.message.splitlines()[0] == "dir/o.yaml has 2 problems:"


def test_columns_count_characters_and_lines_are_those_of_editors() -> None:
    assert problems("store: {url: sqlite://é, x: 1}") == ["o.yaml:1:26: store.x: unknown field"]
    # U+2028 ends a line in YAML 1.1, but for no editor.
    assert problems("# a\u2028# b\r\nx: 1\r\n") == ["o.yaml:2:1: x: unknown field"]
    assert problems(b"\xef\xbb\xbfx: 1") == ["o.yaml:1:1: x: unknown field"]


def test_merged_fields_are_reported_where_they_are_written() -> None:
    text = (
        "outposts:\n  - &a\n    name: a\n    type: local\n    max_workers: none\n"
        "  - <<: *a\n    name: b\n"
    )
    assert problems(text) == [
        "o.yaml:5:18: outposts[0].max_workers: expected a whole number, got text",
        "o.yaml:5:18: outposts[1].max_workers: expected a whole number, got text",
    ]


@pytest.mark.parametrize("opening", ["[", "[\n", "- ", "{a: ", "- - ? "])
def test_endless_nesting_ends_soon(opening: str) -> None:
    (problem,) = problems(opening * 200_000)
    assert "nested more than 40 levels deep" in problem or "a key must be text" in problem


def test_nesting_by_aliases_ends_soon() -> None:
    deep = "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30
    assert problems(deep) == ["o.yaml:2:34: nested more than 40 levels deep"]


def test_an_alias_bomb_does_not_go_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 30)]
    (problem,) = problems("\n".join(lines))
    assert problem.startswith("o.yaml:4:")
    assert "more than 50000 values, counting what aliases mean" in problem


def test_a_backend_that_cannot_be_imported_is_no_traceback() -> None:
    text = "outposts:\n  - {name: a, type: gone}\n  - {name: b, type: half}\n"
    assert problems(text, BROKEN_KINDS) == [
        "o.yaml:2:21: outposts[0].type: the backend of type 'gone' cannot be loaded:"
        " No module named 'outpost.no_such_module'",
        "o.yaml:3:21: outposts[1].type: the backend of type 'half' cannot be loaded:"
        " module 'outpost.errors' has no class 'Half'",
    ]

"""The schema, the example and the reference agree with what the loader does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from outpost.config import KindRegistry, parse
from outpost.config.document import read_document
from outpost.config.nodes import Lines
from outpost.config.schema import json_schema
from outpost.errors import ConfigError

ROOT = Path(__file__).parents[2]
SCHEMA_FILE = ROOT / "docs/reference/outposts.schema.json"
REFERENCE = (ROOT / "docs/reference/configuration.md").read_text()
EXAMPLE = ROOT / "outposts.example.yaml"
DESIGN = ROOT / "tests/data/original-design.yaml"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema(KindRegistry(entry_points=False))


def plain(text: str) -> Any:
    root = read_document(text, Lines(text)).root
    assert root is not None
    return root.plain()


def test_the_schema_file_is_current(schema: dict[str, Any]) -> None:
    assert SCHEMA_FILE.read_text() == json.dumps(schema, indent=2) + "\n", (
        "run: outpost config schema > docs/reference/outposts.schema.json"
    )


def test_the_schema_is_one(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", [EXAMPLE, DESIGN], ids=lambda path: path.name)
def test_what_the_project_ships_is_valid(schema: dict[str, Any], path: Path) -> None:
    text = path.read_text()
    parse(text.encode())
    jsonschema.validate(plain(text), schema, cls=jsonschema.Draft202012Validator)


WRONG = [
    "polcy: {}",
    "outposts: []",
    "outposts: [{name: a}]",
    "outposts: [{name: a, type: lcoal}]",
    "outposts: [{name: a, type: local, max_workres: 3}]",
    "outposts: [{name: a, type: local, max_workers: 0}]",
    "outposts: [{name: a, type: ssh, price_hourly: x}]",
    "outposts: [{name: a/b, type: local}]",
    "policy: {overrides: [{prefer: local}]}",
    "policy: {overrides: [{condition: 3, prefer: local}]}",
    "policy: {default_preference: [[[local]]]}",
    "policy: {placement: random}",
    "policy: {entry: function}",
    "budget: {groups: [{daily: 3}]}",
    "budget: {daily: x}",
    "outposts: [{name: a, type: local, labels: {gpu: {}}}]",
    "agents: {codx: {}}",
    "agents: {acp: {model: x}}",
    "agents: {claude: {args: x}}",
    "agents: {goose: {acp: []}}",
    "agents: {claude: {permissions: {default: perhaps}}}",
    "defaults: {silence_limit: never}",
    "prices: {m: {input: 1}}",
    "outposts: [{name: a, type: local, min_free_mib: '1'}]",
    "outposts: [{name: a, type: ssh, host: b, ssh_key: keys/id}]",
    "defaults: {time_limit: soon}",
    "defaults: {branch: main}",
    "defaults: {priority: P9}",
    "sources: {github: {token: literal}}",
    "store: {url: 'mysql://x'}",
]


@pytest.mark.parametrize("text", WRONG)
def test_editors_refuse_what_the_loader_refuses(schema: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text.encode())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain(text), schema, cls=jsonschema.Draft202012Validator)


def test_the_example_points_to_the_schema() -> None:
    first = EXAMPLE.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=docs/reference/outposts.schema.json"


def test_every_field_has_a_description_and_is_in_the_reference(schema: dict[str, Any]) -> None:
    sections = {f"`{name}`" for name in schema["properties"]}
    assert all(f"## {section}" in REFERENCE for section in sections)
    definitions = schema["$defs"]
    holders = [
        definitions[name] for name in definitions if name not in ("Outpost", "SourcesConfig")
    ]
    holders += definitions["Outpost"]["oneOf"]
    assert len(holders) >= 7
    for holder in holders:
        for name, field in holder["properties"].items():
            assert "description" in field, name
            row = rf"^\| `([a-z]+(\[\])?\.)*{name}` \| .+ \| .+ \| .+ \|$"
            assert re.search(row, REFERENCE, re.MULTILINE), f"`{name}` is not in the reference"


def test_the_examples_in_the_reference_load() -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 6
    for example in examples:
        parse(example.encode())


def test_the_errors_in_the_reference_are_those_that_come() -> None:
    pairs = re.findall(
        r"^```yaml error\n(.*?)^```.*?^```text error\n(.*?)^```",
        REFERENCE,
        re.MULTILINE | re.DOTALL,
    )
    assert len(pairs) == 2
    for example, answer in pairs:
        with pytest.raises(ConfigError) as caught:
            parse(example.encode())
        assert caught.value.message + "\n" == answer

"""Where the configuration comes from and what it becomes."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from outpost.config import Config, KindRegistry, SecretRef, load, parse
from outpost.config.advice import warnings_about
from outpost.errors import ConfigError
from outpost.model import Priority

ROOT = Path(__file__).parents[2]
DESIGN = ROOT / "tests/data/original-design.yaml"
EXAMPLE = ROOT / "outposts.example.yaml"


class AnyOptions(BaseModel):
    model_config = ConfigDict(extra="allow")


class AnyKind:
    Options: ClassVar[type[BaseModel]] = AnyOptions


ANY_KIND = KindRegistry({"any": AnyKind})


def write(path: Path, name: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"outposts: [{{name: {name}, type: local}}]\n")
    return path


def name_of(config: Config) -> str:
    return config.outposts[0].name


def test_without_any_file_it_is_this_machine(tmp_path: Path) -> None:
    config = load(environment={"HOME": str(tmp_path)}, directory=tmp_path)
    (outpost,) = config.outposts
    assert (outpost.name, outpost.type) == ("local", "local")
    assert outpost.max_workers == max(4, os.cpu_count() or 1)
    assert config.path is None
    assert config.defaults.branch == "outpost/{issue}-{attempt}"
    assert (config.defaults.time_limit_s, config.defaults.stop_grace_s) == (7200.0, 10.0)
    assert (config.defaults.agent, config.defaults.priority) == ("claude", Priority.P2)
    assert config.sources.github.api_url == "https://api.github.com"


def test_the_search_order(tmp_path: Path) -> None:
    home, directory = tmp_path / "home", tmp_path / "work"
    directory.mkdir()
    environment = {"HOME": str(home)}
    in_home = write(home / ".config/outpost/outposts.yaml", "in-home")
    config = load(environment=environment, directory=directory)
    assert (name_of(config), config.path) == ("in-home", in_home)

    write(tmp_path / "xdg/outpost/outposts.yaml", "in-xdg")
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert name_of(load(environment=environment, directory=directory)) == "in-xdg"

    here = write(directory / "outposts.yaml", "here")
    config = load(environment=environment, directory=directory)
    assert (name_of(config), config.path) == ("here", here)

    write(directory / "other.yaml", "by-variable")
    environment["OUTPOST_CONFIG"] = "other.yaml"
    assert name_of(load(environment=environment, directory=directory)) == "by-variable"

    write(directory / "named.yaml", "by-option")
    config = load("named.yaml", environment=environment, directory=directory)
    assert (name_of(config), config.path) == ("by-option", directory / "named.yaml")


def test_a_relative_xdg_folder_and_an_empty_variable_are_ignored(tmp_path: Path) -> None:
    write(tmp_path / ".config/outpost/outposts.yaml", "in-home")
    environment = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "config", "OUTPOST_CONFIG": ""}
    assert name_of(load(environment=environment, directory=tmp_path)) == "in-home"
    assert load(environment={}, directory=tmp_path).path is None


def refusal(tmp_path: Path, path: str | None, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environment=environment, directory=tmp_path)
    return caught.value.message


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    assert refusal(tmp_path, "no.yaml") == "no.yaml: there is no such file (named by --config)"
    assert refusal(tmp_path, None, OUTPOST_CONFIG="no.yaml") == (
        "no.yaml: there is no such file (named by $OUTPOST_CONFIG)"
    )
    write(tmp_path / "file", "x")
    assert "no such file" in refusal(tmp_path, "file/x.yaml")


def test_what_is_no_readable_file(tmp_path: Path) -> None:
    (tmp_path / "outposts.yaml").mkdir()
    assert refusal(tmp_path, None) == "outposts.yaml: is a directory, not a file"
    assert refusal(tmp_path, "a\0b") == "'a\\x00b': no file can have such a name"
    assert "File name too long" in refusal(tmp_path, "x" * 5000)
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in refusal(tmp_path, "loop")
    (tmp_path / "big.yaml").write_bytes(b"[" * 10_000_000)
    assert refusal(tmp_path, "big.yaml") == "big.yaml: is larger than 1 MiB"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path / "outposts.yaml", "x").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # permissions do not concern the superuser
            os.seteuid(65534)
        message = refusal(tmp_path, None)
    finally:
        os.seteuid(user)
    assert message == "outposts.yaml: cannot be read: Permission denied"


def test_the_original_design_loads_unchanged() -> None:
    config = load(str(DESIGN), environment={}, directory=ROOT)
    assert [(item.name, item.type) for item in config.outposts] == [
        ("local", "local"),
        ("gce-worker-1", "ssh"),
        ("cloudrun-burst", "cloudrun"),
    ]
    assert [item.max_workers for item in config.outposts] == [4, 8, 20]
    assert config.outposts[1].options == {
        "host": "10.0.0.5",
        "user": "steve",
        "ssh_key": "~/.ssh/gce_worker",
        "town_path": "/home/steve/ai",
    }
    assert config.outposts[2].cost_cap_hourly == Decimal("5")
    policy = config.policy
    assert policy.default_preference == (("local",), ("gce-worker-1",), ("cloudrun-burst",))
    assert [(item.condition, item.prefer) for item in policy.overrides] == [
        ("priority >= P3", (("cloudrun-burst",),)),
        ("estimated_duration > 30m", (("gce-worker-1",),)),
    ]


def test_the_example_loads_and_uses_merge_keys() -> None:
    config = load(str(EXAMPLE), environment={}, directory=ROOT)
    first, second = config.outposts[1:3]
    assert second.options == {"host": "192.0.2.11", "user": "builder"}
    assert (second.name, second.max_workers, second.enabled) == ("vm-2", first.max_workers, False)
    assert config.outposts[3].price_hourly == Decimal("0.21")
    assert config.agents["command"].argv == ("make", "fix")
    assert config.sources.github.token == SecretRef("env://GITHUB_TOKEN")


def test_the_example_shows_agents_prices_and_limits() -> None:
    config = load(str(EXAMPLE), environment={}, directory=ROOT)
    claude = config.agents["claude"]
    assert (claude.permissions.default, claude.permissions.deny) == ("ask", ("Edit(./.github/*)",))
    assert config.agents["goose"].acp == ("goose", "acp")
    assert config.prices["my-model"].output == 10
    assert config.defaults.answer_limit_s == 8 * 3600.0


def test_what_the_new_sections_are_without_a_word() -> None:
    config = parse(b"agents: {goose: {acp: [goose]}}")
    permissions = config.agents["goose"].permissions
    assert (permissions.default, permissions.deny) == ("ask", ())
    assert permissions.allow == ("Read(./*)", "Edit(./*)")
    defaults = config.defaults
    assert (defaults.silence_limit_s, defaults.answer_limit_s) == (1800.0, 8 * 3600.0)
    assert (defaults.busy_pause_s, defaults.pr) == (30.0, None)
    beads = config.sources.beads
    assert (beads.executable, beads.actor, beads.close) == ("bd", None, False)
    assert (dict(config.prices), config.sources.github.comment) == ({}, False)


def test_null_means_no_limit_where_there_need_be_none() -> None:
    text = b"defaults: {silence_limit: null, answer_limit: ~, pr: null, agent: goose}\n"
    config = parse(text + b"agents: {goose: {acp: [goose, acp]}}")
    assert (config.defaults.silence_limit_s, config.defaults.answer_limit_s) == (None, None)
    assert (config.defaults.pr, config.defaults.agent) == (None, "goose")
    text = b"outposts: [{name: a, type: local, cache_max_mib: null, min_free_mib: 0}]"
    assert parse(text).outposts[0].options == {"cache_max_mib": None, "min_free_mib": 0}


def test_what_has_no_effect_is_told() -> None:
    budget = b"budget: {groups: [{labels: {gpu: true}, daily: 3}, {labels: {gpu: true}}]}\n"
    text = b"outposts: [{name: a, type: local, labels: [gpu]}]\n"
    (warning,) = warnings_about(parse(text + budget))
    assert warning == "budget.groups[1]: limits nothing; say hourly, daily or monthly"
    assert warnings_about(parse(text)) == []


def test_values_are_those_of_yaml_1_2() -> None:
    text = b"""
outposts:
  - {name: "no", type: any, a: no, b: 010, c: 1:30, d: 2026-01-02, e: 1e3, f: ~, g: "1",
     h: 0x1F, o: 0o17, i: 12345678901234567890, j: .5, k: 1e999, l: .inf, m: -7, n: TRUE}
"""
    assert parse(text, kinds=ANY_KIND).outposts[0].options == {
        "a": "no",
        "b": 10,
        "c": "1:30",
        "d": "2026-01-02",
        "e": 1000.0,
        "f": None,
        "g": "1",
        "h": 31,
        "o": 15,
        "i": "12345678901234567890",
        "j": 0.5,
        "k": "1e999",
        "l": ".inf",
        "m": -7,
        "n": True,
    }


def test_a_section_of_comments_counts_as_absent() -> None:
    assert parse(b"outposts:\n  # none yet\npolicy:\nstore:\n").outposts[0].name == "local"


CHOICES = b"""
outposts:
  - {name: a, type: local, labels: {region: eu, gpu: true, cores: 8}}
  - {name: b, type: local, labels: [gpu, big]}
  - {name: c, type: local}
policy:
  default_preference: [a, [b, {gpu: true}], {region: eu}]
  overrides:
    - {condition: priority >= P3, prefer: c}
    - {condition: "label contains \\"x\\" and cost_today(c) > $2.50", prefer: {gpu: true}, deny: c}
    - {condition: 'label == "x"', require: [{cores: 8}, b], avoid: [c]}
budget: {groups: [{labels: {gpu: true}, daily: 5}]}
"""


def test_outposts_are_chosen_by_name_or_by_labels() -> None:
    config = parse(CHOICES)
    assert [dict(outpost.labels) for outpost in config.outposts] == [
        {"region": "eu", "gpu": "true", "cores": "8"},
        {"gpu": "true", "big": "true"},
        {},
    ]
    gpu = {"gpu": "true"}
    policy = config.policy
    assert policy.default_preference == (("a",), ("b", gpu), ({"region": "eu"},))
    first, second, third = policy.overrides
    assert (first.prefer, first.require, first.avoid, first.deny) == ((("c",),), (), (), ())
    assert (second.prefer, second.deny) == (((gpu,),), ("c",))
    assert second.condition == 'label contains "x" and cost_today(c) > $2.50'
    assert (third.require, third.avoid) == (({"cores": "8"}, "b"), ("c",))
    assert config.budget.groups[0].labels == gpu


def test_a_function_of_ones_own_may_rank() -> None:
    policy = parse(b"policy: {kind: python, entry: 'my.rules:rank'}").policy
    assert (policy.kind, policy.entry) == ("python", "my.rules:rank")


def test_dollars_are_exact() -> None:
    config = parse(b"outposts: [{name: a, type: local, price_hourly: 0.1, cost_cap_daily: 3}]")
    assert config.outposts[0].price_hourly == Decimal("0.1")
    assert config.outposts[0].cost_cap_daily == Decimal(3)


def test_a_store_url_may_be_a_reference() -> None:
    assert parse(b"store: {url: 'env://URL'}").store.url == SecretRef("env://URL")
    for url in ("sqlite:////x.db", "postgresql+psycopg://me@host/db"):
        assert parse(f"store: {{url: '{url}'}}".encode()).store.url == url


def test_a_configuration_is_frozen() -> None:
    config = parse(b"store:")
    with pytest.raises(ValidationError):
        config.defaults = config.defaults


class CampOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    host: str
    tents: tuple[str, ...] = ()


class Camp:
    Options: ClassVar[type[BaseModel]] = CampOptions


def test_an_installed_kind_brings_its_own_options() -> None:
    kinds = KindRegistry({"camp": Camp})
    text = b"outposts: [{name: a, type: camp, host: h, tents: [x, y], labels: [big]}]"
    (outpost,) = parse(text, kinds=kinds).outposts
    assert outpost.labels == {"big": "true"}
    assert outpost.options == {"host": "h", "tents": ["x", "y"]}
    options = kinds.parse_options("camp", outpost.options)
    assert options == CampOptions(host="h", tents=("x", "y"))


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_plain_local_outpost_imports_no_backend_and_nothing_heavy() -> None:
    heavy = ["outpost.backends.local", "asyncio", "httpx2", "sqlalchemy", "typer", "rich"]
    heavy += ["lark", "re2"]  # only for a file with conditions
    code = f"""
import sys
from outpost.config import parse
parse(b"outposts: [{{name: a, type: local, max_workers: 3}}]")
print([name for name in {heavy!r} if name in sys.modules])
"""
    assert run_python(code) == "[]"


def test_an_outpost_over_ssh_is_checked_without_what_speaks_ssh() -> None:
    code = """
import sys
from outpost.config import parse
parse(b"outposts: [{name: a, type: ssh, host: h}]")
print([name in sys.modules for name in ("outpost.backends.ssh", "asyncssh", "cryptography")])
"""
    assert run_python(code) == "[True, False, False]"

"""``outpost config check`` and ``outpost config schema``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from outpost.cli.config import app
from outpost.errors import ConfigError

ROOT = Path(__file__).parents[2]
DESIGN = str(ROOT / "tests/data/original-design.yaml")


def test_check_shows_file_outposts_and_warnings(tmp_path: Path) -> None:
    file = tmp_path / "outposts.yaml"
    text = Path(DESIGN).read_text()
    far = "  - {name: far, type: local, enabled: false, labels: {x: y}}\n"
    nothing = "budget: {groups: [{labels: {x: y}}]}\n"
    file.write_text(text.replace("policy:\n", far + nothing + "policy:\n"))
    result = CliRunner().invoke(app, ["check", "--config", str(file)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"configuration: {file}",
        "NAME            TYPE      MAX WORKERS  STATUS",
        "local           local     4            enabled",
        "gce-worker-1    ssh       8            enabled",
        "cloudrun-burst  cloudrun  20           enabled",
        "far             local     no limit     disabled",
    ]
    (warning,) = result.stderr.splitlines()
    assert "budget.groups[0]: limits nothing" in warning


def test_check_prints_json() -> None:
    result = CliRunner().invoke(app, ["check", "--json", "--config", DESIGN])
    answer = json.loads(result.stdout)
    assert answer["path"] == DESIGN
    assert answer["outposts"][1] == {
        "name": "gce-worker-1",
        "type": "ssh",
        "max_workers": 8,
        "enabled": True,
    }
    assert answer["warnings"] == []
    assert result.stderr == ""


def test_check_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OUTPOST_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["check"], catch_exceptions=False)
    assert result.stdout.startswith("configuration: none found, using the defaults\n")


def test_check_leaves_errors_to_the_program(tmp_path: Path) -> None:
    file = tmp_path / "outposts.yaml"
    file.write_text("outposts: 3\n")
    result = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 2
    assert result.exception.problems == (f"{file}:1:11: outposts: expected a list, got a number",)


def test_schema_prints_the_schema() -> None:
    result = CliRunner().invoke(app, ["schema"], catch_exceptions=False)
    assert json.loads(result.stdout)["title"] == "Outpost configuration"

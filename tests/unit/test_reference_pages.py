"""Pages for readers say what the code does, where both have a list of the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from outpost.config.kinds import BUILT_IN
from outpost.runner.permissions import DEFAULT_RULES

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]


def permissions(page: str) -> list[dict[str, Any]]:
    """Return the permissions in a page's examples."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    agents = [(yaml.safe_load(block) or {}).get("agents", {}) for block in blocks]
    return [it["claude"].get("permissions", {}) for it in agents if "claude" in it]


def test_what_is_asked_about_by_default_is_in_the_reference() -> None:
    assert {"ask": DEFAULT_RULES["ask"]} in permissions("docs/reference/configuration.md")


def test_the_default_permissions_are_those_of_the_page_about_security() -> None:
    assert DEFAULT_RULES in permissions("docs/security.md")


def test_all_kinds_that_are_built_in_are_in_the_readme() -> None:
    [line] = re.findall(r"^\* Six kinds of outposts so far: (.+?)\. ", TEXTS[0].read_text(), re.M)
    assert set(re.findall(r"`(\w+)`", line)) == set(BUILT_IN)


def test_nobody_is_sent_to_the_package_of_that_name_at_pypi() -> None:
    theirs = re.compile(r"pip install (?:-\S+ )*'?outpost\b")
    assert [path for path in TEXTS if theirs.search(path.read_text())] == []

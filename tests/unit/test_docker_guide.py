"""The page about containers says what is so: its configurations load, its options are all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outpost import config
from outpost.config.kinds import KindRegistry

PAGE = (Path(__file__).parent.parent.parent / "docs/how-to/docker.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_each_configuration_of_the_page_loads(block: str) -> None:
    assert config.parse(block.encode()).outposts


def test_the_page_has_every_option_of_the_kind() -> None:
    section = PAGE.partition("## 2.")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", section, re.MULTILINE)
    fields = KindRegistry().backend("docker").Options.model_fields
    assert rows == [field.alias or name for name, field in fields.items()]

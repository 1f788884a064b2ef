"""The page about Fly says what is so: its configurations load, its options are all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outpost import config
from outpost.backends.fly_options import FlyOptions

PAGE = (Path(__file__).parent.parent.parent / "docs/how-to/fly.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_each_configuration_of_the_page_loads(block: str) -> None:
    assert config.parse(block.encode()).outposts


def test_the_page_has_every_option_of_the_kind() -> None:
    section = PAGE.partition("## 2.")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| .* \| .+ \|$", section, re.MULTILINE)
    assert rows == [field.alias or name for name, field in FlyOptions.model_fields.items()]

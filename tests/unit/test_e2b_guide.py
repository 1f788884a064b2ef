"""The page about E2B says what is so: its configurations load, its options and prices are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outpost import config
from outpost.backends.e2b_template import BASE
from outpost.config.kinds import KindRegistry
from outpost.model import compute_prices

PAGE = (Path(__file__).parent.parent.parent / "docs/how-to/e2b.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_each_configuration_of_the_page_loads(block: str) -> None:
    assert config.parse(block.encode()).outposts


def test_the_page_has_every_option_of_the_kind() -> None:
    section = PAGE.partition("## 3.")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", section, re.MULTILINE)
    fields = KindRegistry().backend("e2b").Options.model_fields
    assert rows == [field.alias or name for name, field in fields.items()]


def test_its_prices_are_those_of_the_table() -> None:
    hourly = compute_prices.quote("e2b", vcpus=2, memory_gib=4).microusd_per_hour
    assert hourly
    assert f"${hourly / 1_000_000:.4f} an hour" in PAGE
    assert f"${compute_prices.E2B_RATES.vcpu_second:f}" in PAGE
    assert f"${compute_prices.E2B_RATES.gib_second:f}" in PAGE
    assert compute_prices.E2B.date in PAGE
    assert BASE in PAGE

"""The page that compares outposts: its prices are the tables', its configurations load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outpost import config
from outpost.config import KindRegistry
from outpost.model import Quote
from outpost.model.compute_prices import quote

PAGE = (Path(__file__).parents[2] / "docs/how-to/choose-an-outpost.md").read_text("utf-8")


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_each_configuration_of_the_page_loads(block: str) -> None:
    assert config.parse(block.encode()).outposts


def test_every_kind_has_a_column_and_a_sentence() -> None:
    head = next(line for line in PAGE.splitlines() if line.startswith("| | "))
    kinds = set(KindRegistry(entry_points=False).names())
    assert set(re.findall(r"\[`(\w+)`\]", head)) == kinds
    assert set(re.findall(r"^\* \*\*`(\w+)`\*\*", PAGE, re.MULTILINE)) == kinds


def test_the_prices_are_those_of_the_tables() -> None:
    (row,) = re.findall(r"^\| \*\*Costs, 2 vCPUs.*$", PAGE, re.MULTILINE)
    quotes = (
        cloud_run("request"),
        cloud_run("instance"),
        quote("fly", region="iad", size="performance-2x"),
        quote("e2b", vcpus=2, memory_gib=4),
    )
    said = [round(float(it) * 1_000_000) for it in re.findall(r"\$([0-9.]+)", row)]
    assert said == [it.microusd_per_hour for it in quotes]


def cloud_run(billing: str) -> Quote:
    return quote("cloudrun", region="us-central1", billing=billing, vcpus=2, memory_gib=4)

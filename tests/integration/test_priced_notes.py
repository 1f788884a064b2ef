"""``outpost add`` and ``outpost deploy`` say what work costs as the configuration has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles.e2b.cloud import E2bCloud
from tests.e2b_world import TEMPLATE, outpost_on
from tests.integration.cli_world import Cli
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

FLY = ("add", "fly", "--app", "workers", "--api-url", "http://127.0.0.1:9", "--yes")


def test_an_outpost_is_added_with_a_price_of_its_own(world: World) -> None:
    cli = Cli(world)
    ran = cli(*FLY, "--name", "a", "--region", "iad", "--price-hourly", "0.5", code=1)
    costs = "a machine costs $0.5000 an hour while it runs (configuration: price_hourly)"
    assert f"note: {costs}\n" in ran.err
    assert "$0.0158" not in ran.err
    ran = cli(*FLY, "--name", "b", "--region", "syd", "--allow-unpriced", code=1)
    assert "its price is not known (" in ran.err
    assert "set price_hourly" not in ran.err


async def test_a_template_is_planned_with_the_configured_price(tmp_path: Path) -> None:
    with E2bCloud(tmp_path / "e2b") as e2b:
        e2b.add_template(TEMPLATE)
        setup = {"price": lambda quote: replace(quote, microusd_per_hour=500_000, source="ours")}
        outpost = outpost_on(e2b, tmp_path, setup=setup)
        plan = await outpost.plan()
        await outpost.close()
    assert plan.notes[0] == "a sandbox costs $0.5000 an hour (ours)"

"""The conformance kit on a stand-in for Fly: its machines are real processes that take our work."""

from __future__ import annotations

import pytest

from outpost.backends.fly import FlyOutpost
from outpost.testing import CHECKS, Check, Outcome, run_check
from tests.fly_world import NOWHERE, closing, fly_world
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_a_fly_outpost_keeps_the_contract(world: World, check: Check) -> None:
    with fly_world(world) as made:

        def unreachable(federation_id: str) -> FlyOutpost:
            return made.outpost(federation_id, api_url=NOWHERE, url=NOWHERE)

        async with closing(made):
            async with made.bench(make_unreachable=unreachable) as bench:
                result = await run_check(bench, check)
            left = [it.name for it in made.fly.machines()]
    assert result.outcome is not Outcome.FAILED, f"{result.reason}\n{result.detail}"
    assert not left

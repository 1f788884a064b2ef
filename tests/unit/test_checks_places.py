"""What the doctor says of one outpost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from outpost.control.checks import Level
from outpost.control.checks.places import check_outpost
from outpost.control.situation import Site
from outpost.model import Capabilities, Health, Quote


@dataclass
class Priced:
    """As much of an outpost as is asked here."""

    microusd_per_hour: int | None
    name: ClassVar[str] = "syd"
    capabilities: ClassVar[Capabilities] = Capabilities(paid=True)

    async def ping(self) -> Health:
        return Health(ok=True, detail="it answers")

    def quote(self, _task: object) -> Quote:
        return Quote(microusd_per_hour=self.microusd_per_hour, source="no factor for 'syd'")


def site(price: int | None, **more: Any) -> Site:
    outpost: Any = Priced(price)
    return Site(name="syd", kind="fly", max_workers=None, outpost=outpost, **more)


@pytest.mark.parametrize(("price", "more"), [(5, {}), (None, {"allow_unpriced": True})])
async def test_one_with_a_price_can_take_work(price: int | None, more: dict[str, Any]) -> None:
    check = await check_outpost(site(price, **more))
    assert (check.level, check.detail) == (Level.OK, "syd can take work: it answers")


async def test_one_without_a_price_gets_none() -> None:
    check = await check_outpost(site(None))
    assert check.level is Level.PROBLEM
    assert check.detail == "syd gets no work, as its price is not known (no factor for 'syd')"
    assert check.hint == "set its price_hourly, or allow_unpriced: true"

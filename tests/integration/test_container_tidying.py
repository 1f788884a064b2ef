"""Tidying containers that end by themselves while somebody looks into them."""

from __future__ import annotations

import asyncio

import pytest

from outpost.ports import Setup
from outpost.transports.containers import Address
from outpost.wire.tidying import TidyOrder
from tests.doubles.process_containers import ProcessContainers, stop
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

WORKER = "w-abcdefgh"


class Fleeting(ProcessContainers):
    """Containers that end as soon as they were found to answer."""

    async def reached(self, worker_id: str, *, wake: bool = True) -> Address:
        address = await super().reached(worker_id, wake=wake)
        await asyncio.to_thread(stop, self.folder / worker_id)
        return address


async def test_one_that_ends_during_the_look_stays_and_says_why(world: World) -> None:
    setup = Setup(
        name="boxes",
        federation_id="f-0123456789",
        data_folder=str(world.folder / "data"),
        environment=world.environment,
    )
    outpost = Fleeting(setup, world.folder / "containers")
    # Its order never comes: a server that idles out, as any does after its work.
    await outpost.provide({"worker_id": WORKER})  # type: ignore[typeddict-item]
    order: TidyOrder = {
        "kinds": [],
        "dry_run": False,
        "workers": [WORKER],
        "orphans": [],
        "grace_s": 0.0,
        "cache_idle_s": 0.0,
    }
    await ProcessContainers.reached(outpost, WORKER)
    (leftover,) = await outpost.tidy(order, [outpost.handle_of(WORKER)])
    assert leftover["kept"].startswith(f"{WORKER} on boxes: ")
    await outpost.destroy(outpost.handle_of(WORKER))
    await outpost.close()

"""Machines made ahead: how they wait, who gets them, and what becomes of those nobody needs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from outpost.backends import fly_pool
from outpost.backends.fly import FlyOutpost
from outpost.errors import OutpostFault
from outpost.model import Liveness
from tests.doubles.fly import MachineRecord
from tests.fly_world import FlyWorld, closing, fly_world
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

HOLD = "echo begun; sleep 60"
WORK = "echo words > words.txt"
BOOT_S = 12.0


@pytest.fixture
async def fly(world: World) -> AsyncIterator[FlyWorld]:
    """Return a stand-in for Fly and a home."""
    with fly_world(world) as made:
        async with closing(made):
            yield made


def waiting(fly: FlyWorld, state: str = "stopped") -> list[MachineRecord]:
    """Return the machines that wait for workers."""
    every = fly.fly.machines()
    return [it for it in every if not it.metadata.get("outpost_worker") and it.state == state]


async def tended(outpost: FlyOutpost, look: Callable[[], bool]) -> None:
    """Tend an outpost again and again until that has shown."""
    async with asyncio.timeout(20):
        while not look():
            await outpost.tend([])
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def cleared(fly: FlyWorld) -> AsyncIterator[None]:
    """Destroy what still waits at the end: that is no worker's, so nobody else does."""
    try:
        yield
    finally:
        await tended(fly.outpost(warm=0), lambda: not waiting(fly))


@pytest.mark.parametrize("state", ["stopped", "suspended"])
async def test_a_worker_gets_a_machine_that_waits_and_starts_sooner(
    fly: FlyWorld, state: str
) -> None:
    outpost = fly.outpost(warm=2, warm_state=state)
    async with cleared(fly), fly.bench(outpost) as bench:
        await tended(outpost, lambda: len(waiting(fly, state)) == 2)
        fly.fly.limits.boot_s = BOOT_S
        before = fly.asked("POST", "/machines")
        began = time.monotonic()
        handle = await bench.spawn(WORK)
        took_s = time.monotonic() - began
        machine = fly.machine(handle.worker_id)
        assert machine.name.startswith("warm-")
        assert fly.asked("POST", "/machines") == before
        assert took_s < BOOT_S
        assert (await bench.log(handle))[-1].fields["outcome"] == "done"
        assert machine.metadata["outpost_task"] == "t-conformance"
        # Another process finds it, and its token, by what the machine says of itself.
        seen = await fly.outpost().worker(handle).status()
        assert seen.liveness in (Liveness.ALIVE, Liveness.DEAD)
        fly.fly.limits.boot_s = 0.05
        await tended(outpost, lambda: len(waiting(fly, state)) == 2)
        await bench.outpost.destroy(handle)
        assert len(waiting(fly, state)) == 2


async def test_several_controllers_never_claim_the_same_machine(fly: FlyWorld) -> None:
    """Six at once, from two processes' outposts, for three machines: each has one of its own."""
    one, other = fly.outpost(warm=3), fly.outpost(warm=3)
    async with cleared(fly), fly.bench(one) as bench:
        await tended(one, lambda: len(waiting(fly)) == 3)
        orders = [bench.order(HOLD) for _ in range(6)]
        starts = [
            bench.start(order, outpost=it)
            for order, it in zip(orders, [one, other] * 3, strict=True)
        ]
        handles = await asyncio.gather(*starts)
        machines = [fly.machine(it.worker_id) for it in handles]
        assert len({it.id for it in machines}) == 6
        assert sum(it.name.startswith("warm-") for it in machines) == 3
        assert not waiting(fly)


async def test_one_worker_started_twice_at_once_has_one_machine(fly: FlyWorld) -> None:
    one, other = fly.outpost(warm=2), fly.outpost(warm=2)
    async with cleared(fly), fly.bench(one) as bench:
        await tended(one, lambda: len(waiting(fly)) == 2)
        order = bench.order(HOLD)
        await asyncio.gather(bench.start(order), bench.start(order, outpost=other))
        assert fly.machine(order["worker_id"]).state == "started"
        assert len(waiting(fly)) == 1


async def test_a_machine_whose_host_is_full_waits_on_and_another_is_made(fly: FlyWorld) -> None:
    outpost = fly.outpost(warm=1, region=["iad", "fra"])
    async with cleared(fly), fly.bench(outpost) as bench:
        await tended(outpost, lambda: len(waiting(fly)) == 1)
        fly.fly.faults.no_capacity.add("iad")
        handle = await bench.spawn(WORK)
        assert fly.machine(handle.worker_id).region == "fra"
        assert len(waiting(fly)) == 1
        assert (await bench.log(handle))[-1].fields["outcome"] == "done"


@pytest.mark.parametrize("state", ["stopped", "suspended"])
async def test_a_claim_that_was_cut_short_is_gone_on_with(fly: FlyWorld, state: str) -> None:
    outpost = fly.outpost(warm=1, warm_state=state)
    async with cleared(fly), fly.bench(outpost) as bench:
        await tended(outpost, lambda: len(waiting(fly, state)) == 1)
        order = bench.order(WORK)
        fly.fly.faults.storm("start", "never", 60)
        start = asyncio.create_task(bench.start(order))
        async with asyncio.timeout(20):
            while not fly.machines(order["worker_id"]):
                await asyncio.sleep(0.02)
        start.cancel()
        await asyncio.wait([start])
        fly.fly.faults.storm("start", 0, 0)
        half = await fly.outpost().find(order["worker_id"])
        assert half, "what is half claimed is shown"
        assert (await fly.outpost().worker(half).status()).liveness is Liveness.DEAD
        handle = await bench.start(order, outpost=fly.outpost(warm=1))
        assert (await bench.log(handle))[-1].fields["outcome"] == "done"
        assert fly.machine(order["worker_id"]).name.startswith("warm-")


async def test_a_look_that_fails_after_a_claim_costs_no_second_machine(fly: FlyWorld) -> None:
    outpost = fly.outpost(warm=2)
    async with cleared(fly), fly.bench(outpost) as bench:
        await tended(outpost, lambda: len(waiting(fly)) == 2)
        # One that is new here knows from its list that they wait, and looks under its lease first.
        fly.fly.faults.next("get", 0, 500, 500, 500, 500)
        handle = await bench.start(bench.order(WORK), outpost=fly.outpost(warm=2))
        assert fly.machine(handle.worker_id).name.startswith("warm-")
        assert len(waiting(fly)) == 1
        assert (await bench.log(handle))[-1].fields["outcome"] == "done"


async def test_without_a_lease_a_worker_gets_a_machine_of_its_own(fly: FlyWorld) -> None:
    outpost = fly.outpost(warm=1)
    async with cleared(fly), fly.bench(outpost) as bench:
        await tended(outpost, lambda: len(waiting(fly)) == 1)
        fly.fly.faults.next("lease", 503)
        handle = await bench.spawn(WORK)
        assert fly.machine(handle.worker_id).name == handle.worker_id
        assert len(waiting(fly)) == 1
        assert (await bench.log(handle))[-1].fields["outcome"] == "done"


async def test_machines_of_another_make_are_replaced(fly: FlyWorld) -> None:
    outpost = fly.outpost(warm=1)
    async with cleared(fly):
        await tended(outpost, lambda: len(waiting(fly)) == 1)
        before = waiting(fly)[0]
        larger = fly.outpost(warm=2, memory="4g")
        await tended(larger, lambda: len(waiting(fly)) == 2 and before not in waiting(fly))
        assert {it.config["guest"]["memory_mb"] for it in waiting(fly)} == {4096}
        await tended(fly.outpost(warm=1, memory="4g"), lambda: len(waiting(fly)) == 1)


async def test_machines_that_do_not_come_up_are_not_made_again_and_again(fly: FlyWorld) -> None:
    image = "registry.fly.io/workers:worker"
    fly.fly.faults.no_launch.add(image)
    outpost = fly.outpost(warm=1, warm_state="suspended")
    with pytest.raises(OutpostFault, match="a machine made ahead has failed") as caught:
        await tended(outpost, lambda: False)
    assert "fly machine status" in caught.value.hint
    for _ in range(3):
        await outpost.tend([])
    assert fly.asked("POST", "/machines") == 1
    assert not fly.fly.machines()
    assert fly_pool.REST_S >= 60


async def test_warm_machines_are_nobodys_workers(fly: FlyWorld) -> None:
    outpost = fly.outpost(warm=1)
    async with cleared(fly), fly.bench(outpost) as bench:
        await tended(outpost, lambda: len(waiting(fly)) == 1)
        assert await bench.seen() == {}
        stranger = fly.outpost("f-another", warm=0)
        await stranger.tend([])
        assert len(waiting(fly)) == 1, "another federation does not touch it"

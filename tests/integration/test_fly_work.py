"""Work on Fly from the issue to the pushed branch, and what becomes of machines after that."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from outpost.backends.fly import FlyOutpost
from outpost.backends.fly_machine import Owner
from outpost.errors import OutpostFault
from outpost.model import Handle, Liveness, State
from outpost.ports import Tended
from outpost.testing import Bench
from outpost.wire.tidying import TidyOrder
from tests.fly_world import FEDERATION, NAME, FlyWorld, closing, fly_world
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

HOLD = "echo begun; sleep 60"
DAY_S = 86_400.0


@pytest.fixture
async def fly(world: World) -> AsyncIterator[FlyWorld]:
    """Return a stand-in for Fly and a home."""
    with fly_world(world) as made:
        async with closing(made):
            yield made


@pytest.fixture
def federated(world: World) -> Iterator[FlyWorld]:
    """Return the same with the token among the federation's variables."""
    with fly_world(world) as made:
        world.environment["FLY_API_TOKEN"] = made.fly.token
        yield made


def config(made: FlyWorld, **options: Any) -> str:
    """Return a configuration that prefers Fly to this machine."""
    fly: dict[str, object] = {
        **{"name": "burst", "type": "fly", "app": made.fly.app, "region": ["iad", "fra"]},
        **{"api_url": made.fly.api_url, "url": made.fly.url, "requests_per_s": 1000.0},
        **{"max_workers": 4, **options},
    }
    local = {"name": "local", "type": "local", "max_workers": 2}
    policy = {"default_preference": ["burst", "local"]}
    return json.dumps(
        {"outposts": [fly, local], "policy": policy, "defaults": {"stop_grace": "4s"}}
    )


def old(made: FlyWorld) -> contextlib.AbstractContextManager[None]:
    """Have machines be made three days ago."""

    @contextlib.contextmanager
    def then() -> Iterator[None]:
        made.fly.faults.clock_skew_s = -3 * DAY_S
        yield
        made.fly.faults.clock_skew_s = 0.0

    return then()


async def test_a_task_ends_with_a_branch_on_the_remote(federated: FlyWorld) -> None:
    world = federated.world
    async with world.federation(config=config(federated)) as federation:
        worker = await world.spawn(federation, "echo words > new.txt")
        result = await worker.result()
        machine = federated.machine(worker.id)
    assert (result.outpost, result.state) == ("burst", State.DONE)
    assert result.branch
    assert world.remote.show(result.branch, "new.txt") == "words"
    assert machine.name == worker.id
    assert machine.metadata == {
        "outpost_federation": world.federation_id("state"),
        "outpost_outpost": "burst",
        "outpost_worker": worker.id,
        "outpost_task": result.task_id,
    }
    assert machine.config["restart"] == {"policy": "no"}
    assert machine.config["auto_destroy"] is False


async def test_without_room_anywhere_the_next_outpost_has_the_task(federated: FlyWorld) -> None:
    world = federated.world
    federated.fly.faults.no_capacity.update(("iad", "fra"))
    async with world.federation(config=config(federated)) as federation:
        worker = await world.spawn(federation, "echo words > new.txt")
        result = await worker.result()
    assert (result.outpost, result.state) == ("local", State.DONE)
    assert not federated.fly.machines(destroyed=True)


async def test_no_secret_is_in_a_machines_configuration_but_its_own_token(
    federated: FlyWorld,
) -> None:
    world = federated.world
    world.environment["ANTHROPIC_API_KEY"] = "sk-ant-hunter2"
    async with world.federation(config=config(federated)) as federation:
        worker = await world.spawn(federation, "true")
        await worker.result()
    shown = json.dumps(federated.machine(worker.id).config)
    assert "hunter2" not in shown
    assert federated.fly.token not in shown
    assert "OUTPOST_SERVE_TOKEN" in shown


async def test_what_could_not_be_pushed_is_there_when_its_machine_is_started_again(
    fly: FlyWorld,
) -> None:
    async with fly.bench(fly.outpost(idle_exit="1s")) as bench:
        fly.world.remote.reject_pushes("no pushes today")
        handle = await bench.spawn("echo precious > words.txt")
        assert (await bench.log(handle))[-1].fields["outcome"] == "failed"
        fly.until_state(handle.worker_id, "stopped")
        leftovers = await bench.outpost.tidy(_order(handle.worker_id), [])
        assert "there and nowhere else" in leftovers[0]["kept"]
        assert "fly ssh console --app workers" in leftovers[0]["hint"]
        patch = await bench.outpost.worker(handle).diff(())
        assert b"precious" in (patch or b"")


@pytest.mark.parametrize("volume_gb", [None, 3])
async def test_files_outlive_a_stop_on_the_root_file_system_and_on_a_volume(
    fly: FlyWorld, volume_gb: int | None
) -> None:
    async with fly.bench(fly.outpost(idle_exit="1s", volume_gb=volume_gb)) as bench:
        handle = await bench.spawn("echo words > words.txt")
        log = await bench.log(handle)
        machine = fly.until_state(handle.worker_id, "stopped")
        assert bool(machine.config.get("mounts")) is (volume_gb is not None)
        elsewhere = fly.outpost(home="another-home", volume_gb=volume_gb)
        copy_secret(fly.world.folder / "home", fly.world.folder / "another-home")
        again = [it async for it in elsewhere.worker(handle).events()]
        assert again == log, "read from the machine, which was started for that"
        await bench.outpost.destroy(handle)
        assert not fly.volumes()


async def test_a_volume_in_a_region_without_room_is_given_back(fly: FlyWorld) -> None:
    fly.fly.faults.no_capacity.add("iad")
    async with fly.bench(fly.outpost(region=["iad", "fra"], volume_gb=1)) as bench:
        handle = await bench.spawn("true")
        assert [it["region"] for it in fly.volumes()] == ["fra"]
        await bench.log(handle)


async def test_a_volume_that_no_start_came_for_is_swept_and_no_other(fly: FlyWorld) -> None:
    outpost = fly.outpost(volume_gb=1)
    ours = Owner(federation_id=FEDERATION, outpost=NAME).prefix
    async with fly.bench(outpost) as bench:
        handle = await bench.spawn(HOLD)
        with old(fly):
            fly.make_volume(f"{ours}left")
            fly.make_volume("somebodys")
        fly.make_volume(f"{ours}young")
        await tended(outpost, [handle], lambda: len(fly.volumes()) == 3)
        names = {it["name"] for it in fly.volumes() if not it["attached_machine_id"]}
        assert names == {"somebodys", f"{ours}young"}


async def test_an_old_machine_is_told_to_save_its_work_and_goes(fly: FlyWorld) -> None:
    outpost = fly.outpost()
    async with fly.bench(outpost) as bench:
        order = bench.order("echo words > words.txt; echo begun; sleep 60")
        with old(fly):
            handle = await bench.start(order)
            await bench.wait_for_line(handle, "begun")
            await outpost.tend([Tended(handle=handle)])
            assert fly.machine(handle.worker_id).state == "started", "by Fly's clock it is young"
        await tended(outpost, [handle], lambda: fly.machine(handle.worker_id).state != "started")
        fly.until_state(handle.worker_id, "stopped")
        # Whoever follows ends with the machine; the rest is read by whoever starts it for that.
        log = [it async for it in outpost.worker(handle).events()]
        assert log[-1].fields["evicted"] is True
        assert fly.world.remote.show(order["branch"], "words.txt") == "words"
        await outpost.tend([Tended(handle=handle)])
        fly.until_state(handle.worker_id, "stopped")
        await stopped(outpost, handle)
        assert fly.machines(handle.worker_id), "nobody knows yet that it has ended"
        await tended(outpost, [], lambda: not fly.machines(handle.worker_id))


async def test_an_old_machine_with_unsaved_work_stays(fly: FlyWorld) -> None:
    outpost = fly.outpost(idle_exit="1s")
    async with fly.bench(outpost) as bench:
        fly.world.remote.reject_pushes("no pushes today")
        with old(fly):
            handle = await bench.spawn("echo precious > words.txt")
            await bench.log(handle)
        fly.until_state(handle.worker_id, "stopped")
        await tended(outpost, [], lambda: fly.asked("POST", "/start") == 1)
        fly.until_state(handle.worker_id, "stopped")
        await stopped(outpost, handle)
        await outpost.tend([])
        assert fly.asked("POST", "/start") == 1, "it is not started again each time"
        assert fly.machine(handle.worker_id).state == "stopped"


async def test_a_machine_stops_after_its_work_though_it_is_looked_at(fly: FlyWorld) -> None:
    outpost = fly.outpost(idle_exit="2s")
    async with fly.bench(outpost) as bench:
        handle = await bench.spawn("true")
        await bench.log(handle)
        async with asyncio.timeout(20):
            while fly.machine(handle.worker_id).state != "stopped":
                assert [it.handle async for it in outpost.workers()] == [handle]
                await asyncio.sleep(0.3)


async def test_an_old_machine_is_stopped_whose_worker_nobody_counts_on(fly: FlyWorld) -> None:
    outpost = fly.outpost()
    async with fly.bench(outpost) as bench:
        with old(fly):
            handle = await started(bench)
        fly.fly.faults.storm("stop", 500, 60)
        with pytest.raises(OutpostFault, match="stop"):
            await tended(outpost, [], lambda: False)
        fly.fly.faults.storm("stop", 0, 0)
        await tended(outpost, [], lambda: fly.machine(handle.worker_id).state == "stopped")
        stops = fly.asked("POST", "/stop")
        assert await outpost.worker(handle).unsaved() == "", "it is started for that"
        await outpost.tend([])
        assert (fly.machine(handle.worker_id).state, fly.asked("POST", "/stop")) == (
            "started",
            stops,
        )


async def test_look_after_many_workers_takes_one_list_a_second(fly: FlyWorld) -> None:
    outpost = fly.outpost()
    async with fly.bench(outpost) as bench:
        handles = await asyncio.gather(*(bench.spawn(HOLD) for _ in range(4)))
        before = fly.asked("GET", "/machines")
        for _ in range(5):
            looks = [outpost.worker(it).status() for it in handles]
            seen = {it.liveness for it in await asyncio.gather(*looks)}
            assert seen == {Liveness.ALIVE}
        assert fly.asked("GET", "/machines") - before <= 2


@pytest.mark.parametrize("warm_state", ["stopped", "suspended"])
async def test_a_worker_is_billed_for_what_fly_meters(fly: FlyWorld, warm_state: str) -> None:
    """Its machine runs on for a while after its work; one that waited is nobody's until then."""
    outpost = fly.outpost(idle_exit="2s", warm=1, warm_state=warm_state)
    async with fly.bench(outpost) as bench:
        await tended(outpost, [], lambda: [it.state for it in fly.fly.machines()] == [warm_state])
        machine_id = fly.fly.machines()[0].id
        before_s = fly.fly.metered_s()[machine_id]
        handle = await started(bench)
        running = await outpost.metered(handle)
        assert running
        assert not running.final
        await outpost.worker(handle).stop(grace_s=1, reason="enough")
        fly.until_state(handle.worker_id, "stopped")
        billed = await outpost.metered(handle)
        assert billed
        assert billed.final
        assert billed.seconds > 2
        metered_s = fly.fly.metered_s()[machine_id] - before_s
        assert billed.seconds == pytest.approx(metered_s, abs=0.005)
        await bench.outpost.destroy(handle)
        gone = await outpost.metered(handle)
        assert gone is None or gone == billed


async def started(bench: Bench) -> Handle:
    """Start a worker and wait until its agent works."""
    handle = await bench.spawn(HOLD)
    await bench.wait_for_line(handle, "begun")
    return handle


async def tended(outpost: FlyOutpost, handles: Sequence[Handle], look: Callable[[], bool]) -> None:
    """Tend an outpost again and again until that has shown."""
    async with asyncio.timeout(20):
        while not look():
            await outpost.tend([Tended(handle=it) for it in handles])
            await asyncio.sleep(0.1)


async def stopped(outpost: FlyOutpost, handle: Handle) -> None:
    """Wait until the outpost itself knows that a machine has stopped."""
    async with asyncio.timeout(20):
        while (await outpost.look(handle.worker_id))[0].state != "stopped":
            await asyncio.sleep(0.1)


def copy_secret(home: Path, other: Path) -> None:
    """Have another home of the same federation, which has read nothing yet."""
    other.mkdir()
    (other / "serve.secret").write_bytes((home / "serve.secret").read_bytes())


def _order(worker_id: str) -> TidyOrder:
    return {
        "kinds": [],
        "dry_run": True,
        "workers": [worker_id],
        "orphans": [],
        "grace_s": 0.0,
        "cache_idle_s": 0.0,
    }

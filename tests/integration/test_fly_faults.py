"""What Fly does to its users: refusals, answers that are lost, lists that lag, machines that go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from outpost.backends import fly_ending, fly_starting
from outpost.backends.fly import FlyOutpost
from outpost.errors import (
    Ambiguous,
    NoCapacity,
    NotDispatched,
    OutpostFault,
    RateLimited,
    Rejected,
)
from outpost.model import Handle, Liveness
from outpost.testing import Bench
from outpost.testing.bench import lines
from outpost.transports import fly_sight
from outpost.transports.fly_machines import FlyMachines
from tests.doubles.fly import Rates
from tests.fly_world import UNLIMITED, FlyWorld, closing, fly_world
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

IMAGE = "registry.fly.io/workers:worker"
HOLD = "echo begun; sleep 60"
WORK = "echo words > words.txt"


@pytest.fixture
async def fly(world: World) -> AsyncIterator[FlyWorld]:
    """Return a stand-in for Fly and a home."""
    with fly_world(world) as made:
        async with closing(made):
            yield made


async def started(bench: Bench, script: str = HOLD) -> Handle:
    """Start a worker and wait until its agent works."""
    handle = await bench.spawn(script)
    await bench.wait_for_line(handle, "begun")
    return handle


async def outcome(bench: Bench, handle: Handle) -> str:
    """Return how a worker's work ended."""
    return str((await bench.log(handle))[-1].fields["outcome"])


async def seen(outpost: FlyOutpost, handle: Handle) -> Liveness:
    return (await outpost.worker(handle).status()).liveness


async def test_a_short_storm_of_429_is_sat_out(fly: FlyWorld) -> None:
    async with fly.bench(fly.outpost()) as bench:
        fly.fly.faults.storm("create", 429, 1.5)
        handle = await bench.spawn(WORK)
        assert await outcome(bench, handle) == "done"
    # Retry-After says one second each time, so nobody asks more often than that.
    assert fly.asked("POST", "/machines") <= 4


async def test_a_long_storm_of_429_is_told_with_how_long_to_wait(fly: FlyWorld) -> None:
    fly.fly.faults.storm("create", 429, 60)
    fly.fly.faults.retry_after_s = 60
    async with fly.bench(fly.outpost()) as bench:
        with pytest.raises(RateLimited) as caught:
            await bench.outpost.spawn(bench.order(WORK), fly.environment)
    assert caught.value.retry_after_s == 60
    assert fly.asked("POST", "/machines") == 1


async def test_the_rate_that_fly_allows_is_kept(fly: FlyWorld) -> None:
    """Seven at once: three go at once, then one each second, and Fly never has to say no."""
    fly.fly.limits.rates = Rates()
    async with fly.bench(fly.outpost(requests_per_s=1.0)) as bench:
        began = time.monotonic()
        await asyncio.gather(*(bench.spawn(HOLD) for _ in range(7)))
        took_s = time.monotonic() - began
        assert not [it for it in fly.fly.requests() if it[2] == 429]
        fly.fly.limits.rates = None
    assert took_s >= 3.9


@pytest.mark.parametrize("fault", [500, 503, 408, "deadline", "cut", "lost"])
async def test_a_create_without_an_answer_makes_one_machine(
    fly: FlyWorld, fault: int | str
) -> None:
    async with fly.bench(fly.outpost()) as bench:
        fly.fly.faults.next("create", fault)
        handle = await bench.spawn(WORK)
        assert len(fly.fly.machines()) == 1
        assert fly.machine(handle.worker_id).id == handle.data["machine"]
        assert await outcome(bench, handle) == "done"


async def test_where_no_answer_comes_at_all_the_start_is_doubtful_and_found(
    fly: FlyWorld,
) -> None:
    async with fly.bench(fly.outpost()) as bench:
        order = bench.order(WORK)
        fly.fly.faults.storm("create", "lost", 60)
        with pytest.raises(Ambiguous):
            await bench.outpost.spawn(order, fly.environment)
        fly.fly.faults.storm("create", 0, 0)
        assert await fly.outpost().find(order["worker_id"])
        handle = await bench.start(order)
        assert await outcome(bench, handle) == "done"
        assert len(fly.fly.machines()) == 1


async def test_nothing_is_started_where_nothing_was_answered_by_anybody(fly: FlyWorld) -> None:
    async with fly.bench(fly.outpost()) as bench:
        fly.fly.faults.storm("create", "capacity", 60)
        with pytest.raises(NoCapacity) as caught:
            await bench.outpost.spawn(bench.order(WORK), fly.environment)
    assert caught.value.scope == "iad"
    assert not fly.fly.machines()


async def test_a_region_without_room_is_passed_over(fly: FlyWorld) -> None:
    fly.fly.faults.no_capacity.add("iad")
    async with fly.bench(fly.outpost(region=["iad", "fra"])) as bench:
        handle = await bench.spawn(WORK)
        assert fly.machine(handle.worker_id).region == "fra"
        assert await outcome(bench, handle) == "done"
        fly.fly.faults.no_capacity.add("fra")
        with pytest.raises(NoCapacity, match="no room in iad, fra") as caught:
            await bench.outpost.spawn(bench.order(WORK), fly.environment)
    assert caught.value.scope == ""


async def test_a_quota_is_told_from_a_full_region(fly: FlyWorld) -> None:
    fly.fly.limits.max_machines = 1
    async with fly.bench(fly.outpost(region=["iad", "fra"])) as bench:
        await bench.spawn(HOLD)
        with pytest.raises(NoCapacity, match="quota") as caught:
            await bench.outpost.spawn(bench.order(WORK), fly.environment)
    assert "ask Fly for more" in caught.value.hint
    refused = [path for _, path, status in fly.fly.requests() if status == 403]
    assert len(refused) == 1, "another region has no more of it"


async def test_a_strangers_machine_with_our_name_is_left_alone(fly: FlyWorld) -> None:
    stranger = FlyMachines(fly.fly.api_url, fly.fly.app, lambda: fly.fly.token, per_s=UNLIMITED)
    async with fly.bench(fly.outpost()) as bench:
        order = bench.order(WORK)
        other = await stranger.create(order["worker_id"], "iad", {"image": IMAGE}, launch=False)
        with pytest.raises(Rejected, match="that is not ours") as caught:
            await bench.outpost.spawn(order, fly.environment)
        assert other.id in caught.value.hint
        assert await bench.outpost.find(order["worker_id"]) is None
    await stranger.close()
    assert [it.id for it in fly.fly.machines()] == [other.id]


async def test_a_machine_that_stays_created_is_taken_away(
    fly: FlyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fly_starting, "BOOT_S", 2.0)
    monkeypatch.setattr(fly_starting, "WAIT_S", 1.0)
    fly.fly.faults.stuck.add("created")
    async with fly.bench(fly.outpost()) as bench:
        with pytest.raises(NotDispatched, match="did not start: it is created"):
            await bench.outpost.spawn(bench.order(WORK), fly.environment)
        assert not fly.fly.machines()


@pytest.mark.parametrize("blind", ["get", "delete"])
async def test_what_was_made_and_cannot_be_seen_to_run_or_go_is_doubtful(
    fly: FlyWorld, monkeypatch: pytest.MonkeyPatch, blind: str
) -> None:
    """Work must not begin elsewhere while a machine may still come up."""
    monkeypatch.setattr(fly_starting, "BOOT_S", 1.0)
    monkeypatch.setattr(fly_starting, "WAIT_S", 1.0)
    monkeypatch.setattr(fly_ending, "REMOVE_S", 1.0)
    fly.fly.faults.stuck.add("created")
    async with fly.bench(fly.outpost()) as bench:
        order = bench.order(WORK)
        fly.fly.faults.storm(blind, 500, 60)
        with pytest.raises(Ambiguous):
            await bench.outpost.spawn(order, fly.environment)
        fly.fly.faults.storm(blind, 0, 0)
        fly.fly.faults.stuck.clear()
        handle = await bench.start(order)
        assert await outcome(bench, handle) == "done"
        assert len(fly.fly.machines()) == 1


async def test_an_image_that_does_not_start_leaves_nothing(
    fly: FlyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fly_starting, "WAIT_S", 1.0)
    fly.fly.faults.no_launch.add(IMAGE)
    async with fly.bench(fly.outpost()) as bench:
        with pytest.raises(NotDispatched, match="did not start: it failed") as caught:
            await bench.outpost.spawn(bench.order(WORK), fly.environment)
        assert "fly logs" in caught.value.hint
        assert not fly.fly.machines()


async def test_a_slow_boot_is_waited_for(fly: FlyWorld) -> None:
    fly.fly.limits.boot_s = 2.0
    fly.fly.faults.boot_delay_s = 1.0
    async with fly.bench(fly.outpost()) as bench:
        handle = await bench.spawn(WORK)
        assert await outcome(bench, handle) == "done"


async def test_what_fails_while_it_is_waited_for_costs_no_start(fly: FlyWorld) -> None:
    fly.fly.limits.boot_s = 2.0
    fly.fly.faults.next("wait", 503, "cut", 429)
    async with fly.bench(fly.outpost()) as bench:
        handle = await bench.spawn(WORK)
        assert await outcome(bench, handle) == "done"
        assert len(fly.fly.machines()) == 1


@pytest.mark.parametrize("token", ["FlyV1 one\nhunter2", "FlyV1 hunt\u00e9r2"])
async def test_a_token_that_no_header_can_hold_is_shown_to_nobody(
    fly: FlyWorld, token: str
) -> None:
    path = fly.world.folder / "token"
    path.write_text(token)
    health = await fly.outpost(token=f"file://{path}").ping()
    assert not health.ok
    assert "no HTTP header can" in health.detail
    assert "hunt" not in f"{health}"


async def test_a_list_that_lags_hides_and_resurrects_nobody(fly: FlyWorld) -> None:
    fly.fly.faults.list_lag_s = 1.5
    async with fly.bench(fly.outpost()) as bench:
        handle = await started(bench)
        assert await seen(fly.outpost(), handle) is Liveness.ALIVE
        assert await fly.outpost().find(handle.worker_id), "looked for before it was in a list"
        assert handle.worker_id in await bench.seen()
        await bench.outpost.destroy(handle)
        assert (await bench.outpost.worker(handle).status()).liveness is Liveness.ABSENT
        assert await seen(fly.outpost(), handle) is Liveness.ABSENT
        assert handle.worker_id not in await bench.seen()


async def test_deletes_that_fail_are_tried_again(fly: FlyWorld) -> None:
    async with fly.bench(fly.outpost()) as bench:
        handle = await started(bench)
        fly.fly.faults.next("delete", *[500, 503, 429] * 3)
        await bench.outpost.destroy(handle)
        assert not fly.fly.machines()


async def test_a_machine_that_will_not_go_is_told_of(
    fly: FlyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fly_ending, "REMOVE_S", 2.0)
    async with fly.bench(fly.outpost()) as bench:
        handle = await started(bench)
        fly.fly.faults.storm("delete", 503, 60)
        with pytest.raises(OutpostFault, match="is still there") as caught:
            await bench.outpost.destroy(handle)
        machine = fly.machine(handle.worker_id)
        assert caught.value.hint == f"fly machine destroy --force {machine.id} --app workers"
        assert handle.worker_id in await bench.seen(), "what could not be destroyed is shown"
        fly.fly.faults.storm("delete", 0, 0)
        await bench.outpost.destroy(handle)


async def test_a_machine_that_stays_destroying_is_neither_alive_nor_gone(
    fly: FlyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fly_ending, "REMOVE_S", 2.0)
    async with fly.bench(fly.outpost()) as bench:
        handle = await started(bench)
        fly.fly.faults.stuck.add("destroying")
        with pytest.raises(OutpostFault, match="is still there"):
            await bench.outpost.destroy(handle)
        status = await fly.outpost().worker(handle).status()
        assert (status.liveness, status.detail) == (Liveness.UNSEEN, "it is destroying")
        fly.fly.faults.stuck.clear()
        await bench.outpost.destroy(handle)
        assert await seen(fly.outpost(), handle) is Liveness.ABSENT


async def test_a_machine_that_vanishes_is_absent(fly: FlyWorld) -> None:
    async with fly.bench(fly.outpost()) as bench:
        handle = await started(bench)
        events = bench.outpost.worker(handle).events(follow=True)
        async with contextlib.aclosing(events):
            async for event in events:
                assert event.type != "result"
                if "begun" in lines([event]):
                    fly.fly.vanish(fly.machine(handle.worker_id).id)
        assert await seen(fly.outpost(), handle) is Liveness.ABSENT


async def test_a_host_out_of_reach_is_not_the_end_of_its_worker(fly: FlyWorld) -> None:
    async with fly.bench(fly.outpost()) as bench:
        handle = await started(bench)
        machine_id = fly.machine(handle.worker_id).id
        fly.fly.faults.unreachable.add(machine_id)
        status = await fly.outpost().worker(handle).status()
        assert (status.liveness, status.detail) == (Liveness.UNSEEN, "Fly cannot reach its host")
        fly.fly.faults.unreachable.clear()
        assert await seen(fly.outpost(), handle) is Liveness.ALIVE


async def test_a_token_that_is_revoked_hides_workers_and_kills_none(fly: FlyWorld) -> None:
    async with fly.bench(fly.outpost()) as bench:
        handle = await started(bench)
        fly.fly.faults.revoked = True
        health = await bench.outpost.ping()
        assert not health.ok
        assert "fly tokens create deploy --app workers" in health.hint
        assert await seen(fly.outpost(), handle) is Liveness.UNSEEN
        with pytest.raises(Rejected, match="token"):
            await bench.outpost.spawn(bench.order(WORK), fly.environment)
        fly.fly.faults.revoked = False
        assert await seen(fly.outpost(), handle) is Liveness.ALIVE


async def test_how_a_machine_ended_is_said(fly: FlyWorld) -> None:
    async with fly.bench(fly.outpost()) as bench:
        handle = await started(bench)
        assert (await bench.outpost.worker(handle).status()).liveness is Liveness.ALIVE
        fly.fly.oom(fly.machine(handle.worker_id).id)
        fly.until_state(handle.worker_id, "stopped")
        status = await fly.outpost().worker(handle).status()
        assert (status.liveness, status.detail) == (
            Liveness.DEAD,
            "it ran out of memory (limit 2g)",
        )
        # One that another process has started again meanwhile, too, whatever is remembered here.
        assert await fly.outpost().worker(handle).recover(fly.environment)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fly_sight, "FRESH_S", 60.0)
            again = await bench.outpost.worker(handle).status()
        assert again == status
        other = await started(bench)
        fly.fly.kill(fly.machine(other.worker_id).id)
        fly.until_state(other.worker_id, "stopped")
        status = await fly.outpost().worker(other).status()
        assert (status.liveness, status.detail) == (Liveness.DEAD, "it exited with 137")

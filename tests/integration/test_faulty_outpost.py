"""The outpost that fails on demand: what its faults do to callers, and that workers go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outpost.control.environment import worker_environment
from outpost.errors import NotDispatched, OutpostFault
from outpost.model import Handle, Liveness
from outpost.ports import Outpost, Setup, Worker
from outpost.testing import CHECKS, Bench, BenchOptions, Outcome, run_check
from outpost.testing.faulty import FaultFile, FaultyOptions, FaultyOutpost
from outpost.wire.events import Event
from tests.world import World, remove_tmux_socket, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

COUNT = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; sleep 0.1; done"
HOUR_S = 3600.0


@dataclass
class Box:
    """A faulty outpost on a bench, and its file of faults."""

    bench: Bench
    faults: FaultFile

    @property
    def outpost(self) -> Outpost:
        return self.bench.outpost


@pytest.fixture
async def box(world: World) -> AsyncIterator[Box]:
    """Return an outpost without faults as yet; ``cut`` is what it is while it is cut off."""

    def maker(faults: str) -> Callable[[str], Outpost]:
        def make(federation_id: str) -> Outpost:
            setup = Setup(
                name="box",
                federation_id=federation_id,
                data_folder=str(world.home),
                environment=world.environment,
            )
            path = str(world.folder / faults)
            return FaultyOutpost(setup, FaultyOptions(faults=path, min_free_mib=0))

        return make

    world.homes.add(world.home)
    FaultFile(world.folder / "cut.json").write(partition="the cable is cut")
    options = BenchOptions(
        make=maker("box.json"),
        make_unreachable=maker("cut.json"),
        repo_url=world.remote.url,
        environment=worker_environment(world.environment, agent_variables=(), extra=()),
    )
    box = Box(Bench(options), FaultFile(world.folder / "box.json"))
    yield box
    box.faults.write()
    assert await box.bench.clear() == []
    remove_tmux_socket(box.bench.federation_id)


async def read(worker: Worker) -> list[Event]:
    return [event async for event in worker.events()]


async def complaint(call: Callable[[], Awaitable[object]]) -> str:
    """Return what a call complains of, empty if it does not."""
    try:
        await call()
    except OutpostFault as exc:
        return exc.message
    return ""


async def test_cut_off_it_keeps_the_contract_of_what_cannot_be_seen(box: Box) -> None:
    (check,) = [it for it in CHECKS if it.name == "what_cannot_be_seen_is_not_dead"]
    result = await run_check(box.bench, check)
    assert result.outcome is Outcome.PASSED, result


async def test_a_partition_stops_every_call_and_no_worker(box: Box) -> None:
    handle = await box.bench.spawn(COUNT)
    await box.bench.wait_for_line(handle, "1")
    worker, outpost = box.outpost.worker(handle), box.outpost
    followed: list[int] = []

    async def follow() -> None:
        async for event in worker.events(follow=True):
            followed.append(event.seq)

    following = asyncio.create_task(follow())
    await box.bench.wait_for_line(handle, "3")
    before = len(await read(worker))
    box.faults.change(partition="the cable is cut")
    with pytest.raises(OutpostFault, match="the cable is cut"):
        await following
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "find": lambda: outpost.find(handle.worker_id),
        "destroy": lambda: outpost.destroy(handle),
        "events": lambda: read(worker),
        "send": lambda: worker.send({"type": "text", "text": "hello", "message_id": "m-1"}),
        "stop": lambda: worker.stop(grace_s=1, reason="asked"),
        "unsaved": worker.unsaved,
        "attach": worker.attach,
        "diff": lambda: worker.diff([]),
        "recover": lambda: worker.recover(box.bench.options.environment),
        "workers": box.bench.seen,
    }
    told = {name: await complaint(call) for name, call in calls.items()}
    assert [name for name, text in told.items() if "the cable is cut" not in text] == []
    assert (await worker.status()).liveness is Liveness.UNSEEN
    assert not (await outpost.ping()).ok
    with pytest.raises(NotDispatched, match="the cable is cut"):
        await box.bench.spawn("true")
    box.faults.write()
    assert (await worker.status()).liveness is Liveness.ALIVE
    while len(later := await read(worker)) <= before:
        await asyncio.sleep(0.05)
    assert [event.seq for event in later] == list(range(1, len(later) + 1))
    assert {handle.worker_id} == set(await box.bench.seen()), "nothing was started meanwhile"


async def test_a_partition_ends_by_itself_and_uses_no_fault_up(box: Box) -> None:
    began = time.monotonic()
    box.faults.write(find=["none"], partition_until=began + 0.5)
    handle = await box.bench.until(lambda: reached(box), "the end of the partition")
    assert time.monotonic() >= began + 0.5
    assert handle == "none", "the call that got through was the first to use a fault"
    calls = [call["fault"] for call in box.faults.calls("find")]
    assert set(calls[:-1]) == {"partition:cut off for a while"}


async def reached(box: Box) -> str:
    try:
        await box.outpost.find("w-nobody")
    except OutpostFault:
        return ""
    return str(box.faults.calls("find")[-1]["fault"])


async def test_a_lost_delete_says_that_it_is_done(box: Box) -> None:
    handle = await box.bench.spawn("sleep 60")
    box.faults.write(destroy=["lost"])
    await box.outpost.destroy(handle)
    assert await box.outpost.find(handle.worker_id) == handle
    await box.outpost.destroy(handle)
    assert await box.outpost.find(handle.worker_id) is None


async def test_a_lagging_list_shows_a_worker_later(box: Box) -> None:
    box.faults.write(list_lags=1.5)
    began = time.monotonic()
    handle = await box.bench.spawn("sleep 60")
    assert await box.bench.seen() == {}
    assert await box.outpost.find(handle.worker_id) == handle, "only the list lags"
    await box.bench.start(box.bench.order("sleep 60", worker_id=handle.worker_id))

    async def shown() -> bool:
        return handle.worker_id in await box.bench.seen()

    await box.bench.until(shown, "the worker in the list")
    assert time.monotonic() - began >= 1.5


async def test_a_clock_that_is_ahead_dates_events(box: Box) -> None:
    box.faults.write(clock_skew_s=HOUR_S)
    order = box.bench.order("true")
    order["asked_at"] = time.time()
    handle = await box.bench.start(order)
    ahead = await box.bench.log(handle)
    first = datetime.fromisoformat(ahead[0].time) - datetime.now(UTC)
    assert HOUR_S - 60 < first.total_seconds() < HOUR_S + 60
    written = until(lambda: _order_of(handle), "the order")
    assert "asked_at" not in written, "no instant of another clock may mean anything there"
    box.faults.write()
    true = await box.bench.log(handle)
    assert [(it.seq, it.type, it.end) for it in true] == [(it.seq, it.type, it.end) for it in ahead]


async def test_a_change_leaves_the_other_faults(box: Box) -> None:
    box.faults.write(ping="down", delay_s=0.1)
    box.faults.change(ping=None, find=["none"])
    assert (await box.outpost.ping()).ok
    assert box.faults.seconds("delay_s") == 0.1
    handle = await box.bench.spawn("true")
    assert await box.outpost.find(handle.worker_id) is None
    assert await box.outpost.find(handle.worker_id) == handle


def _order_of(handle: Handle) -> str:
    return (Path(handle.data["directory"]) / "order.json").read_text()

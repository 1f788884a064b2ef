"""An open request through everything that happens to one, with a real server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from outpost.control.environment import worker_environment
from outpost.errors import NoCapacity, NotOurs, OutpostFault, Rejected
from outpost.model import Handle, Liveness
from outpost.ports import Setup
from outpost.testing import Bench, BenchOptions
from outpost.testing.bench import lines
from outpost.transports.http_link import LinkTerms
from outpost.wire.events import Event
from outpost.wire.tidying import TidyOrder
from tests.doubles.held_server import TERMS, TOKEN, HeldServer, Server
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

COUNT = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; sleep 0.02; done"
COUNTED = [f"line {number}" for number in range(1, 201)]
QUICK = replace(TERMS, lease_s=2.0, silent_s=3.0, patience_s=2.0)


@dataclass
class Cloud:
    """One server, and outposts that hold its workers."""

    world: World
    server: Server
    made: list[HeldServer]

    def outpost(self, terms: LinkTerms = TERMS, token: str = TOKEN) -> HeldServer:
        setup = Setup(
            name="cloud",
            federation_id="f-1",
            data_folder=str(self.world.folder / "data"),
            environment=self.world.environment,
        )
        self.made.append(HeldServer(setup, self.server, token=token, terms=terms))
        return self.made[-1]

    async def spawn(self, outpost: HeldServer, script: str) -> Handle:
        environment = worker_environment(self.world.environment, agent_variables=(), extra=())
        options = BenchOptions(
            make=lambda _: outpost, repo_url=self.world.remote.url, environment=environment
        )
        order = Bench(options).order(script, federation_id=outpost.federation_id)
        return await outpost.spawn(order, environment)


@pytest.fixture
async def cloud(world: World) -> AsyncIterator[Cloud]:
    server = Server(world.folder / "instance", world.environment, "--max-workers", "50")
    cloud = Cloud(world, server, [])
    server.start()
    try:
        yield cloud
    finally:
        for outpost in cloud.made:
            await outpost.close()
        server.end()


async def followed(outpost: HeldServer, handle: Handle) -> list[Event]:
    async with asyncio.timeout(60):
        return [event async for event in outpost.worker(handle).events(follow=True)]


def whole(events: list[Event]) -> bool:
    seqs = [event.seq for event in events]
    return seqs == list(range(1, len(seqs) + 1)) and events[-1].type == "result"


async def until_line(outpost: HeldServer, handle: Handle, text: str) -> None:
    async with (
        asyncio.timeout(20),
        contextlib.aclosing(outpost.worker(handle).events(follow=True)) as events,
    ):
        async for event in events:
            if text in lines([event]):
                return


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.05)


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_log_is_whole_though_its_server_dies_again_and_again(cloud: Cloud) -> None:
    outpost = cloud.outpost()
    handle = await cloud.spawn(outpost, COUNT)
    following = asyncio.create_task(followed(outpost, handle))
    for _ in range(3):
        await asyncio.sleep(0.7)
        assert cloud.server.process
        # Workers are no children of it: they go on.
        cloud.server.process.kill()
        cloud.server.process.wait()
        cloud.server.start()
    events = await following
    assert whole(events)
    assert lines(events) == COUNTED


async def test_requests_are_renewed_before_the_platform_ends_them(cloud: Cloud) -> None:
    outpost = cloud.outpost(replace(TERMS, request_s=1.0))
    handle = await cloud.spawn(outpost, COUNT)
    events = await followed(outpost, handle)
    assert whole(events)
    assert lines(events) == COUNTED
    link = outpost.link_of(handle.worker_id)
    assert link is not None
    assert link.requests >= 3


async def test_a_controller_that_comes_back_takes_its_workers_up(cloud: Cloud) -> None:
    before = cloud.outpost()
    handle = await cloud.spawn(before, COUNT)
    await until_line(before, handle, "line 20")
    await before.close()
    after = cloud.outpost()
    status = await after.worker(handle).status()
    assert status.liveness is Liveness.UNSEEN
    assert "no controller" in status.detail
    events = await followed(after, handle)
    assert whole(events)
    assert lines(events) == COUNTED
    assert (await after.worker(handle).status()).liveness is Liveness.DEAD


async def test_others_read_and_write_through_whoever_holds(cloud: Cloud) -> None:
    holder, other = cloud.outpost(), cloud.outpost()
    handle = await cloud.spawn(holder, "echo begun; sleep 60")
    following = asyncio.create_task(followed(other, handle))
    await until_line(other, handle, "begun")
    assert (await other.worker(handle).status()).liveness is Liveness.ALIVE
    with pytest.raises(OutpostFault, match="only by the controller"):
        await other.worker(handle).diff(())
    await other.worker(handle).send({"type": "text", "text": "hello", "message_id": "m-1"})
    await other.worker(handle).stop(grace_s=2.0, reason="by another process")
    events = await following
    assert whole(events)
    assert events[-1].fields["reason"] == "by another process"
    assert [it.fields["message_id"] for it in events if it.type == "message"] == ["m-1"]


async def test_a_warm_instance_takes_the_next_worker_over_the_same_request(cloud: Cloud) -> None:
    outpost = cloud.outpost()
    first = await cloud.spawn(outpost, "echo one")
    assert lines(await followed(outpost, first)) == ["one"]
    link = outpost.link_of(first.worker_id)
    assert link is not None
    await until(lambda: link.is_warm(0))
    second = await cloud.spawn(outpost, "echo two")
    assert outpost.link_of(second.worker_id) is link
    assert outpost.link_of(first.worker_id) is None
    assert lines(await followed(outpost, second)) == ["two"]
    assert lines(await followed(outpost, first)) == ["one"]
    assert link.requests == 1
    # Kept for as long as it is to be, and no longer.
    await until(lambda: not link.connected)


async def test_an_instance_that_is_gone_is_given_up_once_its_lease_is_over(cloud: Cloud) -> None:
    outpost = cloud.outpost(QUICK)
    handle = await cloud.spawn(outpost, "echo begun; sleep 60")
    await until_line(outpost, handle, "begun")
    cloud.server.end()
    worker = outpost.worker(handle)
    seen: list[Liveness] = []

    async def gone() -> None:
        async with asyncio.timeout(20):
            while not seen or seen[-1] is not Liveness.DEAD:
                seen.append((await worker.status()).liveness)
                await asyncio.sleep(0.05)

    await gone()
    assert Liveness.UNSEEN in seen, "cannot see is not dead"
    assert "gone" in (await worker.status()).detail
    events = await followed(outpost, handle)
    assert lines(events) == ["begun"]
    assert await worker.recover({"agent": {}, "git": {}}) is False
    assert await worker.unsaved() == ""
    assert (await cloud.outpost().worker(handle).status()).liveness is Liveness.DEAD


async def test_an_instance_that_says_nothing_is_not_waited_for(cloud: Cloud) -> None:
    outpost = cloud.outpost(replace(QUICK, silent_s=1.0, lease_s=30.0))
    handle = await cloud.spawn(outpost, "echo begun; sleep 60")
    await until_line(outpost, handle, "begun")
    assert cloud.server.process
    link = outpost.link_of(handle.worker_id)
    assert link is not None
    with frozen(cloud.server.process.pid):
        await until(lambda: not link.connected)
        assert (await outpost.worker(handle).status()).liveness is Liveness.UNSEEN
    await until(lambda: link.connected)
    assert (await outpost.worker(handle).status()).liveness is Liveness.ALIVE


async def test_a_worker_on_another_machine_is_left_alone(cloud: Cloud) -> None:
    outpost = cloud.outpost()
    handle = await cloud.spawn(outpost, "true")
    with pytest.raises(NotOurs, match="another machine"):
        outpost.worker(replace(handle, data={"machine": "another"}))


async def test_refusals_say_what_may_happen_next(world: World) -> None:
    server = Server(world.folder / "instance", world.environment, "--max-workers", "1")
    cloud = Cloud(world, server, [])
    server.start()
    try:
        outpost = cloud.outpost()
        await cloud.spawn(outpost, "sleep 60")
        with pytest.raises(NoCapacity, match="no room"):
            await cloud.spawn(outpost, "true")
        with pytest.raises(Rejected, match="refuses"):
            await cloud.spawn(cloud.outpost(token="wrong"), "true")
        assert len([it async for it in outpost.workers()]) == 1
    finally:
        for it in cloud.made:
            await it.close()
        server.end()


async def test_what_is_known_of_the_ended_is_tidied_up_and_of_nobody_else(cloud: Cloud) -> None:
    outpost = cloud.outpost()
    ended = await cloud.spawn(outpost, "true")
    await followed(outpost, ended)
    running = await cloud.spawn(outpost, "echo begun; sleep 60")
    await until_line(outpost, running, "begun")
    elsewhere = replace(ended, worker_id="w-elsewhere", data={"machine": "another"})
    order: TidyOrder = {
        "kinds": ["worker", "orphan"],
        "dry_run": True,
        "workers": [ended.worker_id, "w-elsewhere"],
        "orphans": [running.worker_id],
        "grace_s": 0,
        "cache_idle_s": 0,
    }
    handles = [ended, elsewhere]
    shown = await outpost.tidy(order, handles)
    assert [(it["kind"], it["name"], it["kept"]) for it in shown] == [
        ("worker", ended.worker_id, ""),
        ("orphan", running.worker_id, "it still runs"),
    ]
    assert (await outpost.worker(ended).status()).liveness is Liveness.DEAD
    assert await outpost.tidy({**order, "dry_run": False}, handles) == shown
    assert (await outpost.worker(ended).status()).liveness is Liveness.ABSENT
    assert (await outpost.worker(running).status()).liveness is Liveness.ALIVE


async def test_a_start_that_is_cancelled_has_one_holder_afterwards(cloud: Cloud) -> None:
    assert cloud.server.process
    outpost = cloud.outpost()
    with frozen(cloud.server.process.pid):
        starting = asyncio.create_task(cloud.spawn(outpost, COUNT))
        await asyncio.sleep(0.5)
        starting.cancel()
        await asyncio.wait([starting])
    (worker_id,) = [it.name for it in (world_folder(cloud) / "workers").iterdir()]
    # Whether its order had arrived is for the server to say.
    handle = await outpost.find(worker_id)
    if handle is not None:
        events = await followed(outpost, handle)
        assert whole(events)
        assert lines(events) == COUNTED
    assert len([it async for it in outpost.workers()]) == (handle is not None)


async def test_a_hand_over_that_is_refused_leaves_nothing_behind(world: World) -> None:
    server = Server(world.folder / "instance", world.environment, "--max-workers", "1")
    cloud = Cloud(world, server, [])
    server.start()
    try:
        outpost, other = cloud.outpost(), cloud.outpost()
        first = await cloud.spawn(outpost, "echo one")
        await followed(outpost, first)
        link = outpost.link_of(first.worker_id)
        assert link is not None
        await until(lambda: link.is_warm(0))
        busy = await cloud.spawn(other, "echo begun; sleep 60")
        await until_line(other, busy, "begun")
        with pytest.raises(NoCapacity):
            await cloud.spawn(outpost, "echo two")
        assert link.over
        await other.worker(busy).stop(grace_s=1.0, reason="room for another")
        await followed(other, busy)
        third = await cloud.spawn(outpost, "echo three")
        assert lines(await followed(outpost, third)) == ["three"]
    finally:
        for it in cloud.made:
            await it.close()
        server.end()


async def test_what_was_said_to_a_dead_connection_is_said_again(cloud: Cloud) -> None:
    outpost = cloud.outpost(replace(TERMS, silent_s=1.0))
    handle = await cloud.spawn(outpost, "echo begun; sleep 60")
    await until_line(outpost, handle, "begun")
    assert cloud.server.process
    cloud.server.process.send_signal(signal.SIGSTOP)
    await outpost.worker(handle).send({"type": "text", "text": "hello", "message_id": "m-1"})
    await asyncio.sleep(0.5)
    # It was sent, and nobody will ever read it.
    cloud.server.process.kill()
    cloud.server.process.wait()
    cloud.server.start()
    async with asyncio.timeout(20):
        events = outpost.worker(handle).events(follow=True)
        async with contextlib.aclosing(events):
            async for event in events:
                if event.type == "message":
                    break
    assert (event.fields["message_id"], event.fields["text"]) == ("m-1", "hello")
    with (outpost.files_of(handle.worker_id).folder / "inbox.jsonl").open("a") as inbox:
        inbox.write('{"type": "te')
    await outpost.worker(handle).stop(grace_s=2.0, reason="after half a line")
    assert (await followed(outpost, handle))[-1].fields["reason"] == "after half a line"


async def test_workers_that_have_gone_are_not_remembered(cloud: Cloud) -> None:
    outpost = cloud.outpost(replace(TERMS, keep_s=0.0))
    for number in range(5):
        handle = await cloud.spawn(outpost, f"echo {number}")
        await followed(outpost, handle)
        link = outpost.link_of(handle.worker_id)
        await until(lambda link=link: link is None or link.over)  # type: ignore[misc]
        await outpost.destroy(handle)
    assert [it async for it in outpost.workers()] == []


def world_folder(cloud: Cloud) -> Path:
    return cloud.world.folder / "data" / "outposts" / "cloud"

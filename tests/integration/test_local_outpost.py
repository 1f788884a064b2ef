"""The local outpost as a backend: spawn, find, workers, destroy, attach and the log's reading."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.errors import NotDispatched, OutpostFault, Rejected
from outpost.model import Handle, Liveness
from outpost.ports import Setup
from outpost.wire.events import Event, encode, timestamp
from outpost.wire.orders import ORDER_VERSION, AgentOrder, Environment, Limits, WorkOrder
from tests.world import World, remove_tmux_socket, run, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


# Unique on this machine: processes are found by their worker's id.
W1, W2, W3, W9 = (f"w-{os.getpid()}-{number}" for number in (1, 2, 3, 9))


class Yard:
    """A local outpost without store or policy."""

    def __init__(self, world: World, federation_id: str, options: LocalOptions) -> None:
        self.world = world
        self.federation_id = federation_id
        self.outpost = LocalOutpost(
            Setup(
                name="local",
                federation_id=federation_id,
                data_folder=str(world.home),
                environment=world.environment,
            ),
            options,
        )

    @property
    def environment(self) -> Environment:
        return {"agent": dict(self.world.environment), "git": dict(self.world.environment)}

    def order(self, worker_id: str, script: str) -> WorkOrder:
        return WorkOrder(
            version=ORDER_VERSION,
            federation_id=self.federation_id,
            worker_id=worker_id,
            task_id="t-1",
            issue_id="words-1",
            repo_url=self.world.remote.url,
            base=None,
            branch=f"outpost/words-1-{worker_id}",
            title="Mend the words",
            body="",
            prompt="Mend the words.",
            agent=AgentOrder(name="command", argv=["sh", "-c", script], options={}),
            limits=Limits(time_s=None, grace_s=2.0),
            keep_workspace=True,
        )

    async def spawn(self, worker_id: str, script: str) -> Handle:
        return await self.outpost.spawn(self.order(worker_id, script), self.environment)

    async def log(self, handle: Handle, *, follow: bool = True) -> list[Event]:
        return [event async for event in self.outpost.worker(handle).events(follow=follow)]

    async def sightings(self) -> dict[str, Liveness]:
        return {s.handle.worker_id: s.liveness async for s in self.outpost.workers()}


@pytest.fixture
async def yard(world: World) -> AsyncIterator[Yard]:
    yard = Yard(world, f"test{os.getpid()}x{time.monotonic_ns() % 10**9}", LocalOptions())
    world.homes.add(world.home)
    yield yard
    async for sighting in yard.outpost.workers():
        await yard.outpost.destroy(sighting.handle)
    _end_tmux(yard)


def _end_tmux(yard: Yard) -> None:
    socket = f"outpost-{yard.federation_id}"
    run("sh", "-c", f"tmux -L {socket} kill-server || :", environment=yard.world.environment)
    remove_tmux_socket(yard.federation_id)


async def test_the_same_order_twice_runs_once(yard: Yard, world: World) -> None:
    counter = world.folder / "counter"
    script = f"echo ran >> '{counter}'; cat '{world.folder}/go'"
    os.mkfifo(world.folder / "go")
    first = await yard.spawn(W1, script)
    second = await yard.spawn(W1, script)
    assert first == second
    until(counter.exists, "the agent runs")
    assert await yard.spawn(W1, script) == first
    (world.folder / "go").write_text("go")
    events = await yard.log(first)
    assert events[-1].fields["outcome"] == "done"
    world.gone(W1)
    # Also once it has ended, and its tmux session with it.
    assert await yard.spawn(W1, script) == first
    assert await yard.log(first) == events
    assert counter.read_text() == "ran\n"


async def test_ten_spawns_of_one_order_at_once_run_once(yard: Yard, world: World) -> None:
    counter = world.folder / "counter"
    handles = await asyncio.gather(
        *(yard.spawn(W1, f"echo ran >> '{counter}'; sleep 0.5") for _ in range(10))
    )
    assert len({handle.worker_id for handle in handles}) == 1
    assert (await yard.log(handles[0]))[-1].fields["outcome"] == "done"
    assert counter.read_text() == "ran\n"


async def test_a_tmux_server_that_ends_meanwhile_takes_nobody_with_it(yard: Yard) -> None:
    for number in range(15):
        handle = await yard.spawn(f"{W1}-{number}", "true")
        assert (await yard.log(handle))[-1].fields["outcome"] == "done"


async def test_find_and_workers_tell_what_is_there(yard: Yard, world: World) -> None:
    assert await yard.sightings() == {}
    assert await yard.outpost.find(W1) is None
    os.mkfifo(world.folder / "go")
    living = await yard.spawn(W1, f"cat '{world.folder}/go'")
    ended = await yard.spawn(W2, "true")
    await yard.log(ended)
    world.gone(W2)
    world.agent_pid(W1)
    assert await yard.outpost.find(W1) == living
    assert await yard.outpost.find(W3) is None
    assert await yard.sightings() == {W1: Liveness.ALIVE, W2: Liveness.DEAD}
    (world.folder / "go").write_text("go")
    await yard.log(living)


async def test_destroy_ends_and_removes_and_may_be_repeated(yard: Yard, world: World) -> None:
    handle = await yard.spawn(W1, "setsid sleep 300 & echo busy; sleep 300")
    world.wait_for_line(W1, '"busy"')
    await yard.outpost.destroy(handle)
    world.gone(W1)
    assert not world.tree(W1).exists()
    assert await yard.outpost.find(W1) is None
    status = await yard.outpost.worker(handle).status()
    assert status.liveness is Liveness.ABSENT
    await yard.outpost.destroy(handle)


async def test_two_federations_do_not_see_each_other(
    yard: Yard, world: World, tmp_path: Path
) -> None:
    root = str(world.home / "outposts" / "local")
    other = Yard(world, yard.federation_id + "b", LocalOptions(root=root))
    mine, theirs = await yard.spawn(W1, "true"), await other.spawn(W2, "sleep 300")
    await yard.log(mine)
    assert set(await yard.sightings()) == {W1}
    assert set(await other.sightings()) == {W2}
    assert await yard.outpost.find(W2) is None
    await other.outpost.destroy(theirs)
    _end_tmux(other)


async def test_anothers_handle_is_refused(yard: Yard) -> None:
    handle = Handle(outpost="elsewhere", kind="local", worker_id=W1, data={})
    with pytest.raises(Rejected, match="belongs to elsewhere"):
        yard.outpost.worker(handle)
    with pytest.raises(Rejected):
        await yard.outpost.destroy(handle)


async def test_no_tmux_is_told_before_anything_starts(world: World) -> None:
    yard = Yard(world, "test-none", LocalOptions(tmux="no-such-tmux"))
    health = await yard.outpost.ping()
    assert not health.ok
    assert "no-such-tmux" in health.detail


async def test_work_that_lost_its_tmux_goes_on_without_a_view(world: World) -> None:
    yard = Yard(world, "test-none", LocalOptions(tmux="no-such-tmux"))
    world.homes.add(world.home)
    handle = await yard.spawn(W1, "true")
    assert (await yard.log(handle))[-1].fields["outcome"] == "done"


async def test_a_root_that_cannot_be_written_starts_nothing(world: World) -> None:
    blocked = world.folder / "file"
    blocked.touch()
    yard = Yard(world, "test-blocked", LocalOptions(root=str(blocked)))
    with pytest.raises(NotDispatched, match="cannot write"):
        await yard.spawn(W1, "true")


async def test_the_pane_shows_the_work(yard: Yard, world: World) -> None:
    os.mkfifo(world.folder / "go")
    handle = await yard.spawn(W1, f"echo 'now it works'; cat '{world.folder}/go'")
    argv = await yard.outpost.worker(handle).attach()
    assert argv[:3] == ["tmux", "-L", f"outpost-{yard.federation_id}"]
    assert argv[-3:] == ["attach-session", "-t", f"={W1}"]
    capture = [*argv[:-3], "capture-pane", "-p", "-t", f"={W1}:"]
    until(
        lambda: "now it works" in run(*capture, environment=world.environment),
        "the agent's line in the pane",
    )
    (world.folder / "go").write_text("go")
    await yard.log(handle)


def _line(seq: int, text: str) -> bytes:
    return encode(seq, timestamp(), "log", {"stream": "stdout", "text": text})


def _still(yard: Yard, world: World, data: bytes) -> Handle:
    """Write the log of a worker that does not run."""
    place = world.place(W9)
    place.mkdir(parents=True)
    (place / "events.jsonl").write_bytes(data)
    return Handle(outpost="local", kind="local", worker_id=W9, data={"directory": str(place)})


async def test_events_resume_anywhere(yard: Yard, world: World) -> None:
    lines = [_line(seq, "é" * seq) for seq in range(1, 40)]
    handle = _still(yard, world, b"".join(lines) + b'{"seq":40,"to')
    worker = yard.outpost.worker(handle)
    everything = [event async for event in worker.events()]
    assert [event.seq for event in everything] == list(range(1, 40))
    for after in range(0, 41):
        for offset in {0, everything[after - 1].end if 0 < after < 40 else 0}:
            rest = [event.seq async for event in worker.events(after=after, offset=offset)]
            assert rest == list(range(after + 1, 40))


async def test_events_follow_a_growing_log_cut_anywhere(yard: Yard, world: World) -> None:
    data = b"".join(_line(seq, "x" * (seq * 7 % 50)) for seq in range(1, 201))
    data += encode(201, timestamp(), "result", {"outcome": "done"})
    handle = _still(yard, world, b"")
    path = Path(handle.data["directory"]) / "events.jsonl"

    async def grow() -> None:
        with path.open("ab", buffering=0) as file:
            position = 0
            while position < len(data):
                size = 1 + position * 31 % 400
                file.write(data[position : position + size])
                position += size
                await asyncio.sleep(0.001)

    growing = asyncio.create_task(grow())
    seen = [event.seq async for event in yard.outpost.worker(handle).events(follow=True)]
    await growing
    assert seen == list(range(1, 202))


async def test_a_large_log_is_read_whole(yard: Yard, world: World) -> None:
    data = b"".join(_line(seq, "z" * 60_000) for seq in range(1, 60))
    assert len(data) > 3 << 20
    handle = _still(yard, world, data)
    assert [event.seq for event in await yard.log(handle, follow=False)] == list(range(1, 60))


async def test_a_damaged_log_is_a_fault_after_what_is_whole(yard: Yard, world: World) -> None:
    handle = _still(yard, world, _line(1, "a") + _line(2, "b") + _line(4, "d"))
    events = yard.outpost.worker(handle).events()
    assert [(await anext(events)).seq, (await anext(events)).seq] == [1, 2]
    with pytest.raises(OutpostFault, match="damaged"):
        await anext(events)


async def test_events_of_a_dead_worker_end(yard: Yard, world: World) -> None:
    handle = _still(yard, world, _line(1, "last words"))
    assert [event.seq for event in await yard.log(handle)] == [1]


async def test_lines_arrive_while_the_agent_runs(yard: Yard, world: World) -> None:
    """A line is seen soon after it was written; the time is the agent's own, in its text."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do date +%s.%N; sleep 0.1; done"
    handle = await yard.spawn(W1, script)
    lags = []
    async for event in yard.outpost.worker(handle).events(follow=True):
        if event.type == "log" and event.fields["stream"] == "stdout":
            lags.append(datetime.now(UTC).timestamp() - float(event.fields["text"]))
    assert len(lags) == 10
    assert sorted(lags)[5] < 0.3, lags


async def test_an_unreadable_message_is_noted_and_does_no_harm(yard: Yard, world: World) -> None:
    os.mkfifo(world.folder / "go")
    handle = await yard.spawn(W1, f"cat '{world.folder}/go'")
    world.agent_pid(W1)
    with (world.place(W1) / "inbox.jsonl").open("ab") as file:
        file.write(b'nonsense\n[]\n{"type":"stop","grace_s":"soon"}\n{"type":"dance"}\n')
    world.wait_for_line(W1, "dance")
    (world.folder / "go").write_text("go")
    events = await yard.log(handle)
    assert events[-1].fields["outcome"] == "done"
    notes = [e.fields["text"] for e in events if e.fields.get("stream") == "runner"]
    assert len(notes) == 4


async def test_no_session_is_left_of_workers_however_short(yard: Yard, world: World) -> None:
    spans = ("0", "0.05", "0.1", "0.12", "0.15", "0.2", "0.3")
    for number, span in enumerate(spans, 20):
        handle = await yard.spawn(f"w-{os.getpid()}-{number}", f"sleep {span}")
        assert (await yard.log(handle))[-1].type == "result"
    argv = ["tmux", "-L", f"outpost-{yard.federation_id}", "list-sessions"]
    until(
        lambda: not run("sh", "-c", '"$@" || :', "sh", *argv, environment=world.environment),
        "every session has ended",
    )

"""A full disk: no hang, no traceback, never done for lost work, all saved once there is room."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.errors import WorkAtRisk
from outpost.model import State
from outpost.runner import log as runner_log
from outpost.runner.log import EventLog
from outpost.spawned import SpawnedWorker
from outpost.wire.events import EventReader
from tests.world import CONFIG, World, events_of, run, until

AT_ONCE = "policy: {retry: {initial_backoff: 0s}}\n"
pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MEND = "echo 'the words are right' > words.txt"
FILL = "cat /dev/zero > {path} 2> /dev/null || true"


class SmallDisk:
    """A world whose outpost lies on a disk of a few MiB."""

    def __init__(self, world: World, mount: Callable[[Path, int], None], size_mib: int) -> None:
        self.world = world
        self.path = world.folder / "disk"
        mount(self.path, size_mib)
        root = f"type: local\n    root: {self.path}/outposts/local\n    min_free_mib: 0"
        self.config = CONFIG.replace("type: local", root)

    def tree(self, worker_id: str) -> Path:
        return self.path / "outposts" / "local" / "trees" / worker_id

    def place(self, worker_id: str) -> Path:
        return self.path / "outposts" / "local" / "workers" / worker_id

    def fill(self) -> None:
        """Take the last byte."""
        run("sh", "-c", FILL.format(path=self.path / "full"), environment=self.world.environment)

    def resize(self, size_mib: int) -> None:
        options = f"remount,size={size_mib}m"
        run("mount", "-o", options, str(self.path), environment=self.world.environment)


@pytest.fixture
def disk(small_disk: Callable[[Path, int], None], world: World) -> SmallDisk:
    return SmallDisk(world, small_disk, 16)


def enlarge(world: World, size_bytes: int) -> None:
    """Add a file of noise to the remote's main branch."""
    clone = world.folder / "origin" / "sample"
    (clone / "noise.bin").write_bytes(os.urandom(size_bytes))
    for arguments in (
        ("add", "."),
        ("commit", "-qmNoise"),
        ("push", "-q", str(world.remote.path), "main"),
    ):
        run("git", "-C", str(clone), *arguments, environment=world.environment)


@pytest.mark.parametrize("size", [10_000_000, 30_000_000])
async def test_full_while_preparing(disk: SmallDisk, world: World, size: int) -> None:
    """Full while the objects are fetched, or the files are written: nothing half is left."""
    enlarge(world, size)
    async with world.federation(config=disk.config) as federation:
        worker = await world.spawn(federation, MEND)
        attempt = await worker.result()
        assert attempt.state is State.FAILED
        assert "no space left on the disk: make room at " in attempt.reason
        assert str(disk.path) in attempt.reason
        assert not world.remote.refs("refs/heads/outpost/")
        world.gone(worker.id)
        assert not disk.tree(worker.id).exists()
        await worker.remove()
        disk.resize(100)
        attempt = await (await world.spawn(federation, MEND)).result()
        assert (attempt.state, attempt.reason) == (State.DONE, "")


async def test_full_of_files_that_are_no_work_the_work_arrives(
    disk: SmallDisk, world: World
) -> None:
    """There was room set aside for saving it."""
    script = f"{MEND}; {FILL.format(path='full.ignored')}; echo more >> more.txt && echo room; true"
    async with world.federation(config=disk.config) as federation:
        worker = await world.spawn(federation, script)
        attempt = await worker.result()
        assert '"room"' not in str(await events_of(worker))
    assert (attempt.state, attempt.reason) == (State.DONE, "")
    assert world.remote.show(attempt.branch, "words.txt") == "the words are right"


async def test_full_of_work_it_stays_and_is_saved_once_there_is_room(
    disk: SmallDisk, world: World
) -> None:
    script = f"{MEND}; cat /dev/urandom > noise 2> /dev/null"
    async with world.federation(config=disk.config) as federation:
        worker = await world.spawn(federation, script)
        attempt = await worker.result()
        assert (attempt.state, attempt.kept_how) == (State.FAILED, "workspace")
        assert "cannot commit: no space left on the disk: make room at" in attempt.reason
        assert world.remote.tip(attempt.branch) is None
        disk.resize(100)
        await saved_by_hand(world, worker)
        assert not disk.tree(worker.id).exists()


async def saved_by_hand(world: World, worker: SpawnedWorker) -> None:
    """Type what a refused removal says; then the work is there, and the removal goes through."""
    with pytest.raises(WorkAtRisk, match="uncommitted files") as caught:
        await worker.remove()
    for command in caught.value.hint.splitlines()[:-1]:
        run("sh", "-c", command, environment=world.environment)
    assert world.remote.show(worker.attempt.branch, "words.txt") == "the words are right"
    await worker.remove()


async def test_full_of_log_the_end_is_told_and_what_is_missing(
    disk: SmallDisk, world: World
) -> None:
    line = "x" * 1000
    script = f"{MEND}; i=0; while [ $i -lt 30000 ]; do echo $i {line}; i=$((i+1)); done"
    async with world.federation(config=disk.config) as federation:
        worker = await world.spawn(federation, script)
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (State.DONE, "")
        assert world.remote.show(attempt.branch, "words.txt") == "the words are right"
        events = await events_of(worker)
        assert "gap" in {event.type for event in events}
        assert [event.type for event in events][-1] == "result"


async def test_full_from_the_start_nothing_is_started_and_why_is_said(
    disk: SmallDisk, world: World
) -> None:
    disk.fill()
    async with world.federation(config=disk.config + AT_ONCE) as federation:
        task = await federation.resolve("text:Mend", world.options(MEND, world.remote))
        submitted = await federation.submit(task)
        assert submitted.worker is None
        assert "No space left on device" in submitted.decision.why()
        (disk.path / "full").unlink()
        (started,) = await federation.dispatch()
        assert started.worker
        assert (await started.worker.result()).state is State.DONE


async def test_killed_on_a_full_disk_the_work_stays_and_what_to_type_is_said(
    disk: SmallDisk, world: World
) -> None:
    async with world.federation(config=disk.config) as federation:
        script = f"{MEND}; cp words.txt busy; while :; do sleep 1; done"
        worker = await world.spawn(federation, script)
        until((disk.tree(worker.id) / "busy").exists, "the agent is busy")
        place = disk.place(worker.id)
        for pid in map(int, (place / "runner.pid").read_text().split()[::2]):
            os.kill(pid, signal.SIGKILL)
        (place / "reserve").unlink()
        disk.fill()
        (attempt,) = await federation.refresh()
        assert (attempt.state, attempt.kept_how) == (State.FAILED, "workspace")
        assert "no space left on the disk: make room at" in attempt.reason
        assert world.remote.tip(attempt.branch) is None
        (disk.path / "full").unlink()
        await saved_by_hand(world, await federation.worker(worker.id))


async def test_a_worker_on_a_full_disk_can_be_stopped(disk: SmallDisk, world: World) -> None:
    async with world.federation(config=disk.config) as federation:
        script = f"{MEND}; cp words.txt busy; while :; do sleep 1; done"
        worker = await world.spawn(federation, script)
        until((disk.tree(worker.id) / "busy").exists, "the agent is busy")
        disk.fill()
        async with asyncio.timeout(60):
            attempt = await worker.stop()
        assert attempt.state in (State.STOPPED, State.FAILED)
        assert world.remote.show(attempt.branch, "words.txt") == "the words are right"


def test_a_log_without_room_keeps_what_counts(
    tmp_path: Path, small_disk: Callable[[Path, int], None]
) -> None:
    """In memory up to a bound; with room again all that counts is there, gaps are told."""
    small_disk(tmp_path / "disk", 1)
    path = tmp_path / "disk" / "events.jsonl"
    log = EventLog(str(path))
    for number in range(20_000):
        log.add("log", {"stream": "stdout", "text": f"{number} {'x' * 1000}"})
        if number % 1000 == 0:
            log.write("usage", input_tokens=1)
    assert log._pending_bytes < runner_log.HELD_BYTES + runner_log.PIECE_BYTES
    log.write("result", outcome="done")
    log.sync()
    events = list(EventReader().feed(path.read_bytes()))
    types = [event.type for event in events]
    assert types[-1] == "result"
    assert types.count("usage") == 20
    assert "gap" in types
    assert path.stat().st_size <= 1 << 20


def test_a_log_that_never_finds_room_says_so(
    tmp_path: Path, small_disk: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_log, "PATIENCE_S", 0.3)
    folder = tmp_path / "disk"
    small_disk(folder, 1)
    log = EventLog(str(folder / "events.jsonl"))
    (folder / "events.jsonl.reserve").unlink()
    subprocess.run(["sh", "-c", FILL.format(path=folder / "full")], check=True)
    log.write("result", outcome="done", summary="x" * 10_000)
    with pytest.raises(OSError, match="no space left for the log's end"):
        log.sync()


def test_what_the_disk_refused_does_not_take_the_room_freed_for_the_work(disk: SmallDisk) -> None:
    disk.fill()
    path = disk.path / "events.jsonl"
    log = EventLog(str(path))
    for _ in range(1000):
        log.write("log", stream="stdout", text="x" * 1000)
    written = path.stat().st_size
    log.leave_out_unwritten()
    (disk.path / "full").unlink()
    log.sync()
    log.close()
    assert path.stat().st_size < written + 10_000
    *_, last = EventReader().feed(path.read_bytes())
    assert (last.type, last.seq) == ("gap", 1000)

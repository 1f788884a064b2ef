"""Deaths, cuts and forgeries where the controller pushes for workers that have no way to do it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from outpost.model import State
from outpost.wire.events import RELAY, encode, timestamp
from tests.integration.cli_world import Cli
from tests.integration.relayed_world import (
    OFTEN,
    RETRIES,
    eventually,
    wait_for,
    while_there,
)
from tests.world import ISSUE, Remote, World, pids_marked, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def cli(world: World) -> Cli:
    return Cli(world)


async def test_what_was_killed_on_the_way_is_done_again(
    world: World, remote: Remote, relayed: str, cli: Cli, tmp_path: Path
) -> None:
    waits, waiting = tmp_path / "waits", tmp_path / "waiting"
    waits.touch()
    hook = remote.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {waiting}\n{while_there(waits)}\n")
    hook.chmod(0o755)
    async with world.federation(config=relayed) as federation:
        worker = await world.spawn(federation, "echo mended > words.txt")
        controller = cli.start("up")
        try:
            until(waiting.exists, "the push has come to the remote")
            assert (await worker.status()).state is State.PUSHING
        finally:
            os.kill(controller.pid, signal.SIGKILL)
            controller.communicate()
        waiting.unlink()
        (stored,) = await federation.store.attempts_of(worker.attempt.task_id)
        assert not stored.state.ended
        waits.unlink()
        attempt = await worker.result()
    assert (attempt.state, attempt.reason) == (State.DONE, "")
    assert remote.show(attempt.branch, "words.txt") == "mended"


async def test_a_machine_out_of_reach_is_waited_for(
    world: World, remote: Remote, relayed: str, tmp_path: Path
) -> None:
    cut, troubles = tmp_path / "record.cut", list[str]()
    cut.write_text("get")
    async with world.federation(config=relayed) as federation:
        worker = await world.spawn(federation, "echo mended > words.txt")
        looking = asyncio.create_task(worker.result(on_trouble=troubles.append))
        await eventually(lambda: bool(troubles), "somebody is told")
        assert "the cable is cut" in troubles[0]
        (stored,) = await federation.store.attempts_of(worker.attempt.task_id)
        assert not stored.state.ended
        assert remote.tip(stored.branch) is None
        cut.unlink()
        attempt = await looking
    assert (attempt.state, attempt.reason) == (State.DONE, "")
    assert remote.show(attempt.branch, "words.txt") == "mended"


async def test_what_is_brought_half_is_brought_again(
    world: World, remote: Remote, relayed: str, tmp_path: Path
) -> None:
    cut = tmp_path / "record.cut"
    cut.write_text("put")
    async with world.federation(config=relayed + RETRIES) as federation:
        task = await federation.resolve(ISSUE, world.options("echo 1 > one", remote))
        submitted = await federation.submit(task)
        assert submitted.worker is None
        (lost,) = await federation.store.attempts_of(task.id)
        assert "the cable is cut" in lost.reason
        cut.unlink()
        attempt = await (await federation.wait_for_slot(task.id)).result()
    assert attempt.state is State.DONE, attempt.reason
    assert remote.show(attempt.branch, "one") == "1"


async def test_a_killed_worker_is_gone_on_from(
    world: World, guarded: Remote, relayed: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with world.federation(config=relayed + RETRIES) as federation:
        script = f"echo x >> new.txt; echo talking; {wait_for(go)}"
        worker = await world.spawn(federation, script, remote=guarded)
        world.wait_for_line(worker.id, "talking")
        for pid in world.pids(worker.id):
            os.kill(pid, signal.SIGKILL)
        first = await worker.result()
        assert (first.state, first.died, first.kept_how) == (State.FAILED, True, "remote")
        assert guarded.show(first.branch, "new.txt") == "x"
        second = await worker.successor()
        assert second
        go.touch()
        done = await second.result()
    assert (done.state, done.fence) == (State.DONE, 2), done.reason
    assert guarded.show(done.branch, "new.txt") == "x\nx"


async def test_work_in_progress_outlives_its_machine(
    world: World, guarded: Remote, relayed: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with world.federation(config=relayed + OFTEN + RETRIES) as federation:
        script = f"echo x >> new.txt; {wait_for(go)}"
        worker = await world.spawn(federation, script, remote=guarded)
        looking = asyncio.create_task(worker.result())
        wip = f"refs/outpost/wip/{worker.attempt.task_id}"
        await eventually(lambda: wip in guarded.refs(), "a checkpoint is on the remote")
        assert guarded.show(wip, "new.txt") == "x"
        pids = {*world.pids(worker.id), *pids_marked({worker.id})}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in ("relay", "cache", "trees", "workers"):
            shutil.rmtree(world.home / "outposts" / "local" / name)
        first = await looking
        assert first.state is State.LOST
        second = await worker.successor()
        assert second
        go.touch()
        done = await second.result()
    assert done.state is State.DONE, done.reason
    assert guarded.show(done.branch, "new.txt") == "x\nx"
    assert wip not in guarded.refs()


async def test_a_superseded_worker_publishes_nothing(
    world: World, remote: Remote, relayed: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with world.federation(config=relayed) as federation:
        script = f"echo mended > words.txt; {wait_for(go)}"
        worker = await world.spawn(federation, script)
        lease = remote.git(
            *("-c", "user.name=Sam", "-c", "user.email=sam@example.org"),
            *("commit-tree", "HEAD^{tree}", "-m", "A lease", "-m"),
            "Outpost-Worker: w-other\nOutpost-Fence: 2",
        )
        remote.git("update-ref", f"refs/outpost/lease/{worker.attempt.task_id}", lease)
        go.touch()
        attempt = await worker.result()
    assert (attempt.state, attempt.reason) == (State.STOPPED, "superseded by w-other")
    assert remote.tip(attempt.branch) is None


async def test_the_base_is_the_remotes_whatever_an_agent_pushed_here(
    world: World, remote: Remote, relayed: str
) -> None:
    """The agent can write to the relay, and what it writes there leads nobody astray."""
    evil = "git commit -q --allow-empty -m evil; git push -q origin HEAD:main; echo pushed"
    async with world.federation(config=relayed) as federation:
        first = await (await world.spawn(federation, evil)).result()
        assert first.state is State.DONE, first.reason
        second = await (await world.spawn(federation, "echo good > new.txt")).result()
        assert second.state is State.DONE, second.reason
    assert "evil" in remote.git("log", "--format=%s", first.branch)
    assert "evil" not in remote.git("log", "--format=%s", second.branch)
    assert "evil" not in remote.git("log", "--format=%s", "main")


@pytest.mark.parametrize("commit", ["", "--all"])
async def test_a_forged_result_cannot_choose_what_is_pushed_where(
    world: World, remote: Remote, relayed: str, tmp_path: Path, commit: str
) -> None:
    """A worker's log lies where its agent can write."""
    go, before = tmp_path / "go", remote.refs()
    evil = "git commit -q --allow-empty -m evil; git push -q origin HEAD:evil"
    async with world.federation(config=relayed) as federation:
        script = f"{evil}; git rev-parse HEAD > {go}.commit; echo talking; {wait_for(go)}"
        worker = await world.spawn(federation, script)
        own = worker.attempt.branch
        world.wait_for_line(worker.id, "talking")
        made = Path(f"{go}.commit").read_text().strip()
        log = world.place(worker.id) / "events.jsonl"
        forged = {
            **{"outcome": "done", "branch": "main", "commit": commit or made},
            "kept": {"how": RELAY, "where": "main"},
        }
        seq = len(log.read_bytes().splitlines()) + 1
        with log.open("ab") as file:
            file.write(encode(seq, timestamp(), "result", forged))
        attempt = await worker.result()
        go.touch()
    assert attempt.branch == own
    if commit:
        assert attempt.state is State.FAILED
        assert attempt.reason == "not pushed: its result names no commit"
        assert remote.refs() == before
    else:
        assert remote.refs() == {**before, f"refs/heads/{own}": made}

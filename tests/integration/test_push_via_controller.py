"""Workers on a machine without a way to the repository: the controller brings, fetches, pushes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from outpost.errors import UserError
from outpost.model import State
from tests.integration.proc_watcher import Watcher
from tests.integration.relayed_world import (
    OFTEN,
    PASSWORD,
    SECRET,
    eventually,
    guarded_by_password,
    moved,
    push_from,
    wait_for,
)
from tests.world import Remote, World, events_of, pids_marked, run, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_the_branch_arrives_and_no_secret_is_there(
    world: World, remote: Remote, relayed: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"echo mended > words.txt; cat .git/config; env; git remote -v; {wait_for(go)}"
    with Watcher() as watcher, guarded_by_password(remote, first=watcher.look_around) as guarded:
        async with world.federation(config=relayed) as federation:
            worker = await world.spawn(federation, script, remote=guarded)
            world.wait_for_line(worker.id, "(push)")
            variables = []
            for pid in {*pids_marked({worker.id}), *world.pids(worker.id)}:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    variables.append(Path(f"/proc/{pid}/environ").read_bytes())
            go.touch()
            attempt = await worker.result()
            log = str([event.to_json() for event in await events_of(worker)])
    assert (attempt.state, attempt.reason) == (State.DONE, "")
    assert attempt.kept_how == "remote"
    assert guarded.show(attempt.branch, "words.txt") == "mended"
    assert guarded.tip(attempt.branch) == attempt.commit
    assert not guarded.refs("refs/outpost")
    assert "127.0.0.1" not in log
    assert len(variables) >= 3
    for secret in (SECRET, PASSWORD):
        assert not [it for it in variables if secret.encode() in it]
    assert watcher.rounds > 3
    assert any("git-remote-http" in line for line in watcher.seen)
    for secret in (SECRET, PASSWORD):
        assert not [line for line in watcher.seen if secret in line]
        assert secret not in log
    # The store, on the controller's machine, has what the user typed.
    files = [it for it in world.home.rglob("*") if it.is_file() and "outpost.db" not in it.name]
    assert [it for it in files if it.name == "order.json"]
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
        assert PASSWORD.encode() not in path.read_bytes(), path


async def test_a_large_repository_comes_in_pieces_and_only_once(
    world: World, remote: Remote, relayed: str
) -> None:
    clone = remote.path.parent / "sample"
    (clone / "large").write_bytes(os.urandom(30 << 20))
    push_from(clone, remote, "A large file")
    async with world.federation(config=relayed) as federation:
        first = await (
            await world.spawn(federation, "head -c 9000000 /dev/urandom > made; test -s large")
        ).result()
        brought, fetched = moved(world, "put"), moved(world, "get")
        assert first.state is State.DONE, first.reason
        assert sum(brought) > 30 << 20
        assert len(brought) >= 8
        assert max(brought) <= 4 << 20
        assert sum(fetched) > 9_000_000
        assert max(fetched) <= 1 << 20
        assert sum(fetched) < 10_000_000
        second = await (await world.spawn(federation, "echo 2 > two")).result()
        assert second.state is State.DONE, second.reason
        assert moved(world, "put") == brought
        (clone / "more.txt").write_text("even more\n")
        push_from(clone, remote, "Even more")
        third = await (await world.spawn(federation, "cat more.txt; echo 3 > three")).result()
    assert third.state is State.DONE, third.reason
    assert sum(moved(world, "put")[len(brought) :]) < 10_000
    assert sum(moved(world, "get")[len(fetched) :]) < 10_000
    assert remote.show(third.branch, "more.txt") == "even more"
    assert remote.show(third.branch, "three") == "3"
    assert remote.git("cat-file", "-s", f"{first.branch}:made") == "9000000"
    outpost = world.home / "outposts" / "local"
    caches = sum(path.stat().st_size for path in (outpost / "cache").rglob("*"))
    assert caches < 1 << 20


async def test_what_is_refused_stays_and_says_what_to_type(
    world: World, remote: Remote, relayed: str
) -> None:
    remote.reject_pushes("the branch is protected")
    async with world.federation(config=relayed) as federation:
        worker = await world.spawn(federation, "echo mended > words.txt")
        attempt = await worker.result()
        assert attempt.state is State.FAILED
        assert attempt.reason.startswith("not pushed: ")
        assert "the branch is protected" in attempt.reason
        assert attempt.kept_how == "mirror"
        assert Path(attempt.kept_where).is_dir()
        pruned = await federation.prune(before_s=0)
        kept = {item.leftover["name"]: item.leftover["kept"] for item in pruned.kept}
        assert "not pushed from" in kept[worker.id]
        with pytest.raises(UserError, match="not pushed from"):
            await worker.remove()
    remote.accept_pushes()
    command = attempt.reason.partition("later: ")[2]
    run(*shlex.split(command), environment=world.environment)
    assert remote.show(attempt.branch, "words.txt") == "mended"


async def test_a_wrong_password_fails_the_task_and_not_the_outpost(
    world: World, guarded: Remote, relayed: str
) -> None:
    url = guarded.url.replace(PASSWORD, "wrong-one")
    async with world.federation(config=relayed) as federation:
        worker = await world.spawn(federation, "true", remote=replace(guarded, url=url))
        attempt = await worker.result()
        assert len(await federation.store.attempts_of(attempt.task_id)) == 1
    assert attempt.state is State.FAILED
    assert "uthentication" in attempt.reason
    assert "wrong-one" not in attempt.reason


async def test_resuming_goes_on_from_what_others_pushed_meanwhile(
    world: World, guarded: Remote, relayed: str
) -> None:
    async with world.federation(config=relayed) as federation:
        worker = await world.spawn(federation, "echo 1 > one", remote=guarded)
        first = await worker.result()
        assert first.state is State.DONE, first.reason
        clone = guarded.path.parent / "sample"
        git = ("git", "-C", str(clone))
        run(*git, "fetch", "-q", str(guarded.path), first.branch, environment=world.environment)
        run(*git, "checkout", "-q", "FETCH_HEAD", environment=world.environment)
        (clone / "two").write_text("2\n")
        push_from(clone, guarded, "Somebody else's", first.branch)
        again = (await federation.resume(worker, "go on")).worker
        assert again
        second = await again.result()
    assert second.state is State.DONE, second.reason
    assert second.branch == first.branch
    files = guarded.git("ls-tree", "--name-only", second.branch).split()
    assert {"one", "two"} <= set(files)


async def test_a_branch_that_is_gone_on_with_stays_while_checkpoints_come(
    world: World, remote: Remote, relayed: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with world.federation(config=relayed + OFTEN) as federation:
        script = f"echo x >> new.txt; [ $(wc -l < new.txt) = 1 ] || {{ {wait_for(go)}; }}"
        worker = await world.spawn(federation, script)
        first = await worker.result()
        assert first.state is State.DONE, first.reason
        again = (await federation.resume(worker, "go on")).worker
        assert again
        looking = asyncio.create_task(again.result())
        wip = f"refs/outpost/wip/{again.attempt.task_id}"
        await eventually(lambda: wip in remote.refs(), "a checkpoint is on the remote")
        assert remote.tip(first.branch) == first.commit
        go.touch()
        second = await looking
    assert (second.state, second.branch) == (State.DONE, first.branch), second.reason
    assert remote.show(second.branch, "new.txt") == "x\nx"
    assert not remote.refs("refs/outpost")


async def test_two_homes_share_a_machine_and_a_stopped_worker_keeps_its_work(
    world: World, remote: Remote, relayed: str, tmp_path: Path
) -> None:
    relayed = relayed.replace(
        "    min_free", f"    root: {tmp_path}/machine/outposts/m\n    min_free"
    )
    async with world.federation(config=relayed) as federation:
        first = await (await world.spawn(federation, "echo 1 > new.txt")).result()
        assert first.state is State.DONE, first.reason
    brought = moved(world, "put")
    async with world.federation(config=relayed, home="other") as federation:
        worker = await world.spawn(federation, "echo 2 > new.txt; echo talking; sleep 60")
        log = tmp_path / "machine" / "outposts" / "m" / "workers" / worker.id / "events.jsonl"
        until(lambda: "talking" in log.read_text(), "the agent talks")
        second = await worker.stop()
    assert (second.state, second.kept_how) == (State.STOPPED, "remote")
    assert remote.show(second.branch, "new.txt") == "2"
    assert moved(world, "put") == brought


async def test_many_begin_at_once(world: World, remote: Remote, relayed: str) -> None:
    async with world.federation(config=relayed) as federation:
        workers = await asyncio.gather(
            *(world.spawn(federation, f"echo {number} > new.txt") for number in range(6))
        )
        attempts = await asyncio.gather(*(worker.result() for worker in workers))
    assert [it.reason for it in attempts] == [""] * 6
    said = [remote.show(it.branch, "new.txt") for it in attempts]
    assert sorted(said) == list("012345")
    assert not list((world.home / "mirrors").glob("w-*"))
    (relay,) = (world.home / "outposts" / "local" / "relay").iterdir()
    assert not [it.name for it in relay.iterdir() if "bundle" in it.name or "git" in it.name]


async def test_files_in_lfs_are_refused_and_kept(
    world: World, remote: Remote, relayed: str
) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 3\n"
    script = (
        "echo '*.bin filter=lfs' > .gitattributes; git config filter.lfs.clean cat;"
        f" printf %s {shlex.quote(pointer)} > x.bin"
    )
    async with world.federation(config=relayed) as federation:
        attempt = await (await world.spawn(federation, script)).result()
    assert attempt.state is State.FAILED
    assert "Git LFS" in attempt.reason
    assert attempt.kept_how == "bundle"
    assert remote.tip(attempt.branch) is None

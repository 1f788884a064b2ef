"""Of two workers at one task only the one with the higher fence publishes, whoever comes last."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from pathlib import Path

import pytest

from outpost.model import State
from outpost.runner.lease import NO_TRANSACTIONS
from outpost.runner.workspace import NOTHING_LEFT
from outpost.wire.orders import AgentOrder
from tests.integration.lone_worker import LoneWorker, Workers
from tests.world import Remote, SlowGit, World, pids_marked, pids_naming, run, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

WIP = "refs/outpost/wip/t-1"
LEASE = "refs/outpost/lease/t-1"


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """Return a file outside of all workspaces that agents wait for."""
    return tmp_path / "go"


def shell(script: str) -> AgentOrder:
    return AgentOrder(name="command", argv=["sh", "-c", script], options={})


def wait_for(path: Path) -> str:
    """Return a script that waits until a file is there."""
    return f"while [ ! -e {shlex.quote(str(path))} ]; do sleep 0.02; done"


def branches(remote: Remote) -> set[str]:
    return {ref.rpartition("/")[2] for ref in remote.refs("refs/heads/outpost/")}


def branch(worker: LoneWorker) -> str:
    return f"words-1-{worker.place.worker_id}"


def holder(remote: Remote) -> str:
    return remote.git("log", "-1", "--format=%(trailers:key=Outpost-Worker,valueonly)", LEASE)


def pause(worker: LoneWorker) -> set[int]:
    """Stop every process of a worker, as a machine that is put to sleep does."""
    paused: set[int] = set()
    while found := _running(worker) - paused:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        paused |= found
    return paused


def _running(worker: LoneWorker) -> set[int]:
    """Return its runner, its understudy, who makes a checkpoint, its agent and all git commands."""
    return {*pids_naming(worker.place.directory), *pids_marked({worker.place.worker_id})}


def wake(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def left_by(worker: LoneWorker) -> list[str]:
    """Return the refs where an attempt leaves its work, as its successor's order names them."""
    return [f"refs/heads/outpost/{branch(worker)}", WIP]


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("atomic", [True, False])
def test_a_paused_worker_cannot_publish_over_its_successor(
    workers: Workers,
    elsewhere: Workers,
    remote: Remote,
    go: Path,
    *,
    atomic: bool,
    checkpoint: bool,
) -> None:
    if not atomic:
        remote.git("config", "receive.advertiseAtomic", "false")
    limits = {"checkpoint_s": 0.1} if checkpoint else {}
    script = f"echo first > new.txt; echo ready; {wait_for(go)}; echo late > late.txt"
    first = workers.start(shell(script), "Mend.", {}, fence=1, limits=limits)
    first.wait_for_text("log", "ready")
    if checkpoint:
        first.wait_for("checkpoint")
        assert holder(remote) == first.place.worker_id
    paused = pause(first)

    script = "echo second > b.txt"
    second = elsewhere.start(shell(script), "Go on.", {}, fence=2, from_refs=left_by(first))
    assert second.result().state is State.DONE
    assert (NOTHING_LEFT in second.texts("log")) is not checkpoint
    if checkpoint:
        assert elsewhere.pushed(second, "new.txt") == "first"
    published = remote.refs()
    assert set(published) >= {LEASE, f"refs/heads/outpost/{branch(second)}"}
    assert WIP not in published

    go.touch()
    wake(paused)
    attempt = first.result()
    assert attempt.state is State.STOPPED
    assert attempt.reason == f"superseded by {second.place.worker_id}"
    assert remote.refs() == published
    assert branches(remote) == {branch(second)}
    assert attempt.kept_how == "bundle"
    heads = run("git", "bundle", "list-heads", attempt.kept_where, environment=first.environment)
    assert "HEAD" in heads
    assert (NO_TRANSACTIONS in first.texts("log")) is (checkpoint and not atomic)
    assert (NO_TRANSACTIONS in second.texts("log")) is not atomic


@pytest.mark.parametrize("command", ["ls-remote", "push"])
def test_a_worker_paused_in_its_first_checkpoint_cannot_publish_it(
    tmp_path: Path, workers: Workers, elsewhere: Workers, remote: Remote, go: Path, command: str
) -> None:
    slow = SlowGit(World(tmp_path, workers.environment, remote))
    script = f"{wait_for(go)}; echo first > new.txt; sleep 60"
    first = workers.start(shell(script), "Mend.", {}, fence=1, limits={"checkpoint_s": 0.1})
    first.until(lambda: Path(first.place.path("checkpoint.json")).exists(), "the clock runs")
    slow.wait_in(command)
    go.touch()
    slow.pid()
    paused = pause(first)
    second = elsewhere.start(shell("echo second > b.txt"), "Mend.", {}, fence=2)
    assert second.result().state is State.DONE
    published = remote.refs()
    slow.go_on()
    wake(paused)
    attempt = first.result()
    assert (attempt.state, attempt.checkpoint) == (State.STOPPED, "")
    assert attempt.reason == f"superseded by {second.place.worker_id}"
    assert remote.refs() == published


def test_what_a_short_first_attempt_asks_of_the_remote_is_nothing_more(
    tmp_path: Path, workers: Workers, elsewhere: Workers, remote: Remote
) -> None:
    asked = {}
    for name, made in (("unfenced", workers), ("fenced", elsewhere)):
        counted = CountedGit(tmp_path / name, made.environment)
        more = {"fence": 1} if name == "fenced" else {}
        limits = {"checkpoint_s": 3600.0}
        worker = made.start(shell("echo x > new.txt"), "Mend.", {}, limits=limits, **more)
        assert worker.result().state is State.DONE
        asked[name] = counted.commands()
    assert asked["fenced"] == asked["unfenced"]
    assert not remote.refs("refs/outpost/")


class CountedGit:
    """A git before the real one on the path that notes which of its commands are run."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir()
        self._noted = folder / "noted"
        real = run("sh", "-c", "command -v git", environment=environment)
        git = folder / "git"
        git.write_text(f'#!/bin/sh\necho "$1" >> {self._noted}\nexec {real} "$@"\n')
        git.chmod(0o755)
        environment["PATH"] = f"{folder}:{environment['PATH']}"

    def commands(self) -> list[str]:
        outward = ("ls-remote", "fetch", "push")
        return [word for word in self._noted.read_text().split() if word in outward]


def test_a_first_worker_gives_its_lease_back_with_its_last_checkpoint(
    workers: Workers, remote: Remote, go: Path
) -> None:
    script = f"echo first > new.txt; {wait_for(go)}"
    worker = workers.start(shell(script), "Mend.", {}, fence=1, limits={"checkpoint_s": 0.1})
    worker.wait_for("checkpoint")
    assert set(remote.refs("refs/outpost/")) == {WIP, LEASE}
    go.touch()
    assert worker.result().state is State.DONE
    assert workers.pushed(worker, "new.txt") == "first"
    assert not remote.refs("refs/outpost/")


def test_a_worker_killed_as_it_gave_its_lease_back_is_still_who_published(
    workers: Workers, remote: Remote, go: Path
) -> None:
    script = f"echo first > new.txt; {wait_for(go)}"
    worker = workers.start(shell(script), "Mend.", {}, fence=1, limits={"checkpoint_s": 0.1})
    worker.wait_for("checkpoint")
    hook = remote.path / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hangs, on = Path(f"{go}.hangs"), Path(f"{go}.on")
    deleted = f"grep -q ' 0000.* {LEASE}'"
    hook.write_text(f"#!/bin/sh\n{deleted} || exit 0\ntouch {hangs}\n{wait_for(on)}\n")
    hook.chmod(0o755)
    go.touch()
    until(hangs.exists, "the lease is gone")
    for pid in worker.place.pids("runner.pid"):
        os.kill(pid, signal.SIGKILL)
    on.touch()
    until(lambda: not worker.place.cared_for(), "nobody cares for it")
    worker.recover()
    attempt = worker.result()
    assert (attempt.state, attempt.died) == (State.FAILED, True)
    assert workers.pushed(worker, "new.txt") == "first"
    assert attempt.commit == remote.tip(f"outpost/{branch(worker)}")


@pytest.mark.parametrize("after", ["", "echo late > late.txt; "])
def test_an_agent_is_stopped_once_another_worker_has_its_task(
    workers: Workers, elsewhere: Workers, remote: Remote, go: Path, after: str
) -> None:
    script = f"echo first > new.txt; {wait_for(go)}; {after}sleep 60"
    first = workers.start(shell(script), "Mend.", {}, fence=1, limits={"checkpoint_s": 0.1})
    first.wait_for("checkpoint")
    second = elsewhere.start(shell("echo second > b.txt"), "Mend.", {}, fence=2)
    assert second.result().state is State.DONE
    go.touch()
    attempt = first.result()
    assert attempt.state is State.STOPPED
    assert attempt.reason == f"superseded by {second.place.worker_id}"
    assert branches(remote) == {branch(second)}


@pytest.mark.parametrize("fence", [1, 2])
def test_nobody_slips_in_between_looking_and_pushing(
    tmp_path: Path, workers: Workers, elsewhere: Workers, remote: Remote, go: Path, fence: int
) -> None:
    slow = SlowGit(World(tmp_path, workers.environment, remote))
    script = f"touch {go}.ready; {wait_for(go)}; echo first > new.txt"
    first = workers.start(shell(script), "Mend.", {}, fence=fence)
    until(Path(f"{go}.ready").exists, "the first has begun")
    slow.wait_in("push")
    go.touch()
    slow.pid()
    second = elsewhere.start(shell("echo second > b.txt"), "Mend.", {}, fence=fence + 1)
    assert second.result().state is State.DONE
    slow.go_on()
    attempt = first.result()
    assert attempt.reason == f"superseded by {second.place.worker_id}"
    assert branches(remote) == {branch(second)}
    assert holder(remote) == second.place.worker_id


@pytest.mark.parametrize("fence", [1, 2])
def test_nobody_slips_in_while_the_remote_takes_a_push(
    workers: Workers, elsewhere: Workers, remote: Remote, go: Path, fence: int
) -> None:
    script = f"touch {go}.ready; {wait_for(go)}; echo first > new.txt"
    first = workers.start(shell(script), "Mend.", {}, fence=fence)
    until(Path(f"{go}.ready").exists, "the first has begun")
    hook = remote.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hangs, on = Path(f"{go}.hangs"), Path(f"{go}.on")
    hook.write_text(
        f"#!/bin/sh\ngrep -q {branch(first)} || exit 0\ntouch {hangs}\n{wait_for(on)}\n"
    )
    hook.chmod(0o755)
    go.touch()
    until(hangs.exists, "the remote has got the first's push")
    second = elsewhere.start(shell("echo second > b.txt"), "Mend.", {}, fence=fence + 1)
    assert second.result().state is State.DONE
    on.touch()
    attempt = first.result()
    assert attempt.reason == f"superseded by {second.place.worker_id}"
    assert attempt.kept_how == "bundle"
    assert branches(remote) == {branch(second)}


def test_a_late_starter_does_not_begin(
    workers: Workers, elsewhere: Workers, remote: Remote, go: Path
) -> None:
    second = elsewhere.start(shell("echo second > b.txt"), "Mend.", {}, fence=3)
    assert second.result().state is State.DONE
    first = workers.start(shell(f"touch {go}"), "Mend.", {}, fence=2)
    attempt = first.result()
    assert attempt.state is State.STOPPED
    assert attempt.reason == f"superseded by {second.place.worker_id}"
    assert not go.exists()
    assert not first.tree.exists()


def test_what_the_agent_pushed_itself_is_not_reported_by_a_superseded_worker(
    workers: Workers, elsewhere: Workers, remote: Remote, go: Path
) -> None:
    script = "echo first > new.txt; git add .; git commit -qm A; git push -q origin HEAD"
    first = workers.start(shell(f"{script}; touch {go}.on; {wait_for(go)}"), "Mend.", {}, fence=1)
    until(Path(f"{go}.on").exists, "the agent has pushed")
    second = elsewhere.start(shell("echo second > b.txt"), "Mend.", {}, fence=2)
    assert second.result().state is State.DONE
    go.touch()
    attempt = first.result()
    assert attempt.reason == f"superseded by {second.place.worker_id}"
    assert first.fields("result")[0]["branch"] is None


@pytest.mark.parametrize("fence", [1, 2])
def test_a_lease_that_is_gone_is_nobodys(
    workers: Workers, remote: Remote, go: Path, fence: int
) -> None:
    script = f"echo first > new.txt; {wait_for(go)}"
    limits = {"checkpoint_s": 0.1}
    worker = workers.start(shell(script), "Mend.", {}, fence=fence, limits=limits)
    worker.wait_for("checkpoint")
    remote.git("update-ref", "-d", LEASE)
    go.touch()
    attempt = worker.result()
    assert attempt.reason == "superseded: its lease is gone"
    assert not branches(remote)


def test_a_lease_that_cannot_be_read_is_not_taken(
    workers: Workers, remote: Remote, go: Path
) -> None:
    main = remote.refs()["refs/heads/main"]
    remote.git("update-ref", LEASE, main)
    worker = workers.start(shell(f"touch {go}"), "Mend.", {}, fence=2)
    attempt = worker.result()
    assert attempt.state is State.FAILED
    assert attempt.reason == f"cannot tell who holds {LEASE}: {main[:12]} is no lease"
    assert not go.exists()


def test_where_nobody_can_tell_who_holds_a_task_its_first_worker_publishes_nothing(
    workers: Workers, remote: Remote
) -> None:
    main = remote.refs()["refs/heads/main"]
    remote.git("update-ref", LEASE, main)
    attempt = workers.start(shell("echo x > new.txt"), "Mend.", {}, fence=1).result()
    assert (attempt.state, attempt.kept_how) == (State.FAILED, "bundle")
    assert f"cannot tell who holds {LEASE}" in attempt.reason
    assert not branches(remote)


def test_a_remote_that_takes_no_lease_gets_no_unfenced_work(
    workers: Workers, remote: Remote, go: Path
) -> None:
    remote.reject_pushes("closed")
    attempt = workers.start(shell(f"touch {go}"), "Mend.", {}, fence=2).result()
    assert attempt.state is State.FAILED
    assert attempt.reason.startswith(f"cannot take the lease {LEASE}: ")
    assert "closed" in attempt.reason
    assert not go.exists()


def test_workers_that_begin_at_once_leave_the_lease_to_the_highest(
    workers: Workers, remote: Remote, go: Path
) -> None:
    started = [
        workers.start(shell(f"{wait_for(go)}; echo x > new.txt"), "Mend.", {}, fence=fence)
        for fence in (2, 4, 1, 3)
    ]
    until(lambda: LEASE in remote.refs() and holder(remote) == started[1].place.worker_id, "taken")
    go.touch()
    states = [worker.result().state for worker in started]
    assert states == [State.STOPPED, State.DONE, State.STOPPED, State.STOPPED]
    assert branches(remote) == {branch(started[1])}


def test_a_killed_runners_understudy_is_fenced_too(
    workers: Workers, elsewhere: Workers, remote: Remote, go: Path
) -> None:
    script = f"echo first > new.txt; touch {go}.on; {wait_for(go)}"
    first = workers.start(shell(script), "Mend.", {}, fence=1)
    until(Path(f"{go}.on").exists, "the agent has written")
    second = elsewhere.start(shell("echo second > b.txt"), "Mend.", {}, fence=2)
    assert second.result().state is State.DONE
    os.kill(first.place.pids("runner.pid")[1], signal.SIGKILL)
    assert first.result().reason == f"superseded by {second.place.worker_id}"
    assert branches(remote) == {branch(second)}


def test_without_a_fence_the_remote_sees_no_lease(workers: Workers, remote: Remote) -> None:
    worker = workers.start(shell("echo first > new.txt"), "Mend.", {})
    assert worker.result().state is State.DONE
    assert not remote.refs("refs/outpost/")

"""A further attempt at a task whose last one died: where it begins, and what it finds there."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from outpost.model import State
from outpost.runner.workspace import NOTHING_LEFT
from outpost.wire.orders import AgentOrder, Resume
from tests.integration.lone_worker import LoneWorker, Workers
from tests.world import Remote, SlowGit, World, run, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

WIP = "refs/outpost/wip/t-1"
SAVED = "its runner was killed; the work was saved afterwards"
OFTEN = {"checkpoint_s": 0.1}
WRITE = "echo a > a.txt; git add a.txt; git commit -qm 'My own words'; echo new > new.txt"


def shell(script: str) -> AgentOrder:
    return AgentOrder(name="command", argv=["sh", "-c", script], options={})


def branch(worker: LoneWorker) -> str:
    return str(worker.place.order()["branch"])


def begin(workers: Workers, script: str, **more: object) -> LoneWorker:
    """Start a first attempt, and wait until its agent has done what the script says."""
    worker = workers.start(shell(f"{script}; echo ready; sleep 600"), "Mend.", {}, fence=1, **more)
    worker.wait_for_text("log", "ready")
    return worker


def kill_its_carers(worker: LoneWorker) -> None:
    """Kill runner and understudy at once, and nothing else."""
    for pid in worker.place.pids("runner.pid"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not worker.place.cared_for(), "both are dead")


def after(earlier: LoneWorker, workers: Workers, script: str, *, here: bool) -> LoneWorker:
    """Start the next attempt, in the workspace of the last one if it is ``here``."""
    more: dict[str, object] = {"from_refs": [f"refs/heads/{branch(earlier)}", WIP]}
    if here:
        more["resume"] = Resume(
            worker_id=earlier.place.worker_id,
            session_id=None,
            cost_microusd=None,
            tree=earlier.tree.name,
        )
    return workers.start(shell(script), "Go on.", {}, fence=2, **more)


def subjects(remote: Remote, worker: LoneWorker) -> list[str]:
    return remote.git("log", "--format=%s", f"main..{branch(worker)}").splitlines()


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("where", ["here", "tree gone", "elsewhere"])
def test_the_work_of_a_dead_worker_is_gone_on_with(
    workers: Workers, elsewhere: Workers, remote: Remote, where: str, *, refused: bool
) -> None:
    first = begin(workers, WRITE, limits=OFTEN)
    first.until(lambda: "new.txt" in _files(remote, WIP), "a checkpoint with all of it")
    (first.tree / "last.txt").write_text("last\n")
    kill_its_carers(first)
    if refused:
        remote.reject_pushes("read-only")
    first.recover()
    attempt = first.result()
    assert (attempt.state, attempt.died) == (State.FAILED, True)
    assert attempt.reason.startswith(SAVED)
    assert attempt.kept_how == ("bundle" if refused else "remote")
    if refused:
        remote.accept_pushes()
    if where == "tree gone":
        shutil.rmtree(first.tree)

    made = elsewhere if where == "elsewhere" else workers
    script = "git branch --show-current > branch.txt; echo b > b.txt"
    second = after(first, made, script, here=where != "elsewhere")
    attempt = second.result()
    assert (attempt.state, attempt.reason, attempt.died) == (State.DONE, "", False)
    for name, text in (("a.txt", "a"), ("new.txt", "new"), ("b.txt", "b")):
        assert made.pushed(second, name) == text
    # What nobody could push is where it was written, and nowhere else.
    arrived = where == "here" or not refused
    assert ("last.txt" in _files(remote, branch(second))) is arrived
    assert made.pushed(second, "branch.txt") == branch(second)
    interim = [] if refused and where != "here" else ["WIP: Mend the words"]
    assert subjects(remote, second) == ["Mend the words", *interim, "My own words"]
    assert WIP not in remote.refs()
    assert (remote.tip(branch(first)) is None) is refused


def _files(remote: Remote, ref: str) -> list[str]:
    shown = remote.git("for-each-ref", "--format=x", ref, f"refs/heads/{ref}")
    return remote.git("ls-tree", "-r", "--name-only", ref).splitlines() if shown else []


def test_what_nobody_committed_is_still_uncommitted_on_the_new_branch(
    workers: Workers, remote: Remote
) -> None:
    first = begin(workers, f"{WRITE}; echo staged > staged.txt; git add staged.txt")
    first.kill()
    script = "(git status --porcelain; git branch --show-current) > seen.txt"
    second = after(first, workers, script, here=True)
    assert second.result().state is State.DONE
    seen = set(workers.pushed(second, "seen.txt").splitlines())
    assert seen == {"A  staged.txt", "?? new.txt", "?? seen.txt", branch(second)}
    assert subjects(remote, second) == ["Mend the words", "My own words"]
    assert NOTHING_LEFT not in second.texts("log")


@pytest.mark.parametrize("here", [True, False])
def test_where_nothing_was_left_the_base_is_begun_at(
    workers: Workers, elsewhere: Workers, *, here: bool
) -> None:
    first = begin(workers, "true")
    first.kill()
    if here:
        shutil.rmtree(first.tree)
    made = workers if here else elsewhere
    second = after(first, made, "ls > seen.txt", here=here)
    assert second.result().state is State.DONE
    assert second.texts("log").count(NOTHING_LEFT) == 1
    assert made.pushed(second, "seen.txt").splitlines() == ["more.txt", "seen.txt", "words.txt"]


def test_half_a_workspace_is_none(tmp_path: Path, workers: Workers, remote: Remote) -> None:
    slow = SlowGit(World(tmp_path, workers.environment, remote))
    slow.wait_in("-c")  # as it lays the files out
    first = workers.start(shell("true"), "Mend.", {}, fence=1)
    slow.pid()
    first.kill()
    assert (first.tree / ".git" / "HEAD").exists()
    assert not (first.tree / "words.txt").exists()
    slow.go_on()
    second = after(first, workers, "echo b > b.txt", here=True)
    assert second.result().state is State.DONE
    assert remote.git("diff", "--name-status", "main", branch(second)) == "A\tb.txt"


@pytest.mark.parametrize(
    ("checkpoint", "pushed"),
    [
        ("git commit -qam One; echo more > new.txt", "HEAD"),
        ("git commit -qam One; git commit -q --allow-empty -m Two; echo more > new.txt", "HEAD^"),
        ("echo one > new.txt", "more"),
        ("git commit -qam One; echo more > new.txt", "amended"),
    ],
    ids=["checkpoint on branch", "checkpoint ahead", "branch ahead", "branch amended since"],
)
def test_of_all_that_was_left_the_newest_is_begun_at(
    workers: Workers, elsewhere: Workers, remote: Remote, checkpoint: str, pushed: str
) -> None:
    """An agent that pushes by itself may be ahead of its last checkpoint, or behind it."""
    first = begin(workers, f"echo x > new.txt; git add .; {checkpoint}", limits=OFTEN)
    first.wait_for("checkpoint")
    until(lambda: remote.show(WIP, "new.txt") in ("more", "one"), "a checkpoint of all of it")
    first.kill()
    commit = remote.git("rev-parse", f"{WIP}^")
    if pushed == "HEAD^":
        commit = remote.git("rev-parse", f"{WIP}^^")
    elif pushed == "more":
        commit = _another(remote, WIP, f"{WIP}^", "2050-01-01T00:00:00Z")
    elif pushed == "amended":
        commit = _another(remote, f"{WIP}^", f"{WIP}^^", "2001-01-01T00:00:00Z")
    remote.git("update-ref", f"refs/heads/{branch(first)}", commit)
    second = after(first, elsewhere, "git log --format=%s > seen.txt", here=False)
    assert second.result().state is State.DONE
    expected = "one" if pushed == "more" else "more"
    assert elsewhere.pushed(second, "new.txt") == expected
    begun = elsewhere.pushed(second, "seen.txt").splitlines()
    assert ("Another" in begun) is (pushed == "more")
    assert WIP not in remote.refs()


def _another(remote: Remote, content: str, parent: str, made_at: str) -> str:
    """Make a commit with the files of one and the parent of another, and return it."""
    environment = {**remote.environment, "GIT_COMMITTER_DATE": made_at}
    words = ("commit-tree", "-m", "Another", "-p", parent, f"{content}^{{tree}}")
    return run("git", *words, environment=environment, cwd=remote.path)


@pytest.mark.parametrize("asked", ["signal", "message", "message nobody read"])
@pytest.mark.parametrize("guard", ["alive", "dead"])
def test_who_was_asked_to_stop_has_not_died_of_itself(
    workers: Workers, asked: str, guard: str
) -> None:
    worker = begin(workers, f"trap '' INT TERM; {WRITE}", limits={"grace_s": 60.0})
    watch, runner = worker.place.pids("runner.pid")
    if asked == "message nobody read":
        os.kill(runner, signal.SIGSTOP)
    if asked == "signal":
        os.kill(runner, signal.SIGTERM)
    else:
        worker.stop(grace_s=60.0)
    if asked != "message nobody read":
        until(Path(worker.place.path("stopping.json")).exists, "it was heard")
    for pid in (watch, runner) if guard == "dead" else (runner,):
        os.kill(pid, signal.SIGKILL)
    if guard == "dead":
        until(lambda: not worker.place.cared_for(), "both are dead")
        worker.recover()
    attempt = worker.result()
    reason = "terminated" if asked == "signal" else "stopped by the test"
    assert (attempt.state, attempt.reason, attempt.died) == (State.STOPPED, reason, False)
    assert workers.pushed(worker, "new.txt") == "new"


@pytest.mark.parametrize("guard", ["alive", "dead"])
def test_who_was_killed_says_so(workers: Workers, guard: str) -> None:
    worker = begin(workers, WRITE)
    watch, runner = worker.place.pids("runner.pid")
    os.kill(watch, signal.SIGKILL) if guard == "dead" else None
    os.kill(runner, signal.SIGKILL)
    if guard == "dead":
        until(lambda: not worker.place.cared_for(), "both are dead")
        worker.recover()
    attempt = worker.result()
    assert (attempt.state, attempt.reason, attempt.died) == (State.FAILED, SAVED, True)


def test_what_is_killed_after_its_grace_has_left_its_newest_work(
    tmp_path: Path, workers: Workers, elsewhere: Workers, remote: Remote
) -> None:
    """As a platform ends a machine: SIGTERM to the runner, and all of it killed a little later."""
    on = tmp_path / "on"
    script = (
        f"trap '' INT TERM; {WRITE}; echo ready; while [ ! -e {on} ]; do sleep 0.02; done;"
        " echo newest > new.txt; echo wrote; sleep 600"
    )
    limits = {"checkpoint_s": 3600.0, "grace_s": 20.0}
    first = workers.start(shell(script), "Mend.", {}, fence=1, limits=limits)
    first.wait_for_text("log", "ready")
    on.touch()
    first.wait_for_text("log", "wrote")
    assert WIP not in remote.refs()
    os.kill(first.place.pids("runner.pid")[1], signal.SIGTERM)
    until(lambda: WIP in remote.refs(), "a checkpoint", deadline_s=5)
    first.kill()
    assert not first.events("result")
    assert remote.show(WIP, "new.txt") == "newest"
    second = after(first, elsewhere, "cat new.txt > seen.txt", here=False)
    assert second.result().state is State.DONE
    assert elsewhere.pushed(second, "seen.txt") == "newest"

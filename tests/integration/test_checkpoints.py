"""Work in progress on the remote: what a checkpoint holds, when it is made, who goes on from it."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.model import State
from outpost.runner.workspace import NOTHING_LEFT
from outpost.wire.orders import AgentOrder, Resume
from tests.integration.lone_worker import LoneWorker, Workers
from tests.world import AUTHOR_EMAIL, AUTHOR_NAME, Remote, run, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

WIP = "refs/outpost/wip/t-1"
OFTEN = {"checkpoint_s": 0.1}
HARDLY = {"checkpoint_s": 3600.0}
WRITE = "echo right > words.txt; echo new > new.txt; echo x > cache.ignored"


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """Return a file outside of all workspaces that agents wait for."""
    return tmp_path / "go"


def shell(script: str) -> AgentOrder:
    return AgentOrder(name="command", argv=["sh", "-c", script], options={})


def wait_for(path: Path) -> str:
    """Return a script that waits until a file is there."""
    return f"while [ ! -e {shlex.quote(str(path))} ]; do sleep 0.02; done"


def git(worker: LoneWorker, *arguments: str) -> str:
    return run("git", *arguments, environment=worker.environment, cwd=worker.tree)


def runner_of(worker: LoneWorker) -> int:
    return worker.place.pids("runner.pid")[1]


def rounds(worker: LoneWorker, number: int) -> None:
    """Wait until that many more checkpoints were made, whether pushed or not."""
    path = Path(worker.place.path("checkpoint.json"))
    written = {path.stat().st_mtime_ns}

    def enough() -> bool:
        written.add(path.stat().st_mtime_ns)
        return len(written) > number

    until(enough, f"{number} rounds")


def test_a_checkpoint_holds_the_work_and_the_agent_sees_nothing_of_it(
    workers: Workers, remote: Remote, go: Path
) -> None:
    script = (
        "echo stashed > words.txt; git stash -q; echo a > a.txt; git add a.txt;"
        f"git commit -qm 'My own words'; {WRITE}; echo s > staged.txt; git add staged.txt;"
        "for hook in pre-commit post-index-change reference-transaction pre-push; do"
        f" printf '#!/bin/sh\\ntouch {go}.hook\\n' > .git/hooks/$hook; chmod +x .git/hooks/$hook;"
        f" done; {wait_for(go)}"
    )
    author = {"name": AUTHOR_NAME, "email": AUTHOR_EMAIL}
    script = f"mkdir .git/hooks; {script}"
    worker = workers.start(shell(script), "Mend.", {}, limits=OFTEN, author=author)
    worker.until(lambda: "staged.txt" in _files(remote), "a checkpoint with all files")
    look = (("status", "--porcelain"), ("stash", "list"), ("for-each-ref",), ("rev-parse", "HEAD"))
    until(lambda: os.access(worker.tree / ".git/hooks/pre-push", os.X_OK), "the hooks lie there")
    before = [git(worker, "--no-optional-locks", *words) for words in look]
    index = (worker.tree / ".git" / "index").read_bytes()
    (worker.tree / "late.txt").write_text("late\n")
    worker.until(lambda: "late.txt" in _files(remote), "another checkpoint")

    assert (worker.tree / ".git" / "index").read_bytes() == index
    after = [git(worker, "--no-optional-locks", *words) for words in look]
    assert [text.replace("\n?? late.txt", "") for text in after] == before
    assert "A  staged.txt" in before[0]
    assert "WIP on" in before[1]
    assert not Path(f"{go}.hook").exists()
    assert remote.show(WIP, "words.txt") == "right"
    assert "cache.ignored" not in _files(remote)
    assert remote.git("log", "--format=%s", f"main..{WIP}").splitlines() == [
        "WIP: Mend the words",
        "My own words",
    ]
    by = remote.git("log", "-1", "--format=%an <%ae>", WIP)
    assert by == f"{AUTHOR_NAME} <{AUTHOR_EMAIL}>"
    until(lambda: worker.fields("checkpoint")[-1]["commit"] == remote.refs()[WIP], "its event")

    go.touch()
    assert worker.result().state is State.DONE
    assert WIP not in remote.refs()
    assert workers.pushed(worker, "late.txt") == "late"
    branch = f"outpost/words-1-{worker.place.worker_id}"
    subjects = remote.git("log", "--format=%s", f"main..{branch}").splitlines()
    assert subjects == ["Mend the words", "My own words"]


def _files(remote: Remote) -> list[str]:
    if WIP not in remote.refs():
        return []
    return remote.git("ls-tree", "-r", "--name-only", WIP).splitlines()


def test_what_has_not_changed_is_not_pushed_again(
    workers: Workers, remote: Remote, go: Path, tmp_path: Path
) -> None:
    pushes = _count_pushes(remote, tmp_path)
    script = f"{wait_for(go)}; {WRITE}; {wait_for(Path(f'{go}.on'))}"
    worker = workers.start(shell(script), "Mend.", {}, limits=OFTEN)
    worker.until(lambda: Path(worker.place.path("checkpoint.json")).exists(), "the clock runs")
    rounds(worker, 3)
    assert not pushes.exists()
    go.touch()
    worker.wait_for("checkpoint")
    until(lambda: set(_files(remote)) >= {"new.txt"}, "all of it")
    rounds(worker, 2)
    before = pushes.read_text()
    rounds(worker, 3)
    assert pushes.read_text() == before
    assert len(worker.events("checkpoint")) == len(before.splitlines())
    Path(f"{go}.on").touch()
    assert worker.result().state is State.DONE


def _count_pushes(remote: Remote, folder: Path) -> Path:
    """Let the remote write a line into the returned file for every push it takes."""
    pushes = folder / "pushes"
    hook = remote.path / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho pushed >> {pushes}\n")
    hook.chmod(0o755)
    return pushes


def test_a_commit_of_the_agents_is_a_checkpoint_as_it_is(
    workers: Workers, remote: Remote, go: Path
) -> None:
    script = f"{WRITE}; git add .; git commit -qm A; touch {go}.done; {wait_for(go)}"
    worker = workers.start(shell(script), "Mend.", {}, limits=HARDLY)
    until(lambda: Path(f"{go}.done").exists(), "the agent has committed")
    head = git(worker, "rev-parse", "HEAD")
    os.kill(runner_of(worker), signal.SIGTERM)
    worker.wait_for("result")
    commits = [fields["commit"] for fields in worker.fields("checkpoint")]
    assert commits in ([], [head])  # the agent may be gone before a checkpoint is made
    go.touch()
    assert worker.result().state is State.STOPPED


@pytest.mark.parametrize("limits", [HARDLY, {}, {"checkpoint_s": None}])
def test_sigterm_makes_one_while_the_agent_is_still_asked_to_end(
    workers: Workers, remote: Remote, go: Path, limits: dict[str, float | None]
) -> None:
    script = f"trap '' INT TERM; {WRITE}; touch {go}.ready; {wait_for(go)}"
    worker = workers.start(shell(script), "Mend.", {}, limits={"grace_s": 20.0, **limits})
    until(lambda: Path(f"{go}.ready").exists(), "the agent has written")
    os.kill(runner_of(worker), signal.SIGTERM)
    if limits == HARDLY:
        worker.wait_for("checkpoint")
        assert not worker.events("result")
        assert remote.show(WIP, "new.txt") == "new"
    go.touch()
    attempt = worker.result()
    assert (attempt.state, attempt.reason) == (State.STOPPED, "terminated")
    assert workers.pushed(worker, "new.txt") == "new"
    assert len(worker.events("checkpoint")) == (1 if limits == HARDLY else 0)
    assert not remote.refs("refs/outpost/")


def test_another_worker_goes_on_from_what_a_killed_one_left(
    workers: Workers, elsewhere: Workers, remote: Remote, go: Path
) -> None:
    script = f"echo a > a.txt; git add a.txt; git commit -qm 'My own words'; {WRITE}"
    worker = workers.start(shell(f"{script}; {wait_for(go)}"), "Mend.", {}, limits=OFTEN)
    worker.until(lambda: "new.txt" in _files(remote), "a checkpoint with all files")
    worker.kill()

    seen = Path(f"{go}.seen")
    script = f"(git status --porcelain; git log --format=%s main..) > {seen}; echo b > b.txt"
    start = [WIP]
    script = script.replace("main..", "origin/main..")
    heir = elsewhere.start(shell(script), "Go on.", {}, limits=HARDLY, from_refs=start)
    assert heir.result().state is State.DONE
    assert seen.read_text().splitlines() == [" M words.txt", "?? new.txt", "My own words"]
    for path, text in (("words.txt", "right"), ("new.txt", "new"), ("b.txt", "b")):
        assert elsewhere.pushed(heir, path) == text
    branch = f"outpost/words-1-{heir.place.worker_id}"
    subjects = remote.git("log", "--format=%s", f"main..{branch}").splitlines()
    assert subjects == ["Mend the words", "My own words"]
    assert not remote.refs("refs/outpost/")


def test_an_heir_that_is_killed_too_leaves_all_of_it(
    workers: Workers, elsewhere: Workers, remote: Remote, go: Path
) -> None:
    first = workers.start(shell(f"{WRITE}; {wait_for(go)}"), "Mend.", {}, limits=OFTEN)
    first.until(lambda: "new.txt" in _files(remote), "a checkpoint")
    first.kill()
    start = [WIP]
    script = f"echo b > b.txt; {wait_for(go)}"
    heir = elsewhere.start(shell(script), "Go on.", {}, limits=OFTEN, from_refs=start)
    heir.until(lambda: "b.txt" in _files(remote), "a checkpoint of its own")
    assert set(_files(remote)) >= {"new.txt", "b.txt"}
    assert remote.git("log", "--format=%s", f"main..{WIP}").splitlines() == ["WIP: Mend the words"]
    go.touch()
    assert heir.result().state is State.DONE
    assert not remote.refs("refs/outpost/")


@pytest.mark.parametrize("kind", ["partial", "empty", "resumed"])
def test_an_heir_goes_on_in_all_kinds_of_repositories(
    tmp_path: Path, isolated_environment: dict[str, str], served_remote: Remote, kind: str
) -> None:
    remote = served_remote
    remote.git("config", "uploadpack.allowFilter", "true")
    if kind == "empty":
        path = tmp_path / "empty.git"
        remote.git("init", "-q", "--bare", "-bmain", str(path))
        remote = Remote(path, str(path), isolated_environment)
    here = Workers(tmp_path / "here", isolated_environment, remote)
    there = Workers(tmp_path / "there", isolated_environment, remote)
    commit = "" if kind == "empty" else "git rm -q more.txt; git commit -qm 'My own words'; "
    script = f"{commit}echo right > words.txt; echo new > new.txt; sleep 60"
    first = here.start(shell(script), "Mend.", {}, limits=OFTEN)
    first.until(lambda: {"words.txt", "new.txt"} <= set(_files(remote)), "a checkpoint")
    first.until(lambda: remote.show(WIP, "words.txt") == "right", "a checkpoint of both")
    first.kill()
    more: dict[str, object] = {"from_refs": [WIP]}
    if kind == "resumed":
        earlier = first.place.worker_id
        more["resume"] = Resume(
            worker_id=earlier, tree=earlier, session_id=None, cost_microusd=None
        )
    script = "said=$(git status --porcelain | sed 's/^ /./'); echo \"$said\" > seen.txt"
    heir = there.start(shell(script), "Go on.", {}, **more)
    attempt = heir.result()
    assert (attempt.state, attempt.reason) == (State.DONE, "")
    changed = "??" if kind == "empty" else ".M"
    seen = set(there.pushed(heir, "seen.txt").splitlines())
    assert seen == {f"{changed} words.txt", "?? new.txt"}
    assert there.pushed(heir, "new.txt") == "new"
    assert "more.txt" not in remote.git("ls-tree", "--name-only", heir.place.order()["branch"])
    assert not remote.refs("refs/outpost/")


def test_files_in_lfs_are_part_of_it(
    workers: Workers, elsewhere: Workers, remote: Remote, require: Callable[[str], str], go: Path
) -> None:
    require("git-lfs")
    clone = remote.path.parent / "sample"
    for words in (
        ("lfs", "install", "--local"),
        ("lfs", "track", "*.bin"),
        ("add", "."),
        ("commit", "-qmTrack large files"),
        ("push", "-q", str(remote.path), "HEAD:main"),
    ):
        run("git", *words, environment=remote.environment, cwd=clone)
    script = f"echo large > large.bin; {wait_for(go)}"
    first = workers.start(shell(script), "Mend.", {}, limits=OFTEN)
    first.until(lambda: "large.bin" in _files(remote), "a checkpoint")
    first.kill()
    assert remote.show(WIP, "large.bin").startswith("version https://git-lfs")
    start = [WIP]
    heir = elsewhere.start(shell("cat large.bin > seen.txt"), "Go on.", {}, from_refs=start)
    assert heir.result().state is State.DONE
    assert elsewhere.pushed(heir, "seen.txt") == "large"
    assert elsewhere.pushed(heir, "large.bin").startswith("version https://git-lfs")


@pytest.mark.parametrize("gone", [False, True])
def test_a_checkpoint_that_was_moved_is_begun_at_as_it_is_now(
    workers: Workers, remote: Remote, *, gone: bool
) -> None:
    if not gone:
        remote.git("update-ref", WIP, "refs/heads/release/1")
    worker = workers.start(shell("ls > seen.txt"), "Go on.", {}, limits=OFTEN, from_refs=[WIP])
    assert worker.result().state is State.DONE
    assert ("more.txt" in workers.pushed(worker, "seen.txt")) is gone
    assert (NOTHING_LEFT in worker.texts("log")) is gone
    assert not remote.refs("refs/outpost/")


def test_a_remote_that_is_away_for_a_while_harms_nothing(
    workers: Workers, remote: Remote, go: Path
) -> None:
    script = f"{wait_for(go)}; {WRITE}; {wait_for(Path(f'{go}.on'))}"
    worker = workers.start(shell(script), "Mend.", {}, limits=OFTEN)
    worker.until(lambda: Path(worker.place.path("checkpoint.json")).exists(), "the clock runs")
    away = remote.path.rename(remote.path.with_suffix(".away"))
    go.touch()
    worker.wait_for_text("log", "no checkpoint: ")
    rounds(worker, 4)
    assert len([text for text in worker.texts("log") if "no checkpoint" in text]) == 1
    away.rename(remote.path)
    worker.wait_for("checkpoint")
    Path(f"{go}.on").touch()
    assert worker.result().state is State.DONE
    assert workers.pushed(worker, "new.txt") == "new"


def test_the_checkpoint_stays_where_the_work_cannot_be_pushed(
    workers: Workers, remote: Remote, go: Path
) -> None:
    worker = workers.start(shell(f"{WRITE}; {wait_for(go)}"), "Mend.", {}, limits=OFTEN)
    worker.until(lambda: "new.txt" in _files(remote), "a checkpoint")
    remote.reject_pushes("closed")
    go.touch()
    attempt = worker.result()
    assert (attempt.state, attempt.kept_how) == (State.FAILED, "bundle")
    assert "new.txt" in _files(remote)


def test_the_work_does_not_wait_for_a_checkpoint(
    workers: Workers, remote: Remote, go: Path
) -> None:
    hook = remote.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hangs = Path(f"{go}.hangs")
    hook.write_text(f"#!/bin/sh\ngrep -q {WIP} || exit 0\ntouch {hangs}\n{wait_for(go)}\n")
    hook.chmod(0o755)
    said = Path(f"{go}.say")
    script = f"{WRITE}; {wait_for(said)}; echo still here"
    worker = workers.start(shell(script), "Mend.", {}, limits=OFTEN)
    until(hangs.exists, "a checkpoint hangs")
    said.touch()
    worker.wait_for_text("log", "still here")
    assert worker.result().state is State.DONE
    assert workers.pushed(worker, "new.txt") == "new"
    assert not remote.refs("refs/outpost/")


def test_a_killed_runners_understudy_takes_the_checkpoint_away(
    workers: Workers, remote: Remote, go: Path
) -> None:
    worker = workers.start(shell(f"{WRITE}; {wait_for(go)}"), "Mend.", {}, limits=OFTEN)
    worker.until(lambda: "new.txt" in _files(remote), "a checkpoint")
    os.kill(runner_of(worker), signal.SIGKILL)
    assert worker.result().state is State.FAILED
    assert workers.pushed(worker, "new.txt") == "new"
    assert not remote.refs("refs/outpost/")

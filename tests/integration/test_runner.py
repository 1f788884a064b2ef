"""One attempt from order to pushed branch: what the agent gets, what becomes of its work."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from outpost.federation import SpawnOptions
from outpost.model import State
from tests.world import AUTHOR_EMAIL, AUTHOR_NAME, CONFIG, Remote, World, text_of, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MEND = "echo 'the words are right' > words.txt"


async def test_the_work_arrives_as_a_branch_of_the_user(world: World) -> None:
    attempt = await world.outcome(f"{MEND}; echo new > new.txt; echo mended")
    assert (attempt.state, attempt.reason) == (State.DONE, "")
    assert world.remote.tip(attempt.branch) == attempt.commit
    assert world.remote.show(attempt.branch, "words.txt") == "the words are right"
    assert world.remote.show(attempt.branch, "new.txt") == "new"
    author = world.remote.git("log", "-1", "--format=%an <%ae>|%cn <%ce>", attempt.branch)
    me = f"{AUTHOR_NAME} <{AUTHOR_EMAIL}>"
    assert author == f"{me}|{me}"
    message = world.remote.git("log", "-1", "--format=%B", attempt.branch)
    assert message == (f"Mend the words\n\nIssue: {attempt.issue_id}\nOutpost-Worker: {attempt.id}")
    trailers = world.remote.git("log", "-1", "--format=%(trailers)", attempt.branch)
    assert trailers.splitlines() == message.splitlines()[2:]
    parent = world.remote.git("rev-parse", f"{attempt.branch}^")
    assert parent == world.remote.tip("main")
    assert attempt.kept_how == "remote"
    assert attempt.exit_code == 0


async def test_the_workspace_goes_when_done_and_stays_after_a_failure(world: World) -> None:
    async with world.federation() as federation:
        done = await (await world.spawn(federation, MEND)).result()
        failed = await (await world.spawn(federation, f"{MEND}; exit 3")).result()
    until(lambda: not world.tree(done.id).exists(), "the workspace is removed")
    assert (failed.state, failed.reason) == (State.FAILED, "the agent exited 3")
    assert failed.exit_code == 3
    assert world.remote.show(failed.branch, "words.txt") == "the words are right"
    assert world.remote.git("log", "-1", "--format=%s", failed.branch) == "WIP: Mend the words"
    assert (world.tree(failed.id) / "words.txt").read_text() == "the words are right\n"


async def test_the_agent_gets_the_task_and_only_allowed_variables(world: World) -> None:
    world.environment |= {"MY_SECRET": "hunter2", "ANTHROPIC_API_KEY": "k", "SSH_AUTH_SOCK": "/s"}
    script = (
        'cat > stdin.txt; cp "$OUTPOST_TASK_FILE" task.txt; env > env.txt; pwd > pwd.txt;'
        'echo "$OUTPOST_ISSUE|$OUTPOST_TITLE|$OUTPOST_BRANCH" > said.txt'
    )
    attempt = await world.outcome(script)
    show = world.remote.show
    assert "Mend the words" in show(attempt.branch, "stdin.txt")
    assert show(attempt.branch, "task.txt") == show(attempt.branch, "stdin.txt")
    said = f"{attempt.issue_id}|Mend the words|{attempt.branch}"
    assert show(attempt.branch, "said.txt") == said
    assert show(attempt.branch, "pwd.txt") == str(world.tree(attempt.id))
    rows = show(attempt.branch, "env.txt").splitlines()
    variables = {row.partition("=")[0] for row in rows}
    assert "hunter2" not in "\n".join(rows)
    assert variables == {
        *("HOME", "LANG", "PATH", "PWD", "OUTPOST_WORKER_ID"),
        *("OUTPOST_TASK_FILE", "OUTPOST_ISSUE", "OUTPOST_TITLE", "OUTPOST_BRANCH"),
        *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
    } | (variables & {"SHLVL", "_", "OLDPWD"})


async def test_a_variable_let_through_by_name_arrives(world: World) -> None:
    world.environment["MY_TOKEN"] = "let-through"
    config = f"{CONFIG}agents:\n  command:\n    env: [MY_TOKEN]\n"
    attempt = await world.outcome('echo "$MY_TOKEN" > token.txt', config=config)
    assert world.remote.show(attempt.branch, "token.txt") == "let-through"


async def test_no_secret_is_ever_on_a_disk(world: World) -> None:
    world.environment["MY_TOKEN"] = "let-through"
    config = f"{CONFIG}agents:\n  command:\n    env: [MY_TOKEN]\n"
    async with world.federation(config=config) as federation:
        worker = await world.spawn(federation, f"{MEND}; [ $MY_TOKEN ] && echo ready; read line")
        world.wait_for_line(worker.id, "ready")
        look = ["grep", "-rlFs", "let-through", str(world.home)]
        assert subprocess.run(look, stdout=subprocess.PIPE, check=False).stdout == b""
        await worker.stop()


async def test_commits_of_the_agent_are_kept_as_they_are(world: World) -> None:
    script = f"{MEND}; git commit -qam 'My own words'; echo late > late.txt"
    attempt = await world.outcome(script)
    subjects = world.remote.git("log", "--format=%s", f"main..{attempt.branch}").splitlines()
    assert subjects == ["Mend the words", "My own words"]
    assert world.remote.git("log", "-1", "--format=%an", f"{attempt.branch}^") == AUTHOR_NAME


@pytest.mark.parametrize("after", ["", "; echo more > more.txt", "; git commit -q --amend -mB"])
async def test_an_agent_may_push_itself(world: World, after: str) -> None:
    script = f"{MEND}; git commit -qam A; git push -q origin HEAD{after}"
    attempt = await world.outcome(script)
    assert (attempt.state, attempt.reason) == (State.DONE, "")
    assert world.remote.tip(attempt.branch) == attempt.commit
    assert world.remote.show(attempt.branch, "words.txt") == "the words are right"


async def test_an_agent_that_changes_nothing_leaves_no_branch(world: World) -> None:
    attempt = await world.outcome("true")
    assert (attempt.state, attempt.reason) == (State.DONE, "the agent changed nothing")
    assert attempt.commit is None
    assert world.remote.tip(attempt.branch) is None
    until(lambda: not world.tree(attempt.id).exists(), "the workspace is removed")


async def test_ignored_files_are_not_work(world: World) -> None:
    attempt = await world.outcome("echo x > cache.ignored")
    assert (attempt.state, attempt.reason) == (State.DONE, "the agent changed nothing")


def _reached(remote: Remote, worker_id: str) -> set[str]:
    """Return the subjects of all commits that arrived for a worker, as branch or in progress."""
    refs = [ref for ref in remote.refs() if worker_id in ref]
    return set(remote.git("log", "--format=%s", *refs, "--not", "main").splitlines())


@pytest.mark.parametrize(
    ("script", "subjects"),
    [
        ("git switch -qc other; {}; git commit -qam A", {"A"}),
        ("git checkout -q --detach; {}; git commit -qam A", {"A"}),
        ("git checkout -q --detach; {}", {"Mend the words"}),
        (
            "git switch -qc x; {}; git commit -qam A; git switch -q -; touch b",
            {"A", "Mend the words"},
        ),
        ("git switch -qc x; {}; git commit -qam A; git switch -q -", {"A"}),
        ("git switch -q --orphan o; {}; git add .; git commit -qm O", {"O"}),
    ],
)
async def test_work_on_other_branches_reaches_the_remote(
    world: World, script: str, subjects: set[str]
) -> None:
    attempt = await world.outcome(script.format(MEND))
    assert attempt.state is State.DONE
    assert _reached(world.remote, attempt.id) == subjects
    if attempt.commit is None:
        assert "other branches" in attempt.reason


async def test_stashes_reach_the_remote_each_of_them(world: World) -> None:
    script = f"{MEND}; git stash -q; echo second > words.txt; git stash -q; echo b > b.txt"
    attempt = await world.outcome(script)
    assert attempt.state is State.DONE
    kept = world.remote.refs(f"refs/outpost/wip/{attempt.id}/")
    contents = {world.remote.show(ref, "words.txt") for ref in kept}
    assert contents == {"the words are right", "second"}
    assert world.remote.show(attempt.branch, "b.txt") == "b"


async def test_a_repository_inside_the_repository_keeps_the_workspace(world: World) -> None:
    inner = "mkdir inner; cd inner; git init -q; echo i > i.txt; git add .; git commit -qmI"
    async with world.federation() as federation:
        worker = await world.spawn(federation, f"{MEND}; {inner}")
        attempt = await worker.result()
        world.gone(worker.id)
        assert (world.tree(worker.id) / "inner" / "i.txt").read_text() == "i\n"
        assert attempt.state is State.DONE
        with pytest.raises(Exception, match="repository inside"):
            await worker.remove()
        assert (world.tree(worker.id) / "inner" / "i.txt").exists()
        await worker.remove(force=True)
        assert not world.tree(worker.id).exists()


async def test_a_worktree_of_the_agent_keeps_the_workspace(world: World) -> None:
    script = "git worktree add -q wt.ignored -b side; echo unsaved > wt.ignored/unsaved.txt"
    async with world.federation() as federation:
        worker = await world.spawn(federation, script)
        await worker.result()
        world.gone(worker.id)
        assert (world.tree(worker.id) / "wt.ignored" / "unsaved.txt").exists()
        with pytest.raises(Exception, match="worktree"):
            await worker.remove()


@pytest.mark.parametrize("then", ["", "; git init -q; git add .; git commit -qm Anew"])
async def test_an_agent_that_deletes_git_loses_no_work(world: World, then: str) -> None:
    attempt = await world.outcome(f"{MEND}; rm -rf .git{then}")
    world.gone(attempt.id)
    if then:
        assert world.remote.show(attempt.branch, "words.txt") == "the words are right"
    else:
        assert attempt.state is State.FAILED
        assert (attempt.kept_how, attempt.kept_where) == ("workspace", str(world.tree(attempt.id)))
        assert (world.tree(attempt.id) / "words.txt").read_text() == "the words are right\n"


async def test_an_agent_that_renames_the_remote_is_pushed_where_it_was_ordered(
    world: World, tmp_path: Path
) -> None:
    fork = tmp_path / "fork.git"
    world.remote.git("clone", "-q", "--bare", ".", str(fork))
    script = f"git remote rename origin up; git remote add origin {shlex.quote(str(fork))}; {MEND}"
    attempt = await world.outcome(script)
    assert attempt.state is State.DONE
    assert world.remote.tip(attempt.branch) == attempt.commit


@pytest.mark.parametrize("base", ["main", "release/1", "v1", "commit", "refs/heads/main"])
async def test_the_base_may_be_a_branch_a_tag_or_a_commit(world: World, base: str) -> None:
    first = world.remote.git("rev-parse", "v1^{commit}")
    attempt = await world.outcome(MEND, base=first if base == "commit" else base)
    assert attempt.state is State.DONE
    parent = world.remote.git("rev-parse", f"{attempt.branch}^")
    assert parent == (world.remote.tip("main") if "main" in base else first)


async def test_a_base_that_was_a_folder_of_bases_is_found(world: World) -> None:
    async with world.federation() as federation:
        first = await (await world.spawn(federation, MEND, base="release/1")).result()
        world.remote.git("branch", "-D", "release/1")
        world.remote.git("branch", "release", "main")
        second = await (await world.spawn(federation, MEND, base="release")).result()
    assert (first.state, second.state, second.reason) == (State.DONE, State.DONE, "")


async def test_a_renamed_default_branch_is_noticed(world: World) -> None:
    async with world.federation() as federation:
        first = await (await world.spawn(federation, MEND)).result()
        world.remote.git("branch", "-m", "main", "trunk")
        second = await (await world.spawn(federation, MEND)).result()
    assert (first.state, second.state, second.reason) == (State.DONE, State.DONE, "")


@pytest.mark.parametrize("base", ["nonesuch", "0" * 40, "main:evil", "-x", "*"])
async def test_a_base_that_does_not_exist_is_a_clear_failure(world: World, base: str) -> None:
    attempt = await world.outcome(MEND, base=base)
    assert attempt.state is State.FAILED
    assert base in attempt.reason, attempt.reason
    assert "Traceback" not in attempt.reason
    world.gone(attempt.id)


async def test_a_repository_that_is_not_there_is_a_clear_failure(
    world: World, served_remote: Remote
) -> None:
    missing = Remote(served_remote.path, served_remote.url + "x", served_remote.environment)
    attempt = await world.outcome(MEND, remote=missing)
    assert attempt.state is State.FAILED
    assert "remote.gitx" in attempt.reason, attempt.reason


async def test_a_server_that_is_not_there_is_a_clear_failure(world: World, remote: Remote) -> None:
    dead = Remote(remote.path, "git://127.0.0.1:9/remote.git", remote.environment)
    attempt = await world.outcome(MEND, remote=dead)
    assert attempt.state is State.FAILED
    assert "127.0.0.1" in attempt.reason, attempt.reason
    assert "refused" in attempt.reason, attempt.reason


async def test_a_program_that_is_not_there_is_a_clear_failure(world: World) -> None:
    async with world.federation() as federation:
        options = SpawnOptions(repo=world.remote.url, argv=("no-such-program",))
        worker = await federation.spawn("text:x", options)
        attempt = await worker.result()
    assert attempt.state is State.FAILED
    assert "no-such-program" in attempt.reason


async def test_lines_arrive_by_stream_and_in_order(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, "echo one; echo two; printf three; echo bad >&2")
        await worker.result()
        assert await text_of(worker) == ["one", "two", "three"]
        assert await text_of(worker, "stderr") == ["bad"]

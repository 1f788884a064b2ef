"""Conversations that meet a fault: messages cut short or too late, screens that do not open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outpost.model import State
from outpost.runner.agents import Agent
from outpost.runner.conversation import Conversation
from outpost.runner.loop import Loop
from outpost.wire.orders import AgentOrder
from tests.doubles.messages_api import MessagesApi, Text, ToolUse, Turn, by_turn
from tests.integration.claude_program import claude_environment, require_claude
from tests.integration.cli_world import OUTPOST, Cli
from tests.integration.lone_worker import Workers
from tests.unit.orders import order_for
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def cli(world: World) -> Cli:
    return Cli(world)


def command(script: str) -> AgentOrder:
    return AgentOrder(name="command", argv=["sh", "-c", script], options={})


def test_a_stop_is_heard_behind_a_message_that_was_cut_short(cli: Cli) -> None:
    worker = cli.spawn("sleep 60")["worker"]
    until(lambda: cli("status", worker, "--json").json()["state"] == "working", "it works")
    inbox = cli.world.place(worker) / "inbox.jsonl"
    inbox.write_bytes(b'{"type": "text", "te')
    cli("stop", worker, "--grace", "4s")
    stopped = cli("status", worker, "--json").json()
    assert (stopped["state"], stopped["reason"]) == ("stopped", "by outpost stop")
    assert "a message could not be read" in cli("logs", worker).out


def test_a_message_that_nobody_read_is_no_success(cli: Cli) -> None:
    remote = cli.world.remote
    reached, opened = remote.path / "reached", remote.path / "opened"
    hook = remote.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {reached}\nwhile [ ! -e {opened} ]; do sleep 0.05; done\n")
    hook.chmod(0o755)
    worker = cli.spawn("echo new > new.txt; sleep 60")["worker"]
    until(cli.world.tree(worker).joinpath("new.txt").exists, "it has written")
    os.kill(cli.world.pids(worker)[1], signal.SIGKILL)
    until(reached.exists, "its work is being saved")
    sending = cli.start("send", worker, "anyone?", "--wait")
    until((cli.world.place(worker) / "inbox.jsonl").exists, "the message lies there")
    opened.touch()
    _, said = sending.communicate(timeout=30)
    assert sending.returncode == 1
    assert f"{worker} did not take it: it had ended before it read it" in said
    assert f"hint: outpost resume {worker}" in said


def test_words_that_are_no_utf_8_reach_the_agent_all_the_same(cli: Cli) -> None:
    worker = cli.spawn("cat", "--wait")["worker"]
    argv = [*map(os.fsencode, OUTPOST), b"resume", worker.encode(), b"-m", b"caf\xe9", b"--wait"]
    done = subprocess.run(
        argv, env=cli.world.environment, cwd=cli.here, capture_output=True, check=False
    )
    assert done.returncode == 0, done
    assert "caf?" in cli("logs", cli("ps", "-a", "--json").json()[-1]["worker"]).out


class Listener(Agent):
    """An agent that is only asked and told."""

    two_way = True

    def say(self, text: str) -> None:
        self.outgoing += text.encode()


def test_a_question_whose_asker_died_is_not_waited_for(runner_loop: Loop) -> None:
    written: list[tuple[str, dict[str, Any]]] = []
    agent = Listener(order_for(command("true")), "/", "/task.md")
    conversation = Conversation(
        agent, runner_loop, lambda type_, fields: written.append((type_, fields)), None
    )
    conversation.begin()
    for name in ("q-1", "q-2"):
        conversation.asked({"question_id": name, "kind": "question", "text": name, "options": []})
    conversation.end()
    assert not conversation.waiting
    assert written[-3:] == [
        ("answer", {"question_id": "q-1", "text": "", "by": "agent"}),
        ("answer", {"question_id": "q-2", "text": "", "by": "agent"}),
        ("status", {"state": "working"}),
    ]


def test_what_comes_on_standard_error_is_no_silence(workers: Workers) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 0.4; echo $i >&2; done"
    worker = workers.start(command(script), "Mend.", {}, limits={"silence_s": 2.0})
    ended = worker.result()
    assert (ended.state, ended.reason) == (State.DONE, "the agent changed nothing")


def test_a_screen_that_does_not_open_leaves_no_secrets(workers: Workers) -> None:
    fails = ["sh", "-c", "echo no server >&2; exit 1"]
    missing = ["no-such-tmux"]
    for argv, why in (fails, "no server"), (missing, "there is no program 'no-such-tmux'"):
        worker = workers.start(
            command("true"),
            "Mend.",
            {"TOKEN": "a secret"},
            interactive=True,
            view={"argv": argv, "environment": workers.environment},
        )
        ended = worker.result()
        assert ended.state is State.FAILED
        assert ended.reason == f"cannot open a terminal session: {why}"
        assert not Path(worker.place.path("screen.json")).exists()


def test_a_screen_is_opened_again_where_the_session_server_was_just_ending(
    workers: Workers,
) -> None:
    places = workers.folder / "site" / "workers"
    show = f"setsid {sys.executable} -m outpost.runner screen {places}/* </dev/null &"
    first = workers.folder / "first"
    script = f"[ -e {first} ] || {{ touch {first}; exit 1; }}; {show}"
    worker = workers.start(
        command("echo new > new.txt"),
        "Mend.",
        {},
        interactive=True,
        view={"argv": ["sh", "-c", script], "environment": workers.environment},
    )
    assert worker.result().state is State.DONE
    assert workers.pushed(worker, "new.txt") == "new"


def test_a_stop_while_a_screen_opens_leaves_nothing_to_start(workers: Workers) -> None:
    worker = workers.start(
        command("true"),
        "Mend.",
        {},
        interactive=True,
        view={"argv": ["true"], "environment": workers.environment},
    )
    until(Path(worker.place.path("screen.json")).exists, "the screen is about to open")
    worker.stop()
    ended = worker.result()
    assert (ended.state, ended.reason) == (State.STOPPED, "stopped by the test")
    assert not Path(worker.place.path("screen.json")).exists()


def test_a_screen_keeps_the_time_limit_it_was_given(cli: Cli) -> None:
    worker = cli.spawn("sleep 60", "-i", "--time-limit", "1s", "--wait", code=1)
    assert (worker["state"], worker["reason"]) == ("stopped", "reached its time limit of 1 s")


def test_a_program_that_outlives_its_terminal_is_ended(cli: Cli) -> None:
    script = "trap '' HUP; echo half > half.txt; sleep 60 <&- >&- 2>&-"
    worker = cli.spawn(script, "-i")["worker"]
    until(cli.world.tree(worker).joinpath("half.txt").exists, "it has written")
    screen, *_ = (cli.world.place(worker) / "screen.pid").read_text().split()
    os.kill(int(screen), signal.SIGKILL)
    until(lambda: cli("status", worker, "--json").json()["state"] == "stopped", "it is stopped")
    ended = cli("status", worker, "--json").json()
    assert ended["reason"] == "its tmux session was closed"
    assert cli.world.remote.show(ended["branch"], "half.txt") == "half"


def test_a_worker_that_another_goes_on_from_stays(cli: Cli) -> None:
    cli.world.remote.reject_pushes("closed")
    script = "cat $OUTPOST_TASK_FILE; ls; date >> made.txt; exit 1"
    first = cli.spawn(script, "--wait", message="The issue", code=1)["worker"]
    second = cli("resume", first, "-m", "second", "--wait", "--json", code=1).json()["worker"]
    kept = cli("rm", first, code=2)
    assert kept.err.startswith(f"error: {second} goes on from {first}")
    assert f"hint: outpost rm {second}" in kept.err

    cli("rm", "--force", first)
    third = cli("resume", second, "-m", "third", "--wait", "--json", code=1).json()["worker"]
    assert cli.world.place(third).joinpath("base").exists()
    logged = cli("logs", third).out
    assert "made.txt" in logged, "it goes on in the same workspace"
    assert not cli.world.tree(second).exists()
    cli("rm", "--force", second, third)
    assert not cli.world.tree(first).exists()


def test_a_worker_that_a_queued_task_goes_on_from_stays(cli: Cli) -> None:
    (cli.here / "outposts.yaml").write_text(
        "outposts: [{name: local, type: local, max_workers: 1}]\n"
    )
    first = cli.spawn("cat $OUTPOST_TASK_FILE; exit 1", "--wait", message="The issue", code=1)
    other = cli.spawn("sleep 60", message="Another")["worker"]
    task = cli("resume", first["worker"], "-m", "more", "--json").json()["task"]
    kept = cli("rm", first["worker"], code=2)
    assert kept.err.startswith(f"error: {task} goes on from {first['worker']}")
    assert f"hint: outpost stop {task}" in kept.err
    cli("stop", "the-issue")
    cli("rm", first["worker"])
    cli("stop", other)


def test_a_stop_takes_back_a_worker_that_waits_to_go_on(cli: Cli) -> None:
    (cli.here / "outposts.yaml").write_text(
        "outposts: [{name: local, type: local, max_workers: 1}]\n"
    )
    first = cli.spawn("exit 1", "--wait", message="The issue", code=1)["worker"]
    other = cli.spawn("sleep 60", message="Another")["worker"]
    task = cli("resume", first, "--json").json()["task"]
    cli("stop", task)
    assert [row["worker"] for row in cli("ps", "--json").json()] == [other]
    cli("stop", other)
    again = cli("resume", first, "--json", "--wait", code=1).json()
    assert (again["state"], again["reason"]) == ("failed", "the agent exited 1")


def test_one_of_many_who_resume_at_once_does(cli: Cli) -> None:
    held = cli.world.folder / "held"
    first = cli.spawn(f"while [ -e {held} ]; do sleep 0.05; done", "--wait")["worker"]
    held.touch()
    running = [cli.start("resume", first, "--json") for _ in range(3)]
    codes = []
    for process in running:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert sorted(codes) == [0, 2, 2]
    [row] = cli("ps", "--json").json()
    cli("stop", row["worker"])


def test_what_is_new_in_an_empty_repository_is_shown(cli: Cli) -> None:
    bare = cli.world.folder / "empty.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    script = "echo hello > hello.txt; until [ -e go.txt ]; do sleep 0.05; done"
    arguments = ("-m", "Begin", "--repo", str(bare), "--json", "--", "sh", "-c", script)
    worker = cli("spawn", *arguments).json()["worker"]
    until(cli.world.tree(worker).joinpath("hello.txt").exists, "it has written")
    assert "+hello" in cli("diff", worker).out
    cli.world.tree(worker).joinpath("go.txt").touch()
    until(lambda: cli("status", worker, "--json").json()["state"] == "done", "it is done")
    assert not cli.world.tree(worker).exists()
    assert "+hello" in cli("diff", worker).out, "it is asked of the remote"

    again = cli("resume", worker, "--wait", "--json").json()
    assert (again["state"], again["branch"]) == ("done", f"outpost/begin-{worker}")


def test_a_repository_without_a_commit_hides_nothing_else(cli: Cli) -> None:
    script = "git init -q sub; echo a > sub/a; echo new > new.txt; sleep 60"
    worker = cli.spawn(script)["worker"]
    until(cli.world.tree(worker).joinpath("new.txt").exists, "it has written")
    shown = cli("diff", "--name-only", worker)
    assert shown.out == "new.txt\n"
    cli("rm", "--force", worker)


def test_to_look_at_a_diff_runs_no_program_of_the_agent(cli: Cli) -> None:
    ran = cli.world.folder / "ran"
    script = (
        f"git config filter.x.clean 'touch {ran}; cat'; echo '* filter=x' > .gitattributes;"
        f"git config core.fsmonitor 'touch {ran}'; mkdir -p .git/info;"
        "echo hidden >> .git/info/exclude;"
        "echo h > hidden; echo new > new.txt; sleep 60"
    )
    worker = cli.spawn(script)["worker"]
    until(cli.world.tree(worker).joinpath("new.txt").exists, "it has written")
    assert cli("diff", "--name-only", worker).out == ".gitattributes\nnew.txt\n"
    assert not ran.exists()
    cli("rm", "--force", worker)


def test_why_a_diff_cannot_be_made_is_said(cli: Cli) -> None:
    worker = cli.spawn("echo new > new.txt; sleep 60")["worker"]
    until(cli.world.tree(worker).joinpath("new.txt").exists, "it has written")
    cli.world.tree(worker).joinpath(".git", "index").write_bytes(b"no index")
    failed = cli("diff", worker, code=1)
    assert "index" in failed.err
    cli("rm", "--force", worker)


def test_the_next_of_several_questions_is_asked_of_whoever_waits(cli: Cli) -> None:
    labels = [{"label": label, "description": label} for label in ("one", "two")]
    questions = [
        {"question": f"{word}?", "header": word, "options": labels, "multiSelect": False}
        for word in ("First", "Second")
    ]
    asks = ToolUse("AskUserQuestion", {"questions": questions})
    with MessagesApi(by_turn(Turn((asks,)), Turn((Text("Done."),)))) as api:
        world = cli.world
        world.environment.update(claude_environment(Path(world.environment["HOME"]), api.url))
        path = [str(Path(require_claude()).parent), world.environment["PATH"]]
        world.environment["PATH"] = os.pathsep.join(path)
        arguments = ("-m", "Make it", "--repo", world.remote.url, "--json")
        worker = cli("spawn", *arguments).json()["worker"]
        until(lambda: "Second?" in cli("logs", worker).out, "both are asked")
        answered = cli("send", worker, "one", "--wait").out
        assert answered.splitlines()[-1] == f"? {worker}  asks: Second? (one, two)"
        assert (
            cli("send", worker, "two", "--wait").out.splitlines()[-1].startswith(f"{worker}  done")
        )

"""Talking with a worker while it works: the real Claude Code asks, is told, and is stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outpost.model import State
from outpost.wire.orders import AgentOrder, PermissionRules
from tests.doubles.messages_api import Json, MessagesApi, Script, Text, ToolUse, Turn, by_turn
from tests.integration.claude_program import require_claude
from tests.integration.lone_worker import LoneWorker, Workers
from tests.world import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ASK_COMMANDS: PermissionRules = {
    "default": "ask",
    "allow": ["Read(./*)", "Edit(./*)"],
    "ask": [],
    "deny": [],
}
WRITE = ToolUse("Write", {"file_path": "new.txt", "content": "new\n"})
TOUCH = ToolUse("Bash", {"command": "touch touched.txt"})
DONE = Turn((Text("Done."),))


def question(text: str, *labels: str) -> Json:
    options = [{"label": label, "description": f"{label} it is"} for label in labels]
    return {"question": text, "header": "Choice", "options": options, "multiSelect": False}


def asking(*questions: Json) -> Script:
    """Write a file and ask at once; what was answered ends the work."""
    ask = ToolUse("AskUserQuestion", {"questions": list(questions)})
    return by_turn(Turn((WRITE,)), Turn((ask,)), DONE)


def permission(*turns: Turn) -> Script:
    return by_turn(Turn((WRITE,)), *turns, DONE)


def told(api: MessagesApi, request: int = -1) -> str:
    """Return all that a request told the model."""
    return json.dumps(api.exchanges[request].body["messages"], ensure_ascii=False)


def answered(worker: LoneWorker) -> list[tuple[str, str]]:
    return [(fields["text"], fields["by"]) for fields in worker.fields("answer")]


def test_a_question_waits_for_its_answer(workers: Workers) -> None:
    with MessagesApi(asking(question("Which colour?", "red", "blue"))) as api:
        worker = workers.claude(api.url)
        worker.wait_for("question")
        asked = worker.attempt()
        assert (asked.state, asked.reason) == (State.WAITING, "Which colour? (red, blue)")
        assert worker.send("2")["delivered"] == "answer"
        done = worker.result()
        assert (done.state, done.reason, done.summary) == (State.DONE, "", "Done.")
        assert answered(worker) == [("2", "message")]
        assert '\\"Which colour?\\"=\\"blue\\"' in told(api)
    assert workers.pushed(worker, "new.txt") == "new"
    states = [fields["state"] for fields in worker.fields("status")]
    assert states[-3:] == ["working", "working", "pushing"], "it went on after the answer"


def test_several_questions_are_answered_in_the_order_shown(workers: Workers) -> None:
    questions = question("Which colour?", "red", "blue"), question("Which size?", "S", "L")
    with MessagesApi(asking(*questions)) as api:
        worker = workers.claude(api.url)
        worker.wait_for("question", 2)
        until(lambda: worker.attempt().reason == "Which colour? (red, blue)", "the first is shown")
        worker.send("red")
        assert worker.attempt().state is State.WAITING
        assert worker.attempt().reason == "Which size? (S, L)"
        worker.send("as large as it gets")
        assert worker.result().state is State.DONE
        assert '\\"Which colour?\\"=\\"red\\"' in told(api)
        assert '\\"Which size?\\"=\\"as large as it gets\\"' in told(api)


@pytest.mark.parametrize("words", ["yes", "no, never touch files"])
def test_leave_is_asked_for_and_given_or_not(workers: Workers, words: str) -> None:
    with MessagesApi(permission(Turn((TOUCH,)))) as api:
        worker = workers.claude(api.url, permissions=ASK_COMMANDS)
        worker.wait_for("question")
        asked = worker.attempt()
        assert (asked.state, asked.reason) == (State.WAITING, "may I run: touch touched.txt?")
        worker.send(words)
        done = worker.result()
        touched = "touched.txt" in workers.remote.git("ls-tree", "--name-only", done.branch)
        assert (done.state, touched) == (State.DONE, words == "yes")
        if words != "yes":
            assert "never touch files" in told(api)
            assert worker.texts("progress") == ["not allowed: Bash: touch touched.txt"]


def test_always_is_asked_for_once(workers: Workers) -> None:
    script = permission(Turn((TOUCH,)), Turn((TOUCH,)), Turn((TOUCH,)))
    with MessagesApi(script) as api:
        worker = workers.claude(api.url, permissions=ASK_COMMANDS)
        worker.wait_for("question")
        worker.send("always")
        assert worker.result().state is State.DONE
    assert len(worker.events("question")) == 1
    assert workers.pushed(worker, "touched.txt") == ""


def test_a_question_nobody_answers_is_answered_no(workers: Workers) -> None:
    with MessagesApi(permission(Turn((TOUCH,)))) as api:
        worker = workers.claude(api.url, permissions=ASK_COMMANDS, limits={"answer_s": 0.5})
        done = worker.result()
        assert done.state is State.DONE
        assert answered(worker) == [("no: nobody answered in time", "time limit")]
        assert "nobody answered in time" in told(api)


def test_open_requests_are_answered_by_name_or_oldest_first(workers: Workers) -> None:
    files = [workers.folder / name for name in ("one", "two", "three")]
    for file in files:
        file.write_text(f"this is {file.name}\n")
    reads = tuple(ToolUse("Read", {"file_path": str(file)}) for file in files)
    with MessagesApi(permission(Turn(reads))) as api:
        worker = workers.claude(api.url, permissions=ASK_COMMANDS)
        worker.wait_for("question", 3)
        asked = worker.fields("question")
        assert worker.send("yes", question_id=asked[1]["question_id"])["delivered"] == "answer"
        assert worker.attempt().reason == asked[0]["text"]
        worker.send("no")
        until(lambda: worker.attempt().reason == asked[2]["text"], "the last one is shown")
        again = worker.send("yes", question_id=asked[0]["question_id"])
        assert (again["delivered"], again["reason"]) == ("never", "that question is not open")
        worker.send("yes")
        assert worker.result().state is State.DONE
        read = [name in told(api) for name in ("this is one", "this is two", "this is three")]
        assert read == [False, True, True]


def waits(*, until_there: str) -> ToolUse:
    """Return a command that ends once a file is in the workspace."""
    command = f"while [ ! -e {until_there} ]; do sleep 0.05; done"
    return ToolUse("Bash", {"command": command})


def test_a_message_reaches_the_model_while_it_works(workers: Workers) -> None:
    script = by_turn(Turn((waits(until_there="go.ignored"),)), Turn((WRITE,)), DONE)
    with MessagesApi(script) as api:
        worker = workers.claude(api.url)
        worker.wait_for_text("agent", "Bash: while")
        sent = worker.send("Use British spelling.")
        assert (sent["delivered"], sent["text"]) == ("now", "Use British spelling.")
        (worker.tree / "go.ignored").touch()
        assert worker.result().state is State.DONE
        assert "British" not in told(api, 0)
        assert "Use British spelling." in told(api, 1)
        assert worker.tokens() == api.metered()


def test_a_message_before_the_agent_runs_is_told_to_it(workers: Workers) -> None:
    gate = Gate(workers, "upload-pack")
    with MessagesApi(by_turn(DONE)) as api:
        worker = workers.claude(api.url)
        gate.wait()
        assert worker.send("Use British spelling.")["delivered"] == "later"
        gate.open()
        assert worker.result().state is State.DONE
        assert "Use British spelling." in told(api)


class Gate:
    """Holds something up: a program in front of the real one that waits for a file."""

    def __init__(self, workers: Workers, name: str) -> None:
        self._reached = workers.folder / f"{name}.reached"
        self._opened = workers.folder / f"{name}.opened"
        if name == "pre-receive":
            file, then = workers.remote.path / "hooks" / name, "exit 0"
            file.parent.mkdir(exist_ok=True)
        elif name == "upload-pack":
            file, then = workers.folder / name, 'exec git-upload-pack "$@"'
            config = Path(workers.environment["GIT_CONFIG_GLOBAL"])
            config.write_text(f'{config.read_text()}[remote "origin"]\n\tuploadpack = {file}\n')
        else:
            file, then = workers.folder / name, "exit $status"
        first = f'{require_claude()} "$@"; status=$?;' if name == "claude" else ""
        self.path = str(file)
        file.write_text(
            f"#!/bin/sh\n{first} touch {self._reached}\n"
            f"while [ ! -e {self._opened} ]; do sleep 0.05; done\n{then}\n"
        )
        file.chmod(0o755)

    def wait(self) -> None:
        until(self._reached.exists, f"{self.path} is reached", deadline_s=60)

    def open(self) -> None:
        self._opened.touch()


def test_a_message_after_the_turn_makes_another_run(workers: Workers) -> None:
    gate = Gate(workers, "claude")
    with MessagesApi(by_turn(Turn((Text("First."),)), Turn((WRITE,)), DONE)) as api:
        worker = workers.claude(api.url, options={"executable": gate.path})
        gate.wait()
        assert worker.send("Write a file, too.")["delivered"] == "later"
        gate.open()
        assert worker.result().state is State.DONE
        assert workers.pushed(worker, "new.txt") == "new"
        assert told(api).index("First.") < told(api).index("Write a file, too.")
        assert len(worker.fields("message")) == 1
        assert worker.tokens() == api.metered()


def test_a_message_after_the_end_is_told_never(workers: Workers) -> None:
    gate = Gate(workers, "pre-receive")
    with MessagesApi(permission(DONE)) as api:
        worker = workers.claude(api.url)
        gate.wait()
        sent = worker.send("Too late?")
        assert (sent["delivered"], sent["reason"]) == ("never", "the agent had ended by then")
        gate.open()
        assert worker.result().state is State.DONE
        assert "Too late?" not in told(api)


def test_a_command_takes_no_messages(workers: Workers) -> None:
    agent = AgentOrder(
        name="command", argv=["sh", "-c", "until [ -e go.ignored ]; do :; done"], options={}
    )
    worker = workers.start(agent, "Mend the words.", {})
    until(worker.tree.joinpath(".git").exists, "the workspace is there")
    sent = worker.send("hello?")
    assert (sent["delivered"], sent["reason"]) == ("never", "this agent takes no messages")
    (worker.tree / "go.ignored").touch()
    assert worker.result().state is State.DONE


def waiting(workers: Workers, api: MessagesApi, **more: Any) -> LoneWorker:
    """Return a worker that has written a file and asks whether it may run a command."""
    worker = workers.claude(api.url, permissions=ASK_COMMANDS, **more)
    worker.wait_for("question")
    return worker


def test_a_worker_that_waits_can_be_stopped(workers: Workers) -> None:
    with MessagesApi(permission(Turn((TOUCH,)))) as api:
        worker = waiting(workers, api)
        began = time.monotonic()
        worker.stop(grace_s=20)
        stopped = worker.result()
    assert time.monotonic() - began < 15, "the agent itself heard the stop"
    assert (stopped.state, stopped.reason) == (State.STOPPED, "stopped by the test")
    assert workers.pushed(worker, "new.txt") == "new"
    assert answered(worker) == [("", "agent")]


@pytest.mark.parametrize("whom", ["agent", "runner"])
def test_a_death_while_it_waits_leaves_no_process(workers: Workers, whom: str) -> None:
    with MessagesApi(permission(Turn((TOUCH,)))) as api:
        worker = waiting(workers, api)
        if whom == "agent":
            pid = worker.place.agent_pid()
            assert pid
            os.kill(pid, signal.SIGKILL)
        else:
            os.kill(worker.place.pids("runner.pid")[1], signal.SIGKILL)
        failed = worker.result()
    reason = {
        "agent": "claude was killed by signal 9",
        "runner": "its runner was killed; the work was saved afterwards",
    }
    assert (failed.state, failed.reason) == (State.FAILED, reason[whom])
    assert workers.pushed(worker, "new.txt") == "new"


def test_the_time_limit_stands_still_while_it_waits(workers: Workers) -> None:
    with MessagesApi(permission(Turn((TOUCH,)))) as api:
        worker = waiting(workers, api, limits={"time_s": 6.0, "silence_s": 5.0})
        [began] = [event for event in worker.events("status") if "agent" in event.fields]
        until(lambda: seconds_since(began.time) > 7.5, "the limit is long past")
        assert worker.attempt().state is State.WAITING
        worker.send("yes")
        assert worker.result().state is State.DONE


def test_time_worked_counts_against_the_limit(workers: Workers) -> None:
    script = permission(Turn((TOUCH,)), Turn((waits(until_there="never.ignored"),)))
    with MessagesApi(script) as api:
        worker = waiting(workers, api, limits={"time_s": 6.0})
        worker.send("yes")
        stopped = worker.result()
    assert (stopped.state, stopped.reason) == (State.STOPPED, "reached its time limit of 6 s")
    assert workers.pushed(worker, "touched.txt") == ""


def seconds_since(instant: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(instant)).total_seconds()

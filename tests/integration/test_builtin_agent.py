"""The agent ``builtin`` as a real program, with the real SDK, on a scripted API on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outpost.runner.agents import load
from outpost.transports.archive import runner_archive
from outpost.wire.orders import PermissionRules
from tests.doubles.messages_api import (
    CutToolUse,
    MessagesApi,
    Text,
    Thinking,
    Tokens,
    ToolUse,
    Turn,
    after,
    by_turn,
)
from tests.integration.agent_drive import Drive, Fields, answering
from tests.integration.builtin_desk import (
    ALLOW,
    EDITOR,
    KEY,
    MEND,
    MODEL,
    SAYS_DONE,
    Desk,
    bash,
    billed,
    calls,
    make_desk,
    results,
    said,
)
from tests.world import alive

pytestmark = pytest.mark.integration


@pytest.fixture
def desk(tmp_path: Path, isolated_environment: dict[str, str]) -> Desk:
    return make_desk(tmp_path / "place", isolated_environment)


def test_it_edits_ends_and_tells_what_it_cost(desk: Desk) -> None:
    run, exchanges = desk.run(
        by_turn(
            Turn(
                (Thinking("Where are the words?"), Text("I shall look."), bash("cat words.txt")),
                Tokens(input=1200, output=41, cache_write=300),
            ),
            Turn((MEND,), Tokens(input=90, output=77, cache_read=1500, cache_write=11)),
            SAYS_DONE,
        )
    )
    assert (run.ending.outcome, run.ending.summary) == ("done", "The words are mended.")
    assert run.exit_code == 0
    assert run.stderr == ""
    assert (desk.tree / "words.txt").read_text() == "the words are mended\n"
    assert (run.tokens(), run.cost_microusd()) == billed(exchanges)
    assert run.texts("agent", "thinking") == ["Where are the words?"]
    assert run.texts("agent", "text") == ["I shall look.", "The words are mended."]
    assert run.texts("agent", "tool_call") == ["Bash: cat words.txt", "Edit: ./words.txt"]
    assert run.texts("agent", "tool_result")[0] == "the words are wrong"
    (session,) = run.fields("agent", "session")
    assert (session["session_id"], session["model"]) == ("w-0123456789ab", MODEL)
    body = exchanges[0].body
    assert body["cache_control"] == {"type": "ephemeral"}
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert [tool.get("type") for tool in body["tools"][:2]] == [
        "bash_20250124",
        "text_editor_20250728",
    ]
    assert said(exchanges[0]).endswith("Mend the words.")
    saved = desk.saved()
    assert (saved["steps"], saved["cost_microusd"]) == (3, run.cost_microusd())
    assert (desk.place() / "trajectory.json").stat().st_mode & 0o77 == 0


def test_the_shell_stays_from_call_to_call_until_it_is_restarted(desk: Desk) -> None:
    run, exchanges = desk.run(
        by_turn(
            calls(bash("mkdir inner; cd inner; word=kept; exec 7>&1")),
            calls(bash('echo "$word in $PWD"; exit 3')),
            calls(bash('echo "[$word] in $PWD"; false')),
            calls(ToolUse("bash", {"restart": True})),
            calls(bash("seq 100000; printf '\\377'")),
            calls(bash("touch $'odd\\377'"), ToolUse(EDITOR, {"command": "view", "path": "."})),
            SAYS_DONE,
        )
    )
    assert run.ending.outcome == "done"
    told = [results(exchange)[0]["content"] for exchange in exchanges[1:]]
    assert told[0] == "[no output]"
    assert told[1].startswith(f"kept in {desk.tree}/inner\n[the shell ended")
    assert told[1].endswith("[exit code 3]")
    assert told[2] == f"[] in {desk.tree}\n[exit code 1]"
    assert "restarted" in told[3]
    assert told[4].startswith("1\n2\n3\n")
    assert "bytes left out" in told[4]
    assert told[4].endswith("100000\n\ufffd")
    assert len(told[4]) < 30_000
    assert "odd?" in results(exchanges[6])[1]["content"]


def test_a_command_that_takes_too_long_is_killed_with_all_it_started(desk: Desk) -> None:
    run, exchanges = desk.run(
        by_turn(
            calls(bash("sleep 1000 & echo $! > pids; (trap '' TERM; sleep 1001) & wait")),
            calls(bash("echo back in $PWD")),
            SAYS_DONE,
        ),
        tool_timeout_s=0.5,
    )
    assert run.ending.outcome == "done"
    (late,), (back,) = results(exchanges[1]), results(exchanges[2])
    assert late["is_error"]
    assert "longer than 0.5 s" in late["content"]
    assert back["content"] == f"back in {desk.tree}"
    assert not alive(int((desk.tree / "pids").read_text()))
    assert run.texts("progress")[0].startswith("running for 0.125 s: sleep 1000 &")


def test_jobs_in_the_background_neither_block_nor_outlive_the_work(desk: Desk) -> None:
    run, _ = desk.run(
        by_turn(calls(bash("yes & echo $! > pids")), calls(bash("sleep 0.1; echo on")), SAYS_DONE),
    )
    assert run.ending.outcome == "done"
    assert not alive(int((desk.tree / "pids").read_text()))


def test_the_key_is_not_for_tools_to_see(desk: Desk) -> None:
    look = "env; cat /proc/$PPID/environ; tr '\\0' '\\n' < /proc/self/environ; cat ../workers/*/*"
    run, exchanges = desk.run(by_turn(calls(bash(look)), SAYS_DONE))
    assert run.ending.outcome == "done"
    told = results(exchanges[1])[0]["content"]
    assert "OUTPOST_WORKER_ID=w-0123456789ab" in told
    assert KEY not in told
    assert "ANTHROPIC_BASE_URL=http" not in told
    assert all(exchange.headers["authorization"] == f"Bearer {KEY}" for exchange in exchanges)


def test_an_answer_cut_at_max_tokens_goes_on(desk: Desk) -> None:
    run, exchanges = desk.run(
        by_turn(
            Turn(
                (Text("First this."), MEND, CutToolUse("bash", '{"command": "rm -r')),
                stop="max_tokens",
            ),
            SAYS_DONE,
        ),
        max_tokens=77,
    )
    assert run.ending.outcome == "done"
    assert exchanges[0].body["max_tokens"] == 77
    assert len(results(exchanges[1])) == 1
    assert "cut off" in said(exchanges[1])
    assert (desk.tree / "words.txt").read_text() == "the words are mended\n"


def test_an_answer_that_is_always_cut_is_a_failure(desk: Desk) -> None:
    cut = Turn((CutToolUse("bash", '{"comm'),), stop="max_tokens")
    run, exchanges = desk.run(lambda messages: cut)
    assert run.ending.outcome == "failed"
    assert "larger option 'max_tokens'" in run.ending.reason
    assert len(exchanges) == 5


def test_a_paused_turn_is_sent_back_as_it_is(desk: Desk) -> None:
    script = after(
        (Turn((Thinking("Hm."), Text("A moment.")), stop="pause_turn"),), by_turn(SAYS_DONE)
    )
    run, exchanges = desk.run(script)
    assert run.ending.outcome == "done"
    assert exchanges[1].body["messages"][-1]["role"] == "assistant"
    assert len(desk.saved()["messages"]) == 2


def test_a_refusal_is_told(desk: Desk) -> None:
    details = {"category": "cyber", "explanation": "it looks like malware"}
    run, _ = desk.run(by_turn(Turn((Text("I"),), stop="refusal", details=details)))
    assert run.ending.outcome == "failed"
    assert run.ending.reason == "the model refused: cyber: it looks like malware"
    assert [message["role"] for message in desk.saved()["messages"]] == ["user"]


def test_an_answer_of_nothing_is_asked_for_again(desk: Desk) -> None:
    run, exchanges = desk.run(after((Turn(()),), by_turn(SAYS_DONE)))
    assert run.ending.outcome == "done"
    assert "You said nothing" in said(exchanges[1])


def test_the_model_asks_a_human(desk: Desk) -> None:
    question = {"question": "Which words?", "choices": ["all", "some"]}
    run, exchanges = desk.run(
        by_turn(calls(ToolUse("ask_human", question)), SAYS_DONE), answering("the wrong ones")
    )
    assert run.ending.outcome == "done"
    (asked,) = run.fields("question")
    assert (asked["kind"], asked["text"]) == ("question", "Which words?")
    assert asked["options"] == ["all", "some"]
    assert results(exchanges[1])[0]["content"] == "the wrong ones"


def test_what_needs_permission_is_asked_for(desk: Desk) -> None:
    rules: PermissionRules = {
        "default": "ask",
        "allow": ["Read(./*)"],
        "ask": [],
        "deny": ["Bash(rm *)"],
    }
    view = ToolUse(EDITOR, {"command": "view", "path": str(desk.tree / "words.txt")})
    outside = ToolUse(EDITOR, {"command": "view", "path": "/etc/hosts"})
    run, exchanges = desk.run(
        by_turn(
            calls(bash("echo one"), MEND),
            calls(bash("echo one"), view, bash("rm words.txt"), outside),
            SAYS_DONE,
        ),
        answering("always", "no, use sed instead", "yes"),
        rules,
    )
    assert run.ending.outcome == "done"
    assert [asked["text"] for asked in run.fields("question")] == [
        "may I run: echo one",
        "may I write: ./words.txt",
        "may I read: /etc/hosts",
    ]
    assert run.fields("question")[0]["kind"] == "permission"
    first, second = results(exchanges[1]), results(exchanges[2])
    assert first[0]["content"] == "one"
    assert first[1]["is_error"]
    assert "no: use sed instead" in first[1]["content"]
    assert (desk.tree / "words.txt").read_text() == "the words are wrong\n"
    assert [result.get("is_error", False) for result in second] == [False, False, True, False]
    assert "do not allow Bash(rm words.txt)" in second[2]["content"]
    assert second[1]["content"].endswith("1\tthe words are wrong")
    assert desk.saved()["always"] == [["Bash", "echo one"]]


def test_nobody_there_to_answer_is_a_no(desk: Desk) -> None:
    def leave(drive: Drive, type_: str, fields: Fields) -> None:
        if type_ == "question":
            assert drive.process.stdin
            drive.process.stdin.close()

    rules: PermissionRules = {**ALLOW, "default": "ask"}
    run, exchanges = desk.run(by_turn(calls(bash("echo one")), SAYS_DONE), leave, rules)
    assert run.ending.outcome == "done"
    assert "nobody is there" in results(exchanges[1])[0]["content"]


def test_what_is_said_meanwhile_comes_with_the_next_step(desk: Desk) -> None:
    def talk(drive: Drive, type_: str, fields: Fields) -> None:
        if type_ == "agent" and fields["kind"] == "tool_call":
            drive.agent.say("Mind the commas.")
        if type_ == "agent" and fields["text"] == "The words are mended.":
            drive.agent.say("And the dots.")

    run, exchanges = desk.run(
        by_turn(calls(bash("sleep 0.3")), SAYS_DONE, Turn((Text("All done."),))), talk
    )
    assert (run.ending.outcome, run.ending.summary) == ("done", "All done.")
    assert said(exchanges[1]) == "Mind the commas."
    assert results(exchanges[1])
    assert said(exchanges[2]) == "And the dots."


@pytest.mark.parametrize(
    ("options", "reason", "requests"),
    [
        ({"max_steps": 2}, "limit of 2 steps", 2),
        ({"max_budget_usd": 0.0006}, "budget of $0.0006, having spent $0.0008", 2),
        ({"max_budget_usd": 5, "model": "claude-next"}, "price of 'claude-next' is not known", 0),
        ({"colour": "blue"}, "no option 'colour'", 0),
    ],
)
def test_limits_end_the_work(
    desk: Desk, options: dict[str, Any], reason: str, requests: int
) -> None:
    run, exchanges = desk.run(lambda messages: calls(bash("true")), **options)
    assert run.ending.outcome == "failed"
    assert reason in run.ending.reason
    assert len(exchanges) == requests


def test_a_price_can_be_given_and_an_unknown_one_is_unknown(desk: Desk) -> None:
    with MessagesApi(by_turn(SAYS_DONE), key=KEY) as api:
        unknown = desk.start(api, desk.order("w-1", model="claude-next")).finish()
        order = desk.order("w-2", model="claude-next", max_budget_usd=5)
        order["prices"] = {
            "claude-next": {"input": 1, "output": 2, "cache_write": 3, "cache_read": 4}
        }
        known = desk.start(api, order).finish()
    assert [usage["cost_microusd"] for usage in unknown.fields("usage")] == [None]
    assert known.cost_microusd() == 50 + 26 + 6400


def test_it_says_how_to_get_the_library(desk: Desk) -> None:
    python = desk.folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    source = Path(__file__).resolve().parents[2] / "src"
    desk.environment["PYTHONPATH"] = str(source)
    run, _ = desk.run(by_turn(SAYS_DONE), executable=str(python))
    assert run.ending.outcome == "failed"
    assert "pip install '.[builtin]'" in run.ending.reason


def test_it_says_which_key_it_lacks(desk: Desk) -> None:
    with MessagesApi(by_turn(SAYS_DONE)) as api:
        place = desk.place("w-1")
        place.mkdir(parents=True)
        (place / "order.json").write_text(json.dumps(desk.order("w-1")))
        variables = desk.variables(api.url, "w-1")
        del variables["ANTHROPIC_API_KEY"]
        agent = load("builtin")(desk.order("w-1"), str(place), "")
        run = Drive(agent, desk.tree, variables).finish()
    assert "set ANTHROPIC_API_KEY" in run.ending.reason


def test_it_runs_from_the_archive_wherever_it_is(desk: Desk) -> None:
    name, data = runner_archive()
    archive = desk.folder / name
    archive.write_bytes(data)
    # What lies in the workspace is not the program's to import.
    (desk.tree / "json.py").write_text("raise SystemExit('imported from the workspace')\n")
    place = desk.place()
    place.mkdir(parents=True)
    (place / "order.json").write_text(json.dumps(desk.order()))
    with MessagesApi(by_turn(calls(MEND), SAYS_DONE), key=KEY) as api:
        done = subprocess.run(
            [sys.executable, str(archive), "agent", "builtin", str(place)],
            cwd=desk.tree,
            env=desk.variables(api.url, "w-0123456789ab"),
            input=b'{"type": "text", "text": "Mend the words."}\n',
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["outcome"] == "done"
    assert (desk.tree / "words.txt").read_text() == "the words are mended\n"

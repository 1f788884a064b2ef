"""The agent ``acp`` with a scripted program on the other side of the protocol."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest

from outpost.runner.agents import AgentUnavailable, load
from outpost.wire.orders import AgentOrder, PermissionRules, Resume
from tests.integration.acp_talk import ASK, SCRIPTED, Desk, desk_at, gone, interrupt
from tests.unit.orders import order_for

pytestmark = pytest.mark.integration
EXECUTE = {"title": "Stage", "kind": "execute", "rawInput": {"command": "git add -A"}}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path) as desk:
        yield desk


def test_crumbs_become_whole_steps(desk: Desk) -> None:
    talk, ending = desk.run(
        [
            ["think", "Hm."],
            ["text", "I shall ", "look.\n", "\nFirst", " here."],
            ["call", {"title": "Terminal", "kind": "execute"}],
            ["progress", {"title": "ls", "rawInput": {"command": "ls"}}],
            ["progress", {"status": "completed", "rawOutput": "words.txt"}],
            ["plan", ["Look", "completed"], ["Mend", "in_progress"]],
            ["text", "The words ", "are mended."],
        ]
    )
    assert (ending.outcome, ending.summary) == ("done", "The words are mended.")
    steps = [(f["kind"], f["text"]) for f in talk.fields("agent") if f["kind"] != "session"]
    assert steps == [
        ("thinking", "Hm."),
        ("text", "I shall look."),
        ("text", "First here."),
        ("tool_call", "Bash: ls"),
        ("tool_result", "words.txt"),
        ("text", "The words are mended."),
    ]
    assert talk.fields("agent", "tool_call")[0]["tool"] == "Bash"
    assert talk.fields("agent", "tool_result")[0]["raw"]["rawInput"] == {"command": "ls"}
    assert [f["text"] for f in talk.fields("progress")] == ["plan: 1 of 2 done; now: Mend"]
    assert len(talk.fields("agent", "session")) == 1


def test_texts_are_sent_one_after_the_other(desk: Desk) -> None:
    flag = desk.place / "flag"
    talk = desk.start([["text", "first"], ["wait_for", str(flag)]])
    talk.until("agent", "session")
    talk.say(json.dumps([["text", "second"]]))
    flag.touch()
    talk.until_idle()
    assert talk.texts() == ["first", "second"]
    talk.say(json.dumps([["recall"]]))
    talk.until_idle()
    assert talk.texts()[-1].startswith("prompts: 3")
    assert talk.end().outcome == "done"
    assert desk.talks[0].process.returncode == 0


@pytest.mark.parametrize(
    ("said", "chosen", "again"),
    [("yes", "the-allow_once", True), ("always", "the-allow_once", False)],
)
def test_a_human_allows(desk: Desk, said: str, chosen: str, again: bool) -> None:
    talk = desk.start([["ask", EXECUTE], ["ask", EXECUTE]])
    question = talk.until("question")
    assert (question["kind"], question["text"]) == ("permission", "Bash: git add -A")
    assert question["options"] == ["yes", "always", "no"]
    talk.answer(question, said)
    if again:
        talk.answer(talk.until("question"), "yes")
    talk.until_idle()
    assert talk.texts() == [f"chosen: {chosen}"] * 2
    assert talk.end().outcome == "done"


def test_a_human_refuses_and_what_else_was_said_is_the_next_prompt(desk: Desk) -> None:
    talk = desk.start([["ask", EXECUTE]])
    words = json.dumps([["text", "I shall commit."]])
    talk.answer(talk.until("question"), f"no {words}")
    talk.until_idle()
    assert talk.texts() == ["chosen: the-reject_once", "I shall commit."]
    assert talk.end().outcome == "done"


def test_rules_decide_without_a_human(desk: Desk) -> None:
    rules: PermissionRules = {
        "default": "ask",
        "allow": ["Bash(git *)", "Edit(./*)", "WebFetch(https://docs.python.org/*)"],
        "ask": [],
        "deny": ["Edit(./.git/*)", "mcp__*"],
    }
    inside, hidden = str(desk.tree / "a.txt"), str(desk.tree / ".git" / "config")
    talk, ending = desk.run(
        [
            ["ask", EXECUTE],
            ["ask", {"kind": "edit", "title": "Edit a.txt", "locations": [{"path": inside}]}],
            ["ask", {"kind": "edit", "locations": [{"path": inside}, {"path": hidden}]}],
            ["ask", {"kind": "fetch", "rawInput": {"url": "https://docs.python.org/3"}}],
            ["ask", {"kind": "other", "title": "mcp__mail__send"}, ["reject_always"]],
            ["ask", EXECUTE, ["reject_once"]],
        ],
        permissions=rules,
    )
    assert ending.outcome == "done"
    assert [text.removeprefix("chosen: ") for text in talk.texts()] == [
        "the-allow_once",
        "the-allow_once",
        "the-reject_once",
        "the-allow_once",
        "the-reject_always",
        "cancelled",
    ]
    told = [f["text"] for f in talk.fields("progress")]
    assert told == [
        "not allowed: Edit: ./a.txt, ./.git/config",
        "not allowed: mcp__mail__send",
    ]


def test_a_title_alone_is_no_command_to_allow_by_pattern(desk: Desk) -> None:
    rules: PermissionRules = {"default": "deny", "allow": ["Bash(git *)"], "ask": [], "deny": []}
    ask = ["ask", {"kind": "execute", "title": "`git status`"}]
    assert desk.run([ask], permissions=rules)[0].texts() == ["chosen: the-reject_once"]
    rules["allow"] = ["Bash"]
    assert desk.run([ask], permissions=rules)[0].texts() == ["chosen: the-allow_once"]


def test_nobody_left_to_ask_means_no(desk: Desk) -> None:
    talk, ending = desk.run([["ask", EXECUTE]])
    assert ending.outcome == "done"
    assert talk.texts() == ["chosen: the-reject_once"]


def test_a_question_that_its_turn_leaves_open_is_withdrawn(desk: Desk) -> None:
    talk = desk.start([["ask", EXECUTE]])
    question = talk.until("question")
    interrupt(talk)
    ending = talk.end(hang_up=False)
    assert ending.outcome == "failed"
    assert talk.fields("answer") == [
        {"question_id": question["question_id"], "text": "", "by": "agent"}
    ]


def test_files_are_read_and_written_within_the_rules(desk: Desk, tmp_path: Path) -> None:
    (desk.tree / "lines.txt").write_text("one\ntwo\nthree\n")
    (desk.tree / "out").symlink_to(tmp_path)
    rules: PermissionRules = {
        "default": "deny",
        "allow": ["Read(./*)", "Edit(./*)"],
        "ask": [],
        "deny": [],
    }
    talk, _ = desk.run(
        [
            ["read", str(desk.tree / "lines.txt"), 2, 1],
            ["write", str(desk.tree / "new" / "a.txt"), "mended\n"],
            ["write", str(desk.tree / "out" / "b.txt"), "escaped\n"],
            ["read", str(desk.tree / "missing.txt")],
            ["read", str(desk.tree)],
        ],
        permissions=rules,
    )
    assert (desk.tree / "new" / "a.txt").read_text() == "mended\n"
    assert not (tmp_path / "b.txt").exists()
    read, refused, missing, folder = talk.texts()
    assert read == "read: two\n".rstrip()
    assert refused == f"refused: not allowed: Edit of {tmp_path / 'b.txt'}"
    assert missing.startswith("refused: Resource not found")
    assert "not a plain file" in folder


def test_a_file_allowed_by_a_human_is_written_without_another_question(desk: Desk) -> None:
    path = str(desk.tree / "words.txt")
    edit = {"kind": "edit", "title": "Edit words", "locations": [{"path": path}]}
    talk = desk.start([["ask", edit], ["write", path, "mended\n"]], permissions=ASK)
    talk.answer(talk.until("question"), "yes")
    talk.until_idle()
    assert talk.end().outcome == "done"
    assert (desk.tree / "words.txt").read_text() == "mended\n"
    assert len(talk.fields("question")) == 1


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("max_tokens", "limit of tokens"),
        ("max_turn_requests", "limit of requests"),
        ("refusal", "refused"),
        ("cancelled", "cancelled"),
    ],
)
def test_a_turn_that_stopped_short_failed(desk: Desk, reason: str, said: str) -> None:
    _, ending = desk.run([["text", "Half of it."], ["stop", reason]])
    assert (ending.outcome, ending.summary) == ("failed", "Half of it.")
    assert said in ending.reason


def test_the_cost_an_agent_tells_is_counted_in_deltas(desk: Desk) -> None:
    tokens = {
        "totalTokens": 1300,
        "inputTokens": 1000,
        "outputTokens": 100,
        "cachedReadTokens": 200,
    }
    prompt = [["cost", 0.01], ["cost", 0.025], ["cost", 9, "EUR"], ["usage", tokens]]
    talk, ending = desk.run(prompt)
    assert ending.outcome == "done"
    told = [(f["input_tokens"], f["cost_microusd"]) for f in talk.fields("usage")]
    assert told == [(0, 10_000), (0, 15_000), (1000, None)]


def test_an_agent_that_tells_no_cost_is_priced_by_the_table(desk: Desk) -> None:
    tokens = {"totalTokens": 1100, "inputTokens": 1000, "outputTokens": 100}
    argv = (*SCRIPTED, "--models")
    talk, _ = desk.run([["usage", tokens]], argv, options={"model": "claude-opus-5-5"})
    [usage] = talk.fields("usage")
    assert (usage["model"], usage["cost_microusd"]) == ("claude-opus-5-5", 4 * 1000 + 20 * 100)
    unknown, _ = desk.run([["usage", tokens]], argv)
    assert [f["cost_microusd"] for f in unknown.fields("usage")] == [None]


def test_a_model_that_is_not_offered_is_refused_with_those_that_are(desk: Desk) -> None:
    _, ending = desk.run([], (*SCRIPTED, "--models"), options={"model": "huge"})
    assert ending.outcome == "failed"
    assert "'huge'" in ending.reason
    assert "small, claude-opus-5-5" in ending.reason
    _, ending = desk.run([], options={"model": "huge"})
    assert "no choice of models" in ending.reason


def test_an_earlier_session_goes_on_without_its_history_told_again(desk: Desk) -> None:
    first, _ = desk.run([["text", "hello"], ["cost", 0.5]])
    [session] = first.fields("agent", "session")
    resume: Resume = {
        "worker_id": "w-1",
        "session_id": session["session_id"],
        "cost_microusd": 500_000,
        "tree": "t",
    }
    second, ending = desk.run([["recall"], ["cost", 0.75]], resume=resume, worker="second")
    assert ending.outcome == "done"
    assert second.fields("agent", "session")[0]["session_id"] == session["session_id"]
    [text] = second.texts()
    assert text.startswith("prompts: 2; first: [")
    assert [f["cost_microusd"] for f in second.fields("usage")] == [250_000]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--no-load",), "keeps no sessions"), ((), "cannot go on with session nonesuch")],
)
def test_an_earlier_session_that_is_lost_is_told(
    desk: Desk, arguments: tuple[str, ...], said: str
) -> None:
    resume: Resume = {
        "worker_id": "w-1",
        "session_id": "nonesuch",
        "cost_microusd": None,
        "tree": "t",
    }
    talk, ending = desk.run([["text", "anew"]], (*SCRIPTED, *arguments), resume=resume)
    assert (ending.outcome, talk.texts()) == ("done", ["anew"])
    assert said in talk.fields("progress")[0]["text"]
    assert talk.fields("agent", "session")[0]["session_id"] != "nonesuch"


def test_a_busy_api_is_waited_out_and_the_session_goes_on(desk: Desk) -> None:
    busy = [
        ["fail", -32603, "Internal error", {"details": "429 rate_limit: retry after 7 seconds"}]
    ]
    talk, ending = desk.run(busy)
    assert (ending.outcome, ending.retry_in_s) == ("failed", 7.0)
    assert "429" in ending.reason

    assert talk.agent.go_on(json.dumps([["recall"]]))
    again = desk.start_agent(talk.agent)
    assert again.end().outcome == "done"
    assert again.texts()[0].startswith("prompts: 2;")


@pytest.mark.parametrize("arguments", [("--no-load",), ()])
def test_a_worker_s_own_session_that_is_lost_begins_with_its_prompt_again(
    desk: Desk, arguments: tuple[str, ...]
) -> None:
    talk, _ = desk.run([["fail", -32603, "overloaded"]], (*SCRIPTED, *arguments))
    for session in (desk.place / "home" / "sessions").iterdir():
        session.unlink()
    assert talk.agent.go_on(json.dumps([["recall"]]))
    again = desk.start_agent(talk.agent)
    assert again.end().outcome == "done"
    assert "overloaded" in again.texts()[0]


def test_credentials_that_are_missing_are_named(desk: Desk) -> None:
    argv = (*SCRIPTED, "--auth")
    _, ending = desk.run([["text", "in"]], argv)
    assert ending.outcome == "failed"
    assert "SCRIPTED_KEY" in ending.reason
    assert "A key" in ending.reason
    desk.environment["SCRIPTED_KEY"] = "k"
    talk, ending = desk.run([["text", "in"]], argv)
    assert (ending.outcome, talk.texts()) == ("done", ["in"])


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("nonesuch-agent", "acp"), "cannot find the program 'nonesuch-agent'"),
        (("sh", "-c", "echo broken pipes >&2; exit 3"), "sh exited 3: broken pipes"),
        (("sh", "-c", "echo Welcome; cat"), "sh: it does not speak the Agent Client"),
        (("sh", "-c", "yes nonsense"), "it said: nonsense"),
        ((*SCRIPTED, "--version-2"), "speaks version 2"),
        (
            ("sh", "-c", "echo Welcome"),
            "sh does not speak the Agent Client Protocol; it said: Welcome",
        ),
    ],
)
def test_what_is_no_agent_fails_with_what_it_said(
    desk: Desk, argv: tuple[str, ...], reason: str
) -> None:
    talk, ending = desk.run("anything", argv)
    assert ending.outcome == "failed"
    assert reason in ending.reason
    assert "\n" not in ending.reason
    assert talk.process.returncode == 1


def test_an_agent_that_dies_in_mid_turn_fails_with_its_last_words(desk: Desk) -> None:
    talk, ending = desk.run([["text", "I was ab"], ["exit", 7, "out of memory"]])
    assert ending.outcome == "failed"
    assert "exited 7: " in ending.reason
    assert ending.reason.endswith("out of memory")
    assert talk.texts() == ["I was ab"]
    assert "out of memory" in (desk.place / "stderr").read_text()


def test_lines_that_are_no_messages_go_to_the_log(desk: Desk) -> None:
    talk, ending = desk.run([["print", "debug: hello"], ["print", "[1]"], ["text", "on"]])
    assert (ending.outcome, talk.texts()) == ("done", ["on"])
    assert [f["text"] for f in talk.fields("log")] == ["debug: hello", "[1]"]


def test_an_interrupt_cancels_the_turn(desk: Desk) -> None:
    talk = desk.start([["text", "begun\n\n"], ["until_cancelled"]])
    talk.until("agent", "text")
    interrupt(talk)
    ending = talk.end(hang_up=False)
    assert (ending.outcome, ending.reason) == ("failed", "the turn was cancelled")
    assert ending.summary == "begun"
    assert talk.left() == []


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)])
def test_a_stop_leaves_nothing_even_of_an_agent_that_hears_nothing(
    desk: Desk, numbers: tuple[signal.Signals, ...]
) -> None:
    pids = desk.place / "pids"
    talk = desk.start([["text", "begun\n\n"], ["ignore_everything", str(pids)]])
    talk.until("agent", "text")
    while not (pids.exists() and len(pids.read_text().split()) == 2):
        assert talk.process.poll() is None
    for number in numbers:
        interrupt(talk, number)
    ending = talk.end(hang_up=False)
    assert (ending.outcome, ending.reason) == ("failed", "the agent was interrupted")
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_a_program_that_is_killed_leaves_no_agent(desk: Desk) -> None:
    talk = desk.start([["text", "begun\n\n"], ["until_cancelled"]])
    talk.until("agent", "text")
    talk.note_family()
    assert talk.family
    talk.process.kill()
    ending = talk.end(hang_up=False)
    assert ending.outcome == "failed"
    assert talk.left() == []


def test_a_runner_that_is_gone_ends_it_all(desk: Desk) -> None:
    flag = desk.place / "go"
    agent = desk.agent([["text", "begun\n\n"], ["wait_for", str(flag)], ["text", "on"]])
    with subprocess.Popen(
        agent.argv(), cwd=desk.tree, env=desk.environment, stdin=PIPE, stdout=PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(agent.opening())
        process.stdin.flush()
        while b"begun" not in process.stdout.readline():
            assert process.poll() is None
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.stdin.close()
        process.stdout.close()
        flag.touch()
        assert process.wait(20) == 1
    assert all(gone(child.pid) for child in family)


def test_no_command_is_refused() -> None:
    agent = load("acp")(order_for(AgentOrder(name="acp", argv=[], options={})), "/", "/t")
    with pytest.raises(AgentUnavailable, match="was given no command"):
        agent.argv()


def test_the_library_that_is_missing_is_named(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "acp.py").write_text("raise ImportError('No module named acp')\n")
    desk.environment["PYTHONPATH"] = f"{tmp_path}"
    _, ending = desk.run("anything")
    assert ending.outcome == "failed"
    assert "pip install '.[acp]'" in ending.reason


def test_psutil_sees_the_agent(desk: Desk) -> None:
    """What the tests above look for is found while it is there."""
    talk = desk.start([["text", "begun\n\n"], ["until_cancelled"]])
    talk.until("agent", "text")
    talk.note_family()
    assert any("acp_agent.py" in " ".join(p.cmdline()) for p in talk.family)
    assert all(psutil.pid_exists(p.pid) for p in talk.family)

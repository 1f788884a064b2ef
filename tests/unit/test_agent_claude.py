"""The agent ``claude``, fed with what the real program printed and with what none would print."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import uuid
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outpost.runner.agents import Agent, AgentUnavailable, load
from outpost.wire.events import EVENT_TYPES, encode
from outpost.wire.orders import AgentOrder
from tests.unit.claude_agents import RULES, Emissions, agent_with, chosen, read, result
from tests.unit.orders import order_for

RECORDINGS = Path(__file__).parent.parent / "data" / "claude"


def replay(name: str, agent: Agent) -> Emissions:
    lines = (RECORDINGS / f"{name}.ndjson").read_bytes().splitlines(keepends=True)
    return [emission for line in lines for emission in agent.read_line(line)]


def total(emissions: Emissions, name: str) -> int:
    return sum(usage[name] or 0 for usage in chosen(emissions, "usage"))


def message(id_: str, *, model: str = "m", **usage: int) -> dict[str, object]:
    content = [{"type": "text", "text": "hm"}]
    return {
        "type": "assistant",
        "message": {"id": id_, "model": model, "content": content, "usage": usage},
    }


def test_the_command_is_complete_without_options() -> None:
    argv = agent_with().argv()
    assert argv[:2] == ["claude", "-p"]
    assert argv[argv.index("--input-format") + 1] == "stream-json"
    assert argv[argv.index("--output-format") + 1] == "stream-json"
    assert argv[argv.index("--permission-mode") + 1] == "default"
    assert argv[argv.index("--permission-prompt-tool") + 1] == "stdio"
    assert "--verbose" in argv
    assert "--disallowed-tools" not in argv
    assert "--model" not in argv
    session = argv[argv.index("--session-id") + 1]
    assert str(uuid.UUID(session)) == session
    assert agent_with().argv() == argv


def test_every_worker_has_a_session_of_its_own() -> None:
    order = order_for(AgentOrder(name="claude", argv=[], options={}))
    order["worker_id"] = "w-other"
    assert load("claude")(order, "/", "/t").argv() != agent_with().argv()


def test_options_become_arguments() -> None:
    argv = agent_with(
        {
            "executable": "/opt/claude",
            "model": "haiku",
            "max_steps": 7,
            "max_budget_usd": 1.5,
            "args": ["--effort", "low"],
        },
        permissions=RULES,
        resumes="4a324a20-1e5e-400c-a78c-0e7ef81c6dc2",
    ).argv()
    joined = " ".join(argv)
    assert joined.startswith(
        "/opt/claude --model haiku --disallowed-tools Bash(git push*) Edit(./secret/*) -p "
    )
    assert "--resume 4a324a20-1e5e-400c-a78c-0e7ef81c6dc2" in joined
    assert "--session-id" not in argv
    assert joined.endswith("--max-turns 7 --max-budget-usd 1.5 --effort low")


def test_the_screen_s_command_is_told_where_the_task_is() -> None:
    argv = agent_with({"model": "haiku"}, permissions=RULES).screen_argv()
    assert argv[:3] == ["claude", "--model", "haiku"]
    assert "-p" not in argv
    assert "--session-id" in argv
    assert argv[-1] == "Do what /place/task.md says."


@pytest.mark.parametrize("options", [{"model": ["a"]}, {"args": "--effort"}, {"args": [1]}])
def test_options_of_the_wrong_form_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(AgentUnavailable, match=next(iter(options))):
        agent_with(options).argv()


def test_a_missing_program_says_what_to_type() -> None:
    assert "npm install -g @anthropic-ai/claude-code" in agent_with().missing()
    assert "'/opt/claude'" in agent_with({"executable": "/opt/claude"}).missing()


def test_the_program_never_takes_itself_for_nested_nor_updates_itself() -> None:
    agent = agent_with()
    assert agent.environment()["DISABLE_AUTOUPDATER"] == "1"
    nesting = ("CLAUDECODE", "CLAUDE_CODE_CHILD_SESSION", "CLAUDE_CODE_ENTRYPOINT")
    assert not [name for name in nesting if any(fnmatch(name, let) for let in agent.variables)]


@pytest.mark.parametrize("recording", ["edit", "edit_2_1_197"])
def test_a_recorded_run_reads_as_steps(recording: str) -> None:
    agent = agent_with()
    emissions = replay(recording, agent)
    [session] = chosen(emissions, "agent", "session")
    assert session["session_id"] == "39aa8494-80b4-8362-8158-7a2d837bf7c7"
    assert session["model"].startswith("claude-opus-")
    calls = chosen(emissions, "agent", "tool_call")
    assert [call["text"] for call in calls] == [
        "Bash: ls",
        "Read: words.txt",
        "Edit: words.txt",
        "Bash: git add -A",
    ]
    assert [call["tool"] for call in calls] == ["Bash", "Read", "Edit", "Bash"]
    assert calls[0]["raw"]["input"] == {"command": "ls", "description": "List"}
    results = chosen(emissions, "agent", "tool_result")
    assert results[0]["text"] == "words.txt"
    assert len(results) == 4
    assert chosen(emissions, "error")[0]["code"] == "permission_denied"
    ending = agent.finish(0)
    assert (ending.outcome, ending.summary) == ("done", "The words are mended.")


@pytest.mark.parametrize(("recording", "cost"), [("edit", 11775), ("edit_2_1_197", 15894)])
def test_recorded_usage_sums_to_the_totals(recording: str, cost: int) -> None:
    emissions = replay(recording, agent_with())
    assert total(emissions, "input_tokens") == 1470
    assert total(emissions, "output_tokens") == 170
    assert total(emissions, "cache_read_tokens") == 4700
    assert total(emissions, "cache_write_tokens") == 311
    usages = chosen(emissions, "usage")
    assert [usage["cost_microusd"] for usage in usages] == [None] * 5 + [cost]
    assert len({usage["model"] for usage in usages}) == 1
    assert all(usage["input_tokens"] >= 0 for usage in usages)


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        ("rate_limited", "the API answered 429: Request rejected (429) · slow down"),
        ("turn_limit", "stopped at its turn limit: Reached maximum number of turns (1)"),
        (
            "no_credentials",
            "Not logged in · Please run /login "
            "(claude needs ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN)",
        ),
    ],
)
def test_a_recorded_failure_has_one_line_of_reason(recording: str, reason: str) -> None:
    agent = agent_with()
    replay(recording, agent)
    ending = agent.finish(1)
    assert (ending.outcome, ending.reason) == ("failed", reason)


def test_waiting_for_the_api_is_told() -> None:
    told = [fields["text"] for fields in chosen(replay("rate_limited", agent_with()), "progress")]
    assert told == [
        "rate limited: retrying in 1 s (attempt 1 of 2)",
        "rate limited: retrying in 2 s (attempt 2 of 2)",
    ]


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({"status": "rejected", "rateLimitType": "five_hour"}, "rate limited (five hour)"),
        ({"status": "allowed_warning"}, "near the rate limit"),
    ],
)
def test_rate_limit_events_are_told(info: dict[str, str], text: str) -> None:
    event = {"type": "rate_limit_event", "rate_limit_info": info}
    assert read(agent_with(), event) == [("progress", {"text": text})]


def test_a_rate_limit_that_allows_is_kept_without_a_word() -> None:
    event = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}
    assert read(agent_with(), event) == [("agent", {"kind": "text", "text": "", "raw": event})]


def test_success_that_is_an_error_is_a_failure() -> None:
    agent = agent_with()
    read(agent, result(is_error=True, api_error_status=429, result="API Error: 429 wait"))
    assert agent.finish(0).reason == "the API answered 429: wait"


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (1, "claude exited 1 without a result"),
        (0, "claude exited 0 without a result"),
        (-9, "claude was killed by signal 9"),
    ],
)
def test_no_result_is_a_failure(exit_code: int, reason: str) -> None:
    ending = agent_with().finish(exit_code)
    assert (ending.outcome, ending.reason) == ("failed", reason)


def test_blocks_of_one_message_count_once_and_totals_correct_them() -> None:
    agent = agent_with()
    one = message("msg_1", input_tokens=10, output_tokens=1)
    emissions = read(agent, one, one, message("msg_2", input_tokens=5, output_tokens=1))
    assert total(emissions, "input_tokens") == 15
    use = {"m": {"inputTokens": 15, "outputTokens": 70}, "small": {"inputTokens": 3}}
    emissions += read(agent, result(modelUsage=use, total_cost_usd=0.00601))
    assert total(emissions, "input_tokens") == 18
    assert total(emissions, "output_tokens") == 70
    assert total(emissions, "cost_microusd") == 6010
    assert {usage["model"] for usage in chosen(emissions, "usage")} >= {"m", "small"}


def test_a_second_result_adds_only_what_is_new() -> None:
    agent = agent_with()
    first = result(modelUsage={"m": {"inputTokens": 5}}, total_cost_usd=0.0000001)
    second = result(modelUsage={"m": {"inputTokens": 9}}, total_cost_usd=0.0000025)
    emissions = read(agent, first, second, second)
    assert total(emissions, "input_tokens") == 9
    assert total(emissions, "cost_microusd") == 3  # rounded up


def test_a_resumed_session_pays_for_this_run_only() -> None:
    both = {"m": {"inputTokens": 30, "costUSD": 0.03}}
    new = {"m": {"inputTokens": 10, "costUSD": 0.01}}
    entry = result(modelUsage=both, model_usage_since_last_result=new, total_cost_usd=0.03)
    emissions = read(agent_with(resumes="x"), entry)
    assert total(emissions, "input_tokens") == 10
    assert total(emissions, "cost_microusd") == 10_000
    del entry["model_usage_since_last_result"]
    told = read(agent_with(resumes="x", cost=20_000), entry)
    assert total(told, "cost_microusd") == 10_000


def test_totals_that_forgot_a_run_that_was_killed_are_counted_from_where_they_begin() -> None:
    use = {"m": {"inputTokens": 10, "costUSD": 0.01}}
    entry = result(total_cost_usd=0.01, modelUsage=use, model_usage_since_last_result=use)
    emissions = read(agent_with(resumes="x", cost=20_000), entry)
    assert total(emissions, "input_tokens") == 10
    assert total(emissions, "cost_microusd") == 10_000


def test_a_guessed_price_is_unknown() -> None:
    use = {"m": {"inputTokens": 5, "costUSD": 0.5, "costBasis": "unknown"}}
    emissions = read(agent_with(), result(modelUsage=use, total_cost_usd=0.5))
    assert [usage["cost_microusd"] for usage in chosen(emissions, "usage")] == [None]


def test_thinking_and_unknown_blocks_and_lines_are_kept() -> None:
    content = [{"type": "thinking", "thinking": "so"}, {"type": "redacted", "data": "x"}]
    emissions = read(
        agent_with(),
        {"type": "assistant", "message": {"content": content}},
        {"type": "new", "a": 1},
    )
    assert emissions == [
        ("agent", {"kind": "thinking", "text": "so"}),
        ("agent", {"kind": "text", "text": "", "raw": content[1]}),
        ("agent", {"kind": "text", "text": "", "raw": {"type": "new", "a": 1}}),
    ]


def test_what_is_no_json_is_a_line_of_the_log() -> None:
    assert agent_with().read_line(b"Warning: \xff\n") == [
        ("log", {"stream": "stdout", "text": "Warning: \ufffd"})
    ]
    assert agent_with().read_line(b"[1]") == [("log", {"stream": "stdout", "text": "[1]"})]
    assert agent_with().read_line(b"\n") == []
    deep = b"[" * 200_000
    assert agent_with().read_line(deep)[0][0] == "log"


def test_a_tool_call_is_told_in_one_short_line() -> None:
    agent = agent_with()
    read(agent, {"type": "system", "subtype": "init", "cwd": "/workspace"})
    calls = [
        ("Bash", {"description": "d", "command": "make \n test"}),
        ("Edit", {"old_string": "a", "file_path": "/workspace/src/x.py"}),
        ("Odd", {"count": 3, "note": "hello"}),
        ("List", {}),
        ("Bash", {"command": "x" * 5000}),
    ]
    content = [{"type": "tool_use", "name": name, "input": given} for name, given in calls]
    emissions = read(agent, {"type": "assistant", "message": {"content": content}})
    texts = [fields["text"] for fields in chosen(emissions, "agent", "tool_call")]
    assert texts[:4] == ["Bash: make test", "Edit: src/x.py", "Odd: hello", "List"]
    assert len(texts[4]) == 200


def test_a_very_long_line_is_read_and_cut() -> None:
    content = [{"type": "tool_result", "tool_use_id": "t", "content": "é" * 10_000_000}]
    line = json.dumps({"type": "user", "message": {"content": content}}).encode()
    began = time.monotonic()
    [(_, fields)] = agent_with().read_line(line)
    assert time.monotonic() - began < 5
    assert len(fields["text"]) == 2048
    assert len(fields["raw"]["truncated"]) == 64 * 1024


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4)
    ),
    max_leaves=12,
)
LINES = [line for path in sorted(RECORDINGS.iterdir()) for line in path.read_text().splitlines()]


@st.composite
def damaged_lines(draw: st.DrawFn) -> Any:
    """A recorded line with some values, at any depth, replaced by any others."""
    entry = json.loads(draw(st.sampled_from(LINES)))
    for _ in range(draw(st.integers(1, 4))):
        place = entry
        while True:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
            if not (isinstance(place[key], dict | list) and place[key] and draw(st.booleans())):
                break
            place = place[key]
        place[key] = draw(JSON)
    return entry


@settings(deadline=None, max_examples=400)
@given(st.lists(damaged_lines() | JSON, max_size=4), st.booleans(), st.integers(-64, 255))
def test_no_json_value_makes_it_raise(entries: list[Any], resumed: bool, exit_code: int) -> None:
    agent = agent_with(resumes="x" if resumed else None)
    for type_, fields in read(agent, *entries):
        assert type_ in EVENT_TYPES
        encode(1, "", type_, fields)
    ending = agent.finish(exit_code)
    assert ending.outcome in ("done", "failed")
    assert "\n" not in ending.reason


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(line: bytes) -> None:
    for type_, fields in agent_with().read_line(line):
        encode(1, "", type_, fields)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9)), max_size=8),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 10**9), max_size=3),
    st.integers(0, 10**9),
)
def test_sums_always_equal_the_totals(
    messages: list[tuple[str, int, int]], totals: dict[str, int], nano_usd: int
) -> None:
    agent = agent_with()
    emissions = read(
        agent,
        *[message(str(id_), model=model, input_tokens=tokens) for model, id_, tokens in messages],
        result(
            modelUsage={model: {"inputTokens": tokens} for model, tokens in totals.items()},
            usage={},
            total_cost_usd=nano_usd / 1e9,
        ),
    )
    assert total(emissions, "input_tokens") == sum(totals.values())
    assert total(emissions, "cost_microusd") == math.ceil(nano_usd / 1000)


def test_the_agent_itself_loads_no_slow_module() -> None:
    script = (
        "import sys, outpost.runner.agents; before = set(sys.modules); "
        "import outpost.runner.agents.claude; "
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    ).stdout.split()
    assert "outpost.runner.agents.claude" in loaded
    assert not {"typing", "dataclasses", "asyncio", "subprocess", "pathlib", "uuid"} & set(loaded)

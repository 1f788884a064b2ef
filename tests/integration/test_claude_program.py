"""The agent ``claude`` with the real Claude Code, which talks to a scripted API on loopback."""

from __future__ import annotations

import json
import math
import signal
import time
from pathlib import Path

import pytest

from outpost.wire.orders import Resume
from tests.doubles.messages_api import (
    Drop,
    MessagesApi,
    Refusal,
    Stall,
    Text,
    Tokens,
    ToolUse,
    Turn,
    after,
    by_marker,
    by_turn,
)
from tests.integration.claude_program import (
    TEST_KEY,
    agent_for,
    drive,
    make_place,
    require_claude,
    run,
)
from tests.world import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

EDIT = by_turn(
    Turn(
        (Text("I shall look first."), ToolUse("Bash", {"command": "ls", "description": "List"})),
        Tokens(input=1200, output=41, cache_write=300),
    ),
    Turn((ToolUse("Read", {"file_path": "words.txt"}),), Tokens(input=60, output=30)),
    Turn(
        (
            ToolUse(
                "Edit", {"file_path": "words.txt", "old_string": "wrong", "new_string": "mended"}
            ),
        ),
        Tokens(input=90, output=77, cache_read=1500, cache_write=11),
    ),
    Turn((Text("The words are mended."),), Tokens(input=50, output=13, cache_read=1600)),
)
EDIT_TOKENS = Tokens(input=1400, output=161, cache_read=3100, cache_write=311)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path)


@pytest.fixture
def claude() -> str:
    return require_claude()


def test_a_whole_run_edits_a_file_and_reports_every_step(claude: str, place: Path) -> None:
    done, api = run(claude, place, EDIT)

    assert (done.ending.outcome, done.ending.summary) == ("done", "The words are mended."), done
    assert (place / "tree" / "words.txt").read_text() == "mended\n"
    assert [fields["text"] for fields in done.fields("agent", "tool_call")] == [
        "Bash: ls",
        "Read: words.txt",
        "Edit: words.txt",
    ]
    results = done.fields("agent", "tool_result")
    assert results[0]["text"] == "words.txt"
    assert results[0]["raw"]["type"] == "tool_result"
    assert "wrong" in results[1]["text"]
    assert len(results) == 3
    texts = [fields["text"] for fields in done.fields("agent", "text") if fields["text"]]
    assert texts == ["I shall look first.", "The words are mended."]
    assert all(exchange.headers["x-api-key"] == TEST_KEY for exchange in api.exchanges)


def test_usage_adds_up_to_what_the_api_metered_and_to_the_program_s_cost(
    claude: str, place: Path
) -> None:
    done, api = run(claude, place, EDIT, options={"model": "claude-opus-5-5"})

    assert done.tokens() == api.metered() == EDIT_TOKENS
    told = done.results[-1]["total_cost_usd"]
    assert done.cost_microusd() == math.ceil(round(told * 1e6, 3)) > 0
    assert {usage["model"] for usage in done.fields("usage")} == {"claude-opus-5-5"}


def test_the_price_of_a_model_the_program_does_not_know_stays_unknown(
    claude: str, place: Path
) -> None:
    done, api = run(claude, place, EDIT, options={"model": "some-other-model"})
    assert done.tokens() == api.metered()
    assert [usage["cost_microusd"] for usage in done.fields("usage")] == [None] * 5


def test_another_worker_goes_on_with_the_conversation_and_pays_for_its_own(
    claude: str, place: Path
) -> None:
    first, _ = run(claude, place, EDIT)
    [session] = first.fields("agent", "session")
    known = agent_for(claude).argv()
    assert session["session_id"] == known[known.index("--session-id") + 1]

    resume = Resume(
        worker_id="w-0123456789ab",
        session_id=session["session_id"],
        cost_microusd=first.cost_microusd(),
        tree="tree",
    )
    again = by_turn(*[Refusal(400)] * 4, Turn((Text("Still mended."),), Tokens(input=70, output=9)))
    second, api = run(
        claude, place, again, worker_id="w-second", prompt="Look again.", resume=resume
    )
    assert (second.ending.outcome, second.ending.summary) == ("done", "Still mended.")
    assert second.fields("agent", "session")[0]["session_id"] == session["session_id"]
    said = json.dumps(api.exchanges[0].body["messages"])
    assert said.index("Mend the words.") < said.index("The words are mended.")
    assert said.index("The words are mended.") < said.index("Look again.")
    assert second.tokens() == api.metered() == Tokens(input=70, output=9)
    total = round(second.results[-1]["total_cost_usd"] * 1e6, 3)
    assert first.cost_microusd() + second.cost_microusd() == pytest.approx(total, abs=1)
    assert 0 < second.cost_microusd() < first.cost_microusd()


def test_a_conversation_that_is_gone_is_begun_afresh(claude: str, place: Path) -> None:
    resume = Resume(
        worker_id="w-x",
        session_id="39aa8494-80b4-8362-8158-7a2d837bf7c7",
        cost_microusd=5,
        tree="tree",
    )
    gone, api = run(claude, place, EDIT, resume=resume)
    assert gone.ending.reason == "the conversation to go on with is not there any more"
    assert gone.ending.retry_in_s is not None
    assert api.exchanges == []
    assert gone.agent.go_on("Go on.")
    with MessagesApi(EDIT) as api:
        done = drive(gone.agent, place, api).finish()
    assert done.ending.outcome == "done"
    assert done.tokens() == api.metered()


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (Refusal(400, "the script says no"), "the API answered 400: the script says no"),
        (Refusal(401, "invalid x-api-key"), "the API answered 401: "),
        (Refusal(429, "slow down", 0.1), "the API answered 429: "),
        (Refusal(529, "busy"), "the API answered 529: "),
    ],
)
def test_a_failing_api_is_the_reason(
    claude: str, place: Path, refusal: Refusal, reason: str
) -> None:
    failed, api = run(
        claude, place, lambda _messages: refusal, environment={"CLAUDE_CODE_MAX_RETRIES": "1"}
    )
    assert failed.ending.outcome == "failed"
    assert failed.ending.reason.startswith(reason), failed.ending.reason
    assert "\n" not in failed.ending.reason
    assert failed.tokens() == api.metered() == Tokens()
    assert failed.cost_microusd() == 0
    assert ("ANTHROPIC_API_KEY" in failed.ending.reason) == (refusal.status == 401)


def test_trouble_that_passes_is_told_and_survived(claude: str, place: Path) -> None:
    done, api = run(claude, place, after((Refusal(429, "slow down", 1), Drop()), EDIT))
    assert done.ending.outcome == "done"
    told = [fields["text"] for fields in done.fields("progress")]
    assert told[0].startswith("rate limited: retrying in ")
    assert told[1].startswith("no answer from the API: retrying in ")
    # How much of the broken answer the program had read when the connection broke, and so counts
    # (nothing, its start, or what it takes its two pieces of text for), is a race inside it.
    begun = [Tokens(), *(Tokens(input=100, output=said) for said in (1, 2, 3))]
    assert done.tokens() in [api.metered() + it for it in begun]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_steps": 1}, "stopped at its turn limit"),
        ({"max_budget_usd": 0.001}, "stopped at its budget"),
    ],
)
def test_the_program_s_own_limits_are_the_reason(
    claude: str, place: Path, options: dict[str, object], reason: str
) -> None:
    failed, api = run(claude, place, EDIT, options=options)
    assert failed.ending.outcome == "failed"
    assert failed.ending.reason.startswith(reason), failed.ending.reason
    assert failed.tokens() == api.metered()
    assert failed.cost_microusd() > 0


def test_an_interrupt_ends_a_stalled_answer_at_once(claude: str, place: Path) -> None:
    with MessagesApi(lambda _messages: Stall()) as api:
        stalled = drive(agent_for(claude), place, api)
        until(lambda: api.exchanges, "the program asks")
        asked_at = time.monotonic()
        stalled.process.send_signal(signal.SIGINT)
        stopped = stalled.finish()
    assert time.monotonic() - asked_at < 10
    assert stopped.ending.outcome == "failed"


def test_wrong_arguments_fail_without_a_result(claude: str, place: Path) -> None:
    failed, api = run(claude, place, EDIT, options={"args": ["--no-such-option"]})
    assert (failed.ending.outcome, failed.exit_code) == ("failed", 1)
    assert failed.ending.reason == "claude exited 1 without a result"
    assert api.exchanges == []


def test_two_workers_share_one_api(claude: str, place: Path) -> None:
    scripts = {"MARK-A": EDIT, "MARK-B": by_turn(Turn((Text("Nothing to do."),)))}
    agents = [agent_for(claude, prompt=mark, worker_id=f"w-{mark}") for mark in scripts]
    with MessagesApi(by_marker(scripts)) as api:
        drives = [drive(agent, place, api) for agent in agents]
        runs = [each.finish() for each in drives]
        assert [run.ending.summary for run in runs] == ["The words are mended.", "Nothing to do."]
        assert [run.tokens() for run in runs] == [api.metered(marker) for marker in scripts]

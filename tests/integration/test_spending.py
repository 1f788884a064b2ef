"""What a worker may spend: it is ended in time, with its work kept, whatever it waits for."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from outpost.model import Attempt, State
from outpost.wire.orders import AgentOrder, PermissionRules, Resume
from tests.doubles.messages_api import (
    MessagesApi,
    Refusal,
    Reply,
    Script,
    Text,
    Tokens,
    ToolUse,
    Turn,
    by_turn,
)
from tests.integration.lone_worker import ALLOW_ALL, LoneWorker, Workers
from tests.integration.test_conversation import Gate

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MODEL = "claude-opus-5-5"  # $4 for a million tokens of input
STORM = Tokens(input=100_000, output=10)
STORM_MICROUSD = 400_200
ASK_COMMANDS: PermissionRules = {
    "default": "ask",
    "allow": ["Read(./*)", "Edit(./*)"],
    "ask": [],
    "deny": [],
}
AT_THE_END = "at a place that costs money, waiting included"


def bash(command: str) -> ToolUse:
    return ToolUse("bash", {"command": command})


WRITE = bash("echo new >> new.txt")
DONE = Turn((Text("Done."),))
ASK = ToolUse("Bash", {"command": "touch touched.txt"})


def builtin(workers: Workers, api: MessagesApi, **more: Any) -> LoneWorker:
    """Start a worker whose agent is our own loop: it tells a cost with each answer."""
    options = {"model": MODEL, "retry_s": 0.01, **more.pop("options", {})}
    agent = AgentOrder(name="builtin", argv=[], options=options)
    variables = {"ANTHROPIC_API_KEY": "k-test", "ANTHROPIC_BASE_URL": api.url}
    return workers.start(agent, "Mend the words.", variables, **{"permissions": ALLOW_ALL, **more})


def scripted(workers: Workers, script: str, **more: Any) -> LoneWorker:
    agent = AgentOrder(name="command", argv=["sh", "-c", script], options={})
    return workers.start(agent, "Mend the words.", {}, **more)


def storm(*, tool: ToolUse = WRITE) -> Script:
    """Write once more in every turn, for a lot of money, without an end."""
    return lambda _messages: Turn((tool,), STORM)


def ending(attempt: Attempt) -> tuple[State, str]:
    return attempt.state, attempt.reason


def test_time_that_costs_money_ends_while_the_time_limit_stands_still_for_a_human(
    workers: Workers,
) -> None:
    write = ToolUse("Write", {"file_path": "new.txt", "content": "new\n"})
    limits = {"time_s": 9.0, "wall_s": 14.0}
    with MessagesApi(by_turn(Turn((write,)), Turn((ASK,)))) as api:
        worker = workers.claude(api.url, permissions=ASK_COMMANDS, limits=limits)
        worker.wait_for("question")
        stopped = worker.result()
    assert ending(stopped) == (State.STOPPED, f"reached its limit of 14s {AT_THE_END}")
    assert workers.pushed(worker, "new.txt") == "new"


def test_time_that_costs_money_ends_in_the_pause_of_a_busy_api(workers: Workers) -> None:
    with MessagesApi(lambda _messages: Refusal(529, "busy", 500)) as api:
        worker = builtin(workers, api, limits={"wall_s": 8.0})
        worker.wait_for_text("progress", "going on in ")
        stopped = worker.result()
    assert ending(stopped) == (State.STOPPED, f"reached its limit of 8s {AT_THE_END}")


def test_time_that_costs_money_counts_while_it_prepares(workers: Workers) -> None:
    gate = Gate(workers, "upload-pack")
    began = time.monotonic()
    worker = scripted(workers, "echo new > new.txt", limits={"wall_s": 2.0})
    gate.wait()
    stopped = worker.result()
    gate.open()
    assert ending(stopped) == (State.STOPPED, f"reached its limit of 2s {AT_THE_END}")
    assert time.monotonic() - began < 40
    assert not workers.remote.refs("refs/heads/outpost/")


def test_without_such_a_limit_nothing_is_ended(workers: Workers) -> None:
    limits = {"wall_s": None, "tokens_microusd": None}
    worker = scripted(workers, "echo new > new.txt", limits=limits)
    assert worker.result().state is State.DONE


def test_a_storm_of_usage_is_ended_by_the_runner_at_the_budget(workers: Workers) -> None:
    with MessagesApi(storm()) as api:
        worker = builtin(workers, api, limits={"tokens_microusd": 2 * STORM_MICROUSD})
        stopped = worker.result()
        asked = len(api.exchanges)
    assert ending(stopped) == (State.STOPPED, "its token budget of $0.8004 is used up")
    assert (asked, stopped.usage.cost_microusd) == (2, 2 * STORM_MICROUSD)
    assert workers.pushed(worker, "new.txt") == "new\nnew"


def test_an_agent_that_ends_with_its_last_cent_is_done(workers: Workers) -> None:
    with MessagesApi(by_turn(Turn((WRITE,)), Turn((Text("Done."),), STORM))) as api:
        worker = builtin(workers, api, limits={"tokens_microusd": STORM_MICROUSD})
        done = worker.result()
    assert ending(done) == (State.DONE, "")
    assert (done.usage.cost_microusd or 0) >= STORM_MICROUSD


def test_an_agent_busy_with_a_tool_is_ended_at_the_budget(workers: Workers) -> None:
    script = by_turn(Turn((bash("while [ ! -e go.ignored ]; do sleep 0.05; done"),), STORM))
    with MessagesApi(script) as api:
        worker = builtin(workers, api, limits={"tokens_microusd": STORM_MICROUSD})
        stopped = worker.result()
        assert len(api.exchanges) == 1
    assert ending(stopped) == (State.STOPPED, "its token budget of $0.4002 is used up")


@pytest.mark.parametrize("own", [None, 50, 0.001])
def test_claude_gets_the_smaller_budget_and_the_reason_is_whose_it_is(
    workers: Workers, own: float | None
) -> None:
    tool = ToolUse("Bash", {"command": "echo new >> new.txt"})
    options = {"model": MODEL, "max_budget_usd": own}
    with MessagesApi(storm(tool=tool)) as api:
        worker = workers.claude(api.url, options=options, limits={"tokens_microusd": 500_000})
        ended = worker.result()
    if own == 0.001:
        assert ended.state is State.FAILED
        assert ended.reason.startswith("stopped at its budget")
    else:
        assert workers.pushed(worker, "new.txt").startswith("new")
        assert ending(ended) == (State.STOPPED, "its token budget of $0.50 is used up")
        assert (ended.usage.cost_microusd or 0) < 3 * STORM_MICROUSD


def test_a_busy_api_is_not_waited_for_without_a_budget(workers: Workers) -> None:
    answers: list[Reply] = [Turn((Text("I shall."), WRITE), STORM)]
    with MessagesApi(lambda _: answers.pop() if answers else Refusal(529, "busy", 500)) as api:
        worker = builtin(workers, api, limits={"tokens_microusd": STORM_MICROUSD})
        stopped = worker.result()
    assert ending(stopped) == (State.STOPPED, "its token budget of $0.4002 is used up")


def test_the_next_worker_of_a_session_counts_anew(workers: Workers) -> None:
    limits = {"tokens_microusd": STORM_MICROUSD + 10_000}
    with MessagesApi(by_turn(Turn((WRITE,), STORM), Turn((Text("Done."),)))) as api:
        first = builtin(workers, api, limits=limits)
        assert first.result().state is State.DONE
    session, cost = first.place.worker_id, first.attempt().usage.cost_microusd
    resume = Resume(worker_id=session, session_id=session, cost_microusd=cost, tree=session)
    again = Turn((bash("echo again >> new.txt"),), Tokens(input=60_000))
    with MessagesApi(
        lambda messages: again if "again" not in json.dumps(messages) else DONE
    ) as api:
        second = builtin(workers, api, limits=limits, resume=resume)
        assert second.result().state is State.DONE
        assert len(api.exchanges) == 2


def test_tokens_without_a_price_are_said_to_be_unwatched_once(workers: Workers) -> None:
    turns = [Turn((WRITE,), STORM)] * 3
    with MessagesApi(by_turn(*turns, DONE)) as api:
        worker = builtin(
            workers, api, options={"model": "claude-next"}, limits={"tokens_microusd": 1000}
        )
        done = worker.result()
    assert done.state is State.DONE
    told = [fields["text"] for fields in worker.fields("log") if fields["stream"] == "runner"]
    assert told == [
        "its token budget of $0.001 is not watched: the price of 'claude-next' is not known:"
        " give it in the configuration's prices"
    ]


def test_a_price_of_ones_own_is_counted_with(workers: Workers) -> None:
    prices = {"claude-next": {"input": 4, "output": 20, "cache_write": 5, "cache_read": 0.2}}
    with MessagesApi(storm()) as api:
        worker = builtin(
            workers,
            api,
            prices=prices,
            options={"model": "claude-next"},
            limits={"tokens_microusd": STORM_MICROUSD},
        )
        stopped = worker.result()
    assert ending(stopped) == (State.STOPPED, "its token budget of $0.4002 is used up")
    assert not worker.events("log"), "nothing is unwatched"

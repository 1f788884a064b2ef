"""A model's API that is too busy, gone, or silent: waited out, gone on with, or given up on."""

from __future__ import annotations

import json
import threading
import time
from itertools import count

import pytest

from outpost.model import State
from tests.doubles.messages_api import (
    Drop,
    Json,
    MessagesApi,
    Refusal,
    Reply,
    Script,
    Stall,
    Text,
    Tokens,
    ToolUse,
    Turn,
    after,
    by_turn,
)
from tests.integration.lone_worker import Workers, priced
from tests.world import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MODEL = "claude-opus-5-5"
WRITE = ToolUse("Bash", {"command": "echo new >> new.txt"})
WORK = by_turn(
    Turn((WRITE,), Tokens(input=1000, output=30, cache_write=250)),
    Turn((Text("Done."),), Tokens(input=60, output=9, cache_read=1250)),
)
QUICK = {"busy_pause_s": 0.2}


def storm(begins: int, *faults: Reply) -> Script:
    """Follow ``WORK``, but answer the requests from number ``begins`` on with faults."""
    calls = count()
    lock = threading.Lock()

    def script(messages: list[Json]) -> Reply:
        with lock:
            fault = next(calls) - begins
        return faults[fault] if 0 <= fault < len(faults) else WORK(messages)

    return script


@pytest.mark.parametrize("begins", [0, 1])
@pytest.mark.parametrize("refusal", [Refusal(429, "slow down"), Refusal(529, "busy")])
def test_a_storm_is_waited_out_and_costs_what_was_metered(
    workers: Workers, refusal: Refusal, begins: int
) -> None:
    with MessagesApi(storm(begins, *[refusal] * 5)) as api:
        worker = workers.claude(api.url, limits=QUICK, options={"model": MODEL})
        done = worker.result()
        assert (done.state, done.reason, done.summary) == (State.DONE, "", "Done.")
        assert worker.tokens() == api.metered()
        metered = priced(api.metered(), MODEL)
        assert metered
        assert done.usage.cost_microusd == pytest.approx(metered, abs=3)
        last = json.dumps(api.exchanges[-1].body["messages"])
    assert last.index("Mend the words.") < last.index("Go on where you left off.")
    assert workers.pushed(worker, "new.txt") == "new", "nothing was done twice"
    pauses = [text for text in worker.texts("progress") if "; going on in" in text]
    assert len(pauses) == 2
    assert all(text.startswith(f"the API answered {refusal.status}: ") for text in pauses)


def test_a_storm_has_no_end_before_the_time_limit(workers: Workers) -> None:
    with MessagesApi(lambda _messages: Refusal(529, "busy")) as api:
        worker = workers.claude(api.url, limits={"busy_pause_s": 0.1, "time_s": 6.0})
        stopped = worker.result()
    assert (stopped.state, stopped.reason) == (State.STOPPED, "reached its time limit of 6 s")


def test_what_waiting_does_not_mend_fails_at_once(workers: Workers) -> None:
    with MessagesApi(lambda _messages: Refusal(400, "the script says no")) as api:
        failed = workers.claude(api.url).result()
    assert (failed.state, failed.reason) == (
        State.FAILED,
        "the API answered 400: the script says no",
    )


def test_a_message_ends_the_pause_and_is_told(workers: Workers) -> None:
    with MessagesApi(after((Refusal(529, "busy"),) * 2, WORK)) as api:
        worker = workers.claude(api.url, limits={"busy_pause_s": 600.0})
        worker.wait_for_text("progress", "going on in 600 s")
        assert worker.send("Try again now.")["delivered"] == "later"
        assert worker.result().state is State.DONE
        assert "Try again now." in json.dumps(api.exchanges[-1].body["messages"])


def test_a_stop_ends_the_pause_and_keeps_the_work(workers: Workers) -> None:
    with MessagesApi(storm(1, *[Refusal(529, "busy")] * 2)) as api:
        worker = workers.claude(api.url, limits={"busy_pause_s": 600.0})
        worker.wait_for_text("progress", "going on in 600 s")
        began = time.monotonic()
        worker.stop()
        stopped = worker.result()
    assert time.monotonic() - began < 10
    assert (stopped.state, stopped.reason) == (State.STOPPED, "stopped by the test")
    assert workers.pushed(worker, "new.txt") == "new"


def test_a_server_that_goes_and_comes_back_is_waited_for(workers: Workers) -> None:
    dropped = threading.Event()

    def breaks(messages: list[Json]) -> Reply:
        if not [message for message in messages if message["role"] == "assistant"]:
            return WORK(messages)
        dropped.set()
        return Drop()

    with MessagesApi(breaks) as first:
        port = int(first.url.rpartition(":")[2])
        worker = workers.claude(first.url, limits={"busy_pause_s": 0.5})
        until(dropped.is_set, "the connection broke in mid-turn", deadline_s=60)
    worker.wait_for_text("progress", "going on in")
    with MessagesApi(WORK, port=port) as second:
        done = worker.result()
        assert second.exchanges
    assert (done.state, done.summary) == (State.DONE, "Done.")
    assert workers.pushed(worker, "new.txt") == "new"
    assert any("no answer from the API" in text for text in worker.texts("progress"))


def test_an_answer_that_stalls_is_given_up_with_the_work_pushed(workers: Workers) -> None:
    with MessagesApi(storm(1, *[Stall()] * 9)) as api:
        worker = workers.claude(api.url, limits={"silence_s": 3.0})
        failed = worker.result()
        assert (failed.state, failed.reason) == (State.FAILED, "said nothing for 3 s")
    assert workers.pushed(worker, "new.txt") == "new"
    assert any(text.startswith("silent for ") for text in worker.texts("progress"))

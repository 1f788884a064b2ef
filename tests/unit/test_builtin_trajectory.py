"""The conversation of the agent ``builtin``: always valid, also after a cut anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outpost.runner.builtin.trajectory import FILE, Trajectory, repaired
from outpost.runner.builtin.trimming import trim
from tests.doubles.messages_request import check_request

Json = dict[str, Any]
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}


def must_be_taken(messages: list[Json]) -> None:
    """Fail where the API would refuse a conversation."""
    body = {"model": "m", "max_tokens": 1, "messages": messages}
    check_request("/v1/messages", HEADERS, json.dumps(body).encode(), None)


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def call(name: str, **arguments: str) -> Json:
    return {"type": "tool_use", "id": name, "name": "bash", "input": arguments}


def result(name: str, content: str = "ok") -> Json:
    return {"type": "tool_result", "tool_use_id": name, "content": content}


def conversation(steps: int, *, output: str = "x" * 5000, calls: int = 2) -> list[Json]:
    messages = [{"role": "user", "content": [text("The task.")]}]
    for step in range(steps):
        names = [f"t-{step}-{number}" for number in range(calls)]
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
        blocks = [thought, *(call(name, command=output[:2000]) for name in names)]
        messages.append({"role": "assistant", "content": blocks})
        messages.append({"role": "user", "content": [result(name, output) for name in names]})
    return messages


@given(st.integers(1, 4), st.integers(1, 3), st.data())
def test_a_conversation_cut_anywhere_is_made_valid(
    steps: int, calls: int, data: st.DataObject
) -> None:
    messages = conversation(steps, output="o", calls=calls)
    cut = data.draw(st.integers(1, len(messages)))
    messages = messages[:cut]
    if cut > 1 and messages[-1]["role"] == "user":
        kept = data.draw(st.integers(0, calls))
        messages[-1]["content"] = messages[-1]["content"][:kept]
    whole = repaired(messages)
    must_be_taken([*whole, {"role": "user", "content": [text("Go on.")]}])
    assert repaired(whole) == whole
    assert repaired(conversation(steps)) == conversation(steps)


def test_it_is_saved_and_taken_up(tmp_path: Path) -> None:
    trajectory = Trajectory(str(tmp_path), model="m", system="Be good.")
    assert not trajectory.load()
    trajectory.say("The task.")
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    trajectory.answer([thought, call("a"), call("b")])
    trajectory.result(result("a"))
    trajectory.steps, trajectory.cost_microusd, trajectory.summary = 3, 77, "so far"
    trajectory.always = [["Bash", "ls"]]
    trajectory.save()
    assert [path.name for path in tmp_path.iterdir()] == ["trajectory.json"]

    same = Trajectory(str(tmp_path), model="m", system="Be different.")
    assert same.load()
    assert (same.steps, same.cost_microusd, same.summary) == (3, 77, "so far")
    assert same.always == [["Bash", "ls"]]
    assert same.system == "Be good."
    assert "interrupted" in same.messages[-1]["content"][0]["content"]
    same.say("Go on.")
    must_be_taken(same.messages)
    assert same.messages[1]["content"][0] == thought

    other = Trajectory(str(tmp_path / "other"), model="another", system="")
    assert not other.take_over(str(tmp_path / "nowhere" / FILE))
    assert other.take_over(str(tmp_path / FILE))
    assert (other.steps, other.cost_microusd, other.always) == (0, 0, [])
    assert [block["type"] for block in other.messages[1]["content"]] == ["tool_use", "tool_use"]


def test_a_turn_that_was_paused_stays_one_message(tmp_path: Path) -> None:
    trajectory = Trajectory(str(tmp_path), model="m", system="")
    trajectory.say("The task.")
    trajectory.say("And more.")
    trajectory.answer([text("One.")])
    trajectory.answer([text("Two.")])
    trajectory.answer([])
    assert [len(message["content"]) for message in trajectory.messages] == [2, 2]


def test_trimming_takes_what_is_old_then_the_middle_and_ends() -> None:
    messages = conversation(20)
    sizes = [len(json.dumps(messages))]
    latest = json.dumps(messages[-1])
    while trim(messages):
        must_be_taken(messages)
        sizes.append(len(json.dumps(messages)))
        assert messages[0]["content"][0] == text("The task.")
        assert json.dumps(messages[-1]) == latest
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) > 3
    assert len(messages) <= 4
    assert not trim(conversation(0))

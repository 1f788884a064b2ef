from __future__ import annotations

from typing import Any

import acp
from acp.schema import CurrentModeUpdate, PlanEntry, ToolCallProgress, ToolCallStart, ToolCallUpdate

from outpost.runner.acp.steps import LONGEST_TEXT_CHARS, Steps


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.steps = Steps(lambda type_, fields: self.events.append((type_, fields)), "/tree")

    def agent(self) -> list[tuple[str, str]]:
        return [
            (fields["kind"], fields["text"]) for type_, fields in self.events if type_ == "agent"
        ]

    def call(self, **fields: Any) -> None:
        fields = {"sessionUpdate": "tool_call", "toolCallId": "c", "title": "T", **fields}
        self.steps.take(ToolCallStart.model_validate(fields))

    def progress(self, **fields: Any) -> None:
        fields = {"sessionUpdate": "tool_call_update", "toolCallId": "c", **fields}
        self.steps.take(ToolCallProgress.model_validate(fields))

    def say(self, text: str, message_id: str | None = None) -> None:
        chunk = acp.update_agent_message_text(text)
        chunk.message_id = message_id
        self.steps.take(chunk)


def test_text_is_told_by_the_paragraph() -> None:
    heard = Heard()
    for letter in "One.\n\nTwo\nlines.\n\nTh":
        heard.say(letter)
    assert heard.agent() == [("text", "One."), ("text", "Two\nlines.")]
    heard.steps.end_turn()
    assert heard.agent()[2:] == [("text", "Th")]


def test_a_text_without_an_end_is_told_in_pieces() -> None:
    heard = Heard()
    for _ in range(3):
        heard.say("x" * LONGEST_TEXT_CHARS)
    heard.steps.end_turn()
    assert sum(len(text) for _, text in heard.agent()) == 3 * LONGEST_TEXT_CHARS
    assert len(heard.agent()) > 1


def test_messages_thoughts_and_calls_are_kept_apart_and_in_order() -> None:
    heard = Heard()
    heard.say("a", "1")
    heard.say("b", "1")
    heard.say("c", "2")
    heard.steps.take(acp.update_agent_thought_text("hm"))
    heard.say("d")
    heard.call(kind="think", status="in_progress")
    heard.say("e")
    heard.steps.end_turn()
    assert heard.agent() == [
        ("text", "ab"),
        ("text", "c"),
        ("thinking", "hm"),
        ("text", "d"),
        ("tool_call", "T"),
        ("text", "e"),
    ]
    assert heard.steps.summary == "e"


def test_a_call_and_its_result_are_told_once() -> None:
    heard = Heard()
    heard.call(kind="execute")
    assert heard.agent() == []
    heard.progress(rawInput={"command": "ls"})
    heard.progress(status="in_progress")
    for _ in range(2):
        heard.progress(status="completed", rawOutput="words")
    heard.steps.end_turn()
    assert heard.agent() == [("tool_call", "Bash: ls"), ("tool_result", "words")]


def test_a_call_is_told_by_what_it_is_though_something_else_comes_before() -> None:
    """As with Claude Code: its hooks tell of a tool's end beside the stream that has its input."""
    heard = Heard()
    heard.call(kind="read", title="Read File", rawInput={}, status="pending", locations=[])
    heard.progress(_meta={"claudeCode": {"toolName": "Read"}})
    assert heard.agent() == []
    path = "/tree/words.txt"
    heard.progress(title="Read words.txt", rawInput={"file_path": path}, locations=[{"path": path}])
    assert heard.agent() == [("tool_call", "Read: ./words.txt")]
    heard.progress(status="completed", rawOutput="words")
    heard.steps.end_turn()
    assert heard.agent()[1:] == [("tool_result", "words")]


def test_a_call_that_never_says_what_it_is_does_not_wait_for_its_end() -> None:
    heard = Heard()
    heard.call(kind="execute", title="make all")
    said = [{"type": "content", "content": {"type": "text", "text": "one"}}]
    heard.progress(content=said)
    assert heard.agent() == []
    heard.progress(content=said * 2)
    assert heard.agent() == [("tool_call", "Bash: make all")]


def test_a_call_that_says_nothing_more_is_told_at_the_end_of_the_turn() -> None:
    heard = Heard()
    heard.call()
    heard.steps.end_turn()
    assert heard.agent() == [("tool_call", "T")]


def test_a_call_is_told_before_leave_is_asked_for_it() -> None:
    heard = Heard()
    heard.say("I must ask.")
    heard.call(kind="execute")
    asked = ToolCallUpdate.model_validate({"toolCallId": "c", "rawInput": {"command": "ls"}})
    assert heard.steps.asked_about(asked).tool == "Bash"
    assert heard.agent() == [("text", "I must ask."), ("tool_call", "Bash: ls")]


def test_a_plan_is_told_when_it_changes() -> None:
    heard = Heard()
    entries = [PlanEntry(content="Look", status="in_progress", priority="low")]
    heard.steps.take(acp.update_plan(entries))
    heard.steps.take(acp.update_plan(entries))
    entries[0].status = "completed"
    heard.steps.take(acp.update_plan(entries))
    assert [fields["text"] for _, fields in heard.events] == [
        "plan: 0 of 1 done; now: Look",
        "plan: 1 of 1 done",
    ]


def test_what_shows_nothing_is_kept_and_an_echo_is_not() -> None:
    heard = Heard()
    heard.steps.take(
        CurrentModeUpdate(session_update="current_mode_update", current_mode_id="plan")
    )
    heard.steps.take(acp.update_user_message_text("Mend the words."))
    [(type_, fields)] = heard.events
    assert (type_, fields["text"], fields["raw"]["currentModeId"]) == ("agent", "", "plan")


def test_the_summary_is_of_this_turn() -> None:
    heard = Heard()
    heard.say("before")
    heard.steps.end_turn()
    heard.steps.begin_turn()
    assert heard.steps.summary == ""

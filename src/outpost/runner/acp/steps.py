"""What the agent does, as events: its updates come in crumbs, the log gets whole steps."""

from __future__ import annotations

from acp.schema import (
    AgentMessageChunk,
    AgentPlanUpdate,
    AgentThoughtChunk,
    AvailableCommandsUpdate,
    ToolCallProgress,
    ToolCallStart,
    UserMessageChunk,
)

from outpost.runner.acp.calls import ENDED, Call
from outpost.runner.agents.reading import cut, one_line, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from acp.schema import ToolCallUpdate

    from outpost.runner.acp.output import Tell

SUMMARY_CHARS = 4096
LONGEST_TEXT_CHARS = 8192
PARAGRAPH = "\n\n"


class Steps:
    """Puts one session's updates together.

    Text is told by the paragraph. A tool call is told once, when it says what it is (with its
    second update at the latest), and its result once, when it ends.
    """

    def __init__(self, tell: Tell, workspace: str) -> None:
        self._tell = tell
        self._workspace = workspace
        self._kind = ""
        self._message_id: str | None = None
        self._text = ""
        self._calls: dict[str, Call] = {}
        self._said = ""
        self._speaking = False
        self._plan = ""

    @property
    def summary(self) -> str:
        """What the agent said last, shortened."""
        return shorten(self._said.strip(), SUMMARY_CHARS)

    def begin_turn(self) -> None:
        """Forget what was said before."""
        self._said = ""
        self._speaking = False

    def end_turn(self) -> None:
        """Tell what is still held back."""
        self._end_text()
        for call in self._calls.values():
            self._begin_call(call)

    def take(self, update: Any) -> None:
        """Take one update of the session, whatever its kind."""
        if isinstance(update, (AgentMessageChunk, AgentThoughtChunk)):
            self._take_text(update)
        elif isinstance(update, (ToolCallStart, ToolCallProgress)):
            self._take_call(update)
        elif isinstance(update, AgentPlanUpdate):
            self._take_plan(update)
        elif not isinstance(update, (UserMessageChunk, AvailableCommandsUpdate)):
            whole = update.model_dump(mode="json", by_alias=True, exclude_none=True)
            self._tell("agent", {"kind": "text", "text": "", "raw": cut(whole)})

    def asked_about(self, update: ToolCallUpdate) -> Call:
        """Return the call that the agent asks leave for, told by now."""
        self._end_text()
        call = self._call_of(update)
        self._begin_call(call)
        return call

    def _take_text(self, chunk: AgentMessageChunk | AgentThoughtChunk) -> None:
        kind = "text" if isinstance(chunk, AgentMessageChunk) else "thinking"
        content = chunk.content
        text = content.text if content.type == "text" else f"[{content.type}]"
        if (kind, chunk.message_id) != (self._kind, self._message_id):
            self._end_text()
        self._kind, self._message_id = kind, chunk.message_id
        if kind == "text":
            self._said = self._said + text if self._speaking else text
            self._speaking = True
        self._text += text
        whole, mark, rest = self._text.rpartition(PARAGRAPH)
        if mark or len(self._text) > LONGEST_TEXT_CHARS:
            self._text = whole if mark else self._text
            self._tell_text()
            self._text = rest if mark else ""

    def _end_text(self) -> None:
        self._tell_text()
        self._kind, self._message_id, self._text = "", None, ""

    def _tell_text(self) -> None:
        if self._text.strip():
            self._tell("agent", {"kind": self._kind, "text": self._text.strip("\n")})

    def _take_call(self, update: ToolCallStart | ToolCallProgress) -> None:
        self._end_text()
        self._speaking = False
        call = self._call_of(update)
        if call.described or call.overtaken:
            self._begin_call(call)
        # What a hook of the agent's has to add may come before what the call is.
        call.overtaken = isinstance(update, ToolCallProgress)
        if call.status in ENDED and not call.ended:
            call.ended = True
            self._tell("agent", {"kind": "tool_result", "text": call.result, "raw": call.raw})

    def _call_of(self, update: ToolCallStart | ToolCallProgress | ToolCallUpdate) -> Call:
        known = self._calls.get(update.tool_call_id)
        call = known or Call(update.tool_call_id, self._workspace)
        self._calls[update.tool_call_id] = call
        call.merge(update)
        return call

    def _begin_call(self, call: Call) -> None:
        if not call.told:
            call.told = True
            fields = {"kind": "tool_call", "text": call.text, "tool": call.tool, "raw": call.raw}
            self._tell("agent", fields)

    def _take_plan(self, plan: AgentPlanUpdate) -> None:
        done = sum(entry.status == "completed" for entry in plan.entries)
        text = f"plan: {done} of {len(plan.entries)} done"
        now = [entry.content for entry in plan.entries if entry.status == "in_progress"]
        text = one_line(f"{text}; now: {'; '.join(now)}" if now else text)
        if plan.entries and text != self._plan:
            self._plan = text
            self._tell("progress", {"text": text})

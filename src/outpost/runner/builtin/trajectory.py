"""The conversation on disk: saved after every step, whole and valid whenever it is read."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

FILE = "trajectory.json"
EARLIER = "earlier.json"
"""An earlier attempt's, from another place."""
VERSION = 1
INTERRUPTED = "[interrupted: this call did not end, and may or may not have had its effect]"
THINKING = ("thinking", "redacted_thinking")


class Trajectory:
    """All that is needed to go on: the messages, and what they cost so far.

    ``system`` is kept with them: the model's thinking is bound to all that stood before it.
    ``always`` is what a human allowed for good.
    """

    def __init__(self, directory: str, *, model: str, system: str) -> None:
        self._path = os.path.join(directory, FILE)
        self.model = model
        self.system = system
        self.messages: list[Message] = []
        self.steps = 0
        self.cost_microusd: int | None = 0
        self.summary = ""
        self.always: list[list[str]] = []

    def say(self, text: str) -> None:
        """Add what a human says, unless it is what was said last."""
        block = {"type": "text", "text": text}
        if not self.messages or self.messages[-1]["role"] == "assistant":
            self.messages.append({"role": "user", "content": [block]})
        elif self.messages[-1]["content"][-1] != block:
            self.messages[-1]["content"].append(block)

    def answer(self, blocks: list[dict[str, Any]]) -> None:
        """Add what the model answered, unless it is nothing."""
        if not blocks:
            return
        if self.messages[-1]["role"] == "assistant":
            self.messages[-1]["content"] += blocks  # it went on after a pause
        else:
            self.messages.append({"role": "assistant", "content": blocks})

    def result(self, block: dict[str, Any]) -> None:
        """Add what a call of a tool came to."""
        if self.messages[-1]["role"] == "assistant":
            self.messages.append({"role": "user", "content": []})
        self.messages[-1]["content"].append(block)

    def forget_thinking(self) -> None:
        """Drop what the model thought: it is valid only behind exactly what it was thought of."""
        for message in self.messages:
            if message["role"] == "assistant":
                kept = [block for block in message["content"] if block["type"] not in THINKING]
                message["content"] = kept or [{"type": "text", "text": "…"}]

    def save(self) -> None:
        """Write the file whole."""
        state = {
            "version": VERSION,
            "model": self.model,
            "system": self.system,
            "steps": self.steps,
            "cost_microusd": self.cost_microusd,
            "summary": self.summary,
            "always": self.always,
            "messages": repaired(self.messages),
        }
        fd = os.open(self._path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(state, file)
        os.replace(self._path + ".new", self._path)

    def load(self) -> bool:
        """Take over what this worker did in an earlier run; ``False``: it did nothing yet."""
        state = _read(self._path)
        if state is None:
            return False
        self._take_conversation(state)
        self.steps = state["steps"]
        self.cost_microusd = state["cost_microusd"]
        self.summary = state["summary"]
        self.always = state["always"]
        return True

    def take_over(self, path: str) -> bool:
        """Take over the conversation of another worker; ``False``: there is none."""
        state = _read(path)
        if state is None:
            return False
        self._take_conversation(state)
        return True

    def _take_conversation(self, state: dict[str, Any]) -> None:
        self.system = state["system"]
        self.messages = repaired(state["messages"])
        if state["model"] != self.model:
            self.forget_thinking()


def repaired(messages: list[Message]) -> list[Message]:
    """Return a conversation in which every call of a tool has a result, first thing after it."""
    whole: list[Message] = []
    for message in messages:
        _answer_calls(whole, message if message["role"] == "user" else None)
        if message["role"] == "assistant" or not whole or whole[-1]["role"] == "assistant":
            whole.append({"role": message["role"], "content": []})
        whole[-1]["content"] += message["content"]
    _answer_calls(whole, None)
    return whole


def _answer_calls(whole: list[Message], follower: Message | None) -> None:
    """Add a message with the results that the last one's calls miss in the one that follows."""
    if not whole or whole[-1]["role"] != "assistant":
        return
    calls = [block["id"] for block in whole[-1]["content"] if block["type"] == "tool_use"]
    there = follower["content"] if follower else []
    known = {block["tool_use_id"] for block in there if block["type"] == "tool_result"}
    missing = [
        {"type": "tool_result", "tool_use_id": call, "content": INTERRUPTED, "is_error": True}
        for call in calls
        if call not in known
    ]
    if missing:
        whole.append({"role": "user", "content": missing})


def is_whole(data: bytes) -> bool:
    """Whether this is a file of ours that can be gone on from."""
    state = _parsed(data)
    return state is not None and {"model", "system", "messages"} <= state.keys()


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            return _parsed(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(data)
    except ValueError:
        return None
    return state if isinstance(state, dict) and state.get("version") == VERSION else None

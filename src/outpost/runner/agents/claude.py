"""Claude Code, headless and both ways: ``claude -p`` with ``stream-json`` in and out.

What it prints (2.1, November 2026): ``system/init``, then one ``assistant`` line per content block
and one ``user`` line per tool result, and at the end of a turn ``result``. The blocks of one
message repeat that message's id and a usage from its start, so tokens are counted once per id and
set right by the totals of ``result``. After its ``result`` it waits for more until its standard
input ends. A message it takes up is repeated (``isReplay``) under the ``uuid`` we gave it, without
which several become one: what came in mid-turn is part of that turn, the rest makes another. What
begins with a slash would be a command to the program (``/clear`` begins another session).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time

from outpost.runner.agents import Agent, Ending
from outpost.runner.agents import claude_transcripts as transcripts
from outpost.runner.agents.claude_bill import Bill
from outpost.runner.agents.claude_questions import Questions
from outpost.runner.agents.claude_rest import Rest
from outpost.runner.agents.options import budget_option, option, option_list
from outpost.runner.agents.reading import (
    as_log,
    cut,
    list_,
    number,
    object_,
    one_line,
    parsed,
    shorten,
    text,
)
from outpost.runner.permissions import DEFAULT_RULES, Permissions
from outpost.runner.place import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from outpost.runner.agents import Emission
    from outpost.wire.orders import WorkOrder

TOOL_RESULT_CHARS = 2048
SUMMARY_CHARS = 4096
SUMMARY_KEYS = (
    "command",
    "file_path",
    "notebook_path",
    "pattern",
    "url",
    "query",
    "description",
    "skill",
)
NO_CONVERSATION = "No conversation found"
LOST = "What was said about it before is lost; the work so far is in this branch."
AT_ONCE_S = 0.01
DIAGNOSTIC = "[ede_diagnostic]"  # for the makers of the program
ENDED_EARLY = {
    "error_max_turns": "stopped at its turn limit",
    "error_max_budget_usd": "stopped at its budget",
    "error_during_execution": "was interrupted or failed while it ran",
}


class ClaudeAgent(Agent):
    """Runs Claude Code; what it may do is decided here, by the order's permissions.

    Options: ``executable``, ``model``, ``max_steps``, ``max_budget_usd`` and ``args`` (more
    arguments). Credentials come in the environment. Without being asked it reads the workspace
    and runs commands that only look; what is denied is denied by the program itself as well.
    """

    two_way = True
    background_s = 600.0  # as the program's own patience
    # Named one by one: a Claude Code that runs us sets others, which would make ours a nested one.
    variables = (
        "ANTHROPIC_*",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
        "CLAUDE_CODE_MAX_RETRIES",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CONFIG_DIR",
    )

    def __init__(self, order: WorkOrder, directory: str, task_file: str) -> None:
        super().__init__(order, directory, task_file)
        self.options = order["agent"]["options"]
        resume = order.get("resume") or {"session_id": None, "cost_microusd": None}
        self._resumes = bool(resume["session_id"])
        self.session_id = resume["session_id"] or session_id(order["worker_id"])
        self._bill = Bill(resumed=self._resumes, resumed_cost_microusd=resume["cost_microusd"])
        self._permissions = Permissions(order.get("permissions"))
        self._questions = Questions(self._permissions)
        self._first = order["prompt"]
        self._rest = Rest(self.background_s)
        self._session: tuple[str, str] | None = None
        self._workspace = ""
        self._result: dict[str, Any] | None = None
        self._resets_at = 0.0
        self._unauthenticated = False

    @property
    def idle(self) -> bool:
        return self._rest.reached

    def argv(self) -> list[str]:
        argv = [*self._program(), "-p", "--verbose"]
        argv += ["--input-format", "stream-json", "--output-format", "stream-json"]
        argv += ["--permission-mode", "default", "--permission-prompt-tool", "stdio"]
        argv += ["--replay-user-messages", *self._session_arguments()]
        steps, budget = option(self.options, "max_steps"), budget_option(self.order)
        for flag, value in (("--max-turns", steps), ("--max-budget-usd", budget)):
            if value:
                argv += [flag, value]
        return argv + option_list(self.options, "args")

    def screen_argv(self) -> list[str]:
        return [*self._program(), *self._session_arguments(), f"Do what {self.task_file} says."]

    def opening(self) -> bytes:
        return self._message(self._first)

    def say(self, text: str) -> None:
        self.outgoing += self._message(text)

    def tick(self) -> None:
        if self._rest.reached:
            for task_id in self._rest.abandon():
                stop = {"subtype": "stop_task", "task_id": task_id}
                request = {"type": "control_request", "request_id": task_id, "request": stop}
                self.outgoing += json.dumps(request).encode() + b"\n"

    def answer(self, question_id: str, text: str) -> list[Emission]:
        events = self._questions.answer(question_id, text)
        self._reply()
        return events

    def go_on(self, text: str) -> bool:
        if self._session is not None:
            self._first = text
            self._resumes = True
            cost = self._bill.session_cost_microusd
            self._bill = Bill(resumed=True, resumed_cost_microusd=cost)
        elif self._lost():
            order = self.order
            told = [order["title"], order["body"], LOST, order["prompt"], self._first, text]
            self._first = "\n\n".join(dict.fromkeys(told))
            self._resumes = False
            self.session_id = session_id(self.order["worker_id"])
            self._bill = Bill()
        else:
            self._first += f"\n\n{text}"
        self._questions = Questions(self._permissions)
        self._session = self._result = None
        self._rest = Rest(self.background_s)
        self._resets_at = 0.0
        self.outgoing.clear()
        return True

    def environment(self) -> dict[str, str]:
        """Keep one worker from replacing the program under all the others."""
        return {"DISABLE_AUTOUPDATER": "1"}

    def transcript(self, session_id: str) -> str:
        return transcripts.newest(self.given, session_id)

    def adopt(self, session_id: str, transcript: bytes) -> bool:
        return transcripts.put(self.given, Place(self.directory).tree, session_id, transcript)

    def _message(self, said: str) -> bytes:
        """Return a message as a line of input, and note that it is yet to be heard."""
        uuid = _uuid(os.urandom(16).hex())
        self._rest.said(uuid)
        said = f" {said}" if said.startswith("/") else said
        message = {"role": "user", "content": said}
        return json.dumps({"type": "user", "message": message, "uuid": uuid}).encode() + b"\n"

    def _program(self) -> list[str]:
        argv = [option(self.options, "executable") or "claude"]
        if model := option(self.options, "model"):
            argv += ["--model", model]
        if denied := (self.order.get("permissions") or DEFAULT_RULES)["deny"]:
            argv += ["--disallowed-tools", *denied]
        return argv

    def _session_arguments(self) -> list[str]:
        return ["--resume" if self._resumes else "--session-id", self.session_id]

    def missing(self) -> str:
        """Say what to do when the program cannot be found."""
        executable = option(self.options, "executable") or "claude"
        return (
            f"cannot find the program '{executable}'; "
            "install it with: npm install -g @anthropic-ai/claude-code"
        )

    def read_line(self, line: bytes) -> list[Emission]:
        if not line.strip():
            return []
        entry = parsed(line)
        if entry is None:
            return as_log(line)
        self._rest.spoke()
        kind = entry.get("type")
        if kind == "assistant":
            return self._read_assistant(entry)
        if kind == "user":
            return self._read_user(entry)
        if kind == "result":
            return self._read_result(entry)
        if kind == "system":
            return self._read_system(entry)
        if kind == "rate_limit_event":
            return self._read_rate_limit(entry)
        if kind == "control_request":
            events = self._questions.read(entry, self._workspace)
            self._reply()
            return events
        if kind == "control_cancel_request":
            return self._questions.cancelled(entry)
        if kind == "command_lifecycle":
            return self._read_lifecycle(entry)
        if kind == "control_response":
            return []  # our own, repeated
        return [_kept(entry)]

    def finish(self, exit_code: int) -> Ending:
        result = self._result
        if result is None:
            return Ending("failed", self._no_result(exit_code))
        if self._lost():
            reason = "the conversation to go on with is not there any more"
            return Ending("failed", reason, retry_in_s=AT_ONCE_S)
        said = text(result.get("result"))
        if result.get("subtype") == "success" and not result.get("is_error"):
            return Ending("done", summary=said[:SUMMARY_CHARS])
        retry_in_s = self._retry_in_s(result)
        return Ending("failed", self._failure(result), said[:SUMMARY_CHARS], retry_in_s)

    def _read_system(self, entry: dict[str, Any]) -> list[Emission]:
        subtype = entry.get("subtype")
        if subtype == "background_tasks_changed":
            tasks = [object_(task) for task in list_(entry.get("tasks"))]
            self._rest.runs(
                {
                    text(task.get("task_id")): (
                        text(task.get("task_type")),
                        text(task.get("description")),
                    )
                    for task in tasks
                }
            )
        if subtype == "init":
            self._rest.turn_begins()
            self._workspace = text(entry.get("cwd"))
            session = (text(entry.get("session_id")), text(entry.get("model")))
            if session == self._session:
                return []
            self._session = session
            shown = f"session {session[0]} with {session[1]}"
            fields = {"kind": "session", "text": shown, "session_id": session[0]}
            return [("agent", {**fields, "model": session[1]})]
        if subtype == "api_retry":
            return [("progress", {"text": _retry(entry)})]
        if subtype == "permission_denied":
            tool, why = text(entry.get("tool_name")), text(entry.get("message"))
            return [("progress", {"text": f"not allowed: {tool}: {one_line(why)}"})]
        return [_kept(entry)]

    def _read_assistant(self, entry: dict[str, Any]) -> list[Emission]:
        message = object_(entry.get("message"))
        if entry.get("is_api_error_message") or entry.get("error"):
            self._unauthenticated |= entry.get("error") == "authentication_failed"
            code = text(entry.get("api_error_type") or entry.get("error")) or "api_error"
            said = _content_text(message.get("content"))
            return [("error", {"code": code, "message": said})]
        emissions = [self._read_block(block) for block in _blocks(message.get("content"))]
        tokens = self._bill.count(message)
        return [*emissions, ("usage", tokens)] if tokens else emissions

    def _read_user(self, entry: dict[str, Any]) -> list[Emission]:
        if entry.get("isReplay"):
            self._rest.heard(text(entry.get("uuid")))
            self._result = None  # it begins a turn, or is part of one
            return []
        blocks = _blocks(object_(entry.get("message")).get("content"))
        results = [block for block in blocks if text(block.get("type")).endswith("tool_result")]
        return [self._read_block(block) for block in results] or [_kept(entry)]

    def _read_block(self, block: dict[str, Any]) -> Emission:
        kind = text(block.get("type"))
        if kind in ("text", "thinking"):
            return ("agent", {"kind": kind, "text": text(block.get(kind))})
        if kind.endswith("tool_use"):
            tool = text(block.get("name"))
            shown = self._summary(tool, object_(block.get("input")))
            return ("agent", {"kind": "tool_call", "text": shown, "tool": tool, "raw": cut(block)})
        if kind.endswith("tool_result"):
            shown = shorten(_content_text(block.get("content")), TOOL_RESULT_CHARS)
            return ("agent", {"kind": "tool_result", "text": shown, "raw": cut(block)})
        return _kept(block)

    def _summary(self, tool: str, arguments: dict[str, Any]) -> str:
        """Return a tool call in one line, as ``Edit: src/words.py``."""
        known = [arguments[key] for key in SUMMARY_KEYS if isinstance(arguments.get(key), str)]
        other = [value for value in arguments.values() if isinstance(value, str)]
        shown = (known or other or [""])[0]
        if self._workspace:
            shown = shown.removeprefix(self._workspace + "/")
        return one_line(f"{tool}: {shown}" if shown else tool)

    def _read_result(self, entry: dict[str, Any]) -> list[Emission]:
        self._result = entry
        self._rest.turn_ends()
        model = self._session[1] if self._session else ""
        emissions: list[Emission] = [
            ("usage", fields) for fields in self._bill.settle(entry, model)
        ]
        denials = [object_(denial) for denial in list_(entry.get("permission_denials"))]
        if denials:
            tools = ", ".join(sorted({text(denial.get("tool_name")) for denial in denials}))
            message = (
                f"tool calls not allowed: {len(denials)} ({tools}); "
                "allow them with the agent's permissions"
            )
            emissions.append(("error", {"code": "permission_denied", "message": message}))
        if self._rest.tasks:
            running = one_line("; ".join(self._rest.tasks.values()))
            emissions.append(("progress", {"text": f"waits for what it left running: {running}"}))
        return emissions

    def _read_lifecycle(self, entry: dict[str, Any]) -> list[Emission]:
        """Take what became of a message: one that was given up is not waited for."""
        if text(entry.get("state")) not in ("queued", "started", "completed"):
            self._rest.given_up(text(entry.get("command_uuid")))
        return []

    def _read_rate_limit(self, entry: dict[str, Any]) -> list[Emission]:
        info = object_(entry.get("rate_limit_info"))
        status = text(info.get("status"))
        if status in ("", "allowed"):
            return [_kept(entry)]
        window = text(info.get("rateLimitType")).replace("_", " ")
        words = "near the rate limit" if status == "allowed_warning" else "rate limited"
        if status != "allowed_warning":
            self._resets_at = number(info.get("resetsAt")) or 0.0
        return [("progress", {"text": f"{words} ({window})" if window else words})]

    def _reply(self) -> None:
        for reply in self._questions.replies:
            self.outgoing += json.dumps(reply).encode() + b"\n"
        self._questions.replies.clear()

    def _retry_in_s(self, result: dict[str, Any]) -> float | None:
        """Return when to try again where the API was too busy or not there; else ``None``."""
        status = number(result.get("api_error_status"))
        if status == 429 and self._resets_at:
            return max(self._resets_at - time.time(), 0.0)
        if status is None:
            return 0.0 if text(result.get("terminal_reason")) == "api_error" else None
        return 0.0 if status in (408, 409, 429) or status >= 500 else None

    def _lost(self) -> bool:
        """Whether the conversation that was to be resumed does not exist."""
        errors = map(text, list_((self._result or {}).get("errors")))
        return self._resumes and any(error.startswith(NO_CONVERSATION) for error in errors)

    def _failure(self, result: dict[str, Any]) -> str:
        status, subtype = result.get("api_error_status"), text(result.get("subtype"))
        errors = [error for error in map(text, list_(result.get("errors"))) if error]
        told = [error for error in errors if not error.startswith(DIAGNOSTIC)]
        said = one_line(text(result.get("result")) or "; ".join(told))
        if status:
            said = said.removeprefix("API Error: ").removeprefix(f"{status} ")
            said = f"the API answered {status}: {said}"
        elif subtype != "success":
            how = ENDED_EARLY.get(subtype, f"ended with {subtype or 'no reason'}")
            said = f"{how}: {said}" if said else how
        if self._unauthenticated:
            said += " (claude needs ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN)"
        return said or "claude reported an error and did not say which"

    def _no_result(self, exit_code: int) -> str:
        if exit_code < 0:
            return f"claude was killed by signal {-exit_code}"
        return f"claude exited {exit_code} without a result"


def session_id(worker_id: str) -> str:
    """Return the UUID (version 8: made from a hash) of a worker's session, known beforehand."""
    return _uuid(hashlib.sha256(f"outpost session of {worker_id}".encode()).hexdigest())


def _uuid(digits: str) -> str:
    parts = digits[:8], digits[8:12], "8" + digits[13:16], "8" + digits[17:20], digits[20:32]
    return "-".join(parts)


def _retry(entry: dict[str, Any]) -> str:
    status, delay_ms = entry.get("error_status"), number(entry.get("retry_delay_ms"))
    if status == 429:
        what = "rate limited"
    elif status:
        what = f"the API answered {status}"
    else:
        what = "no answer from the API"
    delay = "" if delay_ms is None else f" in {math.ceil(delay_ms / 1000)} s"
    attempt, of = entry.get("attempt"), entry.get("max_retries")
    return f"{what}: retrying{delay} (attempt {attempt} of {of})"


def _kept(entry: dict[str, Any]) -> Emission:
    """Keep what has no meaning here: a step that shows nothing, with the whole of it beside."""
    return ("agent", {"kind": "text", "text": "", "raw": cut(entry)})


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(
        text(block.get("text")) or f"[{block.get('type')}]" for block in _blocks(content)
    )


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in list_(content) if isinstance(block, dict)]


AGENT = ClaudeAgent

"""What the events of a worker mean for its attempt: a pure fold, one event at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from outpost.model import Attempt, State, Usage
from outpost.wire.events import Event
from outpost.wire.render import activity

_STATES = {
    "starting": State.STARTING,
    "preparing": State.STARTING,
    "working": State.WORKING,
    "waiting": State.WAITING,
    "pushing": State.PUSHING,
}
_OUTCOMES = {"done": State.DONE, "failed": State.FAILED, "stopped": State.STOPPED}


def fold(attempt: Attempt, event: Event) -> Attempt:
    """Return the attempt as it is after ``event``; events after its result change nothing.

    A worker that was out of contact is, once it speaks, what its log told last.
    """
    if attempt.state.ended and attempt.state is not State.LOST:
        return attempt
    instant = datetime.fromisoformat(event.time)
    changes: dict[str, Any] = {"seq": event.seq, "seen_at": instant}
    if event.end:
        changes["offset"] = event.end
    if attempt.state is State.UNKNOWN:
        changes.update(state=attempt.told, reason="")
    sentence = activity(event)
    if sentence:
        changes.update(activity=sentence, active_at=instant)
    effect = _EFFECTS.get(event.type)
    if effect:
        changes.update(effect(attempt, event.fields, instant))
    return replace(attempt, **changes)


def _status(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    state = _STATES.get(fields.get("state", ""), attempt.told)
    changes: dict[str, Any] = {"state": state, "told": state, "reason": fields.get("reason") or ""}
    # Whoever saves what a runner left that never ran says no more than that.
    if attempt.started_at is None and state is not State.PUSHING:
        changes["started_at"] = instant
    return changes


def _agent(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    return {"session_id": fields.get("session_id")} if fields.get("kind") == "session" else {}


def _usage(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    usage = attempt.usage
    cost = fields.get("cost_microusd")
    total = usage.cost_microusd if cost is None else (usage.cost_microusd or 0) + int(cost)
    return {
        "usage": Usage(
            input_tokens=usage.input_tokens + int(fields.get("input_tokens") or 0),
            output_tokens=usage.output_tokens + int(fields.get("output_tokens") or 0),
            cache_read_tokens=usage.cache_read_tokens + int(fields.get("cache_read_tokens") or 0),
            cache_write_tokens=usage.cache_write_tokens
            + int(fields.get("cache_write_tokens") or 0),
            cost_microusd=total,
        )
    }


def _question(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    reason = fields.get("text") or "waits for an answer"
    return {"state": State.WAITING, "told": State.WAITING, "reason": reason}


def _checkpoint(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    return {"checkpoint": fields.get("commit") or attempt.checkpoint}


def _result(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    kept = fields.get("kept") or {}
    return {
        "state": _OUTCOMES.get(fields.get("outcome", ""), State.FAILED),
        "reason": fields.get("reason") or "",
        "branch": fields.get("branch") or attempt.branch,
        "commit": fields.get("commit"),
        "pr_url": fields.get("pr_url"),
        "summary": fields.get("summary") or "",
        "exit_code": fields.get("exit_code"),
        "ended_at": instant,
        "kept_how": kept.get("how") or "",
        "kept_where": kept.get("where") or "",
        "died": bool(fields.get("rescued")),
    }


_EFFECTS: dict[str, Callable[[Attempt, Mapping[str, Any], datetime], dict[str, Any]]] = {
    "status": _status,
    "agent": _agent,
    "usage": _usage,
    "question": _question,
    "checkpoint": _checkpoint,
    "result": _result,
}

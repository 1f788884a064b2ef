"""What the events of a worker mean for its attempt: a pure fold, one event at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from outpost.errors import OutpostFault
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
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
MOST = 1 << 62  # of a number that every database takes
_OUTCOMES = {"done": State.DONE, "failed": State.FAILED, "stopped": State.STOPPED}


def fold(attempt: Attempt, event: Event) -> Attempt:
    """Return the attempt as it is after ``event``; events after its result change nothing.

    A worker that was out of contact is, once it speaks, what its log told last. A log lies where
    an agent can write: raises ``OutpostFault`` for an event that no runner writes.
    """
    try:
        return _folded(attempt, event)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as exc:
        what = f"its log is damaged: event {event.seq} makes no sense: {exc}"
        raise OutpostFault(what[:200], outpost=attempt.outpost) from exc


def _folded(attempt: Attempt, event: Event) -> Attempt:
    if attempt.state.ended and attempt.state is not State.LOST:
        return attempt
    instant = datetime.fromisoformat(event.time).astimezone(UTC)
    changes: dict[str, Any] = {"seq": _number(event.seq), "seen_at": instant}
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
    changes: dict[str, Any] = {"state": state, "told": state, "reason": _text(fields.get("reason"))}
    # Whoever saves what a runner left that never ran says no more than that.
    if attempt.started_at is None and state is not State.PUSHING:
        changes["started_at"] = instant
    return changes


def _agent(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    return (
        {"session_id": _text(fields.get("session_id")) or None}
        if fields.get("kind") == "session"
        else {}
    )


def _usage(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    usage = attempt.usage
    cost = fields.get("cost_microusd")
    total = usage.cost_microusd
    if cost is not None:
        total = _number((total or 0) + int(cost))
    return {
        "usage": Usage(
            **{
                name: _number(getattr(usage, name) + int(fields.get(name) or 0)) for name in _TOKENS
            },
            cost_microusd=total,
        )
    }


def _question(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    reason = _text(fields.get("text")) or "waits for an answer"
    return {"state": State.WAITING, "told": State.WAITING, "reason": reason}


def _checkpoint(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    return {"checkpoint": _text(fields.get("commit")) or attempt.checkpoint}


def _result(attempt: Attempt, fields: Mapping[str, Any], instant: datetime) -> dict[str, Any]:
    kept, exit_code = fields.get("kept") or {}, fields.get("exit_code")
    # The branch is the one that we ordered: who goes on from here pushes to it.
    return {
        "state": _OUTCOMES.get(fields.get("outcome", ""), State.FAILED),
        "reason": _text(fields.get("reason")),
        "commit": _text(fields.get("commit")) or None,
        "pr_url": _text(fields.get("pr_url")) or None,
        "summary": _text(fields.get("summary")),
        "exit_code": None if exit_code is None else _number(exit_code),
        "ended_at": instant,
        "kept_how": _text(kept.get("how")),
        "kept_where": _text(kept.get("where")),
        "died": bool(fields.get("rescued") or fields.get("evicted")),
        "evicted": bool(fields.get("evicted")),
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _number(value: int) -> int:
    if not -(1 << 31) <= value <= MOST:
        raise ValueError(f"{value:.3g} is no count")
    return value


_EFFECTS: dict[str, Callable[[Attempt, Mapping[str, Any], datetime], dict[str, Any]]] = {
    "status": _status,
    "agent": _agent,
    "usage": _usage,
    "question": _question,
    "checkpoint": _checkpoint,
    "result": _result,
}

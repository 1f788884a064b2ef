"""Model values to columns and back; nothing here knows a query or a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Protocol

from outpost.model import (
    DUE_AFTER,
    AgentSpec,
    Attempt,
    Breaker,
    Candidate,
    Charge,
    Decision,
    Duty,
    DutyKind,
    DutyState,
    Estimate,
    Handle,
    Lease,
    Priority,
    Refusal,
    Refused,
    State,
    Task,
    Transition,
    Trouble,
    Usage,
)

Values = dict[str, Any]
"""Column names and what goes into them."""

USAGE = tuple(item.name for item in fields(Usage))
"""The columns of an attempt that hold its ``Usage``."""

_NESTED = {"agent", "handle", "usage"}
_NOT_STORED = {"evicted"}
_TASK = tuple(item.name for item in fields(Task) if item.name not in _NESTED)
_ATTEMPT = tuple(item.name for item in fields(Attempt) if item.name not in _NESTED | _NOT_STORED)
_HANDLE = tuple(item.name for item in fields(Handle))
_DUTY = tuple(item.name for item in fields(Duty))
_CHARGE = tuple(item.name for item in fields(Charge))
_BREAKER = tuple(item.name for item in fields(Breaker))
_INSTANTS = ("started_at", "ended_at", "seen_at", "active_at")
_TRANSITION = tuple(item.name for item in fields(Transition))
_LEASE = tuple(item.name for item in fields(Lease))
_GIVEN_AT_CLAIM = {"id", "task_id", "issue_id", "number", "fence", "outpost", "kind", "created_at"}
_PROGRESS = (
    *("seq", "offset", "activity", "active_at", "seen_at", "started_at"),
    *("told", "session_id", "checkpoint"),
)
_OBSERVED = tuple(name for name in _ATTEMPT if name not in _GIVEN_AT_CLAIM | {"stop_asked"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Row(Protocol):
    """A row of any driver, asked by column name."""

    def __getitem__(self, name: str, /) -> Any: ...


Ask = Callable[[str, dict[str, object]], Sequence[Row]]
"""Runs one query with its named parameters and returns the rows."""


def stored(value: object) -> object:
    """Return what a column holds for a value.

    Instants become whole microseconds, truth values 1 and 0, tuples and mappings JSON. Half
    surrogate pairs, which agents do print and no database takes, become question marks.
    """
    # What there is most of comes first: this is most of the work of storing what was learnt.
    match value:
        case None:
            return None
        case Enum():
            return value.value
        case str():
            return value if value.isascii() else value.encode("utf-8", "replace").decode()
        case bool():
            return int(value)
        case int():
            return value
        case datetime():
            return (value - _EPOCH) // _MICROSECOND
        case tuple() | list():
            return _json(value)
        case Mapping():
            return _json(dict(value))
    return value


_json = json.JSONEncoder(default=stored).encode


def task_values(task: Task) -> Values:
    """Return the columns of a task, all but ``attempts_made``."""
    values = {name: stored(getattr(task, name)) for name in _TASK}
    agent = {"agent_name": stored(task.agent.name), "agent_argv": stored(task.agent.argv)}
    return values | agent | {"rank": stored(task.rank)}


def task_from(row: Row) -> Task:
    """Return the task in a row."""
    values = {name: row[name] for name in _TASK}
    values["agent"] = AgentSpec(name=row["agent_name"], argv=tuple(json.loads(row["agent_argv"])))
    values["created_at"] = instant(row["created_at"])
    values["priority"] = Priority(row["priority"])
    values["labels"] = tuple(json.loads(row["labels"]))
    values["write_back"] = tuple(json.loads(row["write_back"]))
    values["interactive"] = bool(row["interactive"])
    values["requires"] = json.loads(row["requires"])
    values["due_at"] = _instant_if(row["due_at"])
    values["state"] = State(row["state"])
    return Task(**values)


def attempt_values(attempt: Attempt) -> Values:
    """Return the columns of an attempt."""
    values = {name: stored(getattr(attempt, name)) for name in _ATTEMPT}
    values |= {name: getattr(attempt.usage, name) for name in USAGE}
    return values | {"handle": _handle_value(attempt)}


def observed_values(attempt: Attempt) -> Values:
    """Return the columns that may change after the claim; the handle as ``new_handle``."""
    values = {name: stored(getattr(attempt, name)) for name in _OBSERVED}
    values |= {name: getattr(attempt.usage, name) for name in USAGE}
    return values | {"new_handle": _handle_value(attempt)}


def progress_values(attempt: Attempt) -> Values:
    """Return the columns that change while an attempt goes on in the same state."""
    values = {name: stored(getattr(attempt, name)) for name in _PROGRESS}
    return values | {name: getattr(attempt.usage, name) for name in USAGE}


def _handle_value(attempt: Attempt) -> object:
    handle = attempt.handle
    # By hand: ``asdict`` would copy all of it first.
    return handle and _json({name: getattr(handle, name) for name in _HANDLE})


def attempt_from(row: Row) -> Attempt:
    """Return the attempt in a row."""
    values = {name: row[name] for name in _ATTEMPT}
    values |= {name: _instant_if(row[name]) for name in _INSTANTS}
    values["created_at"] = instant(row["created_at"])
    values["usage"] = Usage(**{name: row[name] for name in USAGE})
    values["handle"] = row["handle"] and Handle(**json.loads(row["handle"]))
    values["state"] = State(row["state"])
    values["told"] = State(row["told"])
    values["died"] = bool(row["died"])
    return Attempt(**values)


def decision_values(decision: Decision, attempt_id: str | None) -> Values:
    """Return the columns of a decision, all but its ``id``."""
    return {
        "task_id": decision.task_id,
        "attempt_id": attempt_id,
        "decided_at": stored(decision.decided_at),
        "candidates": stored([asdict(item) for item in decision.ranked]),
        "refused": stored([asdict(item) for item in decision.refused]),
        "rule": stored(decision.ranked[0].why if decision.ranked else ""),
        "notes": stored(decision.notes),
    }


def decision_from(row: Row) -> Decision:
    """Return the decision in a row."""
    return Decision(
        task_id=row["task_id"],
        decided_at=instant(row["decided_at"]),
        ranked=tuple(_candidates(json.loads(row["candidates"]), row["rule"])),
        refused=tuple(_refused(item) for item in json.loads(row["refused"])),
        notes=tuple(json.loads(row["notes"])),
    )


def duties_values(
    task: Row, attempt_id: str | None, state: State, due_at: datetime
) -> list[Values]:
    """Return the columns of the duties that a task's row asks for at this end of it."""
    asked = {*json.loads(task["write_back"]), *([DutyKind.PR] if task["pr"] else [])}
    return [
        {
            "task_id": task["id"],
            "attempt_id": attempt_id,
            "kind": kind.value,
            "state": DutyState.PENDING.value,
            "tries": 0,
            "due_at": stored(due_at),
            "detail": "",
        }
        for kind in DutyKind
        if kind in asked and state in DUE_AFTER[kind]
    ]


def duty_from(row: Row) -> Duty:
    """Return the duty in a row."""
    values = {name: row[name] for name in _DUTY}
    values["kind"] = DutyKind(row["kind"])
    values["state"] = DutyState(row["state"])
    values["due_at"] = instant(row["due_at"])
    return Duty(**values)


def charge_values(charge: Charge) -> Values:
    """Return the columns of a charge."""
    return {name: stored(getattr(charge, name)) for name in _CHARGE}


def charge_from(row: Row) -> Charge:
    """Return the charge in a row."""
    values = {name: row[name] for name in _CHARGE}
    values["started_at"] = instant(row["started_at"])
    values["held_until"] = instant(row["held_until"])
    values["ended_at"] = _instant_if(row["ended_at"])
    values["tokens_known"] = bool(row["tokens_known"])
    return Charge(**values)


def breaker_values(breaker: Breaker) -> Values:
    """Return the columns of a breaker."""
    return {name: stored(getattr(breaker, name)) for name in _BREAKER}


def breaker_from(row: Row) -> Breaker:
    """Return the breaker in a row."""
    values = {name: row[name] for name in _BREAKER}
    values["open_until"] = _instant_if(row["open_until"])
    values["probe_until"] = _instant_if(row["probe_until"])
    values["trouble"] = Trouble(row["trouble"])
    return Breaker(**values)


def transition_from(row: Row) -> Transition:
    """Return the transition in a row."""
    values = {name: row[name] for name in _TRANSITION}
    values["at"] = instant(row["at"])
    values["before"] = row["before"] and State(row["before"])
    values["after"] = State(row["after"])
    return Transition(**values)


def lease_values(lease: Lease) -> Values:
    """Return the columns of a lease."""
    return {name: stored(getattr(lease, name)) for name in _LEASE}


def lease_from(row: Row) -> Lease:
    """Return the lease in a row."""
    values = {name: row[name] for name in _LEASE}
    return Lease(**{**values, "until": instant(row["until"])})


def _candidates(items: Sequence[Any], rule: str) -> list[Candidate]:
    if items and isinstance(items[0], str):  # by an outpost that knew names only
        first, *rest = items
        return [Candidate(outpost=first, why=rule), *(Candidate(outpost=name) for name in rest)]
    return [Candidate(**{**item, "estimate": Estimate(**item["estimate"])}) for item in items]


def _refused(item: dict[str, Any]) -> Refused:
    estimate = item.get("estimate")
    return Refused(
        **{
            **item,
            "code": Refusal(item["code"]),
            "until": _instant_if(item.get("until")),
            "estimate": estimate and Estimate(**estimate),
        }
    )


def _instant_if(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else instant(microseconds)


def instant(microseconds: int) -> datetime:
    """Return the instant that a column holds."""
    return _EPOCH + timedelta(microseconds=microseconds)

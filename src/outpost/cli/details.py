"""Everything known of one worker or task, as names and values for people."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterable
from datetime import datetime

from outpost.cli.asking import Question, asks
from outpost.cli.following import NAMES, in_words
from outpost.cli.money import cost_rows
from outpost.cli.outcome import KEPT_ELSEWHERE
from outpost.cli.phrases import STYLES, exact_dollars, one_line, since, span, to_the_second
from outpost.cli.screen import Cell
from outpost.model import Attempt, Charge, Decision, Duty, DutyKind, State, Task
from outpost.wire.urls import Credentials

Details = list[tuple[str, Cell | str]]


def worker_details(
    attempt: Attempt,
    task: Task,
    decision: Decision | None,
    now: datetime,
    duties: Iterable[Duty] = (),
    question: Question | None = None,
    charge: Charge | None = None,
) -> Details:
    """Return what is known of a worker; what is not known is left out.

    ``question`` is what one that waits asks.
    """
    asking = attempt.state is State.WAITING
    rows: Details = [
        ("worker", Cell(attempt.id, "bold")),
        ("state", Cell(_state(attempt, now), STYLES[attempt.state])),
        *(asks(attempt, question) if asking else [("reason", one_line(attempt.reason))]),
        ("outpost", attempt.outpost),
        ("why there", decision.why() if decision else ""),
        *_asked(task),
        ("task", task.id),
        ("branch", attempt.branch),
        ("commit", attempt.commit or ""),
        *_follow_up(attempt, duties),
        ("kept", _kept(attempt)),
        ("activity", "" if asking or attempt.summary else one_line(attempt.activity)),
        ("summary", one_line(attempt.summary)),
        *_exit(attempt.exit_code),
        ("tokens", _tokens(attempt)),
        *_cost(attempt, charge, now),
        ("session", attempt.session_id or ""),
        *_times(attempt, now),
    ]
    return _known(rows)


def queued_details(task: Task, decision: Decision | None, now: datetime, place: str) -> Details:
    """Return what is known of a task that waits; ``place`` is where it stands in the queue."""
    held_back = decision is not None and decision.best is None
    due_at = task.due_at if task.due_at and task.due_at > now else None
    rows: Details = [
        ("task", Cell(task.id, "bold")),
        ("state", Cell(task.state.value, STYLES[task.state])),
        ("reason", one_line(task.reason) or (decision.why() if decision and held_back else "")),
        *_asked(task),
        ("created", _instant(task.created_at, now)),
        ("place", place),
        ("starts", f"not before {to_the_second(due_at)}" if due_at else "once there is room"),
    ]
    return _known(rows)


def place_in_queue(position: int, length: int) -> str:
    """Say where a task stands in the queue; the first is 1."""
    return f"{position:,} of {length:,} in the queue"


def _follow_up(attempt: Attempt, duties: Iterable[Duty]) -> Details:
    """Return the pull request, and how far everything else has come that follows the task."""
    rows: Details = []
    for duty in duties:
        words = in_words(duty)
        opened = duty.kind is DutyKind.PR and attempt.pr_url
        rows.append((NAMES[duty.kind], f"{attempt.pr_url} ({words})" if opened else words))
    if attempt.pr_url and not any(name == NAMES[DutyKind.PR] for name, _ in rows):
        rows.insert(0, (NAMES[DutyKind.PR], attempt.pr_url))
    return rows


def _asked(task: Task) -> Details:
    limit = "" if task.time_limit_s is None else span(task.time_limit_s)
    return [
        ("issue", one_line(task.issue_id)),
        ("title", one_line(task.title)),
        ("url", task.url or ""),
        ("priority", task.priority.name),
        ("agent", " ".join([task.agent.name, one_line(shlex.join(task.agent.argv))]).strip()),
        ("repository", Credentials(task.repo_url).url),
        ("base", task.base or ""),
        ("time limit", limit),
        ("requires", ", ".join(f"{key}={value}" for key, value in task.requires.items())),
        ("may cost", _limit(task.max_cost_microusd)),
    ]


def _cost(attempt: Attempt, charge: Charge | None, now: datetime) -> Details:
    """Return what it costs; where compute is free and nothing is held, only its tokens do."""
    if charge is None or not (charge.microusd_per_hour != 0 or charge.token_budget_microusd):
        return [("cost", exact_dollars(attempt.usage.cost_microusd))]
    return [*cost_rows(charge, now)]


def _limit(microusd: int | None) -> str:
    return "" if microusd is None else f"{exact_dollars(microusd)} at most, all attempts together"


def _times(attempt: Attempt, now: datetime) -> Details:
    took = ""
    if attempt.started_at and attempt.ended_at:
        took = f", after {span((attempt.ended_at - attempt.started_at).total_seconds())}"
    ended = _instant(attempt.ended_at, now)
    in_sight = not attempt.state.ended and attempt.state is not State.UNKNOWN
    return [
        ("started", _instant(attempt.started_at, now)),
        ("ended", f"{ended}{took}" if ended else ""),
        ("last seen", _instant(attempt.seen_at, now) if in_sight else ""),
    ]


def _state(attempt: Attempt, now: datetime) -> str:
    """Return the state; of one out of contact also since when, which is when it was last seen."""
    if attempt.state is not State.UNKNOWN or attempt.seen_at is None:
        return attempt.state.value
    return f"{attempt.state} since {_instant(attempt.seen_at, now)}"


def _exit(code: int | None) -> Details:
    if code is None:
        return []
    if -code in signal.valid_signals():
        return [("ended by", signal.Signals(-code).name)]
    return [("exit code", str(code))]


def _tokens(attempt: Attempt) -> str:
    usage = attempt.usage
    named = (
        (usage.input_tokens, "in"),
        (usage.output_tokens, "out"),
        (usage.cache_read_tokens, "read from cache"),
        (usage.cache_write_tokens, "written to cache"),
    )
    return ", ".join(f"{number:,} {name}" for number, name in named if number)


def _kept(attempt: Attempt) -> str:
    if attempt.kept_how not in KEPT_ELSEWHERE:
        return ""
    return f"not on the remote; {attempt.kept_how} {attempt.kept_where}"


def _instant(instant: datetime | None, now: datetime) -> str:
    if instant is None:
        return ""
    return f"{to_the_second(instant)} ({since(instant, now)} ago)"


def _known(rows: Details) -> Details:
    return [(name, value) for name, value in rows if value not in ("", Cell(""))]

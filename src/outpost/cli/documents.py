"""What ``--json`` prints of workers, tasks, outposts and decisions. Keys are never renamed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from outpost.model import Attempt, Decision, Estimate, Task
from outpost.wire.urls import Credentials

if TYPE_CHECKING:
    from outpost.control.overview import OutpostStatus
    from outpost.model import Breaker, CapView, Charge, Quote

Document = dict[str, object]


def attempt_document(attempt: Attempt) -> Document:
    """Return a worker: one attempt of a task. Instants are RFC 3339, money is US dollars."""
    usage = attempt.usage
    return {
        "task": attempt.task_id,
        "worker": attempt.id,
        "issue": attempt.issue_id,
        "outpost": attempt.outpost,
        "state": attempt.state.value,
        "reason": attempt.reason,
        "branch": attempt.branch,
        "commit": attempt.commit,
        "pr_url": attempt.pr_url,
        "cost_usd": dollars_number(usage.cost_microusd),
        "tokens": {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_tokens,
            "cache_write": usage.cache_write_tokens,
        },
        "activity": attempt.activity,
        "active_at": instant(attempt.active_at),
        "attempt": attempt.number,
        "created_at": instant(attempt.created_at),
        "started_at": instant(attempt.started_at),
        "ended_at": instant(attempt.ended_at),
        "seen_at": instant(attempt.seen_at),
        "summary": attempt.summary,
        "exit_code": attempt.exit_code,
        "session": attempt.session_id,
        "kept": {"how": attempt.kept_how, "where": attempt.kept_where}
        if attempt.kept_how
        else None,
    }


def queued_document(task: Task) -> Document:
    """Return a task without a worker, with the keys that a worker has."""
    return {
        **dict.fromkeys(_ATTEMPT_KEYS),
        "task": task.id,
        "issue": task.issue_id,
        "state": task.state.value,
        "reason": task.reason,
        "created_at": instant(task.created_at),
    }


def task_document(task: Task) -> Document:
    """Return what was asked for, for the key ``asked`` beside a worker."""
    return {
        "title": task.title,
        "source": task.source,
        "url": task.url,
        "repo": Credentials(task.repo_url).url,
        "base": task.base,
        "priority": task.priority.name,
        "labels": list(task.labels),
        "agent": task.agent.name,
        "argv": list(task.agent.argv),
        "time_limit_s": task.time_limit_s,
        "pr": task.pr,
        "write_back": list(task.write_back),
        "type": task.type,
        "epic": task.epic,
        "estimate_s": task.estimate_s,
        "requires": dict(task.requires),
        "sensitivity": task.sensitivity,
        "max_cost_usd": dollars_number(task.max_cost_microusd),
        "token_budget_usd": dollars_number(task.token_budget_microusd),
    }


def decision_document(decision: Decision | None) -> Document | None:
    """Return where a task may run and why not elsewhere."""
    if decision is None:
        return None
    return {
        "chosen": decision.chosen,
        "candidates": list(decision.candidates),
        "why": decision.why(),
        "decided_at": instant(decision.decided_at),
        "refused": [
            {
                "outpost": refused.outpost,
                "code": refused.code.value,
                "detail": refused.detail,
                "numbers": dict(refused.numbers),
                "until": instant(refused.until),
                "price_hourly_usd": dollars_number(refused.microusd_per_hour),
                "estimate": _estimate_document(refused.estimate),
            }
            for refused in decision.refused
        ],
        "offers": [
            {
                "rank": rank,
                "outpost": offer.outpost,
                "why": offer.why,
                "price_hourly_usd": dollars_number(offer.microusd_per_hour),
                "estimate": _estimate_document(offer.estimate),
            }
            for rank, offer in enumerate(decision.ranked, 1)
        ],
        "notes": list(decision.notes),
    }


def _estimate_document(estimate: Estimate | None) -> Document | None:
    """Return the most that an attempt may cost; ``held_s`` is for how long compute is reserved."""
    if estimate is None:
        return None
    return {
        "compute_usd": dollars_number(estimate.compute_microusd),
        "tokens_usd": dollars_number(estimate.tokens_microusd),
        "total_usd": dollars_number(estimate.total_microusd),
        "held_s": estimate.held_s,
    }


def outpost_document(status: OutpostStatus, word: str) -> Document:
    """Return an outpost; ``word`` is the status that the table shows."""
    return {
        "name": status.name,
        "type": status.kind,
        "workers": status.active,
        "max_workers": status.max_workers,
        "status": word,
        "enabled": status.enabled,
        "healthy": status.health.ok,
        "detail": status.health.detail,
        "hint": status.health.hint,
        "labels": dict(status.labels),
        "price": _price_document(status.quote),
        "cost_today_usd": dollars_number(status.spent_today_microusd),
        "caps": [_cap_document(view) for view in status.caps],
        "breakers": [_breaker_document(breaker) for breaker in status.breakers],
    }


def _price_document(quote: Quote | None) -> Document | None:
    if quote is None:
        return None
    return {
        "hourly_usd": dollars_number(quote.microusd_per_hour),
        "source": quote.source,
        "vcpus": quote.vcpus,
        "memory_gib": quote.memory_gib,
    }


def _cap_document(view: CapView) -> Document:
    return {
        "name": view.cap.name,
        "window": view.cap.window.value,
        "on_cap": view.cap.on_cap.value,
        "outposts": None if view.cap.outposts is None else sorted(view.cap.outposts),
        "limit_usd": dollars_number(view.cap.limit_microusd),
        "spent_usd": dollars_number(view.used.spent_microusd),
        "held_usd": dollars_number(view.used.held_microusd),
        "left_usd": dollars_number(view.left_microusd),
        "frees_at": instant(view.used.frees_at),
    }


def _breaker_document(breaker: Breaker) -> Document:
    return {
        "scope": breaker.scope,
        "trouble": breaker.trouble.value,
        "failures": breaker.failures,
        "trips": breaker.trips,
        "open_until": instant(breaker.open_until),
        "reason": breaker.reason,
    }


def charge_document(charge: Charge | None, now: datetime) -> Document | None:
    """Return what a worker costs until ``now``, or in all; ``null`` is what nobody knows."""
    if charge is None:
        return None
    priced, known = charge.microusd_per_hour is not None, charge.tokens_known
    compute, tokens = charge.compute_microusd(now), charge.tokens_microusd
    return {
        "compute_usd": dollars_number(compute) if priced else None,
        "tokens_usd": dollars_number(tokens) if known else None,
        "cost_usd": dollars_number(compute + tokens) if priced and known else None,
        "reserved_usd": dollars_number(charge.reserved_microusd(now)),
        "settled": charge.ended_at is not None,
        "price_hourly_usd": dollars_number(charge.microusd_per_hour),
        "price_source": charge.price_source,
        "token_budget_usd": dollars_number(charge.token_budget_microusd),
        "held_until": instant(charge.held_until),
    }


def print_json(document: object) -> None:
    """Print one JSON document over several lines."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_json_line(document: Mapping[str, object]) -> None:
    """Print one JSON object on a line of its own, at once."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def dollars_number(microusd: int | None) -> float | None:
    """Return money as the number that JSON shows, ``None`` where it is unknown."""
    # The nearest float of a number of micro-dollars is printed with exactly its own digits.
    return None if microusd is None else microusd / 1_000_000


def instant(moment: datetime | None) -> str | None:
    """Return an instant as RFC 3339 in UTC."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


_ATTEMPT_KEYS = (
    *("task", "worker", "issue", "outpost", "state", "reason", "branch", "commit", "pr_url"),
    *("cost_usd", "tokens", "activity", "active_at", "attempt", "created_at", "started_at"),
    *("ended_at", "seen_at", "summary", "exit_code", "session", "kept"),
)

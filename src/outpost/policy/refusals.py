"""Why an outpost cannot take a task now: the first reason that applies, as ``Refusal`` orders them.

What was asked for comes first, then rules and labels, then what the task may cost, then how the
outpost is, then money. ``docs/reference/reasons.md`` explains each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from outpost.model import Breaker, Estimate, OutpostView, Refusal, Refused, Trouble
from outpost.policy.breaker import BreakerState, state
from outpost.policy.case import Case
from outpost.policy.means import over_cap, unaffordable
from outpost.policy.rules import Selector


def refusal(case: Case, view: OutpostView, most: Estimate) -> Refused | None:
    """Return why an outpost cannot take the task, ``None`` if it can.

    ``most`` is the most that the task may cost there.
    """
    return (
        _unwanted(case, view)
        or unaffordable(case, view, most)
        or _unable(case, view, most)
        or (over_cap(case, view, most) if view.caps else None)
    )


def _unwanted(case: Case, view: OutpostView) -> Refused | None:
    """Refuse what was not asked for, what rules and labels leave out, and what has no screen."""
    task = case.task
    if task.outpost is not None and view.name != task.outpost:
        return case.refused(view, Refusal.NOT_REQUESTED, f"not asked for: {task.outpost} is")
    if case.denying or case.requiring:
        bound = _by_rules(case, view)
        if bound:
            return bound
    if task.requires and not task.requires.items() <= view.labels.items():
        return case.refused(view, Refusal.LACKS_LABEL, _lacking(task.requires, view.labels))
    if task.interactive and not view.has_screen:
        detail = "has no screen to work with the agent at"
        return case.refused(view, Refusal.NO_SCREEN, detail)
    return None


def _by_rules(case: Case, view: OutpostView) -> Refused | None:
    for selector, rule in case.denying:
        if selector.selects(view):
            detail = f"denied by rule {rule.number} ({rule.condition.text})"
            return case.refused(view, Refusal.DENIED, detail, numbers={"rule": rule.number})
    for rule in case.requiring:
        if not any(selector.selects(view) for selector in rule.require):
            wanted = f"{_either(rule.require)} ({rule.condition.text})"
            detail = f"is not what rule {rule.number} requires: {wanted}"
            return case.refused(view, Refusal.NOT_REQUIRED, detail, numbers={"rule": rule.number})
    return None


def _unable(case: Case, view: OutpostView, most: Estimate) -> Refused | None:
    """Refuse while the task has to wait, and while the outpost is in trouble or full."""
    due_at = case.task.due_at
    if due_at is not None and case.now < due_at:
        detail = f"waits: the task is tried again at {case.clock(due_at)}"
        return case.refused(view, Refusal.BACKS_OFF, detail, until=due_at, most=most)
    if view.breakers:
        troubled = _by_breakers(case, view, most)
        if troubled:
            return troubled
    if not view.health.ok:
        detail = view.health.detail or "is not well"
        return case.refused(view, Refusal.UNHEALTHY, detail, most=most)
    if view.max_workers is not None and view.active >= view.max_workers:
        numbers = {"active": view.active, "max_workers": view.max_workers}
        detail = f"full {view.active}/{view.max_workers}"
        return case.refused(view, Refusal.FULL, detail, numbers=numbers, most=most)
    return None


def _by_breakers(case: Case, view: OutpostView, most: Estimate) -> Refused | None:
    """Refuse for the worst trouble: what a person must mend, else what lasts the longest.

    Trouble of a part of an outpost counts for all of it: nobody here chooses between its parts.
    """
    worst = None
    for breaker in view.breakers:
        found = _by_breaker(case, view, breaker, most)
        if found and (worst is None or _gravity(found) > _gravity(worst)):
            worst = found
    return worst


def _by_breaker(case: Case, view: OutpostView, breaker: Breaker, most: Estimate) -> Refused | None:
    because = f" ({breaker.reason})" if breaker.reason else ""
    if breaker.scope:
        because = f" in {breaker.scope}{because}"
    match state(breaker, case.now):
        case BreakerState.OPEN:
            assert breaker.open_until
            code, until = Refusal.COOLING_DOWN, breaker.open_until
            detail = f"cools down until {case.clock(until)}{because}"
            if breaker.trouble is Trouble.REJECTED:
                code, detail = Refusal.REJECTED, f"refuses us until {case.clock(until)}{because}"
        case BreakerState.PROBING:
            assert breaker.probe_until
            code, until = Refusal.COOLING_DOWN, breaker.probe_until
            detail = f"cools down: one worker is trying it{because}"
        case BreakerState.HALF_OPEN | BreakerState.CLOSED:
            return None
    numbers = {"failures": breaker.failures, "trips": breaker.trips}
    return case.refused(view, code, detail, numbers=numbers, until=until, most=most)


def _gravity(troubled: Refused) -> tuple[bool, datetime]:
    assert troubled.until
    return troubled.code is Refusal.REJECTED, troubled.until


def _lacking(required: Mapping[str, str], labels: Mapping[str, str]) -> str:
    lacking = [
        f"{key}={value} ({_had(key, labels)})"
        for key, value in required.items()
        if labels.get(key) != value
    ]
    return f"lacks {', '.join(lacking)}"


def _had(key: str, labels: Mapping[str, str]) -> str:
    return f"it has {key}={labels[key]}" if key in labels else f"it has no {key}"


def _either(selectors: Sequence[Selector]) -> str:
    return " or ".join(str(selector) for selector in selectors)

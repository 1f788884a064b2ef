"""The policy: the same answer for the same values, and never less for more room or money."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from outpost.model import (
    AgentSpec,
    Breaker,
    Cap,
    CapView,
    Decision,
    Health,
    OutpostView,
    Priority,
    Quote,
    Refusal,
    Snapshot,
    Task,
    Trouble,
    Used,
    Window,
)
from outpost.policy.conditions import parse
from outpost.policy.decide import decide
from outpost.policy.estimate import needed_microusd
from outpost.policy.rules import Placement, Policy, Rule, Selector, Tier

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DOLLAR = 1_000_000
NAMES = ("local", "fly", "ssh-box", "e2b", "spare")
CONDITIONS = (
    "priority >= P3",
    "estimated_duration > 30m",
    "not (sensitivity == public)",
    "requires contains gpu or cost_today(fly) > 1",
)
_instants = st.none() | st.integers(-60, 60).map(lambda minutes: NOW + timedelta(minutes=minutes))
_money = st.integers(0, 12).map(lambda quarters: quarters * DOLLAR // 4)
_labels = st.dictionaries(st.sampled_from(("gpu", "eu")), st.just("true"))
_selectors = st.builds(lambda name: Selector(name=name), st.sampled_from(NAMES)) | st.builds(
    lambda key: Selector(labels={key: "true"}), st.sampled_from(("gpu", "eu"))
)
_tier: st.SearchStrategy[Tier] = st.lists(_selectors, min_size=1, max_size=2).map(tuple)
_few: st.SearchStrategy[Tier] = st.sampled_from((0, 0, 0, 1)).flatmap(
    lambda count: st.lists(_selectors, min_size=count, max_size=count).map(tuple)
)
_caps = st.builds(
    lambda window, limit, spent, held, frees_at: CapView(
        cap=Cap(name=f"{window} cap", window=window, limit_microusd=limit + 2 * DOLLAR),
        used=Used(spent_microusd=spent, held_microusd=held, frees_at=frees_at),
    ),
    st.sampled_from(Window),
    _money,
    st.just(0) | _money,
    st.just(0) | _money,
    _instants,
)
_breakers = st.builds(
    lambda trouble, scope, open_until, probe_until: Breaker(
        outpost="",
        scope=scope,
        trips=1,
        open_until=open_until,
        trouble=trouble,
        probe="w-1" if probe_until else "",
        probe_until=probe_until,
    ),
    st.sampled_from(Trouble),
    st.sampled_from(("", "us")),
    _instants,
    _instants,
)


@st.composite
def outposts(draw: st.DrawFn, name: str) -> OutpostView:
    price = draw(st.sampled_from((0, 0, DOLLAR // 3, DOLLAR, None)))
    ok = draw(st.sampled_from((*[True] * 7, False)))
    return OutpostView(
        name=name,
        kind=name,
        active=draw(st.integers(0, 4)),
        max_workers=draw(st.none() | st.integers(2, 6)),
        health=Health(ok=ok, detail="" if ok else "is down"),
        labels=draw(_labels),
        quote=Quote(microusd_per_hour=price, source="tests"),
        allow_unpriced=draw(st.booleans()),
        caps=tuple(draw(st.lists(_caps, max_size=2))),
        spent_today_microusd=draw(_money),
        breakers=tuple(draw(st.lists(_breakers, max_size=1))),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    names = draw(st.permutations(NAMES))[: draw(st.sampled_from((5, 4, 3, 2, 1, 0)))]
    return Snapshot(
        outposts=tuple(draw(outposts(name)) for name in names),
        task_spent_microusd=draw(st.sampled_from((0, 0, DOLLAR // 2, DOLLAR, 9 * DOLLAR))),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    conditions = draw(st.lists(st.sampled_from(CONDITIONS), max_size=3))
    return Policy(
        preference=tuple(draw(st.lists(_tier, max_size=3))),
        rules=tuple(
            Rule(
                number=number,
                condition=parse(condition),
                prefer=tuple(draw(st.lists(_tier, max_size=2))),
                require=draw(_few),
                avoid=draw(_few),
                deny=draw(_few),
            )
            for number, condition in enumerate(conditions, 1)
        ),
        placement=draw(st.sampled_from(Placement)),
        burst_after_s=draw(st.sampled_from((0.0, 30.0, 600.0))),
        token_budget_microusd=draw(st.sampled_from((DOLLAR // 2, 2 * DOLLAR, 0))),
    )


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    return Task(
        id="t-1",
        issue_id="words",
        source="text",
        title="Words",
        body="",
        repo_url="/r",
        created_at=NOW - timedelta(seconds=60),
        agent=AgentSpec(name="command"),
        priority=draw(st.sampled_from(Priority)),
        estimate_s=draw(st.none() | st.sampled_from((60.0, 3_600.0))),
        time_limit_s=draw(st.sampled_from((600.0, 3_480.0, 3_600.0, 36_000.0, None))),
        outpost=draw(st.sampled_from((*[None] * 9, "local"))),
        requires=draw(st.sampled_from(({}, {}, {}, {"gpu": "true"}))),
        sensitivity=draw(st.sampled_from((None, "public", "secret"))),
        max_cost_microusd=draw(st.sampled_from((None, None, DOLLAR, 4 * DOLLAR))),
        token_budget_microusd=draw(st.none() | st.sampled_from((0, DOLLAR))),
        due_at=draw(st.sampled_from((*[None] * 8, NOW, NOW + timedelta(minutes=1)))),
    )


@given(task=tasks(), snapshot=snapshots(), policy=policies())
def test_each_outpost_is_a_candidate_or_refused_once(
    task: Task, snapshot: Snapshot, policy: Policy
) -> None:
    decision = decide(task, snapshot, policy, NOW)
    named = [*decision.candidates, *(refused.outpost for refused in decision.refused)]
    assert sorted(named) == sorted(view.name for view in snapshot.outposts)
    assert decision == decide(task, replace(snapshot), replace(policy), NOW)
    assert decision.why()
    assert all(candidate.why for candidate in decision.ranked)
    assert all(refused.detail for refused in decision.refused)


@given(task=tasks(), snapshot=snapshots(), policy=policies())
def test_a_candidate_can_take_the_task(task: Task, snapshot: Snapshot, policy: Policy) -> None:
    views = {view.name: view for view in snapshot.outposts}
    for candidate in decide(task, snapshot, policy, NOW).ranked:
        view, price = views[candidate.outpost], candidate.microusd_per_hour
        assert view.health.ok
        assert view.max_workers is None or view.active < view.max_workers
        assert task.outpost in (None, view.name)
        assert task.requires.items() <= view.labels.items()
        assert task.due_at is None or task.due_at <= NOW
        assert price == view.quote.microusd_per_hour
        assert price is not None or view.allow_unpriced
        assert not price or candidate.estimate.held_s
        assert not price or candidate.estimate.compute_microusd > 0
        total = candidate.estimate.total_microusd
        if task.max_cost_microusd is not None and total:
            assert snapshot.task_spent_microusd + total <= task.max_cost_microusd
        for cap in view.caps:
            need = needed_microusd(cap.cap.window, candidate.estimate, price)
            assert not need or cap.used.total_microusd + need <= cap.cap.limit_microusd


@given(task=tasks(), snapshot=snapshots(), policy=policies())
def test_rules_bind(task: Task, snapshot: Snapshot, policy: Policy) -> None:
    views = {view.name: view for view in snapshot.outposts}
    decision = decide(task, snapshot, policy, NOW)
    holding = [
        rule
        for rule in policy.rules
        if f"rule {rule.number} ({rule.condition.text}) applies" in decision.notes
    ]
    for name in decision.candidates:
        for rule in holding:
            assert not any(selector.selects(views[name]) for selector in rule.deny)
            assert not rule.require or any(it.selects(views[name]) for it in rule.require)
    avoided = [
        any(it.selects(views[name]) for rule in holding for it in rule.avoid)
        for name in decision.candidates
    ]
    assert avoided == sorted(avoided)


def _roomier(view: OutpostView, more: int) -> OutpostView:
    limit = None if view.max_workers is None else view.max_workers + more
    return replace(view, max_workers=limit)


def _emptier(view: OutpostView, fewer: int) -> OutpostView:
    return replace(view, active=max(0, view.active - fewer))


def _richer(view: OutpostView, more: int) -> OutpostView:
    def raised(given: CapView) -> CapView:
        limit = given.cap.limit_microusd + more * DOLLAR
        return replace(given, cap=replace(given.cap, limit_microusd=limit))

    return replace(view, caps=tuple(raised(given) for given in view.caps))


def _less_spent(view: OutpostView, less: int) -> OutpostView:
    def lowered(given: CapView) -> CapView:
        spent = max(0, given.used.spent_microusd - less * DOLLAR)
        return replace(given, used=replace(given.used, spent_microusd=spent, held_microusd=0))

    return replace(view, caps=tuple(lowered(given) for given in view.caps))


_BETTER: tuple[Callable[[OutpostView, int], OutpostView], ...] = (
    _roomier,
    _emptier,
    _richer,
    _less_spent,
)


@settings(max_examples=300)
@given(
    task=tasks(),
    snapshot=snapshots(),
    policy=policies(),
    better=st.sampled_from(_BETTER),
    amounts=st.lists(st.integers(0, 3), min_size=len(NAMES), max_size=len(NAMES)),
)
def test_more_room_or_money_never_makes_a_task_unplaceable(
    task: Task,
    snapshot: Snapshot,
    policy: Policy,
    better: Callable[[OutpostView, int], OutpostView],
    amounts: list[int],
) -> None:
    before = decide(task, snapshot, policy, NOW)
    views = zip(snapshot.outposts, amounts, strict=False)
    more = replace(snapshot, outposts=tuple(better(view, amount) for view, amount in views))
    after = decide(task, more, policy, NOW)
    assert after.ranked or not before.ranked
    # Only for patience's sake does one that could take it step back for another.
    gone = {it.outpost: it.code for it in after.refused if it.outpost in before.candidates}
    assert set(gone.values()) <= {Refusal.WAITS_FOR_FREE}


@given(task=tasks(), snapshot=snapshots(), policy=policies(), extra=outposts("another"))
def test_another_outpost_takes_nothing_away(
    task: Task, snapshot: Snapshot, policy: Policy, extra: OutpostView
) -> None:
    impatient = replace(policy, burst_after_s=0.0)
    before = decide(task, snapshot, impatient, NOW)
    more = replace(snapshot, outposts=(*snapshot.outposts, extra))
    after = decide(task, more, impatient, NOW)
    assert set(before.candidates) <= set(after.candidates)
    kept = tuple(name for name in after.candidates if name != extra.name)
    assert kept == before.candidates


@given(task=tasks(), snapshot=snapshots(), policy=policies(), seconds=st.integers(0, 9_000))
def test_patience_ends_in_the_same_place(
    task: Task, snapshot: Snapshot, policy: Policy, seconds: int
) -> None:
    older = replace(task, created_at=NOW - timedelta(seconds=600 + seconds))
    impatient = decide(older, snapshot, replace(policy, burst_after_s=0.0), NOW)
    assert decide(older, snapshot, policy, NOW) == impatient


def _by_name(decision: Decision) -> dict[str, Refusal]:
    return {refused.outpost: refused.code for refused in decision.refused}


@given(task=tasks(), snapshot=snapshots(), policy=policies())
def test_what_costs_money_waits_only_beside_what_costs_nothing(
    task: Task, snapshot: Snapshot, policy: Policy
) -> None:
    impatient = decide(task, snapshot, replace(policy, burst_after_s=0.0), NOW)
    decision = decide(task, snapshot, policy, NOW)
    prices = {view.name: view.quote.microusd_per_hour for view in snapshot.outposts}
    waiting = [name for name, code in _by_name(decision).items() if code is Refusal.WAITS_FOR_FREE]
    assert set(impatient.candidates) == {*decision.candidates, *waiting}
    soon = {Refusal.FULL, Refusal.COOLING_DOWN, Refusal.UNHEALTHY}
    busy = [name for name, code in _by_name(decision).items() if code in soon and prices[name] == 0]
    assert all(prices[name] != 0 for name in waiting)
    assert busy or not waiting

"""Folding a log in any pieces gives the same attempt; what has ended stays as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outpost.control.fold import fold
from outpost.model import Attempt, State, Usage, may_become
from outpost.wire.events import Event, EventReader, encode

START = Attempt(
    id="w-1",
    task_id="t-1",
    issue_id="words",
    number=1,
    fence=1,
    outpost="local",
    kind="local",
    branch="outpost/words-w-1",
    created_at=datetime(2026, 11, 21, tzinfo=UTC),
)
_counts = st.none() | st.integers(0, 1000)
_texts = st.text(max_size=8)
_states = st.sampled_from(["starting", "preparing", "working", "waiting", "pushing", "new"])
_bodies = st.one_of(
    st.tuples(st.just("status"), st.fixed_dictionaries({"state": _states, "reason": _texts})),
    st.tuples(st.just("log"), st.fixed_dictionaries({"stream": st.just("stdout"), "text": _texts})),
    st.tuples(
        st.just("agent"),
        st.fixed_dictionaries({"kind": st.sampled_from(["session", "text"]), "text": _texts}),
    ),
    st.tuples(
        st.just("usage"),
        st.fixed_dictionaries({}, optional={"input_tokens": _counts, "cost_microusd": _counts}),
    ),
    st.tuples(st.just("question"), st.fixed_dictionaries({"text": _texts})),
    st.tuples(st.just("heartbeat"), st.just({})),
    st.tuples(st.just("checkpoint"), st.fixed_dictionaries({"ref": _texts, "commit": _texts})),
)
_results = st.tuples(
    st.just("result"),
    st.fixed_dictionaries({"outcome": st.sampled_from(["done", "failed", "stopped", "new"])}),
)


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    bodies: list[tuple[str, dict[str, Any]]] = draw(st.lists(_bodies, max_size=15))
    if draw(st.booleans()):
        bodies.append(draw(_results))
    lines = [
        encode(seq, f"2026-11-21T12:00:{seq:02}.5Z", type_, fields)
        for seq, (type_, fields) in enumerate(bodies, 1)
    ]
    return list(EventReader().feed(b"".join(lines)))


@given(events=logs(), data=st.data())
def test_folding_in_any_pieces_is_folding_at_once(events: list[Event], data: st.DataObject) -> None:
    whole = reduce(fold, events, START)
    cut = data.draw(st.integers(0, len(events)))
    half = reduce(fold, events[:cut], START)
    assert reduce(fold, events[cut:], half) == whole
    if events:
        assert (whole.seq, whole.offset) == (events[-1].seq, events[-1].end)


@given(events=logs(), state=st.sampled_from([State.DONE, State.FAILED, State.STOPPED]))
def test_what_has_ended_never_changes(events: list[Event], state: State) -> None:
    ended = Attempt(**{**_values(START), "state": state})
    assert reduce(fold, events, ended) == ended


@given(events=logs())
def test_every_log_of_a_runner_is_a_path_the_store_takes(events: list[Event]) -> None:
    """A stored attempt may become, at any time, what a runner's log makes of it at its end."""
    end = reduce(fold, events, START)
    for start in State:
        if end.state.ended and not start.ended and start is not State.QUEUED:
            assert may_become(start, end.state)


@given(events=logs())
def test_tokens_and_money_add_up_and_unknown_is_not_zero(events: list[Event]) -> None:
    usage = reduce(fold, events, START).usage
    deltas = [event.fields for event in events if event.type == "usage"]
    assert usage.input_tokens == sum(delta.get("input_tokens") or 0 for delta in deltas)
    costs = [d["cost_microusd"] for d in deltas if d.get("cost_microusd") is not None]
    assert usage.cost_microusd == (sum(costs) if costs else None)


@given(events=logs(), data=st.data())
def test_losing_sight_of_a_worker_changes_nothing_for_good(
    events: list[Event], data: st.DataObject
) -> None:
    """One that was out of contact is what it had been, as soon as it says anything more."""
    cut = data.draw(st.integers(0, max(len(events) - 1, 0)))
    half = reduce(fold, events[:cut], START)
    unseen = replace(half, state=State.UNKNOWN, reason="no route")
    if events:
        seen = reduce(fold, events[cut:], unseen)
        whole = reduce(fold, events, START)
        state = State.STARTING if whole.state is State.RESERVED else whole.state
        assert (seen.state, seen.told) == (state, whole.told)
        assert "no route" not in seen.reason
        told = [event for event in events[cut:] if event.type in ("status", "question", "result")]
        assert seen.reason == (whole.reason if told else "")


def _values(attempt: Attempt) -> dict[str, Any]:
    return {name: getattr(attempt, name) for name in attempt.__slots__}


def _event(type_: str, **fields: Any) -> Event:
    return Event(1, "2026-11-21T12:00:00Z", type_, fields)


def test_a_result_says_all_that_is_known_of_the_end() -> None:
    event = _event(
        "result",
        outcome="failed",
        reason="not pushed: closed",
        branch=None,
        commit="abc",
        pr_url=None,
        summary="did it",
        exit_code=0,
        kept={"how": "bundle", "where": "/b"},
    )
    ended = fold(START, event)
    assert ended.state is State.FAILED
    assert ended.reason == "not pushed: closed"
    assert ended.branch == START.branch
    assert (ended.commit, ended.summary, ended.exit_code) == ("abc", "did it", 0)
    assert (ended.kept_how, ended.kept_where) == ("bundle", "/b")
    assert ended.ended_at == datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_an_outcome_nobody_knows_is_no_success() -> None:
    assert fold(START, _event("result", outcome="splendid")).state is State.FAILED


@pytest.mark.parametrize("rescued", [True, False, None])
def test_a_result_that_somebody_else_wrote_says_that_the_worker_died(rescued: bool | None) -> None:
    fields = {} if rescued is None else {"rescued": rescued}
    assert fold(START, _event("result", outcome="failed", **fields)).died is bool(rescued)


def test_the_newest_checkpoint_is_known() -> None:
    first = fold(START, _event("checkpoint", ref="refs/outpost/wip/t-1", commit="abc"))
    assert (first.checkpoint, START.checkpoint) == ("abc", "")
    assert fold(first, _event("heartbeat")).checkpoint == "abc"
    assert fold(first, _event("checkpoint", commit="def")).checkpoint == "def"


@pytest.mark.parametrize(
    ("told", "event", "now", "reason"),
    [
        (State.WORKING, _event("heartbeat"), State.WORKING, ""),
        (State.WAITING, _event("log", stream="stdout", text="x"), State.WAITING, ""),
        (State.STARTING, _event("usage"), State.STARTING, ""),
        (State.WORKING, _event("status", state="pushing"), State.PUSHING, ""),
        (State.PUSHING, _event("status", state="new", reason="so"), State.PUSHING, "so"),
        (State.WORKING, _event("question", text="Which?"), State.WAITING, "Which?"),
        (State.WORKING, _event("result", outcome="done"), State.DONE, ""),
    ],
)
def test_whoever_was_out_of_contact_is_what_it_told_last(
    told: State, event: Event, now: State, reason: str
) -> None:
    unseen = replace(START, state=State.UNKNOWN, reason="no route", told=told)
    seen = fold(unseen, event)
    assert (seen.state, seen.reason) == (now, reason)
    assert seen.told is (told if now.ended else now)


def test_what_was_lost_may_be_found() -> None:
    lost = Attempt(**{**_values(START), "state": State.LOST, "reason": "died"})
    assert fold(lost, _event("result", outcome="stopped", reason="")).state is State.STOPPED


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (_event("log", stream="stdout", text="one\ntwo"), "one"),
        (_event("log", stream="runner", text="a note"), ""),
        (_event("agent", kind="tool_call", text="Edit a.py"), "Edit a.py"),
        (_event("agent", kind="thinking", text="hm"), "thinks: hm"),
        (_event("agent", kind="tool_result", text="x"), ""),
        (_event("question", text="Which?"), "asks: Which?"),
        (_event("heartbeat"), ""),
        (_event("log", stream="stdout", text="x" * 200), "x" * 119 + "…"),
        (_event("log", stream="stdout", text="\x1b[31mred\x1b[0m"), "[31mred[0m"),
    ],
)
def test_the_last_activity_is_a_sentence(event: Event, sentence: str) -> None:
    assert fold(START, event).activity == sentence


def test_usage_starts_unknown() -> None:
    assert START.usage == Usage(cost_microusd=None)

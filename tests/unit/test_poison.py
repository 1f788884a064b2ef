"""A line of a log that no runner wrote harms its own worker alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from outpost.control.fold import fold
from outpost.control.loops.recorder import Recorder
from outpost.errors import OutpostFault
from outpost.model import Attempt, Usage
from outpost.ports import Store
from outpost.store import open_store
from outpost.transports.fitness import judge
from outpost.wire.events import Event, EventReader, LogDamaged
from tests.unit.store_values import StandingClock, a_task, an_attempt
from tests.unit.test_store_batches import all_working

AT = "2026-01-01T00:00:00Z"


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = open_store(store_url, clock=StandingClock())
    yield store
    await store.close()


@pytest.mark.parametrize(
    ("time", "kind", "fields"),
    [
        ("noon", "log", {"text": "x"}),
        (AT, "status", {"state": []}),
        (AT, "usage", {"input_tokens": 10**25}),
        (AT, "usage", {"cost_microusd": 1e400}),
        (AT, "progress", {"text": 5}),
        (AT, "result", {"kept": "remote"}),
        (AT, "result", {"exit_code": "x"}),
    ],
)
def test_an_event_that_makes_no_sense_is_a_fault(
    time: str, kind: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(OutpostFault, match="its log is damaged: event 2 makes no sense"):
        fold(an_attempt(a_task(1)), Event(2, time, kind, fields))


def test_a_line_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outpost.wire.events.LINE_MOST_BYTES", 100)
    reader = EventReader()
    assert list(reader.feed(b"x" * 60)) == []
    with pytest.raises(LogDamaged):
        list(reader.feed(b"x" * 60))


def test_brackets_without_an_end_are_no_event() -> None:
    with pytest.raises(LogDamaged):
        list(EventReader().feed(b"[" * 200_000 + b"\n"))


async def test_what_cannot_be_stored_does_not_end_the_recorder(store: Store) -> None:
    first, second = await all_working(store, 2)
    recorder = Recorder(store)
    recorder.start()
    recorder.put(replace(first, seq=2, reason="x", usage=Usage(input_tokens=10**25)))
    async with asyncio.timeout(10):
        while not recorder.trouble:
            await asyncio.sleep(0.01)
        recorder.drop(first.id)
        recorder.put(replace(second, seq=7))
        while [it.seq for it in await store.find(second.id)] != [7]:
            await asyncio.sleep(0.01)
    await recorder.close()


def test_the_branch_is_the_ordered_one() -> None:
    attempt: Attempt = an_attempt(a_task(1))
    ended = fold(attempt, Event(2, AT, "result", {"outcome": "done", "branch": "main"}))
    assert ended.branch == attempt.branch


@pytest.mark.parametrize("said", ["free \u00b2 /", f"free {'9' * 5000} /", f"git 1.{'9' * 5000}"])
def test_what_is_no_number_of_a_machine_makes_it_unfit(said: str) -> None:
    assert not judge(said, 1024).ok

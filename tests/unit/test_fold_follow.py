"""Following a worker that another process mends at the same moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from outpost.control.follow import Follower
from outpost.model import (
    Capabilities,
    Handle,
    Health,
    Liveness,
    Observation,
    Quote,
    Sighting,
    State,
    Task,
)
from outpost.policy.breaker import RetrySettings
from outpost.ports import Outpost, Worker
from outpost.store import open_store
from outpost.wire.events import Event
from outpost.wire.orders import Environment, Message, WorkOrder
from tests.unit.store_values import StandingClock, claimed

HANDLE = Handle(outpost="local", kind="rival", worker_id="w-1")


class Rival(Worker):
    """A dead worker whose work another process begins to save between our look and our try."""

    id = "w-1"
    outpost = "local"

    def __init__(self) -> None:
        self.rival_is_there = False
        self.saved = False

    async def status(self) -> Observation:
        return Observation(liveness=Liveness.ALIVE if self.rival_is_there else Liveness.DEAD)

    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        log = [Event(1, "2026-03-01T12:00:00Z", "status", {"state": "working"})]
        if self.saved:
            log.append(Event(2, "2026-03-01T12:00:01Z", "result", {"outcome": "failed"}))
        for event in log[after:]:
            yield event

    async def send(self, message: Message) -> None:
        raise AssertionError(message)

    async def stop(self, *, grace_s: float, reason: str) -> None:
        raise AssertionError(reason)

    async def recover(self, environment: Environment) -> bool:
        self.rival_is_there = True
        return False

    async def unsaved(self) -> str:
        return ""

    async def diff(self, options: Sequence[str]) -> bytes | None:
        return None

    async def attach(self) -> Sequence[str]:
        return []


class Yard(Outpost):
    kind: ClassVar[str] = "rival"
    capabilities: ClassVar[Capabilities] = Capabilities()
    name = "local"

    def __init__(self, only: Worker) -> None:
        self._only = only

    async def ping(self) -> Health:
        return Health(ok=True)

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        return HANDLE

    async def find(self, worker_id: str) -> Handle | None:
        return HANDLE

    async def workers(self) -> AsyncIterator[Sighting]:
        yield Sighting(handle=HANDLE, liveness=Liveness.ALIVE)

    def worker(self, handle: Handle) -> Worker:
        return self._only

    async def destroy(self, handle: Handle) -> None:
        return

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="test")


async def test_a_worker_that_another_process_mends_is_not_lost(tmp_path: Path) -> None:
    store = open_store(tmp_path / "outpost.db", clock=StandingClock())
    rival = Rival()
    follower = Follower(
        store=store,
        clock=StandingClock(),
        outposts=lambda _name: Yard(rival),
        environment=lambda _attempt: {"agent": {}, "git": {}},
        retry=RetrySettings(max_attempts=1, initial_backoff_s=1, max_backoff_s=1),
        claim_grace_s=60,
    )
    attempt = replace(await claimed(store), handle=HANDLE, state=State.STARTING)
    await store.apply(attempt)
    seen = await follower.refresh(attempt)
    assert (seen.state, seen.reason) == (State.UNKNOWN, "another process is saving its work")
    assert seen.ended_at is None
    rival.saved = True
    assert (await follower.refresh(seen)).state is State.FAILED
    await store.close()


class EmptyYard(Yard):
    async def find(self, worker_id: str) -> Handle | None:
        return None


@pytest.mark.parametrize("asked", ["stopped on request", ""])
async def test_what_never_ran_is_stopped_where_that_was_asked_for(
    tmp_path: Path, asked: str
) -> None:
    store = open_store(tmp_path / "outpost.db", clock=StandingClock())
    follower = Follower(
        store=store,
        clock=StandingClock(),
        outposts=lambda _name: EmptyYard(Rival()),
        environment=lambda _attempt: {"agent": {}, "git": {}},
        retry=RetrySettings(max_attempts=3, initial_backoff_s=1, max_backoff_s=1),
        claim_grace_s=0,
    )
    attempt = await claimed(store)
    if asked:
        assert await store.ask_to_stop(attempt.id, asked)
    (known,) = await store.attempts_of(attempt.task_id)
    seen = await follower.refresh(known)
    task = await store.task(attempt.task_id)
    if asked:
        assert (seen.state, seen.reason, task.state) == (State.STOPPED, asked, State.STOPPED)
    else:
        assert (seen.state, task.state) == (State.LOST, State.QUEUED)
    await store.close()

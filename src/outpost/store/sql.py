"""The store over a database: each method is one transaction of a ``Reader`` or a ``Writer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from outpost.model import (
    Attempt,
    Breaker,
    CapWindow,
    Charge,
    Decision,
    Duty,
    Lease,
    State,
    Task,
    Transition,
    Used,
)
from outpost.ports import Clock, Store
from outpost.ports.store import Look
from outpost.store.database import Database
from outpost.store.reads import Reader

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class SqlStore(Store):
    """The ``Store`` of ``outpost.ports``; see there for what each method promises."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def federation_id(self) -> str:
        name = await self._database.read(lambda reader: reader.federation_id())
        if name is None:
            raise self._database.absent()
        return name

    async def add_task(self, task: Task) -> None:
        await self._database.write(lambda writer: writer.add_task(task))

    async def claim(
        self,
        attempt: Attempt,
        decision: Decision,
        *,
        max_workers: int | None,
        charge: Charge | None = None,
        caps: Sequence[CapWindow] = (),
    ) -> Attempt | None:
        return await self._database.write(
            lambda writer: writer.claim(attempt, decision, max_workers, charge, caps)
        )

    async def release(
        self, attempt: Attempt, reason: str, *, due_at: datetime | None = None, failed: bool = True
    ) -> bool:
        return await self._database.write(
            lambda writer: writer.release(attempt, reason, due_at=due_at, failed=failed)
        )

    async def hold(self, task_id: str, decision: Decision) -> None:
        await self._database.write(lambda writer: writer.hold(task_id, decision))

    async def apply(self, attempt: Attempt, *, again_at: datetime | None = None) -> bool:
        return await self._database.write(lambda writer: writer.apply(attempt, again_at))

    async def apply_all(self, attempts: Sequence[Attempt]) -> list[bool]:
        if not attempts:
            return []
        return await self._database.write(lambda writer: writer.apply_all(attempts))

    async def ask_to_stop(self, attempt_id: str, reason: str) -> bool:
        return await self._database.write(lambda writer: writer.ask_to_stop(attempt_id, reason))

    async def take_leases(
        self, names: Sequence[str], holder: str, *, ttl_s: float
    ) -> dict[str, Lease]:
        ttl = timedelta(seconds=ttl_s)
        return await self._database.write(lambda writer: writer.take_leases(names, holder, ttl))

    async def drop_leases(self, holder: str) -> None:
        await self._database.write(lambda writer: writer.drop_leases(holder))

    async def leases(self) -> list[Lease]:
        now = self._clock.now()
        return await self._database.read(lambda reader: reader.leases(now))

    async def transitions(
        self, *, after: int = 0, limit: int | None = None, task_id: str | None = None
    ) -> list[Transition]:
        return await self._database.read(
            lambda reader: reader.transitions(after=after, limit=limit, task_id=task_id)
        )

    async def trim_transitions(self, before: datetime) -> int:
        return await self._database.write(lambda writer: writer.trim_transitions(before))

    async def wait_for_change(self, timeout_s: float) -> bool:
        return await self._database.wait_for_change(timeout_s)

    async def cancel(self, task_id: str, reason: str) -> bool:
        return await self._database.write(
            lambda writer: writer.end_queued(task_id, State.STOPPED, reason)
        )

    async def give_up(self, task_id: str, reason: str) -> bool:
        return await self._database.write(
            lambda writer: writer.end_queued(task_id, State.FAILED, reason)
        )

    async def forget(self, attempt_id: str) -> None:
        await self._database.write(lambda writer: writer.forget(attempt_id))

    async def pending_duties(self) -> list[Duty]:
        return await self._database.read(lambda reader: reader.pending_duties())

    async def duties_of(self, task_id: str) -> list[Duty]:
        return await self._database.read(lambda reader: reader.duties_of(task_id))

    async def take_duty(self, duty: Duty, *, lease_s: float) -> Duty | None:
        lease = timedelta(seconds=lease_s)
        return await self._database.write(lambda writer: writer.take_duty(duty, lease))

    async def settle_duty(self, duty: Duty) -> bool:
        return await self._database.write(lambda writer: writer.settle_duty(duty))

    async def note_pr(self, attempt_id: str, pr_url: str) -> bool:
        return await self._database.write(lambda writer: writer.note_pr(attempt_id, pr_url))

    async def note_metered(self, attempt_id: str, seconds: float) -> bool:
        return await self._database.write(lambda writer: writer.note_metered(attempt_id, seconds))

    async def counts(self) -> Mapping[str, int]:
        return await self._database.read(lambda reader: reader.counts())

    async def task(self, task_id: str) -> Task:
        return await self._database.read(lambda reader: reader.task(task_id))

    async def queued(
        self, *, limit: int | None = None, after: Task | None = None, due_by: datetime | None = None
    ) -> list[Task]:
        return await self._database.read(
            lambda reader: reader.queued(limit=limit, after=after, due_by=due_by)
        )

    async def queue_length(self, before: Task | None = None) -> int:
        return await self._database.read(lambda reader: reader.queue_length(before))

    async def look(
        self, windows: Sequence[CapWindow], now: datetime, *, task_id: str | None = None
    ) -> Look:
        def work(reader: Reader) -> Look:
            return Look(
                counts=reader.counts(),
                breakers=reader.breakers(),
                used=reader.used(windows, now) if windows else [],
                task_cost_microusd=reader.task_cost(task_id, now) if task_id else 0,
            )

        return await self._database.read(work)

    async def used(self, windows: Sequence[CapWindow], now: datetime) -> list[Used]:
        return await self._database.read(lambda reader: reader.used(windows, now))

    async def task_cost(self, task_id: str, now: datetime) -> int:
        return await self._database.read(lambda reader: reader.task_cost(task_id, now))

    async def charges(self, *, since: datetime | None = None) -> list[Charge]:
        return await self._database.read(lambda reader: reader.charges(since or _EVER))

    async def charge(self, attempt_id: str) -> Charge | None:
        return await self._database.read(lambda reader: reader.charge(attempt_id))

    async def breakers(self) -> list[Breaker]:
        return await self._database.read(lambda reader: reader.breakers())

    async def change_breaker(
        self, outpost: str, scope: str, change: Callable[[Breaker, Sequence[Breaker]], Breaker]
    ) -> Breaker:
        return await self._database.write(
            lambda writer: writer.change_breaker(outpost, scope, change)
        )

    async def attempts(self, *, ended: bool = False, limit: int | None = None) -> list[Attempt]:
        return await self._database.read(lambda reader: reader.attempts(ended=ended, limit=limit))

    async def attempts_of(self, task_id: str) -> list[Attempt]:
        return await self._database.read(lambda reader: reader.attempts_of(task_id))

    async def find(self, name: str) -> list[Attempt]:
        return await self._database.read(lambda reader: reader.find(name))

    async def find_tasks(self, name: str) -> list[Task]:
        return await self._database.read(lambda reader: reader.find_tasks(name))

    async def decision(self, task_id: str) -> Decision | None:
        return await self._database.read(lambda reader: reader.decision(task_id))

    async def count_by_state(self) -> Mapping[State, int]:
        return await self._database.read(lambda reader: reader.count_by_state())

    async def close(self) -> None:
        await self._database.close()

"""What follows when an outpost fails to start a worker: how long it, and the task, are left alone.

An outpost's trouble goes into its breakers, which are stored: every process heeds them. A task
waits, and uses up its retries, only for what may be its own fault: that an outpost is full, asks
for patience or refuses us is not. However many outposts fail it in one go, that is one failure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from outpost.errors import Ambiguous, NoCapacity, OutpostFault, RateLimited, Rejected
from outpost.model import Attempt, Breaker, Task, Trouble
from outpost.policy.breaker import (
    BreakerSettings,
    BreakerState,
    Failing,
    RetrySettings,
    after_failure,
    after_success,
    next_try,
    not_probing,
    probing,
    state,
)
from outpost.ports import Clock, Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Failover:
    """Keeps the breakers of one federation, which has so many ``outposts`` that may take work.

    ``probe_s`` is how long the one that tries has for it; where its process dies, another may then.
    ``jitter`` returns a number from 0 to 1, a new one at each call.
    """

    store: Store
    clock: Clock
    outposts: int
    breaker: BreakerSettings
    retry: RetrySettings
    probe_s: float
    jitter: Callable[[], float] = random.random

    async def may_try(self, outpost: str, attempt_id: str) -> bool:
        """Whether an attempt may be made at ``outpost`` now, as far as its breakers go.

        Where one is half-open this attempt becomes the one that tries; ``False`` if another is, or
        if one has opened. Asked before the claim; ``failed`` and ``started`` end it, or ``let_go``.
        """
        now = self.clock.now()
        try_it = partial(probing, attempt_id=attempt_id, now=now, probe_s=self.probe_s)
        for stored in await self._breakers(outpost):
            half_open = state(stored, now) is BreakerState.HALF_OPEN
            breaker = await self._change(stored, try_it) if half_open else stored
            if state(breaker, now) is not BreakerState.CLOSED and breaker.probe != attempt_id:
                await self.let_go(outpost, attempt_id)
                return False
        return True

    async def let_go(self, outpost: str, attempt_id: str) -> None:
        """Let others try: this attempt does so no longer. Idempotent."""
        for breaker in await self._breakers(outpost):
            if breaker.probe == attempt_id:
                await self._change(breaker, partial(not_probing, attempt_id=attempt_id))

    async def started(self, outpost: str) -> None:
        """Note that an attempt was started at ``outpost``: it works."""
        now = self.clock.now()
        for breaker in await self._breakers(outpost):
            if state(breaker, now) is not BreakerState.OPEN:
                await self._change(breaker, partial(after_success, now=now))

    async def failed(
        self, task: Task, attempt: Attempt, error: OutpostFault, *, first: bool
    ) -> bool:
        """Note that an attempt failed to start, and give its claim back; ``Ambiguous``: keep it.

        Returns whether that was one of the task's retries: only the ``first`` failure of a go
        through the outposts is, and the task is then left alone for a while.
        """
        trouble, now = trouble_of(error), self.clock.now()
        await self._note(attempt, error, trouble, now)
        if isinstance(error, Ambiguous):
            return False
        counts = first and trouble is Trouble.FAILURE
        if counts:
            due_at = next_try(task.retries + 1, now, self.retry, self.jitter())
        else:
            due_at = (await self.store.task(task.id)).due_at
        await self.store.release(attempt, error.message, due_at=due_at, failed=counts)
        return counts

    async def given_up(self, task: Task) -> bool:
        """Give a queued task up if its retries are used up; whether that was so."""
        retries = (await self.store.task(task.id)).retries
        if retries < self.retry.max_attempts:
            return False
        last = (await self.store.attempts_of(task.id))[-1]
        times = "once" if retries == 1 else f"{retries} times"
        reason = f"given up, as it could not be started {times}: {last.outpost}: {last.reason}"
        return await self.store.give_up(task.id, reason)

    async def _note(
        self, attempt: Attempt, error: OutpostFault, trouble: Trouble, now: datetime
    ) -> None:
        failing = Failing(
            trouble=trouble,
            reason=error.message,
            now=now,
            jitter=self.jitter(),
            outposts=self.outposts,
            retry_after_s=error.retry_after_s if isinstance(error, RateLimited) else None,
        )

        def change(breaker: Breaker, others: Sequence[Breaker]) -> Breaker:
            return after_failure(breaker, others, failing, self.breaker)

        # Credentials and configuration are the whole outpost's, wherever they were refused.
        scope = "" if trouble is Trouble.REJECTED else error.scope
        await self.store.change_breaker(attempt.outpost, scope, change)
        # Where it tried on behalf of another scope, that is as unknown as before.
        await self.let_go(attempt.outpost, attempt.id)

    async def _breakers(self, outpost: str) -> list[Breaker]:
        return [it for it in await self.store.breakers() if it.outpost == outpost]

    async def _change(self, breaker: Breaker, change: Callable[[Breaker], Breaker]) -> Breaker:
        return await self.store.change_breaker(
            breaker.outpost, breaker.scope, lambda newest, _others: change(newest)
        )


def trouble_of(error: OutpostFault) -> Trouble:
    """Return what kind of trouble an outpost's error tells of."""
    if isinstance(error, RateLimited):
        return Trouble.RATE
    if isinstance(error, NoCapacity):
        return Trouble.CAPACITY
    if isinstance(error, Rejected):
        return Trouble.REJECTED
    return Trouble.FAILURE

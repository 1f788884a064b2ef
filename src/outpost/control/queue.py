"""The queue: starting what waits, in its order, as slots and money come free."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from outpost.control.start import Claim, Pass, Placement, Starter
from outpost.errors import PolicyError, Rejected
from outpost.model import Attempt, Decision, Health, Refusal, Task
from outpost.ports import Clock, Store

PAGE = 50
AT_ONCE = 16
"""How many workers are being started at the same time."""
DEPTH = 20_000
"""How far behind the first a task is looked for that can start although the first cannot."""
_MAY_HAVE_ENDED = frozenset({Refusal.FULL, Refusal.OVER_CAP})

# What keeps every other task out as well.
_FOR_ALL = frozenset(
    {
        Refusal.REJECTED,
        Refusal.COOLING_DOWN,
        Refusal.UNHEALTHY,
        Refusal.FULL,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """Goes through the queued tasks of one federation."""

    store: Store
    clock: Clock
    starter: Starter

    async def enter(self, task: Task, refresh: Callable[[], Awaitable[object]]) -> Placement:
        """Start a new task, or leave it queued; raises ``Rejected`` and ``PolicyError``.

        Where a controller was quicker, what that has started is returned.

        Where all is full or spent, ``refresh`` says what has ended meanwhile. A task that the
        user's own policy fails at is taken back.
        """
        try:
            placement = await self.starter.place(task)
            refused = placement.decision.refused
            if placement.attempt is None and any(it.code in _MAY_HAVE_ENDED for it in refused):
                await refresh()
                placement = await self.starter.place(task)
        except PolicyError as exc:
            await self.store.cancel(task.id, exc.message)
            raise
        if placement.attempt is None:
            attempts = await self.store.attempts_of(task.id)
            begun = [it for it in attempts if it.handle or not it.state.ended]
            placement = replace(placement, attempt=begun[-1] if begun else None)
        return placement

    async def go_through(
        self, *, before: Task | None = None, tell: Callable[[Attempt], None] = lambda _started: None
    ) -> list[Placement]:
        """Start what can be started, or only what stands before a task; return what was.

        ``tell`` is told of each at once.

        A task that cannot start yet lets those behind it pass. Looks no further than ``DEPTH``
        tasks, and not at all once no outpost has room for anybody. What is learnt of an outpost
        holds for all of them: one that is down is asked once. Why a task waits is stored for the
        first ``PAGE``, which is what people look at.

        Slots are taken one after the other, in the order of the queue; ``AT_ONCE`` outposts may be
        at starting their workers meanwhile.
        """
        going = _Round(self.starter, tell)
        try:
            await self._claim_all(going, before)
        except BaseException as exc:
            await going.end(cancelled=isinstance(exc, asyncio.CancelledError))
            raise
        return await going.end()

    async def _claim_all(self, going: _Round, before: Task | None) -> None:
        situation = await self.starter.looker.look()
        last: Task | None = None
        trouble: PolicyError | None = None
        for _ in range(DEPTH // PAGE):
            page = await self.store.queued(limit=PAGE, after=last, due_by=self.clock.now())
            for task in page:
                if before is not None and (task.rank, task.id) >= (before.rank, before.id):
                    return
                try:
                    decision = self.starter.judge(task, situation)
                except PolicyError as exc:
                    # The function may well take those behind it.
                    trouble = trouble or exc
                    continue
                if decision.best is not None:
                    # What was taken since the last look is noticed by the claim itself.
                    if not await going.place(task):
                        situation = await self.starter.looker.look(healths=going.healths)
                    continue
                if last is None:
                    await self.starter.hold(task, decision)
                if no_room_at_all(decision):
                    return
            if len(page) < PAGE:
                break
            last = page[-1]
        if trouble and not going.starts:
            raise trouble


class _Round:
    """One go through the queue: what was learnt of outposts, and the starts that go on."""

    def __init__(self, starter: Starter, tell: Callable[[Attempt], None]) -> None:
        self.healths: dict[str, Health] = {}
        self.starts: list[asyncio.Task[Placement | None]] = []
        self._starter = starter
        self._tell = tell
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def place(self, task: Task) -> bool:
        """Take a slot for a task and begin to start it; ``False`` if there is none."""
        going = Pass(healths=self.healths)
        # Before the claim, and until the start is over: what is claimed is started at once.
        await self._slots.acquire()
        claim: Claim | Placement | None = None
        try:
            # Others may do without that outpost, or that choice.
            with contextlib.suppress(Rejected, PolicyError):
                claim = await self._starter.claim(task, going)
        finally:
            if not isinstance(claim, Claim):
                self._slots.release()
        if not isinstance(claim, Claim):
            return False
        start = asyncio.create_task(self._start(task, claim, going))
        start.add_done_callback(lambda _start: self._slots.release())
        self.starts.append(start)
        return True

    async def end(self, *, cancelled: bool = False) -> list[Placement]:
        """Wait for the starts, or cancel them; return what was started. Raises what they did."""
        if cancelled:
            for start in self.starts:
                start.cancel()
        ends = await asyncio.gather(*self.starts, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not cancelled:
                raise end
        return [end for end in ends if isinstance(end, Placement) and end.attempt]

    async def _start(self, task: Task, claim: Claim, going: Pass) -> Placement | None:
        try:
            placement = await self._starter.start(task, claim, going)
        except (Rejected, PolicyError):
            return None
        if placement.attempt:
            self._tell(placement.attempt)
        return placement


def no_room_at_all(decision: Decision) -> bool:
    """Whether no outpost would take any other task either."""
    return not decision.ranked and all(it.code in _FOR_ALL for it in decision.refused)

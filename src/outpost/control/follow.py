"""Looking at workers: what their logs say now, whether they still live, and mending the dead.

One that died without a word of its own is tried again from what it left, as often as the policy's
``retry`` allows: its task is queued in the same transaction in which its end is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import reduce

from outpost.control.carrying import carry, waits
from outpost.control.fold import fold
from outpost.errors import NotOurs, OutpostError, OutpostFault
from outpost.model import Attempt, Liveness, State
from outpost.policy.breaker import RetrySettings, next_try
from outpost.ports import Clock, Outpost, Store, Worker
from outpost.wire.events import RELAY, Event
from outpost.wire.orders import Environment
from outpost.wire.urls import apart

START_GRACE = timedelta(seconds=20)
STORE_EVERY = timedelta(seconds=1)
MENDED_AT_ONCE = 4

Save = Callable[[Attempt], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Follower:
    """Follows attempts by their handles. ``outposts`` returns the outpost of a name.

    ``claim_grace_s`` is how long another process may be at starting a worker. ``jitter`` returns a
    number from 0 to 1, a new one at each call.
    """

    store: Store
    clock: Clock
    outposts: Callable[[str], Outpost]
    environment: Callable[[Attempt], Environment]
    retry: RetrySettings
    claim_grace_s: float
    jitter: Callable[[], float] = random.random
    mending: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MENDED_AT_ONCE))

    async def look(self, attempt: Attempt) -> Attempt:
        """Return the attempt as its worker is now; changes nothing anywhere.

        A worker that cannot be seen is ``unknown``, with the reason; one whose runner died
        without a result is ``lost``. One that another machine looks after stays as it is known.
        """
        seen = await self._look(attempt)
        if waits(seen) and not waits(attempt):
            # It has done its part, and we ours not yet: what was read so far holds.
            return replace(attempt, state=State.PUSHING)
        return seen

    async def _look(self, attempt: Attempt) -> Attempt:
        if attempt.state.ended:
            return attempt
        try:
            attempt = await self._adopt(attempt)
            if attempt.handle is None:
                return self._lost(attempt, Liveness.ABSENT)
            worker = self._worker(attempt)
            seen = await self._read(worker, attempt)
            if seen.state.ended:
                return seen
            observation = await worker.status()
            if observation.liveness in (Liveness.DEAD, Liveness.ABSENT):
                seen = await self._read(worker, seen)
                return seen if seen.state.ended else self._lost(seen, observation.liveness)
        except NotOurs:
            return attempt
        except OutpostError as exc:
            return replace(attempt, state=State.UNKNOWN, reason=exc.message)
        if observation.liveness is Liveness.UNSEEN:
            return replace(seen, state=State.UNKNOWN, reason=observation.detail)
        return replace(seen, seen_at=self.clock.now())

    async def is_paused(self, attempt: Attempt) -> bool:
        """Whether its outpost, one that is tended, has it rest: it is silent then, not lost."""
        try:
            if attempt.handle is None or not self.outposts(attempt.outpost).capabilities.tended:
                return False
            return (await self._worker(attempt).status()).paused
        except OutpostError:
            return False

    async def refresh(self, attempt: Attempt) -> Attempt:
        """Look, mend what died (``recover``), push what is ours to push; store what was learnt."""
        seen = await self._look(attempt)
        if seen.state is State.LOST:
            seen = await self._mend(seen)
        try:
            seen = await self._carried(seen)
        except NotOurs:
            return attempt
        except OutpostError as exc:
            # With what was read before: its result is to be read again.
            seen = replace(attempt, state=State.UNKNOWN, reason=exc.message)
        # What ended may have been seen before by a look that stored nothing.
        if seen != attempt or seen.state.ended:
            await self.settle(seen)
        return seen

    async def _carried(self, attempt: Attempt) -> Attempt:
        """Push what an ended worker left for us to push."""
        return await self._carry(attempt) if waits(attempt) else attempt

    async def _carry_checkpoint(self, attempt: Attempt) -> None:
        """Push work in progress too; the next checkpoint, or the end, makes up for a failure."""
        with contextlib.suppress(OutpostError):
            await self._carry(attempt)

    async def _carry(self, attempt: Attempt) -> Attempt:
        known = await self.store.attempts_of(attempt.task_id)
        # Where it goes is for us to say: its log lies where its agent can write.
        branch = next(it.branch for it in known if it.id == attempt.id)
        attempt = replace(attempt, branch=branch)
        task = await self.store.task(attempt.task_id)
        return await carry(attempt, self._worker(attempt), task, self.environment(attempt))

    async def settle(self, attempt: Attempt) -> bool:
        """Store an attempt; where it ended without coming to its own end, its task is tried again.

        Returns whether anything was stored.
        """
        attempt = await self._explained(attempt)
        task = await self.store.task(attempt.task_id) if _was_cut_short(attempt) else None
        # Nobody sits at its screen any more; and who resumed it by hand looks after it by hand.
        # What never ran nobody has looked after.
        by_hand = task and attempt.started_at and (task.interactive or task.resumes)
        if task is None or by_hand:
            return await self.store.apply(attempt)
        if attempt.got_on:
            return await self.store.apply(attempt, again_at=self.clock.now())
        tries = task.retries + 1
        if tries < self.retry.max_attempts:
            again_at = next_try(tries, self.clock.now(), self.retry, self.jitter())
            return await self.store.apply(attempt, again_at=again_at)
        given_up = f"; given up after {tries} tries" if tries > 1 else ""
        return await self.store.apply(replace(attempt, reason=attempt.reason + given_up))

    async def _explained(self, attempt: Attempt) -> Attempt:
        """Return an end that was not the worker's own with what its place says of that, if any."""
        killed = attempt.state is State.LOST or (attempt.died and not attempt.evicted)
        if attempt.handle is None or not killed:
            return attempt
        try:
            ended = await self._worker(attempt).status()
        except OutpostError:
            return attempt  # its outpost is not configured any more
        if ended.liveness is not Liveness.DEAD or not ended.detail:
            return attempt
        return replace(attempt, reason=f"{ended.detail}; {attempt.reason}")

    async def give_up(self, attempt: Attempt, reason: str) -> None:
        """Store a worker as lost, unless one more look shows that its log went on.

        Whoever looked on may have been away since it was seen last.
        """
        seen = await self.look(attempt)
        if seen.state is State.UNKNOWN and seen.seq == attempt.seq:
            ended_at = self.clock.now()
            await self.settle(replace(seen, state=State.LOST, reason=reason, ended_at=ended_at))
        else:
            await self.refresh(attempt)

    async def catch_up(self, lost: Attempt) -> Attempt:
        """Read on in the log of a lost worker that is seen again; store its result, if it has one.

        One that is dead is mended first.
        """
        worker = self._worker(lost)
        seen = await self._read(worker, lost)
        if seen.state is State.LOST and (await worker.status()).liveness is Liveness.DEAD:
            seen = await self._mend(seen)
        seen = await self._carried(seen)
        if seen.state is not State.LOST:
            await self.settle(seen)
        return seen

    async def follow(
        self, attempt: Attempt, *, save: Save | None = None
    ) -> AsyncGenerator[tuple[Event, Attempt], None]:
        """Yield each event from the attempt's position on, with the attempt after it.

        What is learnt is handed to ``save``; without it, it is stored here at every change of
        state and about once a second. The end is stored here. Ends with the result; a worker
        that died without one is mended first, and its result yielded.
        """
        current = stored = attempt
        while not current.state.ended:
            worker = self._worker(current)
            events = worker.events(after=current.seq, offset=current.offset, follow=True)
            async with contextlib.aclosing(events):
                async for event in events:
                    current = await self._carried(fold(current, event))
                    if event.type == "checkpoint" and event.fields.get("kept") == RELAY:
                        await self._carry_checkpoint(current)
                    if current.state.ended:
                        await self.settle(current)
                    elif save is not None:
                        save(current)
                    elif self._worth_storing(stored, current):
                        await self.store.apply(current)
                        stored = current
                    yield event, current
            if not current.state.ended:
                mended = await self._mend(self._lost(current, Liveness.DEAD))
                if mended.state is State.LOST:
                    await self.settle(mended)
                    return

    async def _adopt(self, attempt: Attempt) -> Attempt:
        """Give an attempt whose start was never confirmed its worker's handle, if there is one."""
        if attempt.handle is not None:
            return attempt
        handle = await self.outposts(attempt.outpost).find(attempt.id)
        return replace(attempt, handle=handle, state=State.STARTING) if handle else attempt

    def _worker(self, attempt: Attempt) -> Worker:
        assert attempt.handle
        return self.outposts(attempt.outpost).worker(attempt.handle)

    @staticmethod
    def _worth_storing(stored: Attempt, current: Attempt) -> bool:
        if current.state is not stored.state or stored.seen_at is None:
            return True
        # Either way: the worker's clock may be set back.
        return current.seen_at is not None and abs(current.seen_at - stored.seen_at) > STORE_EVERY

    @staticmethod
    async def _read(worker: Worker, attempt: Attempt) -> Attempt:
        events = worker.events(after=attempt.seq, offset=attempt.offset)
        lines: list[Event] = []
        async with contextlib.aclosing(events):
            async for event in events:
                if event.type != "log":
                    attempt = reduce(fold, (*lines, event), attempt)
                    lines.clear()
                elif not lines or _says_something(event):
                    # Of any number of lines the last counts, and the last that says something.
                    lines = [event]
                else:
                    lines = [lines[0], event]
        return reduce(fold, lines, attempt)

    def _lost(self, attempt: Attempt, liveness: Liveness) -> Attempt:
        """Say that a worker is dead, unless it was only just started and has not spoken yet."""
        now = self.clock.now()
        gone = liveness is Liveness.ABSENT and attempt.handle is not None
        grace = timedelta(seconds=self.claim_grace_s)
        if attempt.handle is not None:
            grace = min(grace, START_GRACE)
        if not gone and attempt.seq == 0 and abs(now - attempt.created_at) < grace:
            return attempt
        if attempt.seq == 0 and attempt.handle is None and attempt.stop_asked:
            # Nothing ever ran: that is what was wanted.
            return replace(attempt, state=State.STOPPED, reason=attempt.stop_asked, ended_at=now)
        reason = "its runner died without a result"
        if gone:
            reason = "its files are gone from the outpost"
        elif attempt.seq == 0:
            reason = "its runner never started"
        return replace(attempt, state=State.LOST, reason=reason, ended_at=now)

    async def _mend(self, lost: Attempt) -> Attempt:
        """Save the work of a dead worker; returns it ended, or still ``lost`` if that failed.

        It is ``unknown`` while another process does the same.
        """
        if lost.state is not State.LOST or lost.handle is None:
            return lost
        worker = self._worker(lost)
        try:
            task = await self.store.task(lost.task_id)
            _, environment = apart(task.repo_url, self.environment(lost))
            async with self.mending:
                recovered = await worker.recover(environment)
            if recovered:
                return await self._read(worker, lost)
            if (await worker.status()).liveness is Liveness.ALIVE:
                reason = "another process is saving its work"
                return replace(lost, state=State.UNKNOWN, reason=reason, ended_at=None)
        except OutpostFault as exc:
            return replace(lost, reason=f"{lost.reason}; saving its work failed: {exc.message}")
        return lost


def _was_cut_short(attempt: Attempt) -> bool:
    """Whether a worker came to an end that was neither its own nor asked for."""
    lost = attempt.state is State.LOST or (attempt.state is State.FAILED and attempt.died)
    return lost and not attempt.stop_asked


def _says_something(event: Event) -> bool:
    return event.fields.get("stream") != "runner" and bool(event.fields["text"].strip())

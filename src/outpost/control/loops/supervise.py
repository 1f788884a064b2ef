"""Following every worker: one task each reads its log, and what is learnt is stored together.

Contact that is lost makes a worker ``unknown``, and so does a log that says nothing for long; its
next word takes that back. One that died is mended by the ``Follower``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar

from outpost.control.follow import Follower
from outpost.control.loops import Leased, Loop, about
from outpost.control.loops.recorder import Recorder
from outpost.errors import NotOurs, OutpostError, StoreError
from outpost.model import Attempt, State

EVERY_S = 1.0
START = timedelta(seconds=10)
"""How long a start takes at most, as a rule; from then on the worker is looked for."""
FIRST_PAUSE_S = 1.0
MOST_PAUSE_S = 30.0
DEAF_S = 2.0
"""How long after a round the next may be, at most, for what was not heard meanwhile to count."""
PAUSED_S = 1.5
"""How long an outpost may take to say that a worker rests: the others wait meanwhile."""
STRANGER_S = 300.0
"""How long another machine's worker is left alone before it is looked at again."""

logger = logging.getLogger("outpost.controller.supervise")


@dataclass(slots=True)
class _Following:
    """A worker that is followed: as it is known here, and when its log last said something."""

    attempt: Attempt
    heard_at: float
    task: asyncio.Task[None] | None = None


class Supervise(Loop):
    """Follows the workers on our outposts. ``ended`` is told of each that has ended."""

    name: ClassVar[str] = "supervise"

    def __init__(
        self,
        follower: Follower,
        *,
        leased: Leased,
        silent_after_s: float,
        ended: Callable[[], None],
    ) -> None:
        super().__init__()
        self.every_s = EVERY_S
        self._follower = follower
        self._leased = leased
        self._silent_after_s = silent_after_s
        self._ended = ended
        self._following: dict[str, _Following] = {}
        self._round_at = asyncio.get_running_loop().time()
        self._recorder = Recorder(follower.store)

    async def round(self) -> None:
        """Begin to follow what is new, let go of what is not ours, notice who has gone silent."""
        self._recorder.start()
        attempts = {
            attempt.id: attempt
            for attempt in await self._follower.store.attempts()
            if self._leased.mine(attempt.outpost) and not self._is_being_started(attempt)
        }
        for name, followed in list(self._following.items()):
            stored = attempts.get(name)
            if stored is None or (stored.handle and not followed.attempt.handle):
                await self._let_go(name)
        for attempt in attempts.values():
            known = self._following.get(attempt.id)
            if known is None:
                self._begin(attempt)
            elif known.task and known.task.done():
                # Stored as active still: something went wrong, so once more from what is stored.
                self._report_fault(known.task, attempt)
                self._begin(attempt)
        await self._notice_silence()
        if self._recorder.trouble:
            raise StoreError(self._recorder.trouble)
        unknown = sum(it.attempt.state is State.UNKNOWN for it in self._following.values())
        count = len(self._following)
        self.doing = f"follows {count} worker{'s' * (count > 1)}" if count else ""
        if unknown:
            self.doing += f", {unknown} out of contact"

    def _is_being_started(self, attempt: Attempt) -> bool:
        """Whether somebody is at starting a worker, who is not to be disturbed."""
        age = self._follower.clock.now() - attempt.created_at
        grace = timedelta(seconds=self._follower.claim_grace_s)
        return attempt.state is State.RESERVED and not attempt.handle and age < min(START, grace)

    async def close(self) -> None:
        for name in list(self._following):
            await self._let_go(name)
        await self._recorder.close()

    def _begin(self, attempt: Attempt) -> None:
        following = _Following(attempt, asyncio.get_running_loop().time())
        name = f"follow {attempt.id}"
        following.task = asyncio.create_task(self._follow(following), name=name)
        self._following[attempt.id] = following

    async def _let_go(self, name: str) -> None:
        task = self._following.pop(name).task
        assert task
        task.cancel()
        await asyncio.wait([task])

    @staticmethod
    def _report_fault(task: asyncio.Task[None], attempt: Attempt) -> None:
        if fault := task.exception():
            logger.error("following it failed", exc_info=fault, extra=about(attempt))

    async def _follow(self, following: _Following) -> None:
        """Follow a worker to its end, through whatever troubles there are on the way."""
        pause_s = FIRST_PAUSE_S
        while True:
            seq = following.attempt.seq
            try:
                await self._once(following)
            except NotOurs:
                await asyncio.sleep(STRANGER_S)
                continue
            except StoreError as exc:
                logger.warning("%s", exc.message, extra=about(following.attempt))
            except OutpostError as exc:
                self._lose_sight(following, exc.message)
            if following.attempt.state.ended:
                return
            pause_s = FIRST_PAUSE_S if following.attempt.seq > seq else pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)

    async def _once(self, following: _Following) -> None:
        """Follow a worker until it ends, or contact to it does."""
        if following.attempt.handle is None:
            following.attempt = await self._follower.refresh(following.attempt)
            if following.attempt.handle is None:
                if following.attempt.state.ended:
                    self._note_end(following)
                return
        events = self._follower.follow(following.attempt, save=self._recorder.put)
        clock = asyncio.get_running_loop().time
        async with contextlib.aclosing(events):
            async for _event, attempt in events:
                if following.attempt.state is State.UNKNOWN and attempt.state is not State.UNKNOWN:
                    logger.info("in contact again", extra=about(attempt))
                following.attempt, following.heard_at = attempt, clock()
        newest = following.attempt
        if not newest.state.ended:
            # Stored as lost, without an event that would say so.
            following.attempt = await self._stored(newest)
        if following.attempt.state.ended:
            self._recorder.drop(newest.id)
            self._note_end(following)

    async def _stored(self, attempt: Attempt) -> Attempt:
        known = await self._follower.store.attempts_of(attempt.task_id)
        return next((it for it in known if it.id == attempt.id), attempt)

    def _note_end(self, following: _Following) -> None:
        attempt = following.attempt
        reason = f": {attempt.reason}" if attempt.reason else ""
        logger.info("%s%s", attempt.state, reason, extra=about(attempt))
        self._ended()

    async def _notice_silence(self) -> None:
        now = asyncio.get_running_loop().time()
        # Who stood still heard nobody: a process that was stopped, a machine that was asleep.
        deaf_s = now - self._round_at
        self._round_at = now
        if deaf_s > DEAF_S:
            for following in self._following.values():
                following.heard_at = min(now, following.heard_at + deaf_s)
        silent = [it for it in self._following.values() if now - it.heard_at > self._silent_after_s]
        async with asyncio.TaskGroup() as group:
            for following in silent:
                group.create_task(self._say_silent(following))

    async def _say_silent(self, following: _Following) -> None:
        attempt = following.attempt
        if attempt.handle is None or attempt.state is State.UNKNOWN or attempt.state.ended:
            return
        heard_at, paused = following.heard_at, False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSED_S):
                paused = await self._follower.is_paused(attempt)
        if paused:
            following.heard_at = self._round_at
        elif following.heard_at == heard_at:
            reason = f"it has said nothing for {self._silent_after_s:g} s"
            self._lose_sight(following, reason)

    def _lose_sight(self, following: _Following, reason: str) -> None:
        attempt = following.attempt
        if attempt.state.ended or attempt.state is State.UNKNOWN:
            return
        # By our own clock: from here on its patience is counted.
        silent_s = asyncio.get_running_loop().time() - following.heard_at
        seen_at = self._follower.clock.now() - timedelta(seconds=silent_s)
        following.attempt = replace(attempt, state=State.UNKNOWN, reason=reason, seen_at=seen_at)
        self._recorder.put(following.attempt)
        logger.warning("out of contact: %s", reason, extra=about(attempt))

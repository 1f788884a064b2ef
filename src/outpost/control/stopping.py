"""Asking a worker to stop: the wish is stored first, so that nobody tries its task again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from outpost.control.follow import Follower
from outpost.model import Attempt, State

ON_REQUEST = "stopped on request"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopper:
    """Stops workers of one federation."""

    follower: Follower
    grace_s: float

    async def stop(
        self, attempt: Attempt, reason: str = "", *, grace_s: float | None = None
    ) -> Attempt:
        """End a worker, its work committed and pushed, and return how it ended. Idempotent.

        Where its place cannot be reached the wish stands: the controller tries again. Where its
        task waits to be tried again, that is taken back. Raises ``OutpostFault``.
        """
        reason = reason or ON_REQUEST
        if not attempt.state.ended:
            await self.follower.store.ask_to_stop(attempt.id, reason)
            attempt = replace(attempt, stop_asked=attempt.stop_asked or reason)
            if attempt.handle is None:
                attempt = await self.follower.refresh(attempt)
            if attempt.handle is not None and not attempt.state.ended:
                worker = self.follower.outposts(attempt.outpost).worker(attempt.handle)
                grace_s = self.grace_s if grace_s is None else grace_s
                await worker.stop(grace_s=grace_s, reason=reason)
        attempt = await self.follower.refresh(attempt)
        if attempt.died or attempt.state is State.LOST:
            await self.follower.store.cancel(attempt.task_id, reason)
        return attempt

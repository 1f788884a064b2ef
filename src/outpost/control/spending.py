"""Caps that stop what runs: where a cap is used up, the workers that count towards it end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from outpost.control.rules import Rules
from outpost.errors import OutpostError, StoreError
from outpost.model import Attempt, OnCap
from outpost.policy.windows import windows
from outpost.ports import Clock, Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """Watches the caps of one federation."""

    store: Store
    clock: Clock
    rules: Rules

    async def keep(
        self, attempts: Collection[Attempt], stop: Callable[[Attempt, str], Awaitable[Attempt]]
    ) -> list[Attempt]:
        """Stop those of these workers that a used-up cap ends; return all, as they are then.

        One that cannot be reached is tried again the next time; it keeps no other from its end.
        """
        reasons = await self.used_up(attempts)

        async def kept(attempt: Attempt) -> Attempt:
            reason = reasons.get(attempt.id)
            if reason is None:
                return attempt
            try:
                return await stop(attempt, reason)
            except StoreError:
                raise
            except OutpostError:
                return attempt

        return list(await asyncio.gather(*map(kept, attempts)))

    async def used_up(self, attempts: Collection[Attempt]) -> dict[str, str]:
        """Return, by the ids of those of these workers that a used-up cap ends, why."""
        caps = [cap for cap in self.rules.caps if cap.on_cap is OnCap.STOP]
        if not caps or not attempts:
            return {}
        now = self.clock.now()
        every = windows(caps, now, self.rules.policy.time_zone)
        reasons: dict[str, str] = {}
        for window, used in zip(every, await self.store.used(every, now), strict=True):
            if used.spent_microusd < window.cap.limit_microusd:
                continue
            for attempt in attempts:
                if window.cap.covers(attempt.outpost) and not attempt.state.ended:
                    reasons.setdefault(attempt.id, f"the {window.cap.name} is used up")
        return reasons

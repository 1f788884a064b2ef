"""Keeping to a provider's limits of requests, so that it need not say no."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

MOST_BUCKETS = 1000
MARGIN = 0.25
"""By what part of the time between two requests we are late, so as not to be early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """So many requests a second, and so many at once after a rest."""

    per_s: float
    burst: int


class TooLong(Exception):
    """It would not be our turn for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not for {seconds:.0f} s")
        self.seconds = seconds


class Rates:
    """One queue for each kind of request and what it is about."""

    def __init__(self) -> None:
        self._free_at: dict[tuple[str, str], float] = {}

    async def turn(self, key: tuple[str, str], rate: Rate, *, most_s: float) -> None:
        """Return once it is our turn; raises ``TooLong`` where that takes longer than ``most_s``.

        Whoever came first is first. A turn that is cancelled is used up.
        """
        now = asyncio.get_running_loop().time()
        free_at = max(self._free_at.get(key, now), now)
        wait_s = free_at - now - (rate.burst - 1) / rate.per_s
        if wait_s > most_s:
            raise TooLong(wait_s)
        self._free_at[key] = free_at + 1 / rate.per_s
        if len(self._free_at) > MOST_BUCKETS:
            self._free_at = {it: at for it, at in self._free_at.items() if at > now}
        if wait_s > 0:
            # They count what arrives, and no two requests take equally long.
            await asyncio.sleep(wait_s + MARGIN / rate.per_s)

    def rest(self, key: tuple[str, str], rate: Rate, seconds: float) -> None:
        """Let no request of this kind go before so many seconds have passed."""
        until = asyncio.get_running_loop().time() + seconds + (rate.burst - 1) / rate.per_s
        self._free_at[key] = max(self._free_at.get(key, until), until)

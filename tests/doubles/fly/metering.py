"""What the stand-in would bill: the seconds of a machine, by the state that it was in.

Compute costs per second while a machine runs; a stopped or suspended one costs its disk only
("Suspended machines cost the same as stopped machines": Machine Suspend and Resume, fly.io/docs).
"""

from __future__ import annotations

from collections.abc import Callable

RUNNING = frozenset(("started", "stopping", "suspending", "restarting"))
OVER = "destroyed"


class Meter:
    """The record of one machine; instants are those of ``clock``."""

    def __init__(self, clock: Callable[[], float], state: str) -> None:
        self._clock = clock
        self._state = state
        self._since = clock()
        self._seconds: dict[str, float] = {}

    def switch(self, state: str) -> None:
        """The machine enters a state."""
        now = self._clock()
        self._seconds[self._state] = self._seconds.get(self._state, 0.0) + now - self._since
        self._state, self._since = state, now

    def by_state(self) -> dict[str, float]:
        """Return the seconds until now of every state that it was in."""
        seconds = dict(self._seconds)
        if self._state != OVER:
            held = self._clock() - self._since
            seconds[self._state] = seconds.get(self._state, 0.0) + held
        return seconds

    def running_s(self) -> float:
        """Return the seconds that cost compute."""
        return sum(value for state, value in self.by_state().items() if state in RUNNING)

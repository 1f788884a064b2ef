"""Who follows which worker: what leases and the end for want of anybody go by."""

from __future__ import annotations

import contextlib
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Following:
    """Counts streams of workers and requests; seconds are monotonic."""

    def __init__(self) -> None:
        self.requests = 0
        self._asking = 0
        self._began_at = time.monotonic()
        self._asked_at = self._began_at
        self._streams: dict[str, int] = {}
        self._left_at: dict[str, float] = {}

    @contextlib.contextmanager
    def request(self, *, looks: bool) -> Iterator[None]:
        """Somebody asks, as long as this lasts; who merely ``looks`` needs nothing of a worker."""
        self.requests += 1
        self._asking += not looks
        try:
            yield
        finally:
            self.requests -= 1
            if not looks:
                self._asking -= 1
                self._asked_at = time.monotonic()

    @contextlib.contextmanager
    def stream(self, worker_id: str) -> Iterator[None]:
        """Somebody follows a worker, as long as this lasts."""
        self._streams[worker_id] = self._streams.get(worker_id, 0) + 1
        try:
            yield
        finally:
            self._streams[worker_id] -= 1
            if not self._streams[worker_id]:
                del self._streams[worker_id]
                self._left_at[worker_id] = time.monotonic()

    def alone_s(self, worker_id: str) -> float:
        """Return for how long nobody has followed a worker."""
        if worker_id in self._streams:
            return 0.0
        return time.monotonic() - self._left_at.get(worker_id, self._began_at)

    def forgive(self, seconds: float) -> None:
        """Leave a time out of account in which nobody could have been heard."""
        self._began_at += seconds
        self._asked_at += seconds
        self._left_at = {name: at + seconds for name, at in self._left_at.items()}

    def need(self) -> None:
        """Take note that there is something to do at this moment."""
        self._asked_at = time.monotonic()

    def idle_s(self) -> float:
        """Return for how long nobody has asked anything, with nothing to do; a look is no question.

        Whoever looks after workers looks at them for ever, also at those that have ended.
        """
        return 0.0 if self._asking else time.monotonic() - self._asked_at

"""What takes long, done beside the rounds of a loop: a stop waits for a worker to save its work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from outpost.errors import OutpostError

REST_S = 5.0
"""How long nothing is done anew for what was done just now: what came of it has to be seen."""
MOST_REST_S = 60.0

Act = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class _Past:
    """How often in a row something failed, why, and until when (by the loop) it is left alone."""

    failures: int = 0
    trouble: str = ""
    rests_until: float = 0.0


class Beside:
    """Acts, each with a key, of which never two go on at once; one that fails is tried again."""

    def __init__(self, rest_s: float = REST_S) -> None:
        self._rest_s = rest_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._past: dict[str, _Past] = {}

    @property
    def running(self) -> int:
        """How many go on now."""
        return len(self._tasks)

    @property
    def troubles(self) -> Mapping[str, str]:
        """What failed the last time and is to be tried again, by key, and why."""
        return {key: past.trouble for key, past in self._past.items() if past.trouble}

    def keep_at(self, acts: Mapping[str, Act]) -> None:
        """Begin what of these neither goes on nor was done just now; forget all others' past.

        What is no longer called for but goes on comes to its end. Raises what an act raised that
        is no ``OutpostError``: a fault of ours.
        """
        now = asyncio.get_running_loop().time()
        ended = [self._tasks.pop(key) for key, task in list(self._tasks.items()) if task.done()]
        self._past = {
            key: past for key, past in self._past.items() if key in acts or key in self._tasks
        }
        for key, act in acts.items():
            past = self._past.setdefault(key, _Past())
            if key not in self._tasks and now >= past.rests_until:
                task = asyncio.create_task(self._do(act, past), name=f"beside {key}")
                self._tasks[key] = task
        for task in ended:
            task.result()

    async def close(self) -> None:
        """Cancel what goes on. Idempotent."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        if tasks:
            await asyncio.wait(tasks.values())

    async def _do(self, act: Act, past: _Past) -> None:
        try:
            await act()
        except OutpostError as exc:
            past.failures, past.trouble = past.failures + 1, exc.message
        else:
            past.failures, past.trouble = 0, ""
        finally:
            rest_s = min(self._rest_s * 2**past.failures, MOST_REST_S)
            past.rests_until = asyncio.get_running_loop().time() + rest_s

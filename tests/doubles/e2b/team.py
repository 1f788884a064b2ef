"""The sandboxes of a team: made within its limits, found, ended when their time is over."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tests.doubles.e2b.calls import Refused
from tests.doubles.e2b.faults import Faults
from tests.doubles.e2b.limits import Limits
from tests.doubles.e2b.sandbox import Sandbox, Wanted
from tests.doubles.e2b.templates import Templates

AUTO_RESUMED_S = 300.0
OVERDUE_LOOK_S = 0.1
_T = TypeVar("_T")


class Team:
    """All sandboxes that there ever were, the oldest first.

    ``variables`` are what a template's image brings along for every process.
    """

    def __init__(
        self, folder: Path, limits: Limits, faults: Faults, variables: Mapping[str, str]
    ) -> None:
        self.limits = limits
        self.faults = faults
        self.templates = Templates()
        self.sandboxes: dict[str, Sandbox] = {}
        self._folder = folder
        self._variables = variables
        self._starting = 0
        self._made: dict[str, tuple[bytes, float, asyncio.Future[Sandbox]]] = {}
        self._tokens = float(limits.creations_burst)
        self._tokens_at = limits.clock()
        self._booting: set[Sandbox] = set()
        self._making: set[asyncio.Task[Sandbox]] = set()
        self._ending: set[asyncio.Task[None]] = set()

    async def create(self, wanted: Wanted, key: str | None, request: bytes) -> Sandbox:
        """Make a sandbox, or return the one that was made with the same idempotency key.

        E2B does not say more of keys than that retries use them: here one that was used with
        another ``request`` is refused, and what failed may be tried again with the same one. It is
        made even if nobody waits for it any more. Raises ``Refused``.
        """
        now = self.limits.clock()
        if key and key in self._made:
            known, at, making = self._made[key]
            if now - at < self.limits.keys_kept_s:
                if known != request:
                    raise Refused(422, "Idempotency-Key was used with another request")
                return await asyncio.shield(making)
        self._check_rate(now)
        making = _kept(self._making, self._make(wanted))
        making.add_done_callback(lambda task: self._note(key, task))
        if key:
            self._made[key] = (request, now, making)
        return await asyncio.shield(making)

    def find(self, sandbox_id: str) -> Sandbox:
        """Return a sandbox that has not ended; raises ``Refused``."""
        sandbox = self.sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.state == "ended":
            what = f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it"
            raise Refused(404, what)
        return sandbox

    def listed(self) -> list[Sandbox]:
        """Return those that lists show: as it was ``list_lag_s`` ago."""
        at = self.limits.clock() - self.faults.list_lag_s
        rows = self.sandboxes.values()
        return [it for it in rows if it.began <= at and (it.ended is None or it.ended > at)]

    async def resume(self, sandbox: Sandbox, timeout_s: float) -> None:
        """Let a paused one go on; raises ``Refused`` where too many run."""
        if self.faults.take("failing_resumes"):
            raise Refused(500, "Error resuming sandbox")
        self._check_room()
        self._starting += 1
        try:
            await sandbox.resume(timeout_s)
        finally:
            self._starting -= 1

    async def close(self) -> None:
        """End everything, also what is only starting."""
        for task in self._making:
            task.cancel()
        if tasks := self._making | self._ending:
            await asyncio.wait(tasks)
        await asyncio.gather(*(it.end() for it in (*self.sandboxes.values(), *self._booting)))

    async def _make(self, wanted: Wanted) -> Sandbox:
        if self.faults.take("no_capacity"):
            raise Refused(
                *(503, "No capacity to place the sandbox right now, try again later"),
                error_code="sandbox_capacity_unavailable",
            )
        self._check_room()
        self._starting += 1
        try:
            await asyncio.sleep(self.limits.boot_s + self.faults.slow_boot_s)
            if self.faults.take("failed_boots"):
                raise Refused(500, "Failed to create sandbox", error_code="sandbox_create_failed")
            variables = {**self._variables, **wanted.template.variables}
            sandbox = Sandbox(wanted, self._folder, self.limits, variables)
            self._booting.add(sandbox)
            await sandbox.boot(self._over)
            self._booting.discard(sandbox)
            self.sandboxes[sandbox.id] = sandbox
        finally:
            self._starting -= 1
        return sandbox

    def _note(self, key: str | None, making: asyncio.Future[Sandbox]) -> None:
        """Forget the key of what was not made, whoever still waits for it."""
        failed = making.cancelled() or making.exception()
        if key and failed:
            self._made.pop(key, None)

    def _over(self, sandbox: Sandbox) -> None:
        if self.faults.overdue:
            asyncio.get_running_loop().call_later(OVERDUE_LOOK_S, self._over, sandbox)
        elif sandbox.is_in_time or sandbox.state != "running":
            return
        elif sandbox.wanted.auto_pause:
            _kept(self._ending, sandbox.pause(keeps_memory=sandbox.wanted.keeps_memory))
        else:
            _kept(self._ending, sandbox.end())

    def _check_room(self) -> None:
        running = [it for it in self.sandboxes.values() if it.state == "running"]
        most = self.limits.concurrent
        if len(running) + self._starting >= most:
            raise Refused(
                429,
                f"you have reached the maximum number of concurrent E2B sandboxes ({most}). If you"
                " need more, please visit 'https://e2b.dev/docs/billing'",
            )

    def _check_rate(self, now: float) -> None:
        rate = self.limits.creations_per_s
        if math.isinf(rate):
            return
        grown = self._tokens + (now - self._tokens_at) * rate
        self._tokens, self._tokens_at = min(grown, self.limits.creations_burst), now
        if self._tokens < 1:
            wait_s = math.ceil((1 - self._tokens) / rate)
            raise Refused(429, "Rate limit exceeded", retry_after=str(wait_s))
        self._tokens -= 1


def _kept(tasks: set[asyncio.Task[_T]], work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Run something as a task, which is in the set until it is done."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task

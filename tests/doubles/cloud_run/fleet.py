"""The instances of one service: which of them takes a request, when one starts, when one ends.

Source: "About instance autoscaling" and "Set session affinity" (cloud.google.com/run/docs), read
2026-11-22.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.cloud_run.container import Container
from tests.doubles.cloud_run.faults import Faults
from tests.doubles.cloud_run.instance import Instance
from tests.doubles.cloud_run.limits import Limits
from tests.doubles.cloud_run.revision import Revision


class NoInstance(Exception):
    """No instance had room, none might be started, and the queue's time is over: 429."""


class StartFailed(Exception):
    """The instance that was started for the request did not come up: 503."""


@dataclass(eq=False, kw_only=True)
class _Waiter:
    """A request without an instance: which one it would have, and which one it must not get."""

    future: asyncio.Future[Instance]
    preferred: str | None
    avoided: str | None


class Fleet:
    """All instances that a service ever had, the living ones among them."""

    def __init__(
        self, name: str, revision: Revision, *, limits: Limits, faults: Faults, folder: Path
    ) -> None:
        self.name = name
        self.revision = revision
        self.limits = limits
        self.faults = faults
        self.folder = folder
        self.all: list[Instance] = []
        self.closed = False
        self._waiting: list[_Waiter] = []
        self._numbers = itertools.count(1)
        self._random = random.Random(name)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def living(self) -> list[Instance]:
        return [instance for instance in self.all if instance.state != "ended"]

    @property
    def queued(self) -> int:
        """How many requests have no instance yet."""
        return len(self._waiting)

    async def acquire(self, preferred: str | None) -> Instance:
        """Return an instance that now has this request; raises ``NoInstance``, ``StartFailed``.

        ``preferred`` is the instance that the request's cookie names. Give it back with
        ``release``.
        """
        future: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        missed = preferred is not None and self.faults.take("affinity_misses")
        waiter = _Waiter(
            future=future,
            preferred=None if missed else preferred,
            avoided=preferred if missed else None,
        )
        self._waiting.append(waiter)
        self.tend()
        try:
            while not (await asyncio.wait({future}, timeout=self.limits.queue_s))[0]:
                self._check_hope(waiter)
            return future.result()
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    def release(self, instance: Instance) -> None:
        """The request that ``acquire`` gave an instance for is over."""
        instance.leave()
        self.tend()

    def adopt(self, revision: Revision) -> None:
        """Send requests to a new revision; instances of the old one end once they have none."""
        self.revision = revision
        self.tend()

    def tend(self) -> None:
        """Hand out what has room, start what is lacking, end what is too much."""
        if self.closed:
            return
        for waiter in list(self._waiting):
            if instance := self._pick(waiter):
                self._waiting.remove(waiter)
                instance.enter()
                waiter.future.set_result(instance)
        self._start_lacking()
        surplus = len(self._current()) - self.revision.max_instances
        for instance in self.living:
            if instance.state == "ready" and instance.open == 0:
                outdated = instance.revision is not self.revision or instance.draining
                if outdated or surplus > 0:
                    surplus -= 0 if outdated else 1
                    self.end(instance)
                elif instance.idle is None:
                    self._watch_idle(instance)

    def end(self, instance: Instance) -> None:
        """Begin to end an instance: SIGTERM, and SIGKILL after the grace."""
        instance.draining = True
        self._run(instance.end())

    async def close(self) -> None:
        """End every instance at once, without a grace, and wait until they are gone."""
        self.closed = True
        for waiter in self._waiting:
            waiter.future.set_exception(StartFailed("the service is gone"))
        self._waiting.clear()
        for instance in self.living:
            instance.state = "ending"
            instance.container.thaw()
            instance.container.kill()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for instance in self.living:
            await instance.gone()

    def _current(self) -> list[Instance]:
        return [
            instance
            for instance in self.all
            if instance.living and instance.revision is self.revision and not instance.draining
        ]

    def _check_hope(self, waiter: _Waiter) -> None:
        """Raise ``NoInstance`` unless one is starting that this request will get."""
        if self._waiting.index(waiter) >= self._slots_coming():
            raise NoInstance

    def _slots_coming(self) -> int:
        coming = [instance for instance in self._current() if instance.state == "starting"]
        return len(coming) * self.revision.concurrency

    def _pick(self, waiter: _Waiter) -> Instance | None:
        free = [instance for instance in self._current() if instance.has_room]
        named = [instance for instance in free if instance.id == waiter.preferred]
        others = [instance for instance in free if instance.id != waiter.avoided]
        full = len(self._current()) >= self.revision.max_instances
        if named or others:
            return self._random.choice(named or others)
        return free[0] if free and full else None

    def _start_lacking(self) -> None:
        current = self._current()
        short = len(self._waiting) - self._slots_coming()
        more = math.ceil(short / self.revision.concurrency) if short > 0 else 0
        wanted = min(
            max(len(current) + more, self.revision.min_instances), self.revision.max_instances
        )
        for _ in range(wanted - len(current)):
            self._run(self._launch(self._made(kept=not self._waiting)))

    def _made(self, *, kept: bool) -> Instance:
        instance_id = f"{self.name}-{next(self._numbers):04d}"
        container = Container(
            self.revision.content,
            self.folder / "disks" / instance_id,
            self.folder / "logs" / f"{instance_id}.log",
        )
        instance = Instance(instance_id, self.revision, container, self.limits, kept)
        self.all.append(instance)
        return instance

    async def _launch(self, instance: Instance) -> None:
        """Live through an instance's life, from its start to its end."""
        if await instance.start(self.faults):
            self.tend()
        elif instance.state == "starting":
            failed, self._waiting = (
                self._waiting[: instance.revision.concurrency],
                self._waiting[instance.revision.concurrency :],
            )
            for waiter in failed:
                waiter.future.set_exception(StartFailed(instance.container.output()[-2000:]))
            await instance.end()
        await instance.gone()
        self.tend()

    def _watch_idle(self, instance: Instance) -> None:
        loop = asyncio.get_running_loop()
        instance.idle = loop.call_later(self.limits.idle_s, self._idle, instance)

    def _idle(self, instance: Instance) -> None:
        """End an instance that was idle for long, unless as many are to be kept."""
        instance.idle = None
        if instance.open == 0 and len(self._current()) > self.revision.min_instances:
            self.end(instance)
        else:
            self._watch_idle(instance)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

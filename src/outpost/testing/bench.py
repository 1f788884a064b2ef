"""The bench that a backend is put on: outposts to try, work orders for them, and patience."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from outpost.errors import NotDispatched, OutpostError
from outpost.model import Handle, Liveness
from outpost.ports import Outpost
from outpost.runner.place import Place
from outpost.testing.contract import ContractBroken, NotApplicable
from outpost.wire.events import Event
from outpost.wire.orders import ORDER_VERSION, AgentOrder, Environment, Limits, WorkOrder

MakeOutpost = Callable[[str], Outpost]
_T = TypeVar("_T")
POLL_S = 0.05
GRACE_S = 2.0
SETTLE_S = 2.0
"""After so long a start that was cut off has left a trace, or leaves none."""


def kill_runner_here(handle: Handle) -> None:
    """Kill what looks after a worker on this machine; its agent goes on, without anybody."""
    place = Place(handle.data.get("directory", "/nowhere"))
    pids = place.pids("runner.pid")
    if not pids:
        raise NotApplicable("the bench cannot kill a runner at this place")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchOptions:
    """How a bench is set up.

    ``make`` returns a new instance of the outpost for a federation's id; all of them are the same
    place. ``repo_url`` is a repository that can be fetched from and pushed to there,
    ``environment`` the variables for agent and git. ``make_unreachable`` returns the outpost as
    it is while its place cannot be reached. ``kill`` makes the runner of a worker die without a
    word, and its understudy too. ``patience_s`` is how long any one thing may take, ``log_mib``
    how much the agent of a usual check of large logs prints.
    """

    make: MakeOutpost
    repo_url: str
    environment: Environment
    make_unreachable: MakeOutpost | None = None
    kill: Callable[[Handle], None] = kill_runner_here
    patience_s: float = 60.0
    log_mib: int = 12


class Bench:
    """One outpost under test; use it as an async context manager, so that nothing is left there.

    Its workers belong to a federation of their own (``federation_id``), so those of others at the
    same place are neither seen nor touched.
    """

    def __init__(self, options: BenchOptions) -> None:
        self.options = options
        self.federation_id = f"conformance{secrets.token_hex(4)}"
        self.outpost = self.restarted()
        self._stranger: Outpost | None = None
        self._doubtful: dict[str, tuple[Outpost, WorkOrder]] = {}

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.clear()

    def restarted(self) -> Outpost:
        """Return the outpost as a controller sees it that was started anew: it remembers naught."""
        return self.options.make(self.federation_id)

    def stranger(self) -> Outpost:
        """Return the outpost as another federation has it: the same place, another id."""
        self._stranger = self.options.make(self.stranger_id)
        return self._stranger

    @property
    def stranger_id(self) -> str:
        """The id of the other federation."""
        return f"{self.federation_id}x"

    @staticmethod
    def new_id() -> str:
        """Return the id of a worker that never was."""
        return f"w-{secrets.token_hex(6)}"

    def order(self, script: str, *, worker_id: str = "", federation_id: str = "") -> WorkOrder:
        """Return a work order whose agent is a shell script."""
        worker_id = worker_id or self.new_id()
        return WorkOrder(
            version=ORDER_VERSION,
            federation_id=federation_id or self.federation_id,
            worker_id=worker_id,
            task_id="t-conformance",
            issue_id="conformance",
            repo_url=self.options.repo_url,
            base=None,
            branch=f"outpost/conformance-{worker_id}",
            title="Check that an outpost keeps its contract",
            body="",
            prompt="Do what the script says.",
            agent=AgentOrder(name="command", argv=["sh", "-c", script], options={}),
            limits=Limits(time_s=None, grace_s=GRACE_S),
            keep_workspace=False,
        )

    async def spawn(self, script: str) -> Handle:
        """Start a worker whose agent is a shell script."""
        return await self.start(self.order(script))

    async def start(
        self,
        order: WorkOrder,
        *,
        outpost: Outpost | None = None,
        environment: Environment | None = None,
    ) -> Handle:
        """Start a worker in time; whatever becomes of that, ``clear`` will look for it."""
        there = outpost or self.outpost
        self._doubtful[order["worker_id"]] = (there, order)
        async with asyncio.timeout(self.options.patience_s):
            handle = await there.spawn(order, environment or self.options.environment)
        self._doubtful.pop(order["worker_id"], None)
        return handle

    async def log(self, handle: Handle) -> list[Event]:
        """Return the whole log of a worker, once it has ended."""
        async with asyncio.timeout(self.options.patience_s):
            return [it async for it in self.outpost.worker(handle).events(follow=True)]

    async def seen(self) -> dict[str, Liveness]:
        """Return every worker that the outpost shows."""
        return {it.handle.worker_id: it.liveness async for it in self.outpost.workers()}

    async def wait_for_event(
        self, handle: Handle, wanted: Callable[[Event], bool], what: str
    ) -> Event:
        """Read a worker's log again and again until it holds an event; return that."""

        async def look() -> Event | None:
            events = self.outpost.worker(handle).events()
            async with contextlib.aclosing(events):
                async for event in events:
                    if wanted(event):
                        return event
            return None

        found = await self.until(look, what)
        assert found is not None
        return found

    async def wait_for_line(self, handle: Handle, text: str) -> Event:
        """Wait until the agent has printed a line."""
        return await self.wait_for_event(
            handle, lambda event: text in lines([event]), f"the agent's line '{text}' in the log"
        )

    async def until(self, look: Callable[[], Awaitable[_T]], what: str) -> _T:
        """Return what ``look`` returns once that is true; ``ContractBroken`` if it never is."""
        try:
            async with asyncio.timeout(self.options.patience_s):
                while not (seen := await look()):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(POLL_S)
                return seen
        except TimeoutError:
            demanded = f"{what} must come within {self.options.patience_s:g} s"
            raise ContractBroken(demanded, "it did not") from None

    async def clear(self) -> list[str]:
        """Destroy every worker that is there; return what went wrong, one text each."""
        failures = []
        for outpost in filter(None, (self.outpost, self._stranger)):
            try:
                async with asyncio.timeout(self.options.patience_s):
                    failures += [it async for it in _destroyed(outpost)]
            except Exception as exc:  # noqa: BLE001 - a stranger's backend may raise anything
                failures.append(f"cannot look for what is left: {exc or type(exc).__name__}")
        return failures + await self._clear_doubtful()

    async def _clear_doubtful(self) -> list[str]:
        """Destroy what starts that were cut off have left, which may be shown a moment later."""
        deadline = time.monotonic() + SETTLE_S
        try:
            while self._doubtful and time.monotonic() < deadline:
                for worker_id, (outpost, _) in list(self._doubtful.items()):
                    if handle := await outpost.find(worker_id):
                        await outpost.destroy(handle)
                        self._doubtful.pop(worker_id)
                await asyncio.sleep(POLL_S)
            while self._doubtful:
                _, (outpost, order) = self._doubtful.popitem()
                # No worker came of it, but files of it may lie there: they go with one.
                with contextlib.suppress(NotDispatched):
                    await outpost.destroy(await outpost.spawn(order, self.options.environment))
        except Exception as exc:  # noqa: BLE001 - as above
            return [f"cannot look for what may be left: {exc or type(exc).__name__}"]
        return []


async def _destroyed(outpost: Outpost) -> AsyncIterator[str]:
    for handle in [it.handle async for it in outpost.workers()]:
        try:
            await outpost.destroy(handle)
        except OutpostError as exc:
            yield f"cannot destroy {handle.worker_id}: {exc.message}"


async def cancelled(bench: Bench, act: Coroutine[Any, Any, object], after_s: float) -> None:
    """Cancel an act after so long; it must end soon then, though it may have been done before."""
    task = asyncio.create_task(act)
    await asyncio.sleep(after_s)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=bench.options.patience_s)
    if not done:
        raise ContractBroken("whatever is cancelled must end in bounded time", f"{act} did not")
    if not task.cancelled() and (error := task.exception()):
        raise error


def lines(events: list[Event]) -> list[str]:
    """Return what the agent printed on its standard output."""
    return [
        event.fields["text"]
        for event in events
        if event.type == "log" and event.fields.get("stream") == "stdout"
    ]

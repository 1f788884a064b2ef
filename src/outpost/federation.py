"""The public face of Outpost: what the command line and programs of others call.

::

    async with Federation.from_file() as federation:
        worker = await federation.spawn("issue.md")
        async for event in worker.events():
            print(event)
        print((await worker.result()).branch)
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from outpost.clock import SystemClock
from outpost.control.parts import Parts
from outpost.control.tasks import SpawnOptions
from outpost.errors import NoCapacity, NotFound, UserError
from outpost.model import (
    Attempt,
    Capabilities,
    Charge,
    Decision,
    Issue,
    State,
    Task,
    Transition,
)
from outpost.spawned import SpawnedWorker, Submitted
from outpost.store import open_store

if TYPE_CHECKING:
    from datetime import datetime

    from outpost.config import Config
    from outpost.control.doctor import Diagnosis
    from outpost.control.explain import Explanation
    from outpost.control.overview import OutpostStatus
    from outpost.control.prune import Pruned
    from outpost.control.reconciler import Reconciled
    from outpost.control.start import Placement
    from outpost.ports import Clock, Greeting, Plan, Store
    from outpost.testing import Result

__all__ = ["Federation", "SpawnOptions", "SpawnedWorker", "Submitted"]

SLOT_POLL_S = 0.5


class Federation:
    """Configuration, store and outposts as one thing. Use it as an async context manager.

    ``directory`` is where relative names are looked up, ``environment`` replaces ``os.environ``,
    ``home`` is the folder for store, logs and workspaces (``$OUTPOST_HOME``, else
    ``$XDG_STATE_HOME/outpost``, else ``~/.local/state/outpost``). Nothing is read or written
    before it is needed; with ``read_only`` no store is made where there is none. ``actor`` is what
    the log of transitions calls us, besides machine and process.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        config_path: str | None = None,
        environment: Mapping[str, str] | None = None,
        directory: str | Path | None = None,
        home: str | Path | None = None,
        clock: Clock | None = None,
        read_only: bool = False,
        actor: str = "library",
    ) -> None:
        self.environment = dict(os.environ if environment is None else environment)
        self.directory = Path(directory or Path.cwd()).absolute()
        self.clock = clock or SystemClock()
        self._given_config = config
        self._config_path = config_path
        self._home = home
        self.read_only = read_only
        self._actor = actor

    @classmethod
    def from_file(cls, path: str | None = None, **options: object) -> Self:
        """Return a federation configured by a file, looked for in the usual places if not named."""
        return cls(config_path=path, **options)  # type: ignore[arg-type]  # checked by __init__

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if "parts" in self.__dict__:
            await self.parts.close()
        if "store" in self.__dict__:
            await self.store.close()

    @cached_property
    def config(self) -> Config:
        """The configuration; read at first use. Raises ``ConfigError``."""
        if self._given_config is not None:
            return self._given_config
        from outpost.config import load  # noqa: PLC0415 - pydantic and yaml load late

        return load(self._config_path, environment=self.environment, directory=self.directory)

    @cached_property
    def home(self) -> Path:
        """The folder of store, logs and workspaces."""
        if self._home:
            return Path(self._home).absolute()
        if named := self.environment.get("OUTPOST_HOME"):
            return self.directory / named
        if state := self.environment.get("XDG_STATE_HOME"):
            return Path(state) / "outpost"
        if user := self.environment.get("HOME"):
            return Path(user) / ".local" / "state" / "outpost"
        raise UserError(
            "no folder to work in: HOME is not set", hint="export OUTPOST_HOME=/some/folder"
        )

    @cached_property
    def store(self) -> Store:
        """The store; opened at its first use."""
        by = f"{self._actor}@{socket.gethostname()}:{os.getpid()}"
        return open_store(self.store_url, clock=self.clock, create=not self.read_only, by=by)

    @cached_property
    def store_url(self) -> str | Path:
        """Where the store is: its file, or a URL, which may hold a password."""
        url = self.config.store.url
        if url is not None and not isinstance(url, str):
            url = url.resolve(self.environment)
        return url or self.home / "outpost.db"

    @cached_property
    def parts(self) -> Parts:
        """What acts for this federation, for those who build on its insides."""
        return Parts(self)

    async def resolve(self, reference: str | Issue, options: SpawnOptions | None = None) -> Task:
        """Turn an issue, or what a user calls it, into a task; starts and stores nothing.

        Raises ``IssueError`` for the issue, ``UserError`` for the repository, outpost or agent.
        """
        return await self.parts.intake.resolve(reference, options or SpawnOptions())

    async def local_work(self, task: Task) -> str:
        """Say what of the clone we stand in the task's worker will not see; empty if nothing."""
        return await self.parts.intake.local_work(task)

    async def decide(self, task: Task) -> Decision:
        """Return where a task would run now, and why; starts and stores nothing."""
        return await (await self.parts.starter()).decide(task)

    async def explain(self, name: str) -> Explanation:
        """Return what was decided about a task, by its name or that of a worker or an issue.

        For one that waits also what would be decided now. Raises ``NotFound``.
        """
        from outpost.control.explain import explain  # noqa: PLC0415 - here only

        explanation = await explain(self.store, name, self.parts.starter)
        return replace(explanation, task=self._as_it_is(explanation.task))

    async def submit(self, task: Task) -> Submitted:
        """Store a task and start it where the policy says; it stays queued if all are full."""
        queue = await self.parts.queue()
        await self.parts.duties.claim(task)
        await self.store.add_task(task)
        return self._submitted(await queue.enter(task, self.refresh))

    async def resume(
        self, worker: SpawnedWorker, message: str = "", *, agent: str | None = None
    ) -> Submitted:
        """Go on from an ended worker: same branch and outpost, same conversation if it exists.

        ``message`` is what the agent is told; with another ``agent`` a new conversation begins.
        Raises ``UserError`` where the worker, or one that went on from it, still runs.
        """
        from outpost.control.resume import Succession  # noqa: PLC0415 - here only

        attempt = await (await self.parts.follower()).refresh(worker.attempt)
        # Half a surrogate pair, as an argument that is no UTF-8 has, no program can be given.
        told = message.encode("utf-8", "replace").decode()
        task = await Succession(store=self.store).successor(
            attempt, told, agent=agent, now=self.clock.now()
        )
        submitted = await self.submit(self.parts.intake.with_agent(task))
        if submitted.worker is None:
            stored = await self.store.task(task.id)
            if stored.state is State.STOPPED:
                raise UserError(stored.reason, hint=f"outpost ps; outpost status {worker.id}")
        return submitted

    async def dispatch(self, *, before: Task | None = None) -> list[Submitted]:
        """Start what is queued (or only what stands before a task) as far as slots and money go."""
        await self.refresh()
        placements = await (await self.parts.queue()).go_through(before=before)
        return [self._submitted(placement) for placement in placements]

    async def spawn(
        self,
        reference: str | Issue,
        options: SpawnOptions | None = None,
        *,
        wait_for_slot_s: float | None = None,
    ) -> SpawnedWorker:
        """Resolve an issue, start it, and return its worker.

        Where every outpost is full it waits up to ``wait_for_slot_s`` seconds (``None``: as long
        as it takes); then, or if cancelled, the task is taken back. Raises ``NoCapacity``.
        """
        task = await self.resolve(reference, options)
        try:
            submitted = await self.submit(task)
            if submitted.worker:
                return submitted.worker
            async with asyncio.timeout(wait_for_slot_s):
                return await self.wait_for_slot(task.id)
        except TimeoutError:
            if (await self.store.task(task.id)).state not in (State.QUEUED, State.STOPPED):
                # Its start was under way when the time was over.
                return SpawnedWorker(self, (await self.store.attempts_of(task.id))[-1])
            raise NoCapacity(submitted.decision.why(), outpost="") from None
        finally:
            await self.cancel(task.id, "no outpost had room in time")

    async def wait_for_slot(self, task_id: str) -> SpawnedWorker:
        """Wait until a queued task has been started, here or by another process.

        What waited before it and is as urgent is started before it.
        """
        while True:
            for submitted in await self.dispatch():
                if submitted.task.id == task_id and submitted.worker:
                    return submitted.worker
            if (await self.store.task(task_id)).state is not State.QUEUED:
                attempts = await self.store.attempts_of(task_id)
                if not attempts:
                    raise NotFound(f"task {task_id} was cancelled while it waited")
                # Whoever is at starting it may yet have to put it back.
                if attempts[-1].state is not State.RESERVED:
                    return SpawnedWorker(self, attempts[-1])
            await asyncio.sleep(SLOT_POLL_S)

    async def refresh(self) -> list[Attempt]:
        """Look at every active worker, mend what died, store what was learnt.

        Workers that a used-up cap is to stop are stopped.
        """
        follower = await self.parts.follower()
        attempts = await self.store.attempts()
        seen = await asyncio.gather(*(follower.refresh(attempt) for attempt in attempts))
        stopper = await self.parts.stopper()
        seen = await self.parts.spending.keep(seen, stopper.stop)
        await self.parts.duties.carry_out()
        return seen

    async def workers(self, *, ended: bool = False, limit: int | None = None) -> list[Attempt]:
        """Return the workers as they are now, oldest first; with ``ended`` those as well.

        ``limit`` leaves out the older of those that have ended, never one that runs. Writes
        nothing: what a look shows is not stored.
        """
        attempts = await self.store.attempts()
        if ended:
            newest = await self.store.attempts(ended=True, limit=limit)
            names = {attempt.id for attempt in newest}
            attempts = [attempt for attempt in attempts if attempt.id not in names] + newest
        if not any(not attempt.state.ended for attempt in attempts):
            return attempts
        follower = await self.parts.follower()
        seen = await asyncio.gather(*(follower.look(attempt) for attempt in attempts))
        return [attempt for attempt in seen if ended or not attempt.state.ended]

    async def queued(self, limit: int | None = None) -> list[Task]:
        """Return the tasks that wait, at most ``limit``, in the order they will be started.

        The ``reason`` of one for an outpost that takes no work as configured now says so.
        """
        return [self._as_it_is(task) for task in await self.store.queued(limit=limit)]

    async def queue_length(self) -> int:
        """Return how many tasks wait."""
        return await self.store.queue_length()

    async def charges(self, since: datetime | None = None) -> list[Charge]:
        """Return what workers cost: those that run, and those that ended at or after ``since``."""
        return await self.store.charges(since=since)

    async def find_queued(self, name: str) -> Task | None:
        """Return the queued task that ``name`` means: an id or its beginning, or an issue."""
        found = await self.store.find_tasks(name)
        return next((self._as_it_is(task) for task in found if task.state is State.QUEUED), None)

    async def cancel(self, task_id: str, reason: str = "cancelled on request") -> bool:
        """Take a queued task back; ``False`` if it was started or taken back already."""
        cancelled = await self.store.cancel(task_id, reason)
        if cancelled:
            await self.parts.duties.carry_out()
        return cancelled

    async def count_by_state(self) -> Mapping[State, int]:
        """Return how many tasks are in each state, as a look at the active workers shows it."""
        counts = dict(await self.store.count_by_state())
        stored = {attempt.id: attempt for attempt in await self.store.attempts()}
        if stored:
            follower = await self.parts.follower()
            for seen in await asyncio.gather(*map(follower.look, stored.values())):
                before = stored[seen.id].state
                counts[before] = counts.get(before, 0) - 1
                counts[seen.state] = counts.get(seen.state, 0) + 1
        return {state: count for state, count in counts.items() if count > 0}

    async def transitions(
        self, *, after: int = 0, limit: int | None = None, task_id: str | None = None
    ) -> list[Transition]:
        """Return what happened after the transition with that id, oldest first.

        Of more than ``limit`` the newest if ``after`` is 0, else the oldest.
        """
        return await self.store.transitions(after=after, limit=limit, task_id=task_id)

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until another process has changed something; ``False`` once time is over."""
        return await self.store.wait_for_change(timeout_s)

    async def task(self, task_id: str) -> Task:
        """Return a task as it is stored. Raises ``NotFound``."""
        return await self.store.task(task_id)

    async def decision(self, task_id: str) -> Decision | None:
        """Return the newest decision about a task, ``None`` where none was taken."""
        return await self.store.decision(task_id)

    async def worker(self, name: str, *, or_outpost: bool = False) -> SpawnedWorker:
        """Return the worker that ``name`` means: an id or its beginning, an issue, or a branch.

        Of several workers of one issue, or on one branch, the newest is meant. Raises ``NotFound``,
        also where a beginning fits workers of several tasks; with ``or_outpost`` it says that no
        outpost has the name either.
        """
        from outpost.control.naming import find_attempt  # noqa: PLC0415 - not always needed

        outposts = [outpost.name for outpost in self.config.outposts] if or_outpost else ()
        return SpawnedWorker(self, await find_attempt(self.store, name, outposts=outposts))

    async def outposts(self, *, ping: bool = True) -> list[OutpostStatus]:
        """Return every configured outpost with its load and, unless ``ping`` is off, its health."""
        from outpost.control.overview import overview  # noqa: PLC0415 - loads pydantic

        active = Counter(attempt.outpost for attempt in await self.workers())
        looker = await self.parts.looker()
        return await overview(self.config, looker, active, ping=ping)

    async def capabilities(self, name: str) -> Capabilities:
        """Return what an outpost can do; one that is gone can do nothing."""
        try:
            return (await self.parts.sites()).backend(name).capabilities
        except NotFound:
            return Capabilities(stop=False)

    async def is_tended(self, name: str) -> bool:
        """Whether an outpost has something to renew, refill or pause while it has workers.

        That does a controller alone (E2B, Fly). A service of Cloud Run is ``held`` instead: its
        workers need somebody who holds their requests, a controller or whoever follows them.
        ``False`` for an outpost that is gone.
        """
        return (await self.capabilities(name)).tended

    async def greet(self, name: str) -> Greeting | None:
        """Return what the user has to agree to before a new outpost of the configuration is used.

        ``None``: nothing. Looks at no store. Raises ``OutpostFault`` where the outpost cannot be
        asked now, and ``Rejected`` where it must not be used so.
        """
        from outpost.control.sites import Sites  # noqa: PLC0415 - here only

        sites = Sites(self.config, "", self.home, self.environment)
        try:
            return await sites.backend(name).greet()
        finally:
            await sites.close()

    async def plan(self, name: str, *, image: str | None = None, adopt: bool = False) -> Plan:
        """Return what has to change at an outpost's provider for it to take work as configured.

        Nothing is changed. ``image`` is the worker image to run from now on, ``adopt`` takes over
        what is there and is not ours. Raises ``Unsupported`` for an outpost that needs no such
        thing, ``UserError`` where the image is missing, and ``OutpostFault``.
        """
        self._must_have(name)
        return await (await self.parts.sites()).backend(name).plan(image, adopt=adopt)

    async def deploy(
        self, plan: Plan, *, report: Callable[[str], None] | None = None
    ) -> Sequence[str]:
        """Carry out a plan, wait until it holds, and return the addresses that answer then.

        ``report`` is told how far it is. Raises ``OutpostFault``, also where something has changed
        there since the plan was made.
        """
        backend = (await self.parts.sites()).backend(plan.outpost)
        return await backend.deploy(plan, report or (lambda _: None))

    async def prune(self, *, before_s: float | None = None, dry_run: bool = False) -> Pruned:
        """Remove what ended longer ago than ``before_s`` (a week), and litter; never work."""
        from outpost.control.prune import BEFORE, Pruner  # noqa: PLC0415 - here only

        before = BEFORE if before_s is None else timedelta(seconds=before_s)
        return await Pruner(federation=self, before=before, dry_run=dry_run).prune()

    async def reconcile(self, *, dry_run: bool = False, now: bool = False) -> Reconciled:
        """Compare what outposts really run with the store, and settle what differs.

        ``now`` also stops what nobody knows of, without waiting for another look.
        """
        names = [outpost.name for outpost in self.config.outposts]
        reconciler = await self.parts.reconciler()
        return await reconciler.by_hand(names, dry_run=dry_run, now=now)

    async def conformance(
        self,
        name: str,
        *,
        repo_url: str | None = None,
        slow: bool = False,
        report: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """Check on an outpost of the configuration that its backend keeps its promises.

        ``repo_url`` is a repository that may be pushed to, where the outpost cannot reach one on
        this machine; ``slow`` carries out what takes long, too.
        """
        from outpost.testing.live import check_configured  # noqa: PLC0415 - here only

        self._must_have(name)
        return await check_configured(
            self.config,
            name,
            home=self.home,
            environment=self.environment,
            repo_url=repo_url,
            slow=slow,
            report=report,
        )

    async def diagnose(self, *, fix: bool = False) -> Diagnosis:
        """Look at everything this federation depends on; with ``fix`` do what is safe."""
        from outpost.control.doctor import Doctor  # noqa: PLC0415 - here only

        return await Doctor(self, fix=fix).examine()

    def _must_have(self, name: str) -> None:
        """Raise ``NotFound`` for a name that no outpost of the configuration has."""
        from outpost.control.naming import unknown_outpost  # noqa: PLC0415 - not always needed

        configured = [outpost.name for outpost in self.config.outposts]
        if name not in configured:
            raise unknown_outpost(name, configured)

    def _as_it_is(self, task: Task) -> Task:
        """Return a queued task; of one for an outpost that takes no work now with that reason.

        What is stored as its reason is from when somebody last went through the queue.
        """
        if task.outpost is None or task.state is not State.QUEUED:
            return task
        found = [outpost for outpost in self.config.outposts if outpost.name == task.outpost]
        if any(outpost.enabled for outpost in found):
            return task
        why = "is disabled" if found else "is not configured here"
        return replace(task, reason=f"its outpost '{task.outpost}' {why}")

    def _submitted(self, placement: Placement) -> Submitted:
        worker = SpawnedWorker(self, placement.attempt) if placement.attempt else None
        return Submitted(task=placement.task, decision=placement.decision, worker=worker)

"""Workers in sandboxes of E2B: one each, with a shell in it, paused while nobody needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel

from outpost.backends.e2b_options import CONCURRENCY, CREATIONS_PER_S, E2bOptions
from outpost.backends.e2b_sessions import Sessions
from outpost.backends.e2b_template import contents, costs, template
from outpost.backends.e2b_tending import Tending
from outpost.backends.e2b_tidying import tidy_sandboxes
from outpost.errors import Ambiguous, NotDispatched, OutpostFault, RateLimited, Rejected, UserError
from outpost.model import Capabilities, Handle, Health, Liveness, Metered, Quote, Sighting, Task
from outpost.model.compute_prices import quote
from outpost.ports import Greeting, Outpost, Plan, Setup, Tended
from outpost.transports.e2b_api import (
    Access,
    Build,
    E2bApi,
    Gone,
    Sandbox,
    Unclear,
    Wish,
    in_our_words,
)
from outpost.transports.e2b_sandbox import (
    CAPABILITIES,
    KIND,
    SandboxOutpost,
    SandboxWorker,
    Terms,
    is_over,
)
from outpost.transports.handles import check_owner
from outpost.transports.log_copy import LogCopy
from outpost.wire.orders import Environment, WorkOrder
from outpost.wire.tidying import Leftover, TidyOrder

if TYPE_CHECKING:
    from e2b import AsyncSandbox

FEDERATION, OUTPOST, WORKER = "outpost_federation", "outpost_outpost", "outpost_worker"
TASK, ATTEMPT = "outpost_task", "outpost_attempt"
CREATE_PAUSES_S = (0.5, 2.0)
DELETE_PAUSES_S = (0.3, 1.0, 2.0)
LOOKS_AT_ONCE = 16
GIVE_UP_S = 20.0


class E2bOutpost(Outpost):
    """Workers in sandboxes of E2B, each a shell of its own.

    ``patience_s`` is how long a start waits where E2B says that they come too quickly.
    """

    kind: ClassVar[str] = KIND
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    Options: ClassVar[type[BaseModel]] = E2bOptions
    patience_s = 30.0

    def __init__(self, setup: Setup, options: E2bOptions) -> None:
        self.name = setup.name
        self.api = E2bApi(setup.name, self._access, self._forget_key)
        self._setup = setup
        self._options = options
        self._key = ""
        self._turn = asyncio.Lock()
        self._terms = Terms(
            lease_s=options.timeout_s,
            env=options.env,
            min_free_mib=options.min_free_mib,
            quote=self.quote(None),
            paused=self._note_session,
        )
        self._sandboxes: dict[str, SandboxOutpost] = {}
        self._tending = Tending(self, options)

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        entry = await self._created(order)
        is_new = entry.sandbox_id not in self._sandboxes
        if is_new:
            # A full disk costs the bill its last word, and no worker.
            with contextlib.suppress(OSError):
                self._sessions(order["worker_id"]).note_made()
        sandbox = self.entered(entry.sandbox_id)
        handle = self.handle_of(order["worker_id"], entry.sandbox_id)
        sandbox.entry = entry
        try:
            await sandbox.spawn(order, environment)
        except NotDispatched:
            # A worker known already may be in a sandbox that is paused by now.
            was_paused: bool | None = None
            with contextlib.suppress(OutpostFault):
                was_paused = await sandbox.wake()
            if was_paused is False and is_new and not sandbox.was_reached:
                await self._give_up(handle)
            if not was_paused:
                raise
            await sandbox.spawn(order, environment)
        return handle

    async def find(self, worker_id: str) -> Handle | None:
        for sandbox in await self.listed(worker_id):
            return self.handle_of(worker_id, sandbox.id)
        return None

    async def workers(self) -> AsyncIterator[Sighting]:
        slots = asyncio.Semaphore(LOOKS_AT_ONCE)
        found = await self.listed()
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(self._sighting(it, slots)) for it in found]
        for look in looks:
            if sighting := look.result():
                yield sighting

    def worker(self, handle: Handle) -> SandboxWorker:
        check_owner(self, handle)
        sandbox = self.entered(self.sandbox_of(handle))
        return SandboxWorker(sandbox, handle, self._copy(handle.worker_id))

    async def destroy(self, handle: Handle) -> None:
        check_owner(self, handle)
        sandbox_id = self.sandbox_of(handle)
        await self._removed(sandbox_id)
        if sandbox := self._sandboxes.pop(sandbox_id, None):
            await sandbox.close()
        self._copy(handle.worker_id).remove()

    async def tend(self, workers: Sequence[Tended]) -> None:
        """Renew leases, pause what waits for a person, and resume what a pause caught at work."""
        await self._tending.round(workers)

    async def metered(self, handle: Handle) -> Metered | None:
        """Return for how long its sandbox ran; a pause is no part.

        ``None`` where it was made on another machine: what it ran for earlier is not known here.
        """
        check_owner(self, handle)
        seen = await self.entered(self.sandbox_of(handle)).look()
        seconds = self._sessions(handle.worker_id).seconds()
        if seconds is None:
            return None
        if seen is None or seen.paused:
            return Metered(seconds=seconds, final=True) if seconds else None
        running = datetime.now(UTC) - seen.started_at
        return Metered(seconds=seconds + max(running.total_seconds(), 0.0), final=False)

    async def tidy(self, order: TidyOrder, handles: Sequence[Handle]) -> list[Leftover]:
        return await tidy_sandboxes(self, order, handles)

    async def ping(self) -> Health:
        """Say whether E2B takes our key and has the template; starts no sandbox."""
        options = self._options
        try:
            there = await self.api.has_template(options.template)
        except OutpostFault as exc:
            return Health(ok=False, detail=exc.message, hint=exc.hint)
        if not there:
            what = f"E2B has no template {options.template} of yours"
            return Health(ok=False, detail=what, hint=self._deploy_hint())
        return Health(ok=True, detail=f"template {options.template}, plan {options.plan}")

    async def greet(self) -> Greeting | None:
        """Return what it will cost; that needs no network and asks nothing."""
        lines = [*costs(self._options, self._setup.price(self.quote(None)))]
        most, limit = self._setup.max_workers, CONCURRENCY[self._options.plan]
        if most is None or most > limit:
            lines.append(f"plan {self._options.plan}: at most {limit} sandboxes run at once")
        return Greeting(lines=tuple(lines), question="", options={}, hint="")

    async def plan(self, image: str | None = None, *, adopt: bool = False) -> Plan:
        """Return what building the template would do; with an image of yours it is only that."""
        options = self._options
        there = await self.api.has_template(options.template)
        size = f"{options.cpus} vCPUs, {options.memory} of memory"
        changes = [f"{'~' if there else '+'} template {options.template} with {size}"]
        notes = [*costs(options, self._setup.price(self.quote(None)))]
        if there:
            notes.append("it is built anew; sandboxes that run keep what they have")
        return Plan(
            outpost=self.name,
            changes=(*changes, *contents(image)),
            notes=tuple(notes),
            data={"image": image},
        )

    async def deploy(self, plan: Plan, report: Callable[[str], None]) -> Sequence[str]:
        options = self._options
        with in_our_words(self.name):
            wanted = template(plan.data["image"])
        asked = Build(name=options.template, cpus=options.cpus, memory_mib=options.memory_mib)
        await self.api.build(wanted, asked, report)
        return [f"template {self._options.template}"]

    async def close(self) -> None:
        for sandbox in list(self._sandboxes.values()):
            await sandbox.close()

    def quote(self, task: Task | None) -> Quote:
        return quote("e2b", vcpus=self._options.cpus, memory_gib=self._options.memory_mib / 1024)

    async def listed(self, worker_id: str | None = None) -> list[Sandbox]:
        """Return our sandboxes, or a worker's, the oldest first. Raises ``OutpostFault``."""
        ours = {FEDERATION: self._setup.federation_id, OUTPOST: self.name}
        if worker_id:
            ours[WORKER] = worker_id
        found = await self.api.list(ours)
        return [it for it in found if ours.items() <= it.metadata.items() and WORKER in it.metadata]

    async def handles(self) -> list[Handle]:
        """Return the handles of all our sandboxes' workers. Raises ``OutpostFault``."""
        return [self.handle_of(it.metadata[WORKER], it.id) for it in await self.listed()]

    def entered(self, sandbox_id: str) -> SandboxOutpost:
        """Return a sandbox as the place that it is; no I/O."""
        if sandbox_id not in self._sandboxes:
            made = SandboxOutpost(self._setup, self._terms, self.api, sandbox_id)
            self._sandboxes[sandbox_id] = made
        return self._sandboxes[sandbox_id]

    def sandbox_of(self, handle: Handle) -> str:
        """Return which sandbox a handle means."""
        return str(handle.data.get("sandbox", ""))

    def is_over(self, sandbox: Sandbox) -> bool:
        """Whether what is here of its worker's log says that it is done."""
        return is_over(self._copy(sandbox.metadata[WORKER]))

    async def _created(self, order: WorkOrder) -> AsyncSandbox:
        """Have the sandbox of an order's worker exist; idempotent.

        A lost answer is asked for again under the same key.
        """
        options = self._options
        wish = Wish(
            key=order["worker_id"],
            template=options.template,
            timeout_s=options.timeout_s,
            lifecycle=options.lifecycle,
            metadata=self._metadata(order),
            allow_internet=options.allow_internet,
            allow=options.allow,
            deny=options.deny,
        )
        unclear: OutpostFault | None = None
        for pause_s in (*CREATE_PAUSES_S, None):
            try:
                return await self._in_turn(wish)
            except Gone as exc:
                what = f"E2B has no template {options.template} of yours: {exc.message}"
                raise Rejected(what, outpost=self.name, hint=self._deploy_hint()) from exc
            except Unclear as exc:
                unclear = exc
            except OutpostFault as exc:
                if unclear is None:
                    raise
                unclear = exc
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        raise Ambiguous(unclear.message if unclear else "", outpost=self.name) from unclear

    async def _in_turn(self, wish: Wish) -> AsyncSandbox:
        """Create a sandbox; those that come too quickly go one by one, at the plan's rate."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.patience_s
        while True:
            try:
                return await self.api.create(wish)
            except RateLimited:
                if loop.time() >= give_up_at:
                    raise
            async with self._turn:
                await asyncio.sleep(1 / CREATIONS_PER_S[self._options.plan])

    def _metadata(self, order: WorkOrder) -> Mapping[str, str]:
        return {
            FEDERATION: self._setup.federation_id,
            OUTPOST: self.name,
            WORKER: order["worker_id"],
            TASK: order["task_id"],
            ATTEMPT: order["worker_id"],
        }

    async def _give_up(self, handle: Handle) -> None:
        """Remove a sandbox that nothing came into; if that fails it rests, until it is stopped."""
        with contextlib.suppress(OutpostFault, TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                await self.destroy(handle)

    async def _sighting(self, sandbox: Sandbox, slots: asyncio.Semaphore) -> Sighting | None:
        handle = self.handle_of(sandbox.metadata[WORKER], sandbox.id)
        worker = self.worker(handle)
        try:
            async with slots:
                liveness = (await worker.seen_as(sandbox)).liveness
        except OutpostFault:
            # The list may lag behind: it is paused by now, or gone.
            liveness = (await worker.status()).liveness
        if liveness is Liveness.ABSENT:
            return None
        return Sighting(handle=handle, liveness=liveness)

    async def _removed(self, sandbox_id: str) -> None:
        """Remove a sandbox, and see that it is gone. Raises ``OutpostFault`` if it is not."""
        why: OutpostFault | None = None
        for pause_s in (*DELETE_PAUSES_S, None):
            try:
                await self.api.kill(sandbox_id)
                if await self.api.look(sandbox_id) is None:
                    return
                why = OutpostFault("it is still there", outpost=self.name)
            except (Rejected, NotDispatched):
                raise  # that was tried for long enough
            except OutpostFault as exc:
                why = exc
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        assert why
        what = f"the sandbox {sandbox_id} cannot be removed: {why.message}"
        raise OutpostFault(what, outpost=self.name, hint="outpost prune, later") from why

    def handle_of(self, worker_id: str, sandbox_id: str) -> Handle:
        """Return the handle of a worker in a sandbox, whether or not that is there."""
        return Handle(
            outpost=self.name, kind=self.kind, worker_id=worker_id, data={"sandbox": sandbox_id}
        )

    def _folder(self, worker_id: str) -> Path:
        return Path(self._setup.data_folder) / "outposts" / self.name / "workers" / worker_id

    def _copy(self, worker_id: str) -> LogCopy:
        return LogCopy(self._folder(worker_id))

    def _note_session(self, seen: Sandbox) -> None:
        # A full disk costs a line of the bill, and no worker.
        with contextlib.suppress(OSError):
            if worker_id := seen.metadata.get(WORKER):
                self._sessions(worker_id).note(seen)

    def _sessions(self, worker_id: str) -> Sessions:
        return Sessions(self._folder(worker_id))

    def _deploy_hint(self) -> str:
        return f"outpost deploy e2b {self.name}"

    async def _access(self) -> Access:
        """Return how E2B is reached. Raises ``Rejected`` where the key is not to be had."""
        options = self._options
        if not self._key:
            try:
                self._key = await asyncio.to_thread(
                    options.api_key.resolve_token, self._setup.environment
                )
            except UserError as exc:
                what = f"{self.name}: {exc.message}"
                raise Rejected(what, outpost=self.name, hint=exc.hint) from exc
        return Access(api_key=self._key, api_url=options.api_url, sandbox_url=options.sandbox_url)

    def _forget_key(self) -> None:
        """Have the key looked up again: there may be another one by now."""
        self._key = ""

"""Workers in machines of a Fly app, each in one of its own.

How machines are made, reached and ended, and why so: docs/decisions/0025-fly.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel

from outpost.backends.fly_costs import costs, keeping, price
from outpost.backends.fly_ending import FlyEnding
from outpost.backends.fly_machine import Owner, worker_metadata
from outpost.backends.fly_making import FlyMaker, Wanted
from outpost.backends.fly_options import FlyOptions
from outpost.backends.fly_pool import FlyPool
from outpost.backends.fly_starting import FlyStarter
from outpost.errors import (
    Ambiguous,
    NoCapacity,
    NotDispatched,
    OutpostFault,
    RateLimited,
    Rejected,
)
from outpost.model import (
    Capabilities,
    Handle,
    Health,
    Liveness,
    Metered,
    Observation,
    Quote,
    Task,
)
from outpost.ports import Greeting, Setup, Tended
from outpost.transports.container_tidying import tidy_containers
from outpost.transports.containers import Address, Container
from outpost.transports.fly_faults import ApiFault, Trouble
from outpost.transports.fly_machines import FlyMachines
from outpost.transports.fly_meter import running_s
from outpost.transports.fly_seen import SINCE, STARTED, Seen, how_it_is
from outpost.transports.fly_sight import FlySight
from outpost.transports.http_containers import ContainerOutpost, ContainerWorker
from outpost.transports.http_tokens import token_of
from outpost.wire.orders import Environment, WorkOrder
from outpost.wire.tidying import Leftover, TidyOrder

MACHINE = "machine"
"""The key of a handle's data that names its machine."""
INSTANCE_HEADER = "fly-force-instance-id"
PING_S = 1.0
"""So long an answer about the app holds: Fly lets nobody ask oftener."""
LIST_LAG_S = 2.0
"""So much later a list is asked again whether there is a worker that nobody has heard of."""
_ERRORS: Mapping[Trouble, type[OutpostFault]] = {
    Trouble.LOST: Ambiguous,
    Trouble.FULL: NoCapacity,
    Trouble.QUOTA: NoCapacity,
    Trouble.NO_APP: Rejected,
    Trouble.NO_IMAGE: Rejected,
    Trouble.REFUSED: Rejected,
    Trouble.INVALID: Rejected,
    Trouble.TAKEN: Rejected,
}
"""What it means that a machine did not start; for any other trouble: nothing was started."""


class FlyOutpost(ContainerOutpost):
    """Workers in machines of a Fly app."""

    kind: ClassVar[str] = "fly"
    capabilities: ClassVar[Capabilities] = Capabilities(
        send=True, stop=True, paid=True, apart=True, tended=True, metered=True
    )
    Options: ClassVar[type[BaseModel]] = FlyOptions

    def __init__(self, setup: Setup, options: FlyOptions) -> None:
        super().__init__(setup)
        self._options = options
        self._owner = Owner(federation_id=setup.federation_id, outpost=setup.name)
        self._machines = FlyMachines(
            options.api_url,
            options.app,
            lambda: options.token.resolve_token(setup.environment),
            per_s=options.requests_per_s,
        )
        self._sight = FlySight(self._machines, self._owner.metadata, self._owner.owns)
        self._maker = FlyMaker(self._machines, self._owner, options)
        self._ending = FlyEnding(self._machines, self._sight, self._maker, options.machine_ttl_s)
        self._pool = FlyPool(
            self._machines, self._sight, self._owner, options, self._token_of_machine
        )
        self._starter = FlyStarter(
            self._machines,
            self._sight,
            self._maker,
            self._ending,
            self._pool if options.warm else None,
        )
        self._pinging = asyncio.Lock()
        self._health: Health | None = None
        self._pinged_at = 0.0

    async def ping(self) -> Health:
        """Ask for the app, with our token; starts nothing. One answer serves all for a second."""
        async with self._pinging:
            now = asyncio.get_running_loop().time()
            if self._health is None or now >= self._pinged_at + PING_S:
                self._health = await self._asked()
                self._pinged_at = asyncio.get_running_loop().time()
            return self._health

    async def _asked(self) -> Health:
        try:
            app = await self._machines.look_at_app()
        except ApiFault as exc:
            return Health(ok=False, detail=exc.message, hint=self._hint(exc))
        number = app.get("machine_count", 0)
        machines = "1 machine" if number == 1 else f"{number} machines"
        return Health(ok=True, detail=f"app {self._options.app}, {machines}")

    async def greet(self) -> Greeting | None:
        """Return what it will cost; that needs no network and asks nothing."""
        lines = tuple(costs(self._options, self._setup))
        return Greeting(lines=lines, question="", options={}, hint="")

    def quote(self, task: Task | None) -> Quote:
        found, kept = price(self._options), keeping(self._options)
        return replace(found, source=f"{found.source}; {kept}") if kept else found

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        await super().spawn(order, environment)
        return self.handle_of(order["worker_id"])  # its machine is known by now

    async def find(self, worker_id: str) -> Handle | None:
        found = await super().find(worker_id)
        if found is None and not self._sight.had(worker_id):
            # What was made a moment ago may not be in a list yet.
            await asyncio.sleep(LIST_LAG_S)
            found = await super().find(worker_id)
        return found

    def worker(self, handle: Handle) -> ContainerWorker:
        worker = super().worker(handle)
        if machine_id := handle.data.get(MACHINE):
            self._sight.expect(handle.worker_id, str(machine_id))
        return worker

    def handle_of(self, worker_id: str) -> Handle:
        """Return a worker's handle; it names its machine, which lists may not know yet."""
        handle = super().handle_of(worker_id)
        seen = self._sight.known(worker_id)
        return replace(handle, data={MACHINE: seen.id}) if seen else handle

    def token_of(self, worker_id: str) -> str:
        """Return the token of a worker's machine, which may have been made for nobody yet."""
        seen = self._sight.known(worker_id)
        return self._token_of_machine(seen.name if seen else worker_id)

    async def observe(self, worker_id: str) -> Observation:
        """Look at a worker once; where it does not answer or is dead, at its machine itself."""
        seen = await super().observe(worker_id)
        known = self._sight.known(worker_id)
        told = seen.liveness is Liveness.ALIVE or (seen.liveness is Liveness.DEAD and seen.detail)
        if known is None or told or seen.liveness is Liveness.ABSENT:
            return seen
        try:
            now = await self._sight.look(known.id)
        except ApiFault:
            return seen
        # What is remembered of it may be from before it ended, or was even started again.
        same = now and (now.state, now.exit) == (known.state, known.exit)
        return seen if same else await super().observe(worker_id)

    async def provide(self, order: WorkOrder) -> None:
        worker_id = order["worker_id"]
        marks = worker_metadata(worker_id, order["task_id"])
        wanted = Wanted(
            name=worker_id,
            metadata={**self._owner.metadata, **marks},
            token=self._token_of_machine(worker_id),
        )
        try:
            await self._starter.provide(wanted, self.copy_of(worker_id).folder)
        except ApiFault as exc:
            raise self._not_started(exc) from exc

    async def look(self, worker_id: str | None = None) -> Sequence[Container]:
        with self._asking():
            if worker_id is not None:
                seen = await self._sight.of(worker_id)
                return [self._container(seen)] if seen else []
            return [self._container(it) for it in await self._sight.all() if it.worker_id]

    async def wake(self, worker_id: str) -> None:
        with self._asking():
            seen = await self._sight.of(worker_id)
            if seen is None:
                raise OutpostFault(f"{worker_id} is gone from {self.name}", outpost=self.name)
            await self._starter.wake(seen)

    async def remove(self, worker_id: str) -> None:
        with self._asking():
            while seen := await self._sight.of(worker_id):
                await self._ending.destroy(seen)

    async def tend(self, workers: Sequence[Tended]) -> None:
        """End what is too old, and see to the machines that wait for workers."""
        living = {it.handle.worker_id for it in workers}
        with self._asking():
            old, trouble = await self._ending.end_old(living)
        for leftover in await self._let_go(old) if old else ():
            if leftover["kept"]:
                self._ending.keep(leftover["name"])
        with self._asking():
            await self._pool.tend()
            await self._maker.sweep(await self._sight.all())
            if trouble:
                raise trouble

    async def metered(self, handle: Handle) -> Metered | None:
        """Return for how long a worker's machine ran; one that waited for it counts from then."""
        self.worker(handle)
        known = self._sight.known(handle.worker_id)
        machine_id = known.id if known else str(handle.data.get(MACHINE, ""))
        if not machine_id:
            return None
        with self._asking():
            try:
                seen = await self._machines.get(machine_id)
            except ApiFault as exc:
                if exc.trouble is Trouble.ABSENT:
                    return None
                raise
        return self._billed(seen)

    def _billed(self, seen: Seen) -> Metered | None:
        if seen.runs is None:
            return None
        since = seen.since.timestamp() if SINCE in seen.metadata else 0.0
        now = (self._machines.told_at or datetime.now(UTC)).timestamp()
        final = all(it.ended_at is not None for it in seen.runs)
        return Metered(seconds=running_s(seen.runs, since=since, now=now), final=final)

    async def tidy(self, order: TidyOrder, handles: Sequence[Handle]) -> list[Leftover]:
        app = self._options.app
        enter = f"fly ssh console --app {app} --select  # {{0}}, once it runs"
        return await tidy_containers(self, order, handles, enter=enter)

    async def close(self) -> None:
        await super().close()
        await self._machines.close()

    async def _let_go(self, worker_ids: list[str]) -> list[Leftover]:
        """Destroy machines of workers that have ended, unless something is there and nowhere else.

        The worker's log was read to its end by then: whoever counts it as ended has done so.
        """
        order: TidyOrder = {
            "kinds": [],
            "dry_run": False,
            "workers": worker_ids,
            "orphans": [],
            "grace_s": 0.0,
            "cache_idle_s": 0.0,
        }
        return await self.tidy(order, ())

    def _container(self, seen: Seen) -> Container:
        if seen.never_went_on:
            # Whoever claimed it was cut short: as one that waited stopped.
            return Container(worker_id=seen.worker_id, state="stopped")
        detail = how_it_is(seen)
        if seen.has_ended:
            return Container(worker_id=seen.worker_id, state="stopped", detail=detail)
        address = None
        if seen.state == STARTED and seen.reachable:
            address = Address(url=self._options.app_url, headers={INSTANCE_HEADER: seen.id})
        return Container(worker_id=seen.worker_id, state="running", address=address, detail=detail)

    def _token_of_machine(self, name: str) -> str:
        return token_of(self._setup.data_folder, name)

    def _not_started(self, exc: ApiFault) -> OutpostFault:
        """Return what it means for a start that Fly has done something else."""
        hint = self._hint(exc)
        if exc.trouble is Trouble.RATE:
            after_s = exc.retry_after_s
            return RateLimited(exc.message, outpost=self.name, retry_after_s=after_s, hint=hint)
        regions = self._options.regions
        scope = regions[0] if exc.trouble is Trouble.FULL and len(regions) == 1 else ""
        error = _ERRORS.get(exc.trouble, NotDispatched)
        return error(exc.message, outpost=self.name, hint=hint, scope=scope)

    def _hint(self, exc: ApiFault) -> str:
        """Return what to type next."""
        app, image = self._options.app, self._options.worker_image
        match exc.trouble:
            case Trouble.REFUSED:
                reference = self._options.token.reference
                return f"fly tokens create deploy --app {app}: it belongs where {reference} says"
            case Trouble.NO_APP:
                return f"fly apps create {app}, or correct app: of this outpost"
            case Trouble.NO_IMAGE:
                build = f"worker_image/build.sh full --tag {image}"
                return f"{build}; fly auth docker; docker push {image}"
            case Trouble.QUOTA:
                return "ask Fly for more, or lower max_workers and warm of this outpost"
            case Trouble.UNREACHED if not exc.hint:
                return "check the connection, the proxy settings and api_url of this outpost"
        return exc.hint

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except ApiFault as exc:
            hint = self._hint(exc)
            raise OutpostFault(exc.message, outpost=self.name, hint=hint) from exc

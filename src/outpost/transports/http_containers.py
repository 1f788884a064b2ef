"""Workers in containers of their own that run ``runner serve``, reached over HTTP/2.

Everything that ``docker`` and ``fly`` have in common. A backend provides containers and says where
they answer; all else is here. A container ends by itself once its work is done and keeps its
files: it is started again where somebody wants to read what is not here yet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from outpost.errors import Ambiguous, NotDispatched, OutpostFault
from outpost.model import Handle, Liveness, Observation, Sighting
from outpost.ports import Completed, Outpost, Setup
from outpost.transports.container_tidying import tidy_containers
from outpost.transports.containers import Address, Container
from outpost.transports.handles import check_owner
from outpost.transports.http_client import Caller, Refusing, Unreachable
from outpost.transports.http_session import Cut
from outpost.transports.http_tokens import token_of
from outpost.transports.http_worker import HttpWorker
from outpost.transports.log_copy import LogCopy
from outpost.transports.variables import moving
from outpost.wire.events import EventReader
from outpost.wire.orders import Environment, Message, WorkOrder
from outpost.wire.tidying import Leftover, TidyOrder
from outpost.wire.work import Call

START_S = 60.0
"""How long a container may take until its server answers."""
POLL_LEAST_S, POLL_MOST_S = 0.02, 0.5
LOOKS_AT_ONCE = 16
MOST_WAKES = 3
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 5.0
_T = TypeVar("_T")


class ContainerOutpost(Outpost):
    """The part of an outpost of containers that knows no provider.

    ``enter`` is the command that leads into a container, with ``{0}`` for the worker's id.
    """

    enter: ClassVar[str] = ""

    def __init__(self, setup: Setup) -> None:
        self.name = setup.name
        self.federation_id = setup.federation_id
        self.caller = Caller()
        self._setup = setup

    async def provide(self, order: WorkOrder) -> None:
        """Have the container of an order's worker exist and start; idempotent.

        Raises ``NotDispatched`` and its kin, ``Ambiguous`` or ``Rejected``.
        """
        raise NotImplementedError

    async def look(self, worker_id: str | None = None) -> Sequence[Container]:
        """Return the containers of our federation, or that of one worker.

        Raises ``OutpostFault`` where the provider cannot be asked.
        """
        raise NotImplementedError

    async def wake(self, worker_id: str) -> None:
        """Start a stopped container again. Raises ``OutpostFault``."""
        raise NotImplementedError

    async def remove(self, worker_id: str) -> None:
        """Remove a container with all its files, verified gone; idempotent."""
        raise NotImplementedError

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        handle = self.handle_of(order["worker_id"])
        order = order.copy()
        order.pop("asked_at", None)
        await self.provide(order)
        call: Call = {
            "worker_id": order["worker_id"],
            "after": 0,
            "order": order,
            "environment": moving(environment),
        }
        try:
            await self._started(call)
        except Refusing as exc:
            # Only the server itself knows that it has started nothing.
            known = exc.code and exc.code != "fault"
            fault = NotDispatched if known else Ambiguous
            raise fault(f"{self.name} refuses: {exc.message}", outpost=self.name) from exc
        except OutpostFault as exc:
            raise Ambiguous(exc.message, outpost=self.name, hint=exc.hint) from exc
        return handle

    async def find(self, worker_id: str) -> Handle | None:
        return self.handle_of(worker_id) if await self.look(worker_id) else None

    async def workers(self) -> AsyncIterator[Sighting]:
        containers = await self.look()
        slots = asyncio.Semaphore(LOOKS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(self._liveness(it, slots)) for it in containers]
        for container, look in zip(containers, looks, strict=True):
            handle = self.handle_of(container.worker_id)
            yield Sighting(handle=handle, liveness=look.result().liveness)

    def worker(self, handle: Handle) -> ContainerWorker:
        check_owner(self, handle)
        return ContainerWorker(self, handle.worker_id)

    async def destroy(self, handle: Handle) -> None:
        self.worker(handle)
        await self.remove(handle.worker_id)
        self.copy_of(handle.worker_id).remove()

    async def tidy(self, order: TidyOrder, handles: Sequence[Handle]) -> list[Leftover]:
        return await tidy_containers(self, order, handles, enter=self.enter)

    async def close(self) -> None:
        await self.caller.close()

    def handle_of(self, worker_id: str) -> Handle:
        """Return the handle of a worker here, whether or not there is one."""
        return Handle(outpost=self.name, kind=self.kind, worker_id=worker_id, data={})

    def token_of(self, worker_id: str) -> str:
        """Return the token that the server in a worker's container is given.

        Only asked for after ``provide`` or ``look`` told of that container.
        """
        return token_of(self._setup.data_folder, worker_id)

    def copy_of(self, worker_id: str) -> LogCopy:
        """Return our copy of a worker's log."""
        folder = Path(self._setup.data_folder) / "outposts" / self.name / "workers" / worker_id
        return LogCopy(folder)

    async def observe(self, worker_id: str) -> Observation:
        """Look at a worker once; never raises for what cannot be seen."""
        try:
            containers = await self.look(worker_id)
        except OutpostFault as exc:
            return Observation(liveness=Liveness.UNSEEN, detail=exc.message)
        if not containers:
            return Observation(liveness=Liveness.ABSENT)
        return await self._liveness(containers[0])

    async def reached(self, worker_id: str, *, wake: bool = True) -> Address:
        """Return where a worker's server answers; with ``wake`` starts its container if need be.

        Raises ``OutpostFault`` where there is none, or it does not answer in time.
        """
        deadline = asyncio.get_running_loop().time() + START_S
        pause_s, why, wakes = POLL_LEAST_S, "it does not run", 0
        while True:
            container = next(iter(await self.look(worker_id)), None)
            if container is None:
                raise OutpostFault(f"{worker_id} is gone from {self.name}", outpost=self.name)
            if container.state == "stopped":
                why = container.detail or why
                if wakes == MOST_WAKES or not wake:
                    raise OutpostFault(f"{worker_id} has stopped: {why}", outpost=self.name)
                await self.wake(worker_id)
                wakes += 1
            elif container.address is not None:
                try:
                    await self.caller.health(container.address, self.token_of(worker_id))
                except (Refusing, Unreachable) as exc:
                    why = str(exc)
                else:
                    return container.address
            else:
                why = container.detail or "it does not say where it listens"
            if asyncio.get_running_loop().time() > deadline:
                what = f"{worker_id} on {self.name} does not answer within {START_S:g} s: {why}"
                raise OutpostFault(what, outpost=self.name)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_MOST_S)

    async def _started(self, call: Call) -> None:
        """Hand an order over, again and again if need be: that is idempotent."""
        worker_id = call["worker_id"]
        deadline = asyncio.get_running_loop().time() + START_S
        while True:
            address = await self.reached(worker_id)
            try:
                async with self.caller.session(address, self.token_of(worker_id), call):
                    return
            except Unreachable as exc:
                if asyncio.get_running_loop().time() > deadline:
                    what = f"{worker_id} on {self.name} took no order: {exc}"
                    raise OutpostFault(what, outpost=self.name) from exc
                await asyncio.sleep(POLL_MOST_S)

    async def _liveness(
        self, container: Container, slots: asyncio.Semaphore | None = None
    ) -> Observation:
        if container.state == "stopped":
            return Observation(liveness=Liveness.DEAD, detail=container.detail)
        if container.address is None:
            return Observation(liveness=Liveness.UNSEEN, detail=container.detail)
        worker_id = container.worker_id
        try:
            async with slots or contextlib.nullcontext():
                token = self.token_of(worker_id)
                row = await self.caller.row(container.address, token, worker_id)
        except (Refusing, Unreachable) as exc:
            return Observation(liveness=Liveness.UNSEEN, detail=container.detail or str(exc))
        # One whose order never arrived is there as a container, and will never do anything.
        liveness = Liveness(row["liveness"]) if row else Liveness.DEAD
        return Observation(liveness=liveness, detail=container.detail)


class ContainerWorker(HttpWorker):
    """A worker in a container of its own."""

    def __init__(self, outpost: ContainerOutpost, worker_id: str) -> None:
        super().__init__(worker_id, outpost.name)
        self._outpost = outpost
        self._copy = outpost.copy_of(self.id)

    @property
    def _token(self) -> str:
        return self._outpost.token_of(self.id)

    async def status(self) -> Observation:
        return await self._outpost.observe(self.id)

    async def send(self, message: Message) -> None:
        address = await self._outpost.reached(self.id)
        await self._asked(self._outpost.caller.post(address, self._token, self.id, message))

    async def kill(self) -> None:
        await self.run("kill")

    async def run(self, verb: str, *arguments: str, stdin: bytes = b"") -> Completed:
        address = await self._outpost.reached(self.id)
        path = (self.id, verb)
        return await self._asked(
            self._outpost.caller.run(address, self._token, path, arguments=arguments, stdin=stdin)
        )

    async def pieces(self, reader: EventReader, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """Yield what is here, then what is there."""
        while data := self._copy.read(reader.read_offset):
            yield data
        pause_s = PAUSE_LEAST_S
        while True:
            try:
                async with contextlib.aclosing(self._there(reader, follow=follow)) as lines:
                    async for data in lines:
                        if data:
                            self._copy.add(reader.read_offset, data)
                        pause_s = PAUSE_LEAST_S
                        yield data
                break
            except (Unreachable, Cut) as exc:
                # Cut off is not dead: only who has looked may say so.
                seen = await self.status()
                if seen.liveness in (Liveness.DEAD, Liveness.ABSENT):
                    break
                if not follow:
                    what = f"{self.id} on {self.outpost}: {exc}"
                    raise OutpostFault(what, outpost=self.outpost) from exc
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MOST_S)

    async def has_ended(self) -> bool:
        seen = await self.status()
        if seen.liveness is Liveness.UNSEEN:
            raise OutpostFault(f"cannot see {self.id}: {seen.detail}", outpost=self.outpost)
        return seen.liveness is not Liveness.ALIVE

    async def _asked(self, request: Awaitable[_T]) -> _T:
        try:
            return await request
        except (Refusing, Unreachable) as exc:
            what = f"{self.id} on {self.outpost}: {exc}"
            raise OutpostFault(what, outpost=self.outpost) from exc

    async def _there(self, reader: EventReader, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """Yield what one request brings; without ``follow`` only what is there now."""
        address = await self._address(follow=follow)
        if address is None:
            return
        call: Call = {"worker_id": self.id, "after": reader.seq, "offset": reader.read_offset}
        try:
            if not follow:
                while data := await self._outpost.caller.lines(address, self._token, call):
                    yield data
                    call["offset"] = reader.read_offset
                return
            async with self._outpost.caller.session(address, self._token, call) as session:
                async for said in session.read():
                    if isinstance(said, bytes):
                        yield said
                    elif said["said"] == "ended":
                        return
            raise Cut("the answer ended before the log did")
        except Refusing as exc:
            if exc.status == 404 and exc.code:
                return
            raise Unreachable(exc.message) from exc

    async def _address(self, *, follow: bool) -> Address | None:
        """Return where to read; ``None`` where there is nothing (more) to be read.

        Whoever follows does not wake what has stopped: that is for the one who mends it.
        """
        if await self._is_over(follow=follow):
            return None
        try:
            return await self._outpost.reached(self.id, wake=not follow)
        except OutpostFault:
            if await self._is_over(follow=follow):
                return None  # it has ended meanwhile
            raise

    async def _is_over(self, *, follow: bool) -> bool:
        containers = await self._outpost.look(self.id)
        return not containers or (follow and containers[0].state == "stopped")

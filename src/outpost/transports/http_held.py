"""Workers that live by an open request: instances of a service that come and go with requests.

Whoever holds the request (the controller) writes what comes to files of this machine; all other
processes read those, and leave messages there. The instance is a number to nobody: what it has not
told or pushed when it goes is lost with it, so the work goes on from the last checkpoint then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path

from outpost.errors import (
    Ambiguous,
    NoCapacity,
    NotDispatched,
    NotOurs,
    OutpostFault,
    Rejected,
)
from outpost.model import Handle, Liveness, Observation, Sighting
from outpost.ports import Completed, Outpost, Setup
from outpost.transports.containers import Address
from outpost.transports.handles import check_owner
from outpost.transports.held_files import HeldFiles
from outpost.transports.http_client import Caller, Refusing, Unreachable
from outpost.transports.http_link import Link, LinkTerms
from outpost.transports.http_worker import HttpWorker
from outpost.transports.machine import machine_id
from outpost.transports.tidying import leftover, named
from outpost.transports.variables import moving
from outpost.wire.events import EventReader
from outpost.wire.orders import Environment, Message, WorkOrder
from outpost.wire.tidying import Leftover, TidyOrder
from outpost.wire.work import Call

GROWN_S = 0.2
CONNECTING = "is held by no controller at present"


class HeldOutpost(Outpost):
    """The part of an outpost of held instances that knows no provider."""

    def __init__(self, setup: Setup, terms: LinkTerms) -> None:
        self.name = setup.name
        self.federation_id = setup.federation_id
        self.terms = terms
        self._folder = Path(setup.data_folder) / "outposts" / setup.name / "workers"
        self._caller = Caller(terms.silent_s)
        self._machine = machine_id()
        self._links: dict[str, Link] = {}

    async def url(self) -> str:
        """Return where the service answers. Raises ``OutpostFault``."""
        raise NotImplementedError

    async def headers(self) -> Mapping[str, str]:
        """Return what its front end wants to see with each request. Raises ``OutpostFault``."""
        raise NotImplementedError

    def token(self) -> str:
        """Return the token of the servers behind it."""
        raise NotImplementedError

    def refused(self, why: Refusing) -> OutpostFault:
        """Return what an answer means that is not a 2xx, where nothing was started."""
        if why.status == 429:
            return NoCapacity(f"{self.name} has no instance free", outpost=self.name)
        if why.code == "busy":
            return NoCapacity(f"{self.name}: {why.message}", outpost=self.name)
        if why.status in (400, 401, 403, 404, 409, 413):
            return Rejected(f"{self.name} refuses: {why.message}", outpost=self.name)
        if why.status == 503:
            return NotDispatched(f"{self.name} is not available", outpost=self.name)
        return Ambiguous(f"{self.name}: {why.message}", outpost=self.name)

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        worker_id = order["worker_id"]
        handle, files = self.handle_of(worker_id), self.files_of(worker_id)
        if not await self._claimed(files):
            # It was started before, or by somebody else just now.
            return handle
        order = order.copy()
        order.pop("asked_at", None)
        call: Call = {
            "worker_id": worker_id,
            "after": 0,
            "order": order,
            "environment": moving(environment),
            "hold": True,
        }
        try:
            files.make(self.federation_id)
            self._links[worker_id] = await self._begun(call, files)
        except BaseException as exc:
            files.let_go()
            if isinstance(exc, NotDispatched | Rejected):
                files.remove()
            raise
        return handle

    async def find(self, worker_id: str) -> Handle | None:
        """Return a worker's handle; one whose start was never confirmed is asked for there.

        As any instance may answer, a worker that is not found may be at another: that one ends
        by itself.
        """
        files = self.files_of(worker_id)
        if files.federation_id != self.federation_id:
            return None
        if await self._claimed(files) and not await self._found(files):
            files.remove()
        return self.handle_of(worker_id) if files.attached else None

    async def workers(self) -> AsyncIterator[Sighting]:
        names = await asyncio.to_thread(self._names)
        for name in names:
            files = self.files_of(name)
            if files.federation_id == self.federation_id and files.attached:
                yield Sighting(handle=self.handle_of(name), liveness=self.liveness(files))

    def worker(self, handle: Handle) -> HeldWorker:
        check_owner(self, handle)
        if not self._is_here(handle):
            raise NotOurs(
                f"worker {handle.worker_id} is held by a controller on another machine",
                outpost=self.name,
            )
        return HeldWorker(self, handle.worker_id)

    async def destroy(self, handle: Handle) -> None:
        worker = self.worker(handle)
        files = self.files_of(handle.worker_id)
        if files.federation_id is None:
            return
        if self.liveness(files) in (Liveness.ALIVE, Liveness.UNSEEN):
            with contextlib.suppress(FileNotFoundError):  # somebody else has destroyed it
                await worker.kill()
        link = self._links.pop(handle.worker_id, None)
        if link is not None and link.holds(handle.worker_id):
            await link.close()
        files.let_go()
        files.remove()

    async def tidy(self, order: TidyOrder, handles: Sequence[Handle]) -> list[Leftover]:
        """Remove what this machine knows of workers; with their instances all else of them went."""
        ours = {it.worker_id for it in handles if self._is_here(it)} | set(order["orphans"])
        return [
            self._taken(kind, name, dry_run=order["dry_run"])
            for kind, name in named(order)
            if name in ours
        ]

    async def close(self) -> None:
        for link in set(self._links.values()):
            await link.close()
        self._links.clear()
        await self._caller.close()

    def handle_of(self, worker_id: str) -> Handle:
        """Return the handle of a worker here, whether or not there is one."""
        return Handle(
            outpost=self.name, kind=self.kind, worker_id=worker_id, data={"machine": self._machine}
        )

    def files_of(self, worker_id: str) -> HeldFiles:
        """Return what this machine knows of a worker."""
        link = self.link_of(worker_id)
        if link is not None and link.files is not None:
            return link.files
        return HeldFiles(self._folder / worker_id)

    def link_of(self, worker_id: str) -> Link | None:
        """Return the request of this process that holds a worker."""
        link = self._links.get(worker_id)
        return link if link is not None and link.holds(worker_id) else None

    def liveness(self, files: HeldFiles) -> Liveness:
        """Return how a worker is, as far as this machine knows."""
        if files.federation_id is None:
            return Liveness.ABSENT
        if files.lost or files.ended or files.has_result:
            return Liveness.DEAD
        link = self.link_of(files.worker_id)
        if link is not None and link.connected:
            return Liveness.ALIVE
        return Liveness.ALIVE if link is None and files.held() else Liveness.UNSEEN

    async def taken_up(self, files: HeldFiles) -> Link | None:
        """Hold a worker that nobody holds; ``None`` where another process does.

        A worker that cannot be reached at once is tried for as long as it may still live.
        """
        if not files.hold():
            return None
        link = self._links[files.worker_id] = self._link()
        link.take_up(files)
        return link

    async def _begun(self, call: Call, files: HeldFiles) -> Link:
        """Have an instance take a worker: one that is warm, else whichever the platform gives."""
        limits = call["order"]["limits"]
        for_s = limits.get("wall_s") or limits["time_s"] or 0.0
        self._links = {it: link for it, link in self._links.items() if not link.over}
        for link in set(self._links.values()):
            if not link.is_warm(for_s):
                continue
            try:
                await link.again(call, files)
            except Refusing:
                continue
            except Unreachable as exc:
                # It may have been started: nobody else may start it now.
                raise Ambiguous(f"{self.name}: {exc}", outpost=self.name) from exc
            self._links = {it: other for it, other in self._links.items() if other is not link}
            return link
        link = self._link()
        try:
            await link.begin(call, files)
        except Refusing as exc:
            raise self.refused(exc) from exc
        except Unreachable as exc:
            raise Ambiguous(f"{self.name}: {exc}", outpost=self.name) from exc
        return link

    def _taken(self, kind: str, name: str, *, dry_run: bool) -> Leftover:
        files = self.files_of(name)
        liveness = self.liveness(files)
        kept = {
            Liveness.ALIVE: "it still runs",
            Liveness.UNSEEN: f"it {CONNECTING}, and may still run",
        }.get(liveness, "")
        size = files.copy.size()
        if not kept and not dry_run:
            files.remove()
        return leftover(kind, name, path=str(files.folder), size=size, kept=kept)

    def _is_here(self, handle: Handle) -> bool:
        return handle.data.get("machine", self._machine) == self._machine

    def _link(self) -> Link:
        # Of an answer learns as well who knows what leads there.
        return Link(self._caller, self._address, self.token(), self.terms, told=self.refused)

    async def _address(self) -> Address:
        try:
            return Address(url=await self.url(), headers=await self.headers())
        except OutpostFault as exc:
            # What keeps us from asking now may have passed at the next try.
            raise Unreachable(exc.message) from exc

    def _names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(it.name for it in self._folder.iterdir())
        return []

    async def _claimed(self, files: HeldFiles) -> bool:
        """Whether a worker that no server has is ours to ask for; waits for whoever asks now."""
        while not files.hold():
            if files.attached:
                return False
            await asyncio.sleep(GROWN_S)
        if files.attached:
            files.let_go()
        return not files.attached

    async def _found(self, files: HeldFiles) -> bool:
        """Whether the instance that answers has a worker; it is held from now on then."""
        link = self._link()
        try:
            await link.begin({"worker_id": files.worker_id, "after": 0, "hold": True}, files)
        except (Refusing, Unreachable) as exc:
            files.let_go()
            if isinstance(exc, Refusing) and exc.status == 404 and exc.code:
                return False
            raise OutpostFault(f"{self.name}: {exc}", outpost=self.name) from exc
        self._links[files.worker_id] = link
        return True


class HeldWorker(HttpWorker):
    """A worker of an instance that a request of ours holds."""

    def __init__(self, outpost: HeldOutpost, worker_id: str) -> None:
        super().__init__(worker_id, outpost.name)
        self._outpost = outpost

    @property
    def _files(self) -> HeldFiles:
        return self._outpost.files_of(self.id)

    async def status(self) -> Observation:
        files = self._files
        liveness = self._outpost.liveness(files)
        detail = f"{self.id} {CONNECTING}" if liveness is Liveness.UNSEEN else files.lost
        return Observation(liveness=liveness, detail=detail)

    async def send(self, message: Message) -> None:
        try:
            self._files.post(message)
        except OSError as exc:
            what = f"cannot leave a message for {self.id}: {exc}"
            raise OutpostFault(what, outpost=self.outpost) from exc

    async def kill(self) -> None:
        self._files.post({"type": "kill"})
        if not self._outpost.link_of(self.id):
            await self._outpost.taken_up(self._files)
        if not await self.ended_within(self._outpost.terms.patience_s):
            raise OutpostFault(
                f"{self.id} is out of reach: it ends by itself where nobody follows it",
                outpost=self.outpost,
            )

    async def recover(self, environment: Environment) -> bool:
        if self._outpost.link_of(self.id) is None or self._files.lost:
            # With its instance all went that was not pushed.
            return await self.has_result()
        return await super().recover(environment)

    async def transcript(self, session_id: str, environment: Environment) -> bytes | None:
        if self._outpost.link_of(self.id) is None:
            return None
        return await super().transcript(session_id, environment)

    async def unsaved(self) -> str:
        return "" if await self._is_gone() else await super().unsaved()

    async def diff(self, options: Sequence[str]) -> bytes | None:
        return None if await self._is_gone() else await super().diff(options)

    async def run(self, verb: str, *arguments: str, stdin: bytes = b"") -> Completed:
        link = self._outpost.link_of(self.id)
        if link is None:
            raise OutpostFault(
                f"{self.id} can be asked only by the controller that holds it",
                outpost=self.outpost,
            )
        try:
            return await link.ask(verb, arguments, stdin)
        except OSError as exc:
            raise OutpostFault(f"{self.id}: {exc}", outpost=self.outpost) from exc

    async def _is_gone(self) -> bool:
        """Whether its instance has gone, or does something else by now."""
        link = self._outpost.link_of(self.id)
        return (link is None or not link.connected) and await self.has_ended()

    async def has_ended(self) -> bool:
        return self._outpost.liveness(self._files) in (Liveness.DEAD, Liveness.ABSENT)

    async def pieces(self, reader: EventReader, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """Yield the copy from where the reader is; with ``follow`` as it grows, and hold it."""
        while True:
            files = self._files
            over = await self.has_ended()
            while data := files.copy.read(reader.read_offset):
                yield data
            if over or not follow:
                return
            link = self._outpost.link_of(self.id) or await self._outpost.taken_up(files)
            if link is None:
                # Another process holds it, and writes what we read.
                await asyncio.sleep(GROWN_S)
            else:
                await link.grown(GROWN_S)

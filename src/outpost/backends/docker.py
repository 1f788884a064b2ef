"""Workers in containers of a Docker Engine, each in one of its own.

How the engine is asked, and what a container is given and why: docs/decisions/0024-docker.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel

import outpost
from outpost.backends.docker_container import (
    GIB,
    KILLED,
    LOOPBACK,
    PORT,
    TOKEN,
    WORKER,
    Owner,
    bracketed,
    how_it_is,
    run_argv,
)
from outpost.backends.docker_options import DockerOptions, memory_bytes
from outpost.errors import (
    Ambiguous,
    NoCapacity,
    NotDispatched,
    OutpostFault,
    RateLimited,
    Rejected,
)
from outpost.model import Capabilities, Handle, Health, Quote, Sighting, Task
from outpost.ports import Setup
from outpost.transports.containers import Address, Container
from outpost.transports.docker_engine import DockerEngine, EngineInfo, Seen
from outpost.transports.docker_faults import EngineFault, Trouble
from outpost.transports.docker_tunnels import Tunnels
from outpost.transports.http_containers import ContainerOutpost, ContainerWorker
from outpost.wire.orders import Environment, Limits, WorkOrder

ENGINE = "engine"
RUN_S = 60.0
PULL_S = 900.0
REMOVE_S = 60.0
POLL_S = 0.1
READS_AT_ONCE = 8
_ALIVE = frozenset(("running", "paused", "restarting"))
_LISTENING = re.compile(r"^listening on (\S+):([0-9]+)\s*$", re.MULTILINE)
_ERRORS: Mapping[Trouble, type[OutpostFault]] = {
    Trouble.LOST: Ambiguous,
    Trouble.FULL: NoCapacity,
    Trouble.PATIENCE: RateLimited,
    Trouble.NO_IMAGE: Rejected,
    Trouble.REFUSED: Rejected,
}
"""What it means that a container did not start; for any other trouble: nothing was started."""


class DockerOutpost(ContainerOutpost):
    """Workers in containers of a Docker Engine."""

    kind: ClassVar[str] = "docker"
    capabilities: ClassVar[Capabilities] = Capabilities(send=True, stop=True, apart=True)
    Options: ClassVar[type[BaseModel]] = DockerOptions
    enter: ClassVar[str] = "docker start {0} && docker exec -it {0} bash"

    def __init__(self, setup: Setup, options: DockerOptions) -> None:
        super().__init__(setup)
        self._options = options
        self._owner = Owner(federation_id=setup.federation_id, outpost=setup.name)
        where: Sequence[str] = ("--host", options.host) if options.host else ()
        if options.context:
            where = ("--context", options.context)
        self._engine = DockerEngine(where=where, environment=setup.environment)
        self._engine_id = ""
        self._tunnels = Tunnels(self._engine)
        self._tunnelled: bool | None = None
        self._engine_of: dict[str, str] = {}
        self._listening: dict[tuple[str, str], tuple[str, int]] = {}

    async def ping(self) -> Health:
        image = self._options.image
        try:
            info, there, _ = await _all_of(
                self._engine.info(), self._engine.has_image(image), self._through_engine()
            )
        except EngineFault as exc:
            return Health(ok=False, detail=exc.message, hint=exc.hint)
        self._engine_id = info.id
        unfit = self._unfit(info)
        if unfit is None and not there and self._options.pull == "never":
            unfit = self._no_image()
        said = f"Docker Engine {info.version}, {info.cpus} CPUs, {info.memory_bytes / GIB:.1f} GiB"
        return unfit or Health(ok=True, detail=said)

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        try:
            await _all_of(self._identify(), self._through_engine())
        except EngineFault as exc:
            refused = exc.trouble is Trouble.REFUSED
            error = Rejected if refused else NotDispatched
            raise error(exc.message, outpost=self.name, hint=exc.hint) from exc
        limits: Limits = {**order["limits"], "min_free_mib": self._options.min_free_mib}
        return await super().spawn({**order, "limits": limits}, environment)

    async def find(self, worker_id: str) -> Handle | None:
        with self._asking():
            await self._identify()
        return await super().find(worker_id)

    async def workers(self) -> AsyncIterator[Sighting]:
        with self._asking():
            await self._identify()
        async for sighting in super().workers():
            yield sighting

    def worker(self, handle: Handle) -> ContainerWorker:
        worker = super().worker(handle)
        self._engine_of[handle.worker_id] = str(handle.data.get(ENGINE, ""))
        return worker

    def handle_of(self, worker_id: str) -> Handle:
        """Return a worker's handle; it says on which engine, as a name may lead to another one."""
        handle = super().handle_of(worker_id)
        return replace(handle, data={**handle.data, ENGINE: self._engine_id})

    def quote(self, task: Task | None) -> Quote:
        memory = self._options.memory
        return Quote(
            microusd_per_hour=0,
            source="a Docker Engine of your own",
            vcpus=self._options.cpus,
            memory_gib=memory_bytes(memory) / GIB if memory else None,
        )

    async def close(self) -> None:
        await super().close()
        await self._tunnels.close()

    async def provide(self, order: WorkOrder) -> None:
        worker_id = order["worker_id"]
        try:
            publish = not await self._through_engine()
            await self._engine.call(
                *run_argv(self._owner, worker_id, self._options, publish=publish),
                variables={TOKEN: self.token_of(worker_id)},
                timeout_s=RUN_S if self._options.pull == "never" else PULL_S,
            )
        except EngineFault as exc:
            if exc.trouble is Trouble.TAKEN:
                await self._adopt(worker_id)
                return
            if exc.printed:
                # It came to be, and cannot be started: nobody needs it.
                with contextlib.suppress(EngineFault):
                    await self._engine.call("rm", "--force", "--volumes", exc.printed)
            hint = exc.hint
            if exc.trouble is Trouble.NO_IMAGE:
                hint = self._no_image().hint
            error = _ERRORS.get(exc.trouble, NotDispatched)
            raise error(exc.message, outpost=self.name, hint=hint) from exc

    async def look(self, worker_id: str | None = None) -> Sequence[Container]:
        with self._asking():
            if worker_id is not None:
                seen = await self._mine(worker_id)
                return [await self._told(seen, closely=True)] if seen else []
            all_seen = await self._engine.containers(self._owner.labels)
        slots = asyncio.Semaphore(READS_AT_ONCE)

        async def told(seen: Seen) -> Container:
            async with slots:
                return await self._told(seen)

        async with asyncio.TaskGroup() as group:
            ours = [it for it in all_seen if self._owner.owns(it)]
            telling = [group.create_task(told(it)) for it in ours]
        return [it.result() for it in telling]

    async def wake(self, worker_id: str) -> None:
        with self._asking():
            seen = await self._mine(worker_id)
            if seen is None:
                raise OutpostFault(f"{worker_id} is gone from {self.name}", outpost=self.name)
            await self._engine.call("unpause" if seen.status == "paused" else "start", seen.id)

    async def remove(self, worker_id: str) -> None:
        deadline = asyncio.get_running_loop().time() + REMOVE_S
        while True:
            with self._asking():
                seen = await self._mine(worker_id)
                if seen is None:
                    return
                try:
                    await self._engine.call("rm", "--force", "--volumes", seen.id)
                except EngineFault as exc:
                    if exc.trouble not in (Trouble.ABSENT, Trouble.GOING):
                        raise
            if asyncio.get_running_loop().time() > deadline:
                what = f"{worker_id} is still there {REMOVE_S:g} s after it was removed"
                raise OutpostFault(what, outpost=self.name, hint=f"docker rm -f -v {worker_id}")
            if seen.status == "removing":
                await asyncio.sleep(POLL_S)

    async def _adopt(self, worker_id: str) -> None:
        """Take what has the worker's name for its container, if it is."""
        with self._asking():
            seen = await self._engine.container(worker_id)
        if seen is not None and not self._owner.owns(seen):
            raise Rejected(
                f"there is a container called {worker_id} that is not ours",
                outpost=self.name,
                hint=f"docker inspect {worker_id}",
            )

    async def _mine(self, worker_id: str) -> Seen | None:
        """Return a worker's container; ``None``: it is not there, on the engine where it was."""
        seen = await self._engine.container(worker_id)
        if seen is not None:
            return seen if self._owner.owns(seen) else None
        expected = self._engine_of.get(worker_id)
        if expected and (await self._engine.info()).id != expected:
            raise EngineFault(
                f"this is another Docker Engine than the one that {worker_id} was started on",
                Trouble.UNREACHED,
                hint="docker context ls; host or context of the outpost say which one it is",
            )
        return None

    async def _told(self, seen: Seen, *, closely: bool = False) -> Container:
        worker_id, detail = seen.labels[WORKER], how_it_is(seen)
        if seen.status in _ALIVE:
            address = await self._address(seen)
            if not address and seen.network != "host" and not detail:
                detail = f"its port {PORT} is not published: is there a network {seen.network}?"
            return Container(worker_id=worker_id, state="running", address=address, detail=detail)
        if closely and seen.status == "exited" and seen.exit_code not in (0, KILLED):
            with contextlib.suppress(EngineFault):
                last = (await self._engine.printed(seen, lines=1)).strip()
                detail = f"{detail}: {last}" if last else detail
        return Container(worker_id=worker_id, state="stopped", detail=detail)

    async def _address(self, seen: Seen) -> Address | None:
        """Return where its server answers; ``None`` as long as that is not known."""
        try:
            tunnelled = await self._through_engine()
            found: tuple[str, int] | None = (LOOPBACK, PORT) if tunnelled else None
            if seen.network == "host":
                found = await self._said(seen)
            elif not tunnelled:
                found = seen.published.get(f"{PORT}/tcp")
        except EngineFault:
            return None
        if found and tunnelled:
            found = await self._tunnels.to(seen.id, found[1])
        return Address(url=f"http://{bracketed(found[0])}:{found[1]}") if found else None

    async def _said(self, seen: Seen) -> tuple[str, int] | None:
        """Return where its server says that it listens, since it was last started."""
        run = (seen.id, seen.finished_at)
        if run not in self._listening:
            said = _LISTENING.findall(await self._engine.printed(seen))
            if not said:
                return None
            self._listening[run] = (said[-1][0].strip("[]"), int(said[-1][1]))
        return self._listening[run]

    async def _identify(self) -> None:
        if not self._engine_id:
            self._engine_id = (await self._engine.info()).id

    def _unfit(self, info: EngineInfo) -> Health | None:
        """Return what makes an engine unfit for our workers."""
        options, lack = self._options, ""
        if info.system != "linux":
            lack = f"it runs containers of {info.system}, workers need linux"
        elif options.cpus and options.cpus > info.cpus:
            lack = f"its machine has {info.cpus} CPUs, fewer than cpus: {options.cpus:g}"
        elif options.memory and memory_bytes(options.memory) > info.memory_bytes:
            has = f"{info.memory_bytes / GIB:.1f} GiB"
            lack = f"its machine has {has} of memory, less than memory: {options.memory}"
        hint = f"change that of the outpost {self.name} in the configuration"
        return Health(ok=False, detail=lack, hint=hint) if lack else None

    async def _through_engine(self) -> bool:
        """Whether workers are reached through the engine, as it is on another machine."""
        if self._tunnelled is None:
            options = self._options
            here = options.address or _is_here(options.host or await self._engine.endpoint())
            self._tunnelled = not here
        return self._tunnelled

    def _no_image(self) -> Health:
        image = self._options.image
        hint = f"docker pull {image}, or pull: missing for this outpost"
        if "/" not in image:
            name, _, variant = image.partition(":")
            ours = name == "outpost-worker" and variant in ("slim", "full")
            hint = f"{_builder()} {variant}" if ours else f"{_builder()} --tag {image}"
        return Health(ok=False, detail=f"there is no image {image}", hint=hint)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except EngineFault as exc:
            raise OutpostFault(exc.message, outpost=self.name, hint=exc.hint) from exc


async def _all_of(*acts: Coroutine[Any, Any, Any]) -> Sequence[Any]:
    """Return what several acts return, done side by side, or raise the first's error."""
    results = await asyncio.gather(*acts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _builder() -> str:
    """Return the program that makes worker images: beside an installed package, or a checkout's."""
    installed = Path(outpost.__file__).parent / "worker_image" / "build.sh"
    return str(installed) if installed.exists() else "worker_image/build.sh"


def _is_here(endpoint: str) -> bool:
    """Whether an engine publishes its ports on this machine."""
    parts = urlsplit(endpoint)
    if parts.scheme in ("unix", "npipe"):
        return True
    if parts.scheme == "ssh" or not parts.hostname:
        return False
    if parts.hostname == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(parts.hostname).is_loopback
    return False

"""Local outposts that are broken: each does one thing wrong, for the check that has to find it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from outpost.backends.local import LocalOutpost
from outpost.errors import NotDispatched, OutpostFault, Unsupported
from outpost.model import Capabilities, Handle, Health, Liveness, Observation, Quote, Sighting, Task
from outpost.ports import Completed
from outpost.testing.declaring import SECRET
from outpost.transports.shell import ShellWorker
from outpost.wire.events import Event
from outpost.wire.orders import Environment, Message, WorkOrder

SPARED: list[int] = []


def end_spared() -> None:
    """Kill what broken outposts spared, and what their readers left."""
    while SPARED:
        pid = SPARED.pop()
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    while LeavingWorker.left:
        LeavingWorker.left.pop().cancel()


class Cut(LocalOutpost):
    """A local outpost out of reach."""

    def _gone(self) -> OutpostFault:
        return OutpostFault("it does not answer", outpost=self.name)

    async def ping(self) -> Health:
        return Health(ok=False, detail="it does not answer")

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        raise NotDispatched("it does not answer", outpost=self.name)

    async def probe(self, worker_id: str | None = None) -> list[dict[str, str]]:
        raise self._gone()

    async def destroy(self, handle: Handle) -> None:
        raise self._gone()

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30
    ) -> Completed:
        raise self._gone()

    def worker(self, handle: Handle) -> ShellWorker:
        return CutWorker(self, handle)


class CutWorker(ShellWorker):
    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        if self.outpost:
            raise OutpostFault("it does not answer", outpost=self.outpost)
        yield Event(1, "", "never", {})


class Raises(LocalOutpost):
    async def ping(self) -> Health:
        raise OutpostFault("it is down", outpost=self.name)


class Haggles(LocalOutpost):
    asked: ClassVar[list[int]] = []

    def quote(self, task: Task | None) -> Quote:
        self.asked.append(1)
        return Quote(microusd_per_hour=0, source=f"the {len(self.asked)}th price")


class Charges(LocalOutpost):
    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=1, source="a list")


class NeedsItsFolder(LocalOutpost):
    async def find(self, worker_id: str) -> Handle | None:
        if not Path(self.place().root, "workers").exists():
            raise OutpostFault("there is no such folder", outpost=self.name)
        return await super().find(worker_id)


class PushesElsewhere(LocalOutpost):
    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        elsewhere = Path(self.place().root) / "elsewhere.git"
        if not elsewhere.exists():
            argv = ["git", "clone", "--quiet", "--bare", order["repo_url"], str(elsewhere)]
            subprocess.run(argv, check=True)
        return await super().spawn({**order, "repo_url": str(elsewhere)}, environment)


class StartsTwins(LocalOutpost):
    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        if await self.find(order["worker_id"]):
            twin: WorkOrder = {**order, "worker_id": f"{order['worker_id']}b"}
            await super().spawn(twin, environment)
        return await super().spawn(order, environment)


class RemembersItsStarts(LocalOutpost):
    """Starts a worker once, and so does everybody else who never heard of it."""

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        worker_id = order["worker_id"]
        if worker_id in self._found or not await self.find(worker_id):
            self._found[worker_id] = "started"
            return await super().spawn(order, environment)
        twin: WorkOrder = {**order, "worker_id": f"{worker_id}b"}
        await super().spawn(twin, environment)
        return await super().spawn(order, environment)


class FindsAnother(LocalOutpost):
    async def find(self, worker_id: str) -> Handle | None:
        found = await super().find(worker_id)
        return found and replace(found, data={**found.data, "found": "yes"})


class TakesAnything(LocalOutpost):
    def worker(self, handle: Handle) -> ShellWorker:
        return super().worker(replace(handle, outpost=self.name, kind=self.kind))


class SeesStrangers(LocalOutpost):
    async def _all(self) -> AsyncIterator[Sighting]:
        for path in Path(self.place().root).glob("workers/*/order.json"):
            yield Sighting(handle=self.handle_of(path.parent.name), liveness=Liveness.ALIVE)

    def workers(self) -> AsyncIterator[Sighting]:
        return self._all()


class SkippingWorker(ShellWorker):
    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        skip = bool(after) and not follow
        async with contextlib.aclosing(
            super().events(after=after, offset=offset, follow=follow)
        ) as events:
            async for event in events:
                if not skip:
                    yield event
                skip = False


class DoublingWorker(ShellWorker):
    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        double = bool(after) and follow
        async with contextlib.aclosing(
            super().events(after=after, offset=offset, follow=follow)
        ) as events:
            async for event in events:
                yield event
                if double:
                    yield event
                double = False


class BufferingWorker(ShellWorker):
    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        held: list[Event] = []
        async with contextlib.aclosing(
            super().events(after=after, offset=offset, follow=follow)
        ) as events:
            async for event in events:
                held.append(event)
                if len(held) == 200 or not follow:
                    for it in held:
                        yield it
                    held.clear()
        for it in held:
            yield it


class HoardingWorker(ShellWorker):
    hoard: ClassVar[list[Event]] = []

    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        async with contextlib.aclosing(
            super().events(after=after, offset=offset, follow=follow)
        ) as events:
            async for event in events:
                self.hoard.append(event)
                yield event
        self.hoard.clear()


class LeavingWorker(ShellWorker):
    left: ClassVar[list[asyncio.Task[None]]] = []

    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        self.left.append(asyncio.create_task(asyncio.sleep(60)))
        async with contextlib.aclosing(
            super().events(after=after, offset=offset, follow=follow)
        ) as events:
            async for event in events:
                yield event


class StammeringWorker(ShellWorker):
    async def send(self, message: Message) -> None:
        await super().send(message)
        if message["type"] == "text":
            await super().send(message)


class UnattachedWorker(ShellWorker):
    async def attach(self) -> Sequence[str]:
        raise Unsupported("nobody can attach")


class StopsOnceWorker(ShellWorker):
    async def stop(self, *, grace_s: float, reason: str) -> None:
        if (await self.status()).liveness is not Liveness.ALIVE:
            raise OutpostFault("it does not run", outpost=self.outpost)
        await super().stop(grace_s=grace_s, reason=reason)


class MendsInNameWorker(ShellWorker):
    async def recover(self, environment: Environment) -> bool:
        return (await self.status()).liveness is not Liveness.ALIVE


class MendsTheLivingWorker(ShellWorker):
    async def recover(self, environment: Environment) -> bool:
        await self.kill()
        return await super().recover(environment)


class SparingWorker(ShellWorker):
    async def stop(self, *, grace_s: float, reason: str) -> None:
        spare(Path(self._directory))
        await super().stop(grace_s=grace_s, reason=reason)


class MurmuringWorker(ShellWorker):
    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        async with contextlib.aclosing(
            super().events(after=after, offset=offset, follow=follow)
        ) as events:
            async for event in events:
                if "it is [redacted]" in event.fields.get("text", ""):
                    event.fields["text"] = f"it is {Murmurs.secret}"
                yield event


def with_worker(kind: type[ShellWorker]) -> type[LocalOutpost]:
    """Return a local outpost whose workers are of a kind."""

    class Broken(LocalOutpost):
        def worker(self, handle: Handle) -> ShellWorker:
            super().worker(handle)
            return kind(self, handle)

    Broken.__name__ = kind.__name__
    return Broken


class Murmurs(with_worker(MurmuringWorker)):  # type: ignore[misc]  # made by a function
    secret: ClassVar[str] = ""

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        Murmurs.secret = environment["agent"].get(SECRET, Murmurs.secret)
        handle: Handle = await super().spawn(order, environment)
        return handle


def spare(directory: Path) -> None:
    """Start what a child of a stubborn worker that escapes would be, outside of its tree."""
    with contextlib.suppress(FileNotFoundError):
        script = json.loads((directory / "order.json").read_text())["agent"]["argv"][-1]
        found = re.search(r"mark-\w+", script)
        if found and "trap" in script:
            argv = ["/bin/sh", "-c", f"sleep 60; : {found[0]}"]
            SPARED.append(os.posix_spawn("/bin/sh", argv, {}, setpgroup=0))


class SparesTheChild(LocalOutpost):
    async def destroy(self, handle: Handle) -> None:
        spare(Path(handle.data["directory"]))
        await super().destroy(handle)


class DestroysOnce(LocalOutpost):
    async def destroy(self, handle: Handle) -> None:
        if not Path(handle.data["directory"]).exists():
            raise OutpostFault("there is no such worker", outpost=self.name)
        await super().destroy(handle)


class HidesBeforeItDestroys(LocalOutpost):
    hidden: ClassVar[set[str]] = set()

    async def destroy(self, handle: Handle) -> None:
        self.worker(handle)
        self.hidden.add(handle.worker_id)
        await asyncio.sleep(0.2)
        await super().destroy(handle)

    async def probe(self, worker_id: str | None = None) -> list[dict[str, str]]:
        rows = await super().probe(worker_id)
        return [row for row in rows if row["worker_id"] not in self.hidden]


class SaysLess(LocalOutpost):
    capabilities: ClassVar[Capabilities] = Capabilities(attach=False, send=True, stop=True)


class Forgets(LocalOutpost):
    """Knows of a worker's life only what it has started itself."""

    def worker(self, handle: Handle) -> ShellWorker:
        worker = super().worker(handle)
        return worker if handle.worker_id in self._found else ForgottenWorker(self, handle)

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        self._found[order["worker_id"]] = "started"
        return await super().spawn(order, environment)


class ForgottenWorker(ShellWorker):
    async def status(self) -> Observation:
        return Observation(liveness=Liveness.ABSENT)


class Blind(Cut):
    """Takes what it cannot see for absent."""

    async def probe(self, worker_id: str | None = None) -> list[dict[str, str]]:
        return []


class Trusting(Cut):
    """Takes a worker that it cannot see for stopped."""

    def worker(self, handle: Handle) -> ShellWorker:
        return TrustingWorker(self, handle)


class TrustingWorker(CutWorker):
    async def stop(self, *, grace_s: float, reason: str) -> None:
        return


class ShowsArguments(LocalOutpost):
    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        if secret := environment["agent"].get(SECRET):
            await self.run(["sh", "-c", "sleep 0.3", "sh", secret])
        return await super().spawn(order, environment)


class ShowsVariables(LocalOutpost):
    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        if secret := environment["agent"].get(SECRET):
            given = {"TOKEN": secret, "PATH": os.defpath}
            await self.place().shell.run(["sleep", "0.3"], environment=given)
        return await super().spawn(order, environment)


class TellsInHandles(LocalOutpost):
    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        handle = await super().spawn(order, environment)
        if secret := environment["agent"].get(SECRET):
            return replace(handle, data={**handle.data, "token": secret})
        return handle


class HidesTheCancelled(LocalOutpost):
    hidden: ClassVar[set[str]] = set()

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        worker_id = order["worker_id"]
        self.hidden.add(worker_id)
        handle = await asyncio.shield(super().spawn(order, environment))
        self.hidden.discard(worker_id)
        return handle

    async def probe(self, worker_id: str | None = None) -> list[dict[str, str]]:
        rows = await super().probe(worker_id)
        return [row for row in rows if row["worker_id"] not in self.hidden]


FAULTS: tuple[tuple[str, type[LocalOutpost]], ...] = (
    ("ping_says_how_it_is", Raises),
    ("quote_is_pure", Haggles),
    ("quote_is_pure", Charges),
    ("find_of_nobody_is_none", NeedsItsFolder),
    ("work_is_pushed", PushesElsewhere),
    ("spawn_is_idempotent", StartsTwins),
    ("spawn_is_idempotent", RemembersItsStarts),
    ("find_adopts", FindsAnother),
    ("handles_of_others_are_refused", TakesAnything),
    ("workers_are_of_one_federation", SeesStrangers),
    ("events_resume_anywhere", with_worker(SkippingWorker)),
    ("events_follow_on_from_anywhere", with_worker(DoublingWorker)),
    ("lines_come_while_work_runs", with_worker(BufferingWorker)),
    ("large_logs_take_little_memory", with_worker(HoardingWorker)),
    ("declared_abilities_work", with_worker(UnattachedWorker)),
    ("undeclared_abilities_are_refused", SaysLess),
    ("messages_arrive", with_worker(StammeringWorker)),
    ("stop_ends_the_whole_tree", with_worker(SparingWorker)),
    ("stop_may_be_repeated", with_worker(StopsOnceWorker)),
    ("status_tells_the_living_from_the_dead", Forgets),
    ("the_dead_are_mended", with_worker(MendsInNameWorker)),
    ("the_dead_are_mended", with_worker(MendsTheLivingWorker)),
    ("destroy_leaves_nothing", SparesTheChild),
    ("destroy_may_be_repeated", DestroysOnce),
    ("secrets_are_shown_to_nobody", ShowsArguments),
    ("secrets_are_shown_to_nobody", ShowsVariables),
    ("secrets_are_shown_to_nobody", TellsInHandles),
    ("secrets_are_shown_to_nobody", Murmurs),
    ("cancelled_reading_leaves_nothing", with_worker(LeavingWorker)),
    ("cancelled_spawn_hides_nothing", HidesTheCancelled),
    ("cancelled_ends_may_be_repeated", HidesBeforeItDestroys),
)

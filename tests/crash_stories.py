"""Stories of a controller that is killed at workers which run elsewhere: at a provider's stand-in.

What is tried at each is the same: a worker started and followed to its end, one stopped, one mended
that died. ``Elsewhere`` is what differs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from outpost.federation import Federation
from outpost.model import State
from tests.crash_points import Crashing, CrashWorld, Story, chosen_once, empty_store, first_calls
from tests.world import Remote

Prepare = Callable[[CrashWorld, Federation], Awaitable[Sequence[str]]]
Faults = Mapping[str, Sequence[str]]
NAME = "burst"


async def _nothing(_world: CrashWorld, _federation: Federation) -> list[str]:
    return []


async def _ready(_world: CrashWorld, _federation: Federation) -> None:
    pass


async def _ended(_world: CrashWorld, _worker_id: str) -> None:
    raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A provider's stand-in that all homes share.

    ``outposts`` is that of the configuration, with an outpost called ``burst``, and ``variables``
    lead there. ``steps`` are the calls that an outpost makes for sure to start a worker,
    ``modules`` are loaded beforehand. ``ready`` has a home's outpost be usable, ``kill`` kills what
    looks after a worker there. For the rest see ``Story``.
    """

    outposts: str
    variables: Mapping[str, str]
    steps: frozenset[str]
    stop_steps: frozenset[str] = frozenset()
    mend_steps: frozenset[str] = frozenset()
    modules: tuple[str, ...] = ()
    forgets: bool = False
    ready: Callable[[CrashWorld, Federation], Awaitable[None]] = _ready
    kill: Callable[[CrashWorld, str], Awaitable[None]] = _ended
    unrest: Callable[[CrashWorld], str] = field(default=lambda _world: "")
    afterwards: Callable[[CrashWorld, Federation], Awaitable[list[str]]] = _nothing

    def started(self) -> Story:
        """A task in the queue: its worker is started, and followed to its end."""
        needed = frozenset(
            {
                *("store.claim", "store.apply", "store.apply_all"),
                *("outpost.spawn", "worker.events", *self.steps),
            }
        )
        return self._story("started", self._to_start, State.DONE, needed, only_there=False)

    def claimed(self) -> Story:
        """The same where something waits that the worker can have: killed while it is claimed."""
        return self._story("claimed", self._to_start, State.DONE, self.steps)

    def stopped(self) -> Story:
        """A worker that is at work, and a wish to stop it."""
        needed = frozenset({"worker.stop", "store.apply", *self.stop_steps})
        return self._story("stopped", self._to_stop, State.STOPPED, needed)

    def mended(self) -> Story:
        """A worker that has died at its work."""
        needed = frozenset({"worker.recover", "store.apply", *self.mend_steps})
        return self._story("mended", self._to_mend, State.DONE, needed)

    async def _to_start(self, world: CrashWorld, federation: Federation) -> Sequence[str]:
        await self.ready(world, federation)
        await world.queue(federation)
        return ("controller",)

    async def _to_stop(self, world: CrashWorld, federation: Federation) -> Sequence[str]:
        await self.ready(world, federation)
        federation.parts.stays = True
        worker = await world.spawn(federation, waits=True)
        await federation.store.ask_to_stop(worker.id, "enough of it")
        return ("controller",)

    async def _to_mend(self, world: CrashWorld, federation: Federation) -> Sequence[str]:
        await self.ready(world, federation)
        worker = await world.spawn(federation, waits=True)
        await self.kill(world, worker.id)
        world.gate.touch()
        return ("controller",)

    def _story(
        self,
        name: str,
        prepare: Prepare,
        end: State,
        needed: frozenset[str],
        *,
        only_there: bool = True,
    ) -> Story:
        async def expected(_world: CrashWorld, _federation: Federation) -> Mapping[State, int]:
            return {end: 1}

        return Story(
            name=name,
            prepare=prepare,
            expected=expected,
            needed=needed,
            outposts=self.outposts,
            variables=self.variables,
            only_there=only_there,
            forgets=self.forgets,
            modules=self.modules,
            unrest=self.unrest,
            afterwards=self.afterwards,
        )


async def faults_of(story: Story, folder: Path, remote: Remote, lanes: int) -> Faults:
    """Return what was wrong after which point, with the program killed at the first of its calls.

    What a program does that is killed only there is known without a look.
    """
    folder = folder / story.name
    folder.mkdir()
    crashing = Crashing(story, folder, remote, await empty_store(folder), lanes)
    recorded = [] if story.only_there else await crashing.record()
    await crashing.kill_at(first_calls(story) if story.only_there else chosen_once(recorded, story))
    missed = {call: ["nothing was killed there"] for call in crashing.never_killed}
    return {**crashing.faults, **missed}

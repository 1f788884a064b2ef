"""Killing programs at each of their points, and what must be true once a controller was there.

A ``Story`` is what a program does in a ``CrashWorld``, a home of its own that a few things were
done in before. ``Launcher`` runs the program, ``CrashWorld.recover`` lets a controller mend what it
left, and ``tests.crash_checks`` says what is wrong then.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import signal
import sqlite3
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from outpost.controller import Controller
from outpost.federation import Federation
from outpost.model import State
from outpost.ports import Clock
from outpost.spawned import SpawnedWorker
from outpost.store import open_store
from tests.crash_checks import Checks
from tests.doubles.crashing import Point, When
from tests.world import Remote, World, make_environment

PROGRAM = "tests.integration.crash_program"
CHECKOUT = Path(__file__).parents[1]
LATER_S = 30.0
"""Longer than a start takes: whoever was at it is not waited for."""
LOCAL = "  - {name: local, type: local, max_workers: 1, price_hourly: 0.36}\n"
PROGRAM_S = 60.0
QUIET_S = 90.0
POLL_S = 0.2
WRITES = frozenset(
    f"store.{name}"
    for name in (
        "add_task",
        "apply",
        "apply_all",
        "ask_to_stop",
        "cancel",
        "change_breaker",
        "claim",
        "drop_leases",
        "federation_id",
        "forget",
        "give_up",
        "hold",
        "note_pr",
        "release",
        "settle_duty",
        "take_duty",
        "take_leases",
        "trim_transitions",
    )
)
OUTSIDE = ("outpost.", "worker.", "caller.", "machines.", "api.")
# A log is read in many small steps, of which a few stand for all.
STEPS = frozenset({"worker.events[]", "outpost.workers[]"})


async def _nothing(_world: CrashWorld, _federation: Federation) -> list[str]:
    return []


@dataclass(frozen=True)
class Story:
    """What is killed at its points: a program, told by ``prepare`` what to do in a fresh home.

    ``needed`` are calls that it makes for sure; with ``only_there`` it is killed at those only.
    ``expected`` returns, once the program has died, how many tasks are to have which end; it may
    also do what the world does meanwhile. ``outposts`` is that of the configuration, in which
    ``FOLDER`` is the world's and ``LABEL`` a name of its own; ``variables`` are ours besides what
    every world has, ``modules`` what the program finds loaded. ``fresh``: the home has no store
    yet. ``later_s`` is how much later the controller comes, by its clock, where it does not come at
    once. ``unrest`` says what goes on still that is not to be seen in every world, ``afterwards``
    what else is wrong then. ``forgets``: what a worker has not told or pushed goes with its place.
    """

    name: str
    prepare: Callable[[CrashWorld, Federation], Awaitable[Sequence[str]]]
    expected: Callable[[CrashWorld, Federation], Awaitable[Mapping[State, int]]]
    needed: frozenset[str]
    outposts: str = LOCAL
    variables: Mapping[str, str] = field(default_factory=dict)
    only_there: bool = False
    fresh: bool = False
    later_s: float = LATER_S
    forgets: bool = False
    modules: tuple[str, ...] = ()
    unrest: Callable[[CrashWorld], str] = lambda _world: ""
    afterwards: Callable[[CrashWorld, Federation], Awaitable[list[str]]] = _nothing


@dataclass(frozen=True)
class Ahead:
    """A clock that is so much ahead."""

    seconds: float

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


@dataclass
class CrashWorld:
    """A home in which a program is killed. ``lines`` gets a worker's id for each agent that ran."""

    world: World
    story: Story

    @property
    def folder(self) -> Path:
        return self.world.folder

    @property
    def lines(self) -> Path:
        return self.folder / "lines"

    @property
    def gate(self) -> Path:
        """The file that agents wait for, where their script says so."""
        return self.folder / "gate"

    @property
    def record(self) -> Path:
        """The file of the points that the program passed."""
        return self.folder / "points"

    def script(self, *, waits: bool = False) -> str:
        """Return what an agent does: say that it runs, maybe wait, speak, and commit something."""
        gate = f"until [ -e '{self.gate}' ]; do sleep 0.05; done; " if waits else ""
        return (
            f'echo "$OUTPOST_WORKER_ID" >> "{self.lines}"; '
            f'echo "$OUTPOST_WORKER_ID" >> work.txt; echo one; {gate}'
            "git add -A; git commit -qm work; echo two"
        )

    @property
    def label(self) -> str:
        """A name that no other world has, of letters and digits."""
        return f"w{zlib.crc32(str(self.folder).encode()):08x}"

    def config(self) -> str:
        outposts = self.story.outposts.replace("FOLDER", str(self.folder))
        return (
            f"outposts:\n{outposts.replace('LABEL', self.label)}"
            "policy: {retry: {max_attempts: 4, initial_backoff: 0s, max_backoff: 1s}}\n"
            "budget: {daily: 1000}\n"
            "defaults: {stop_grace: 4s, time_limit: 5m, token_budget: 0}\n"
            "controller: {claim_grace: 2s, orphan_grace: 2s, silent_after: 5s}\n"
        )

    def federation(self, clock: Clock | None = None) -> Federation:
        self.world.homes.add(self.world.home)
        return Federation(
            config_path=self.world.config(self.config()),
            home=self.world.home,
            directory=self.folder,
            environment=self.world.environment,
            clock=clock,
        )

    async def queue(
        self, federation: Federation, issue: str = "text:Mend the words", **more: bool
    ) -> None:
        """Store a task without starting it."""
        options = self.world.options(self.script(), self.world.remote, **more)
        task = await federation.resolve(issue, options)
        await federation.parts.duties.claim(task)
        await federation.store.add_task(task)

    async def spawn(self, federation: Federation, *, waits: bool = False) -> SpawnedWorker:
        """Start a worker; returns once its agent runs."""
        script = self.script(waits=waits)
        worker = await self.world.spawn(federation, script)
        async for event in worker.events():
            if event.type == "log" and event.fields.get("text") == "one":
                return worker
        raise AssertionError(f"the agent of {worker.id} never ran")

    def passed(self) -> list[Point]:
        """Return the points that the program passed, in their order."""
        if not self.record.exists():
            return []
        return [Point.parse(line) for line in self.record.read_text().splitlines()]

    def has(self, call: str, when: When = "after", number: int = 1) -> bool:
        """Whether the program passed that point."""
        return Point(call, number, when) in self.passed()

    async def recover(self, later_s: float) -> list[str]:
        """Let a controller work until nothing is left to do; return what is wrong then."""
        async with self.federation(Ahead(later_s)) as federation:
            expected = await self.story.expected(self, federation)
            fail = self.story.outposts != LOCAL
            forgets = self.story.forgets
            checks = Checks(self.world, federation, self.lines, fail, forgets)
            controller = Controller(federation)
            running = asyncio.create_task(controller.run())
            try:
                until = asyncio.get_running_loop().time() + QUIET_S
                while unrest := await checks.unrest() or self.story.unrest(self):
                    if running.done() or asyncio.get_running_loop().time() > until:
                        break
                    await asyncio.sleep(POLL_S)
            finally:
                controller.stop()
                await running
            if unrest:
                return [f"not within {QUIET_S:g} s: {unrest}"]
            counted = await federation.store.count_by_state()
            ends = {state: count for state, count in counted.items() if count}
            wrong = [f"ends: {ends}, expected: {expected}"] if ends != expected else []
            wrong += await checks.faults()
            return wrong + await self.story.afterwards(self, federation)


class Launcher:
    """A process that has the program loaded, and runs it again and again in forks of itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._running: dict[int, asyncio.Future[int]] = {}

    async def run(self, world: CrashWorld, arguments: Sequence[str], at: Point | None) -> int:
        """Run the program in a home, killed ``at`` a point; return how it exited."""
        number = next(self._numbers)
        told = {
            "number": number,
            "arguments": [str(world.record), str(at or "-"), *arguments],
            "environment": {
                **world.world.environment,
                "OUTPOST_CONFIG": world.world.config(world.config()),
            },
            "errors": str(world.folder / "errors"),
            "modules": world.story.modules,
        }
        assert self._process.stdin
        self._running[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        async with asyncio.timeout(PROGRAM_S):
            return await self._running[number]

    async def listen(self) -> None:
        """Hear which programs have exited."""
        assert self._process.stdout
        async for line in self._process.stdout:
            number, code = map(int, line.split())
            if not (running := self._running[number]).done():
                running.set_result(code)


@dataclass
class Crashing:
    """Runs a story with its program killed at each of its points, in ``lanes`` homes at once."""

    story: Story
    folder: Path
    remote: Remote
    template: Path
    lanes: int
    faults: dict[str, list[str]] = field(default_factory=dict)
    exits: dict[Point, int] = field(default_factory=dict)

    async def record(self) -> list[Point]:
        """Return the points of the program, which must come to its end in a home of its own."""
        async with self._launcher() as launcher:
            world, code, faults = await self._one(launcher, None)
        said = (world.folder / "errors").read_text()
        assert (code, faults) == (0, []), f"{faults}\n{said}"
        points = world.passed()
        missing = self.story.needed - {point.call for point in points}
        assert not missing, f"never called: {missing}; called: {Counter(it.call for it in points)}"
        return points

    async def kill_at(self, points: Iterable[Point]) -> None:
        """Kill the program at each of these points; ``faults`` has what was wrong after each."""
        waiting = iter(points)

        async def work(launcher: Launcher) -> None:
            for point in waiting:
                world, code, faults = await self._one(launcher, point)
                self.exits[point] = code
                if code not in (0, -signal.SIGKILL):
                    faults.append(f"exited {code}: {(world.folder / 'errors').read_text()}")
                if faults:
                    self.faults[str(point)] = faults

        async with self._launcher() as launcher, asyncio.TaskGroup() as group:
            for _ in range(self.lanes):
                group.create_task(work(launcher))

    @property
    def never_killed(self) -> frozenset[str]:
        """The calls that the story needs and at which nothing was killed."""
        killed = {point.call for point, code in self.exits.items() if code == -signal.SIGKILL}
        return self.story.needed - killed

    @asynccontextmanager
    async def _launcher(self) -> AsyncIterator[Launcher]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PROGRAM),
            cwd=CHECKOUT,
            env=dict(self.remote.environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        launcher = Launcher(process)
        listening = asyncio.create_task(launcher.listen())
        try:
            yield launcher
        finally:
            process.kill()
            await process.wait()
            await listening

    async def _one(self, launcher: Launcher, at: Point | None) -> tuple[CrashWorld, int, list[str]]:
        world = self._world(at)
        try:
            async with world.federation() as federation:
                arguments = await self.story.prepare(world, federation)
            code = await launcher.run(world, arguments, at)
            # At once where an outpost was called: what the program began may go on without it.
            at_once = at is None or not at.call.startswith("store.")
            faults = await world.recover(0.0 if at_once else self.story.later_s)
        finally:
            await asyncio.to_thread(world.world.end)
        if not faults:
            shutil.rmtree(world.world.home, ignore_errors=True)
        return world, code, faults

    def _world(self, at: Point | None) -> CrashWorld:
        """Make a home with an empty store, or without one where the story begins so."""
        name = f"{at or 'record'}.".replace(":", "-").replace("[]", "-item")
        folder = self.folder / f"{self.story.name}-{name}"
        folder.mkdir()
        environment = make_environment(folder)
        if path := self.remote.environment.get("PYTHONPATH"):
            environment["PYTHONPATH"] = path
        environment |= self.story.variables
        world = World(folder, environment, self.remote)
        if not self.story.fresh:
            world.home.mkdir(mode=0o700)
            store = world.home / "outpost.db"
            shutil.copy(self.template, store)
            with closing(sqlite3.connect(store)) as database, database:
                # Each has a tmux server of its own, named after it.
                database.execute("update federation set id = lower(hex(randomblob(6)))")
        return CrashWorld(world, self.story)


def chosen(points: Sequence[Point], story: Story) -> list[Point]:
    """Return the points to be killed at: all of writes and of calls of outposts, some of reads.

    What an outpost does through its shell is of interest where the story is about that.
    """
    numbers: dict[str, list[int]] = {}
    for point in points:
        if point.when == "before" and (not story.only_there or point.call in story.needed):
            numbers.setdefault(point.call, []).append(point.number)
    some: list[Point] = []
    for call, found in numbers.items():
        outside = call.startswith(OUTSIDE) and call not in STEPS
        if outside or call in WRITES | story.needed:
            moments = _moments(call, needed=call in story.needed)
            some += [Point(call, number, when) for number in found for when in moments]
        else:
            few = {found[0], found[len(found) // 2], found[-1]}
            some += [Point(call, number, "before") for number in sorted(few)]
    return some


def chosen_once(points: Sequence[Point], story: Story) -> list[Point]:
    """Return the points at the first call of each kind that the story needs, or that goes outside.

    For stories in which each home takes its time: all else is tried on this machine. Before a call
    is after the one before it.
    """
    called = {point.call for point in points}
    others = sorted(it for it in called - story.needed if it.startswith(OUTSIDE))
    return [*first_calls(story), *(Point(call, 1, "after") for call in others)]


def first_calls(story: Story) -> list[Point]:
    """Return the points at the first of each of the calls that a story needs."""
    return [
        Point(call, 1, when)
        for call in sorted(story.needed)
        for when in _moments(call, needed=True)
    ]


def _moments(call: str, *, needed: bool) -> tuple[When, ...]:
    """Return when a program dies at a call: what goes on outside, and matters, has a middle."""
    if needed and call.startswith(OUTSIDE) and call not in STEPS:
        return ("before", "during", "after")
    return ("before", "after")


async def empty_store(folder: Path) -> Path:
    """Make a store with all its tables in it, and nothing else; return its path."""
    path = folder / "empty.db"
    store = open_store(path)
    await store.federation_id()
    await store.close()
    return path

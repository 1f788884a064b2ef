"""Killed at any point: a controller that comes later finishes what was begun, and nothing twice.

Programs are really killed, at each write to the store and each call of an outpost that they make:
once before it and once after, and in the middle of what goes on outside.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest

from outpost.control.duties import BACKOFF_S, LEASE_S
from outpost.federation import Federation
from outpost.model import State
from outpost.testing.faulty import FaultFile, bring
from tests.crash_points import Crashing, CrashWorld, Story, chosen, empty_store
from tests.doubles.bd import Rig, install_bd
from tests.world import Remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

LANES = 5
BEAD = "gt-abc123"


async def to_spawn(world: CrashWorld, _federation: Federation) -> Sequence[str]:
    return ("spawn", world.world.remote.url, world.script())


async def spawned(world: CrashWorld, federation: Federation) -> Mapping[State, int]:
    """What was not stored before the end was not promised to anybody."""
    stored = await stored_tasks(federation)
    assert stored == 1 or not world.has("store.add_task"), "a task that was stored is gone"
    return {State.DONE: 1} if stored else {}


async def to_control(world: CrashWorld, federation: Federation) -> Sequence[str]:
    """Two tasks and one slot."""
    await world.queue(federation)
    await world.queue(federation)
    return ("controller",)


async def both_done(_world: CrashWorld, _federation: Federation) -> Mapping[State, int]:
    return {State.DONE: 2}


async def to_mend(world: CrashWorld, federation: Federation) -> Sequence[str]:
    """A worker of which nothing lives any more."""
    worker = await world.spawn(federation, waits=True)
    agent = world.world.agent_pid(worker.id)
    for pid in (*world.world.pids(worker.id), agent):
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(world.world.gone, worker.id)
    world.gate.touch()
    return ("controller",)


async def one_done(_world: CrashWorld, _federation: Federation) -> Mapping[State, int]:
    return {State.DONE: 1}


async def to_stop(world: CrashWorld, federation: Federation) -> Sequence[str]:
    return ("stop", (await world.spawn(federation, waits=True)).id)


async def stopped(world: CrashWorld, federation: Federation) -> Mapping[State, int]:
    """A wish that was stored is carried out, and of any other nobody knows."""
    (attempt,) = await federation.store.attempts(ended=True)
    assert attempt.stop_asked or not world.has("store.ask_to_stop"), "a wish is gone"
    if attempt.stop_asked:
        return {State.STOPPED: 1}
    world.gate.touch()
    return {State.DONE: 1}


async def to_stop_by_itself(world: CrashWorld, federation: Federation) -> Sequence[str]:
    """A wish that somebody stored, and nobody has carried out yet."""
    worker = await world.spawn(federation, waits=True)
    await federation.store.ask_to_stop(worker.id, "enough of it")
    return ("controller",)


async def one_stopped(_world: CrashWorld, _federation: Federation) -> Mapping[State, int]:
    return {State.STOPPED: 1}


async def to_tell(world: CrashWorld, federation: Federation) -> Sequence[str]:
    """A bead that is to be told, and closed."""
    programs = world.folder / "programs"
    programs.mkdir()
    install_bd(programs)
    world.world.environment["PATH"] = f"{programs}:{world.world.environment['PATH']}"
    federation.environment.update(world.world.environment)
    Rig.make(world.folder).add(BEAD)
    await world.queue(federation, BEAD, close=True)
    return ("controller",)


async def told_once(world: CrashWorld, _federation: Federation) -> list[str]:
    bead = Rig(world.folder).bead(BEAD)
    notes = bead.get("notes", "").count("outpost w-")
    if (bead["status"], notes) == ("closed", 1):
        return []
    return [f"the bead is {bead['status']}, with {notes} notes"]


async def to_resume(world: CrashWorld, federation: Federation) -> Sequence[str]:
    worker = await world.spawn(federation)
    assert (await worker.result()).state is State.DONE
    return ("resume", worker.id)


async def resumed(world: CrashWorld, federation: Federation) -> Mapping[State, int]:
    stored = await stored_tasks(federation)
    assert stored == 2 or not world.has("store.add_task"), "a task that was stored is gone"
    return {State.DONE: stored}


async def stored_tasks(federation: Federation) -> int:
    return sum((await federation.store.count_by_state()).values())


def faulty(*names: str) -> str:
    """Return outposts of kind ``faulty``, each with a file of faults of its own."""
    return "".join(
        f"  - {{name: {name}, type: faulty, faults: FOLDER/{name}.json, max_workers: 1,"
        " min_free_mib: 0, price_hourly: 0.36}\n"
        for name in names
    )


def failing(
    prepare: Callable[[CrashWorld, Federation], Awaitable[Sequence[str]]],
    **faults: Mapping[str, object],
) -> Callable[[CrashWorld, Federation], Awaitable[Sequence[str]]]:
    async def prepared(world: CrashWorld, federation: Federation) -> Sequence[str]:
        arguments = await prepare(world, federation)
        for name, more in faults.items():
            FaultFile(world.folder / f"{name}.json").write(**more)
        return arguments

    return prepared


SPAWNS = frozenset({"store.add_task", "store.claim", "store.apply", "outpost.spawn"})
STORIES = {
    it.name: it
    for it in (
        Story(
            name="spawn",
            prepare=to_spawn,
            expected=spawned,
            needed=SPAWNS | {"shell.put", "shell.run"},
        ),
        Story(
            name="controller",
            prepare=to_control,
            expected=both_done,
            needed=frozenset(
                {
                    *("store.claim", "store.apply", "store.apply_all", "store.take_leases"),
                    *("store.drop_leases", "outpost.spawn", "worker.events"),
                }
            ),
        ),
        Story(
            name="mend",
            prepare=to_mend,
            expected=one_done,
            needed=frozenset({"worker.recover", "store.apply", "store.claim"}),
            only_there=True,
        ),
        Story(
            name="stop",
            prepare=to_stop,
            expected=stopped,
            needed=frozenset({"store.ask_to_stop", "worker.stop", "store.apply"}),
        ),
        Story(
            name="wish",
            prepare=to_stop_by_itself,
            expected=one_stopped,
            needed=frozenset({"worker.stop", "store.apply"}),
            only_there=True,
        ),
        Story(
            name="bead",
            prepare=to_tell,
            expected=one_done,
            needed=frozenset({"store.take_duty", "store.settle_duty"}),
            only_there=True,
            later_s=LEASE_S + 2 * BACKOFF_S[0],
            afterwards=told_once,
        ),
        Story(
            name="first",
            prepare=to_spawn,
            expected=spawned,
            needed=frozenset({"store.federation_id"}),
            only_there=True,
            fresh=True,
        ),
        Story(name="resume", prepare=to_resume, expected=resumed, needed=SPAWNS),
        Story(
            name="ambiguous",
            prepare=failing(to_spawn, a={"spawn": ["ambiguous_started"]}),
            expected=spawned,
            needed=SPAWNS | {"outpost.find"},
            outposts=faulty("a"),
            only_there=True,
        ),
        Story(
            name="unseen",
            prepare=failing(
                to_control, a={"spawn": ["ambiguous_started", "ambiguous_lost"], "find": ["fault"]}
            ),
            expected=both_done,
            needed=frozenset({"outpost.find", "store.change_breaker"}),
            outposts=faulty("a"),
            only_there=True,
        ),
        Story(
            name="failover",
            prepare=failing(to_control, a={"spawn": ["not_dispatched", "no_capacity"]}),
            expected=both_done,
            needed=frozenset({"store.release", "store.change_breaker"}),
            outposts=faulty("a", "b"),
            only_there=True,
        ),
    )
}


@pytest.fixture
async def template(tmp_path: Path) -> Path:
    return await empty_store(tmp_path)


@pytest.mark.parametrize("name", STORIES)
async def test_killed_anywhere_it_is_finished_once(
    name: str,
    tmp_path: Path,
    isolated_environment: dict[str, str],
    remote: Remote,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packages = tmp_path / "packages"
    isolated_environment["PYTHONPATH"] = bring(packages)
    monkeypatch.syspath_prepend(str(packages))
    crashing = Crashing(STORIES[name], tmp_path, remote, template, LANES)
    points = chosen(await crashing.record(), crashing.story)
    await crashing.kill_at(points)
    assert not crashing.faults
    assert not crashing.never_killed

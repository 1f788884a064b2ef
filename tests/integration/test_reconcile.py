"""What really runs against what is stored, with real workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.control import reconciler
from outpost.control.loops.reconcile import Reconcile
from outpost.control.reconciler import Reconciler, Step
from outpost.control.reconciling import Kind
from outpost.errors import OutpostError, OutpostFault
from outpost.federation import Federation
from outpost.model import Attempt, Handle, State
from outpost.ports import Setup
from outpost.runner.place import Place
from outpost.transports.shell import ShellWorker
from tests.faulty_world import PATIENCE, FaultyWorld, MakeWorld, SteppedClock
from tests.integration.cli_world import Cli
from tests.integration.loops_world import Ours, end, newest, started
from tests.world import World, pids_marked, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

GRACE_S = 600
ONCE = PATIENCE.replace("max_attempts: 3", "max_attempts: 1")


async def the_loop(federation: Federation, *names: str) -> Reconcile:
    """Return the loop as a controller has it that looks after these outposts."""
    return Reconcile(
        await federation.parts.reconciler(),
        federation.clock,
        leased=Ours(*names),
        orphan_grace_s=GRACE_S,
    )


def forget(world: World, attempt: Attempt) -> None:
    """Take a worker out of the store behind everybody's back."""
    with contextlib.closing(sqlite3.connect(world.home / "outpost.db")) as database, database:
        database.execute("pragma foreign_keys=off")
        database.execute("delete from attempts where id = ?", [attempt.id])


async def lose(federation: Federation, attempt: Attempt) -> Attempt:
    """Give up a worker that lives."""
    lost = replace(attempt, state=State.LOST, reason="given up", ended_at=federation.clock.now())
    assert await (await federation.parts.follower()).settle(lost)
    return lost


async def settled(loop: Reconcile, attempt: Attempt) -> None:
    """Go round until no process of a worker lives, never waiting for it within a round."""
    async with asyncio.timeout(30):
        while pids_marked({attempt.id}):
            begun = time.monotonic()
            await loop.round()
            assert time.monotonic() - begun < 3
            await asyncio.sleep(0.1)


async def test_an_orphan_is_left_alone_for_a_while_and_then_stopped_with_its_work_saved(
    faulty: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world, clock = faulty("a"), SteppedClock()
    async with world.federation(clock) as federation:
        attempt = await started(world, federation)
        loop = await the_loop(federation, "a")
        await loop.round()
        assert (loop.doing, loop.waiting) == ("", 0)
        forget(world.world, attempt)
        await loop.round()
        await loop.round()
        clock.step(GRACE_S - 1)
        await loop.round()
        assert (loop.doing, loop.waiting) == ("1 orphan", 1)
        (said,) = [it for it in caplog.records if it.levelno == logging.WARNING]
        assert said.getMessage() == f"{attempt.id}: nobody knows of it"
        assert said.__dict__["worker"] == attempt.id
        assert said.__dict__["outpost"] == "a"
        assert pids_marked({attempt.id})
        clock.step(1)
        await settled(loop, attempt)
        async with asyncio.timeout(10):
            while loop.waiting:
                await asyncio.sleep(0.1)
                await loop.round()
        assert loop.doing == ""
        await loop.close()
    assert world.world.remote.show(attempt.branch, "new.txt") == "x"
    place = world.world.home / "outposts" / "a" / "workers" / attempt.id
    assert place.is_dir(), "its files are for prune to take"


async def test_only_outposts_of_ours_and_workers_of_ours_are_touched(
    world: World, tmp_path: Path
) -> None:
    shared = tmp_path / "shared" / "outposts" / "local"
    root = f"outposts:\n  - {{name: local, type: local, root: {shared}}}\n"
    clock = SteppedClock()
    async with (
        world.federation(config=root) as ours,
        world.federation(config=root, home="other") as theirs,
    ):
        theirs_runs = await world.spawn(theirs, "sleep 60")
        until(lambda: "sleep 60 " in pids_marked({theirs_runs.id}).values(), "its agent runs")
        ours.clock = clock
        loop = await the_loop(ours, "local")
        for _ in range(3):
            await loop.round()
            clock.step(GRACE_S)
        assert (loop.doing, loop.waiting) == ("", 0)
        assert pids_marked({theirs_runs.id})
        look = await (await theirs.parts.reconciler()).look(["local"])
        assert (look.findings, look.answers) == ((), {"local": 1})
        await theirs_runs.stop(grace_s=1)


async def test_a_zombie_whose_task_goes_on_is_stopped_after_two_looks(faulty: MakeWorld) -> None:
    world = faulty("a")
    async with world.federation() as federation:
        attempt = await started(world, federation)
        await lose(federation, attempt)
        assert (await federation.store.task(attempt.task_id)).state is State.QUEUED
        loop = await the_loop(federation, "a")
        await loop.round()
        assert (loop.doing, loop.waiting) == ("", 1)
        await asyncio.sleep(0.2)
        assert pids_marked({attempt.id})
        await settled(loop, attempt)
        async with asyncio.timeout(10):
            while (seen := await newest(federation, attempt)).state is State.LOST:
                await loop.round()
                await asyncio.sleep(0.1)
        assert seen.state is State.STOPPED
        assert seen.reason == "its task went on without it"
        assert (await federation.store.task(attempt.task_id)).state is State.QUEUED
        await loop.close()
    assert world.world.remote.show(attempt.branch, "new.txt") == "x"


async def test_a_zombie_that_ended_for_good_has_a_while_to_go(faulty: MakeWorld) -> None:
    world, clock = faulty("a"), SteppedClock()
    async with world.federation(clock) as federation:
        attempt = await started(world, federation)
        ended = replace(attempt, state=State.FAILED, ended_at=clock.now())
        assert await federation.store.apply(ended)
        loop = await the_loop(federation, "a")
        await loop.round()
        await loop.round()
        assert loop.doing == "1 zombie"
        await asyncio.sleep(0.2)
        assert pids_marked({attempt.id})
        clock.step(GRACE_S)
        await settled(loop, attempt)
        await loop.close()


async def test_who_was_given_up_and_works_on_may_finish(faulty: MakeWorld) -> None:
    world = faulty("a", policy=ONCE)
    gate = world.world.folder / "gate"
    script = f"echo x > new.txt; until [ -e '{gate}' ]; do sleep 0.05; done"
    async with world.federation() as federation:
        attempt = await started(world, federation, script)
        await lose(federation, attempt)
        assert (await federation.store.task(attempt.task_id)).state is State.LOST
        loop = await the_loop(federation, "a")
        for _ in range(3):
            await loop.round()
            await asyncio.sleep(0.1)
        assert (loop.doing, loop.waiting) == ("1 returned", 1)
        assert pids_marked({attempt.id})
        gate.touch()
        async with asyncio.timeout(20):
            while (seen := await newest(federation, attempt)).state is State.LOST:
                await loop.round()
                await asyncio.sleep(0.1)
        assert seen.state is State.DONE
        assert (await federation.store.task(attempt.task_id)).state is State.DONE
        await loop.close()


async def test_who_was_given_up_gets_no_more_money_than_it_had(faulty: MakeWorld) -> None:
    world, clock = faulty("a", policy=ONCE, price_hourly=3.6), SteppedClock()
    async with world.federation(clock) as federation:
        attempt = await started(world, federation, time_limit_s=60.0)
        await lose(federation, attempt)
        clock.step(60 + 120 + 61)
        loop = await the_loop(federation, "a")
        await settled(loop, attempt)
        async with asyncio.timeout(10):
            while (seen := await newest(federation, attempt)).state is State.LOST:
                await asyncio.sleep(0.02)
        assert seen.state is State.STOPPED
        assert "its time is over" in seen.reason
        await loop.close()


def kill(world: FaultyWorld, attempt: Attempt) -> None:
    """Kill a worker with all that would look after it."""
    place = world.world.home / "outposts" / attempt.outpost / "workers" / attempt.id
    guard, _, runner, _ = (place / "runner.pid").read_text().split()
    for pid in (int(guard), int(runner), *pids_marked({attempt.id})):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not Place(str(place)).pids("runner.pid"), "its runner is dead")
    until(lambda: not pids_marked({attempt.id}), "it is dead")


async def test_the_work_of_one_that_was_given_up_and_died_since_is_saved(faulty: MakeWorld) -> None:
    world = faulty("a", policy=ONCE)
    async with world.federation() as federation:
        attempt = await started(world, federation)
        await lose(federation, attempt)
        kill(world, attempt)
        look = await (await federation.parts.reconciler()).look(["a"])
        assert [(it.kind, it.alive) for it in look.findings] == [(Kind.RETURNED, False)]
        loop = await the_loop(federation, "a")
        async with asyncio.timeout(20):
            await loop.round()
            while (seen := await newest(federation, attempt)).state is State.LOST:
                await asyncio.sleep(0.05)
        assert seen.died
        await loop.close()
    assert world.world.remote.show(seen.branch, "new.txt") == "x"


async def test_a_log_that_has_no_result_is_read_once(faulty: MakeWorld) -> None:
    world = faulty("a", policy=ONCE)
    read = []

    async def catch_up(lost: Attempt) -> Attempt:
        read.append(lost.id)
        return lost

    async with world.federation() as federation:
        attempt = await started(world, federation)
        lost = await lose(federation, attempt)
        kill(world, attempt)
        sites = await federation.parts.sites()
        compared = Reconciler(
            federation.store,
            federation.clock,
            outposts=sites.backend,
            catch_up=catch_up,
            stop_grace_s=1,
        )
        loop = Reconcile(compared, federation.clock, leased=Ours("a"), orphan_grace_s=0)
        await loop.round()
        assert (loop.doing, loop.waiting) == ("1 returned", 1)
        async with asyncio.timeout(10):
            while loop.waiting:
                await asyncio.sleep(0.05)
                await loop.round()
        await loop.round()
        assert (loop.doing, read) == ("", [lost.id])
        await loop.close()


async def test_who_is_missing_is_said_after_two_looks(
    faulty: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = faulty("a")
    async with world.federation() as federation:
        attempt = await started(world, federation)
        world.faults["a"].change(list_lags=3600)
        loop = await the_loop(federation, "a")
        await loop.round()
        assert (loop.doing, loop.waiting, caplog.records) == ("", 0, [])
        await loop.round()
        assert (loop.doing, loop.waiting) == ("1 missing", 0)
        (said,) = caplog.records
        assert said.getMessage() == f"{attempt.id}: it should be at work, and is not there"
        assert said.__dict__["task"] == attempt.task_id
        await loop.round()
        assert len(caplog.records) == 1
        assert not (await newest(federation, attempt)).state.ended
        await end(federation, attempt)


async def test_another_machine_s_worker_is_not_missed(faulty: MakeWorld) -> None:
    world = faulty("a")
    async with world.federation() as federation:
        attempt = await started(world, federation)
        assert attempt.handle
        world.faults["a"].change(list_lags=3600)
        elsewhere = replace(attempt.handle, data={**attempt.handle.data, "machine": "another"})
        assert await federation.store.apply(replace(attempt, handle=elsewhere))
        look = await (await federation.parts.reconciler()).look(["a"])
        assert look.findings == ()
        await end(federation, attempt)


async def test_an_outpost_that_cannot_be_asked_hides_no_other(
    faulty: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "LIST_S", 0.5)
    world = faulty("a", "b", "c")
    async with world.federation() as federation:
        unseen = await started(world, federation, on="a")
        attempt = await started(world, federation, on="b")
        forget(world.world, attempt)
        world.faults["a"].change(partition="the cable is cut")
        world.faults["c"].write(workers="hang")
        loop = await the_loop(federation, "a", "b", "c")
        with pytest.raises(OutpostError) as raised:
            await loop.round()
        assert (loop.doing, loop.waiting) == ("1 orphan", 1)
        trouble = raised.value.message
        assert "cannot ask a: a does not answer: the cable is cut" in trouble
        assert "cannot ask c: c gave no answer within 0.5 s" in trouble
        await loop.close()
        world.faults["a"].change(partition=None)
        await end(federation, unseen, attempt)


class Deaf(ShellWorker):
    """A worker that cannot be stopped."""

    async def stop(self, *, grace_s: float, reason: str) -> None:
        raise OutpostFault("it does not hear", outpost=self.outpost)


class DeafOnes(LocalOutpost):
    """An outpost of such workers."""

    def worker(self, handle: Handle) -> ShellWorker:
        return Deaf(self, handle)


async def test_a_stop_that_fails_is_shown(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, "sleep 60")
        await lose(federation, worker.attempt)
        setup = Setup(
            name="local",
            federation_id=await federation.store.federation_id(),
            data_folder=str(federation.home),
            environment=federation.environment,
        )
        outpost = DeafOnes(setup, LocalOptions())
        compared = Reconciler(
            federation.store,
            federation.clock,
            outposts=lambda _name: outpost,
            catch_up=(await federation.parts.follower()).catch_up,
            stop_grace_s=1,
        )
        loop = Reconcile(compared, federation.clock, leased=Ours("local"), orphan_grace_s=0)
        await loop.round()
        trouble = ""
        async with asyncio.timeout(10):
            while not trouble:
                try:
                    await loop.round()
                except OutpostError as exc:
                    trouble = exc.message
                await asyncio.sleep(0.05)
        assert trouble == f"local {worker.id}: it does not hear"
        assert (loop.doing, loop.waiting) == ("1 zombie", 1)
        await loop.close()
        await end(federation, worker.attempt)


async def test_by_hand_one_look_settles_what_is_certain(faulty: MakeWorld) -> None:
    world = faulty("a", "b")
    async with world.federation() as federation:
        orphan = await started(world, federation, on="a")
        zombie = await started(world, federation, on="b")
        forget(world.world, orphan)
        await lose(federation, zombie)
        by_hand = (await federation.parts.reconciler()).by_hand
        planned = await by_hand(["a", "b", "gone"], dry_run=True, now=False)
        steps = [(it.finding.kind, it.step, it.outcome) for it in planned.settled]
        assert steps == [(Kind.ORPHAN, Step.LEAVE, ""), (Kind.ZOMBIE, Step.STOP, "")]
        assert planned.answers["a"] == planned.answers["b"] == 1
        assert "'gone' is not in the configuration" in str(planned.answers["gone"])
        assert pids_marked({zombie.id})
        done = await by_hand(["a", "b"], dry_run=False, now=False)
        assert [it.outcome for it in done.settled] == ["", "its end is known now: stopped"]
        assert not pids_marked({zombie.id})
        assert pids_marked({orphan.id})
        at_once = await by_hand(["a", "b"], dry_run=False, now=True)
        assert [it.outcome for it in at_once.settled] == ["stopped"]
        assert not pids_marked({orphan.id})
        assert world.world.remote.show(orphan.branch, "new.txt") == "x"
        assert (await by_hand(["a", "b"], dry_run=False, now=True)).settled == ()


async def test_the_command_says_what_it_found_and_did(faulty: MakeWorld) -> None:
    world = faulty("a", "far")
    cli = Cli(world.world)
    assert (
        cli("reconcile").out == "a    0 workers, as it should be\nfar  0 workers, as it should be\n"
    )
    async with world.federation() as federation:
        attempt = await started(world, federation, on="a")
    forget(world.world, attempt)
    world.faults["far"].change(partition="the cable is cut")
    planned = cli("reconcile", "--dry-run", "--now", code=1)
    assert planned.out.splitlines() == [
        "a    1 worker",
        f"  orphan  {attempt.id}  nobody knows of it",
        "    would be stopped",
        "far  cannot be asked",
    ]
    assert "error: far does not answer: the cable is cut" in planned.err
    left = cli("reconcile", "--json", code=1).json()
    (found,) = left["findings"]
    assert (found["kind"], found["step"], found["outcome"]) == ("orphan", "leave", None)
    assert [(it["name"], it["workers"]) for it in left["outposts"]] == [("a", 1), ("far", None)]
    assert left["outposts"][1]["error"]["code"] == "fault"
    assert pids_marked({attempt.id})
    assert "    stopped\n" in cli("reconcile", "--now", code=1).out
    assert not pids_marked({attempt.id})

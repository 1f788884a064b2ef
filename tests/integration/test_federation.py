"""The federation on the real thing: slots, names, and several of them side by side."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from outpost.errors import NoCapacity, NotFound, UserError, WorkAtRisk
from outpost.federation import Federation, SpawnOptions
from outpost.model import Refusal, State
from tests.world import CONFIG, SlowGit, World, alive, events_of, pids_marked, run, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MEND = "echo 'the words are right' > words.txt"
ONE_SLOT = CONFIG.replace("max_workers: 40", "max_workers: 1")


def gate(world: World) -> str:
    """Return a script that ends once somebody writes into the gate."""
    os.mkfifo(world.folder / "gate")
    return f"{MEND}; echo busy; cat '{world.folder}/gate'"


def open_gate(world: World) -> None:
    (world.folder / "gate").write_text("go")


async def test_one_worker_from_spawn_to_removal(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, gate(world))
        assert worker.attempt.state is State.STARTING
        world.wait_for_line(worker.id, '"busy"')
        (seen,) = await federation.workers()
        assert (seen.id, seen.state, seen.activity) == (worker.id, State.WORKING, "busy")
        assert (await federation.outposts())[0].active == 1
        argv = await worker.attach()
        assert argv[-1] == f"={worker.id}"
        with pytest.raises(WorkAtRisk, match="still working"):
            await worker.remove()
        open_gate(world)
        attempt = await worker.result()
        assert attempt.state is State.DONE
        assert await federation.workers() == []
        assert await federation.workers(ended=True) == [attempt]
        with pytest.raises(UserError, match="has ended"):
            await worker.attach()
        types = [event.type for event in await events_of(worker)]
        assert types[0] == "status"
        assert types[-1] == "result"
        await worker.remove()
        assert await federation.workers(ended=True) == []
        with pytest.raises(NotFound):
            await federation.worker(worker.id)


async def test_a_worker_outlives_its_controller(world: World) -> None:
    async with world.federation() as federation:
        worker_id = (await world.spawn(federation, gate(world))).id
    async with world.federation() as federation:
        worker = await federation.worker(worker_id)
        open_gate(world)
        assert (await worker.result()).state is State.DONE
        assert [event.seq for event in await events_of(worker)][:3] == [1, 2, 3]


async def test_a_look_writes_nothing_and_refresh_stores(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, MEND)
        async for _event in worker.events():
            pass
        (seen,) = await federation.workers(ended=True)
        assert seen.state is State.DONE
        assert (await federation.store.attempts(ended=True))[0].state is State.STARTING
        await federation.refresh()
        assert (await federation.store.attempts(ended=True))[0] == seen


async def test_a_full_outpost_makes_the_next_wait_and_then_takes_it(world: World) -> None:
    async with world.federation(config=ONE_SLOT) as federation:
        first = await world.spawn(federation, gate(world))
        task = await federation.resolve("text:Second", world.options(MEND, world.remote))
        submitted = await federation.submit(task)
        assert submitted.worker is None
        assert submitted.decision.refused[0].code is Refusal.FULL
        assert submitted.decision.why() == "local full 1/1"
        assert [queued.id for queued in await federation.queued()] == [task.id]
        waiting = asyncio.create_task(federation.wait_for_slot(task.id))
        open_gate(world)
        assert (await first.result()).state is State.DONE
        second = await waiting
        assert (await second.result()).state is State.DONE


async def test_patience_that_ends_takes_the_task_back(world: World) -> None:
    async with world.federation(config=ONE_SLOT) as federation:
        first = await world.spawn(federation, gate(world))
        with pytest.raises(NoCapacity, match="full 1/1"):
            await federation.spawn(
                "text:Second", world.options(MEND, world.remote), wait_for_slot_s=0.2
            )
        assert await federation.queued() == []
        open_gate(world)
        await first.result()


async def test_slots_are_never_oversubscribed(world: World) -> None:
    config = CONFIG.replace("max_workers: 40", "max_workers: 2")
    script = f"cd '{world.folder}'; echo $$ > busy.$$; ls busy.* | wc -l; sleep 0.1; rm busy.$$"
    async with world.federation(config=config) as federation:
        workers = await asyncio.gather(*(world.spawn(federation, script) for _ in range(6)))
        attempts = await asyncio.gather(*(worker.result() for worker in workers))
        counts = {
            int(event.fields["text"])
            for worker in workers
            for event in await events_of(worker)
            if event.type == "log" and event.fields["stream"] == "stdout"
        }
    assert {attempt.state for attempt in attempts} == {State.DONE}
    assert max(counts) <= 2


async def test_two_federations_share_a_machine_and_nothing_else(world: World) -> None:
    async with world.federation() as mine, world.federation(home="other") as theirs:
        one, two = await world.spawn(mine, gate(world)), await world.spawn(theirs, "sleep 300")
        assert [attempt.id for attempt in await mine.workers()] == [one.id]
        assert [attempt.id for attempt in await theirs.workers()] == [two.id]
        for federation, worker in ((mine, one), (theirs, two)):
            outpost = (await federation.parts.sites()).backend("local")
            found = [s.handle.worker_id async for s in outpost.workers()]
            assert found == [worker.id]
        with pytest.raises(NotFound):
            await mine.worker(two.id)
        assert world.federation_id() != world.federation_id("other")
        open_gate(world)
        assert (await one.result()).state is State.DONE
        assert [attempt.state for attempt in await theirs.workers()] != [State.DONE]
        assert (await two.stop()).state is State.STOPPED


async def test_two_controllers_that_mend_one_worker_agree(world: World, slow_git: SlowGit) -> None:
    async with world.federation() as one, world.federation() as two:
        worker = await world.spawn(one, f"{MEND}; echo busy; sleep 300")
        world.wait_for_line(worker.id, '"busy"')
        carers = world.pids(worker.id)
        for pid in carers:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(map(alive, carers)), "both are dead")
        slow_git.wait_in("push")
        other = await two.worker(worker.id)
        mending = asyncio.create_task(worker.result())
        while not slow_git.waiting():
            await asyncio.sleep(0.02)
        (seen,) = await two.refresh()
        assert (seen.state, seen.reason) == (State.PUSHING, "")
        following = asyncio.create_task(other.result())
        slow_git.go_on()
        first, second = await asyncio.gather(mending, following)
        assert (first.state, first.commit) == (State.FAILED, world.remote.tip(first.branch))
        assert second == first
        world.gone(worker.id)


async def test_a_log_that_is_damaged_makes_that_worker_unknown_and_no_other(world: World) -> None:
    async with world.federation() as federation:
        bad = await world.spawn(federation, gate(world))
        world.wait_for_line(bad.id, '"busy"')
        with (world.place(bad.id) / "events.jsonl").open("ab") as file:
            file.write(b"what is this\n")
        good = await world.spawn(federation, MEND)
        states = {attempt.id: attempt.state for attempt in await federation.refresh()}
        assert states[bad.id] is State.UNKNOWN
        assert (await good.result()).state is State.DONE
        (seen,) = await federation.workers()
        assert "damaged" in seen.reason
        assert seen.handle
        await (await federation.parts.sites()).backend("local").destroy(seen.handle)
        world.gone(bad.id)


async def test_stopping_a_task_that_never_started_and_one_that_ended(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, MEND)
        done = await worker.result()
        assert await worker.stop() == done


async def test_forcing_a_removal_ends_a_living_worker(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, gate(world))
        world.wait_for_line(worker.id, '"busy"')
        await worker.remove(force=True)
        world.gone(worker.id)
        assert not world.place(worker.id).exists()
        assert await federation.workers(ended=True) == []


async def test_files_removed_by_hand_are_lost_and_said_so(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, f"{MEND}; echo busy; sleep 300")
        world.wait_for_line(worker.id, '"busy"')
        carers = world.pids(worker.id)
        agent = world.agent_pid(worker.id)
        for pid in (*carers, agent):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(map(alive, carers)), "both are dead")
        run("rm", "-rf", str(world.place(worker.id)), environment=world.environment)
        (attempt,) = await federation.refresh()
        assert attempt.state is State.LOST
        assert "gone" in attempt.reason
        assert await (await federation.parts.sites()).backend("local").find(worker.id) is None
        assert not pids_marked({worker.id})


async def test_commits_bear_the_name_of_whoever_stands_there(world: World) -> None:
    clone = world.folder / "origin" / "sample"
    run("git", "config", "user.name", "Local Name", environment=world.environment, cwd=clone)
    async with Federation(
        config_path=world.config(),
        home=world.home,
        directory=clone,
        environment=world.environment,
    ) as federation:
        world.homes.add(world.home)
        options = SpawnOptions(repo=world.remote.url, argv=("sh", "-c", MEND))
        attempt = await (await federation.spawn("text:Words", options)).result()
    assert world.remote.git("log", "-1", "--format=%an", attempt.branch) == "Local Name"

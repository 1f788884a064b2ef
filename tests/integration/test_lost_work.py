"""Workers that get lost, end to end: real workers, real git, and controllers that look on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from outpost.control.loops.supervise import Supervise
from outpost.testing.faulty import bring
from tests.integration.loops_world import Ours, end, newest, started
from tests.integration.lost_world import SLOWLY, Beads, LostWorld, lost_world, wake
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MakeWorld = Callable[..., LostWorld]


@pytest.fixture
def make(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorld]:
    """Return what makes a world of faulty outposts whose workers get lost."""
    world.environment["PYTHONPATH"] = packages = bring(tmp_path / "packages")
    monkeypatch.syspath_prepend(packages)
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(lost_world(world, **options))


def test_who_is_out_of_contact_for_a_while_goes_on(make: MakeWorld) -> None:
    lost = make(patience="silent_after: 2s, lost_after: 60s")
    lost.up()
    worker = lost.spawn(lost.talk("echo x > new.txt"))
    name, task = worker["worker"], worker["task"]
    lost.until_state(name, "working")
    lost.faults["a"].change(partition="the cable is cut")
    unknown = lost.until_state(name, "unknown")
    assert "the cable is cut" in unknown["reason"]
    (charge,) = lost.charges(task)
    assert charge["ended_at"] is None
    lost.faults["a"].change(partition=None)
    lost.until_state(name, "working")
    lost.go.touch()
    done = lost.until_state(name, "done")
    assert lost.remote.show(done["branch"], "new.txt") == "x"
    assert len(lost.attempts_stored(task)) == 1
    (charge,) = lost.charges(task)
    assert charge["ended_at"] is not None
    moves = [it["after"] for it in lost.moves(task) if it["attempt_id"] == name]
    assert moves.count("unknown") == 1
    log = Path(lost.place("a", name).path("events.jsonl")).read_text()
    assert done["seq"] == len(log.splitlines())


@pytest.mark.parametrize("cut_off", [True, False])
def test_who_is_asleep_is_given_up_and_cannot_publish_over_its_successor(
    make: MakeWorld, *, cut_off: bool
) -> None:
    lost = make()
    beads = Beads(lost)
    lost.up()
    script = lost.talk("echo first >> new.txt", 'echo "$OUTPOST_WORKER_ID" > late.txt')
    worker = beads.spawn(script)
    name, task = worker["worker"], worker["task"]
    lost.until_checkpoint(task, "new.txt")
    paused = lost.pause("a", name)
    # So that its successor goes elsewhere.
    lost.faults["a"].change(ping="down")
    if cut_off:
        lost.faults["a"].change(partition="the cable is cut")
    lost.until_state(name, "unknown")
    gone = lost.until_state(name, "lost")
    assert gone["reason"].startswith("given up, last seen ")
    second = lost.nth(task, 2)
    assert (second["outpost"], second["fence"]) == ("b", 2)
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    published = lost.remote.refs()
    assert lost.remote.show(done["branch"], "new.txt") == "first\nfirst"
    assert lost.remote.show(done["branch"], "late.txt") == second["id"]
    assert list(lost.branches()) == [f"refs/heads/{done['branch']}"]

    lost.faults["a"].write()
    wake(paused)
    stale = lost.until_state(name, "stopped", deadline_s=60)
    assert stale["reason"] == f"superseded by {second['id']}"
    until(lambda: not lost.pids(lost.place("a", name), name), "the stale one has ended")
    until(lambda: [it["state"] for it in lost.duties(task)] == ["done"], "the bead is told once")
    assert beads.bead()["notes"].startswith(f"outpost {second['id']}: done ")
    assert lost.remote.refs() == published
    assert lost.task(task)["state"] == "done"
    assert len(lost.attempts_stored(task)) == 2
    assert all(charge["ended_at"] for charge in lost.charges(task))


def test_nobody_is_given_up_without_another_look(make: MakeWorld) -> None:
    """Its controller was away for longer than its patience: a laptop that slept."""
    lost = make()
    controller = lost.up()
    worker = lost.spawn(lost.talk("echo x > new.txt"))
    name, task = worker["worker"], worker["task"]
    lost.until_state(name, "working")
    lost.faults["a"].change(partition="the cable is cut")
    seen = lost.until_state(name, "unknown")
    controller.kill()
    controller.wait()
    over = seen["seen_at"] / 1e6 + 4
    until(lambda: time.time() > over, "its patience is over")
    lost.faults["a"].change(partition=None)
    lost.up()
    lost.until_state(name, "working", "lost")
    lost.go.touch()
    done = lost.until_state(name, "done")
    assert "lost" not in [it["after"] for it in lost.moves(task)]
    assert len(lost.attempts_stored(task)) == 1
    assert done["state"] == "done"


async def test_who_stood_still_has_not_missed_a_word(make: MakeWorld) -> None:
    """A controller that was stopped, or slept with its machine, heard nobody meanwhile."""
    lost = make()
    async with lost.faulty.federation() as federation:
        attempt = await started(lost.faulty, federation)
        supervise = Supervise(
            await federation.parts.follower(),
            leased=Ours("a"),
            silent_after_s=4.0,
            ended=lambda: None,
        )
        await supervise.round()
        async with asyncio.timeout(20):
            # The last thing that its log says for a while.
            while not (await newest(federation, attempt)).checkpoint:
                await asyncio.sleep(0.1)
        time.sleep(4.5)  # nothing else may run meanwhile
        await supervise.round()
        assert supervise.doing == "follows 1 worker"
        async with asyncio.timeout(20):
            while "out of contact" not in supervise.doing:
                await asyncio.sleep(0.5)
                await supervise.round()
        await supervise.close()
        await end(federation, attempt)


def test_who_comes_back_while_its_successor_works_is_stopped(make: MakeWorld) -> None:
    """Cut off only from the controller: it works on, and so does its successor."""
    lost = make()
    lost.up()
    worker = lost.spawn(lost.talk("echo first >> new.txt"))
    name, task = worker["worker"], worker["task"]
    lost.until_checkpoint(task, "new.txt")
    lost.faults["a"].change(ping="down", partition="the cable is cut")
    lost.until_state(name, "lost")
    second = lost.nth(task, 2)
    lost.until_written("b", second["id"], "working")
    lost.faults["a"].write(ping="down")
    stale = lost.until_state(name, "stopped", deadline_s=90)
    assert stale["reason"] in (f"superseded by {second['id']}", "its task went on without it")
    until(lambda: not lost.pids(lost.place("a", name), name), "the stale one has ended")
    assert lost.stored(second["id"])["state"] == "working"
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    assert lost.remote.show(done["branch"], "new.txt") == "first\nfirst"
    assert list(lost.branches()) == [f"refs/heads/{done['branch']}"]
    assert lost.task(task)["state"] == "done"
    assert all(charge["ended_at"] for charge in lost.charges(task))


@pytest.mark.parametrize("when", ["before", "while"])
def test_who_finished_out_of_contact_has_finished(make: MakeWorld, when: str) -> None:
    """Seen again before its successor begins it needs none; later both have their branch."""
    lost = make(**{"policy": SLOWLY} if when == "before" else {})
    beads = Beads(lost)
    lost.up()
    worker = beads.spawn(lost.talk("echo x >> new.txt"))
    name, task = worker["worker"], worker["task"]
    lost.until_written("a", name, "working")
    lost.faults["a"].change(ping="down", partition="the cable is cut")
    lost.go.touch()
    lost.until_written("a", name, '"result"')
    lost.until_state(name, "lost")
    last = name
    if when == "while":
        lost.go.unlink()
        last = lost.nth(task, 2)["id"]
        lost.until_written("b", last, "working")
    lost.faults["a"].write()
    done = lost.until_state(name, "done", deadline_s=60)
    assert lost.remote.show(done["branch"], "new.txt") == "x"
    if when == "while":
        assert lost.task(task)["state"] == "working"
        lost.go.touch()
        lost.until_state(last, "done")
    assert lost.task(task)["state"] == "done"
    until(lambda: [it["state"] for it in lost.duties(task)] == ["done"], "the bead is told once")
    assert beads.bead()["notes"].startswith(f"outpost {last}: done ")
    assert all(charge["ended_at"] for charge in lost.charges(task))

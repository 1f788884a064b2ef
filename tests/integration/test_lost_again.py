"""What becomes of a task whose worker is killed: tried again where it was, as often as allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from outpost.testing.faulty import bring
from tests.integration.lost_world import ONCE, SLOWLY, Beads, Document, LostWorld, lost_world
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MakeWorld = Callable[..., LostWorld]
SAVED = "its runner was killed; the work was saved afterwards"
PATIENCE = "silent_after: 30s, lost_after: 60s"


@pytest.fixture
def make(world: World, tmp_path: Path) -> Iterator[MakeWorld]:
    """Return what makes a world of faulty outposts whose workers get lost."""
    world.environment["PYTHONPATH"] = bring(tmp_path / "packages")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            lost_world(world, **{"patience": PATIENCE, **options})
        )


def kill(lost: LostWorld, worker: Document) -> Document:
    """Kill runner and understudy once the agent talks; return the attempt as it has ended."""
    lost.until_written("a", worker["worker"], "working")
    lost.kill_its_carers("a", worker["worker"])
    return lost.until_state(worker["worker"], "failed")


def test_a_killed_worker_is_tried_again_where_it_was(make: MakeWorld) -> None:
    lost = make()
    beads = Beads(lost)
    lost.up()
    worker = beads.spawn(lost.talk("echo x >> new.txt"))
    task = worker["task"]
    kill(lost, worker)
    second = lost.nth(task, 2)
    assert (second["outpost"], second["fence"]) == ("a", 2)
    order = lost.place("a", second["id"]).order()
    assert order["resume"] == {
        "worker_id": worker["worker"],
        "session_id": None,
        "cost_microusd": None,
        "tree": worker["worker"],
    }
    assert order["alone"] is True
    assert "An earlier attempt at this was cut short" in order["prompt"]
    assert beads.bead()["status"] == "in_progress"
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    assert lost.remote.show(done["branch"], "new.txt") == "x\nx"
    assert lost.remote.refs("refs/outpost/") == {}
    until(lambda: "notes" in beads.bead(), "the bead is told")
    assert beads.bead()["notes"].startswith(f"outpost {second['id']}: done ")
    until(lambda: [it["state"] for it in lost.duties(task)] == ["done"], "told once")
    assert lost.duties(task)[0]["attempt_id"] == second["id"]


def test_what_may_be_tried_once_fails_and_says_so(make: MakeWorld) -> None:
    lost = make(policy=ONCE)
    beads = Beads(lost)
    lost.up()
    worker = beads.spawn(lost.talk("echo x >> new.txt"))
    failed = kill(lost, worker)
    assert failed["reason"] == SAVED
    assert lost.task(worker["task"])["state"] == "failed"
    until(lambda: beads.bead()["status"] == "open", "the bead is released")
    assert lost.remote.show(failed["branch"], "new.txt") == "x"
    assert len(lost.attempts_stored(worker["task"])) == 1


def test_who_always_dies_fails_in_the_end_and_says_how_often(make: MakeWorld) -> None:
    lost = make()
    beads = Beads(lost)
    lost.up()
    task = beads.spawn(lost.talk("echo x >> new.txt"))["task"]
    for number in (1, 2, 3):
        attempt = lost.nth(task, number)
        failed = kill(lost, {"worker": attempt["id"]})
        assert failed["reason"] == SAVED + "; given up after 3 tries" * (number == 3)
    assert lost.task(task)["state"] == "failed"
    assert lost.task(task)["reason"] == failed["reason"]
    until(lambda: beads.bead()["status"] == "open", "the bead is released")
    assert "given up after 3 tries" in beads.bead()["notes"]
    assert len(lost.attempts_stored(task)) == 3
    assert lost.remote.show(failed["branch"], "new.txt") == "x\nx\nx"


@pytest.mark.parametrize("named", ["worker", "task", "issue"])
def test_what_waits_to_be_tried_again_can_be_stopped(make: MakeWorld, named: str) -> None:
    lost = make(policy=SLOWLY)
    lost.up()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    kill(lost, worker)
    assert lost.task(worker["task"])["state"] == "queued"
    lost.cli("stop", worker[named])
    assert lost.task(worker["task"])["state"] == "stopped"


def test_who_is_stopped_as_it_dies_is_not_tried_again(make: MakeWorld) -> None:
    lost = make()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    lost.until_written("a", worker["worker"], "working")
    lost.kill_its_carers("a", worker["worker"])
    lost.cli("stop", worker["worker"])
    assert lost.stored(worker["worker"])["state"] in ("stopped", "failed")
    assert lost.task(worker["task"])["state"] in ("stopped", "failed")


def test_a_branch_s_name_without_the_attempt_is_taken_over(make: MakeWorld) -> None:
    lost = make(defaults=", branch: 'polecat/{issue}'")
    lost.up()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    killed = kill(lost, worker)
    lost.go.touch()
    second = lost.nth(worker["task"], 2)
    done = lost.until_state(second["id"], "done")
    assert killed["branch"] == done["branch"] == "polecat/mend-the-words"
    assert lost.remote.show(done["branch"], "new.txt") == "x\nx"


def test_a_workspace_outlives_its_first_worker_while_another_goes_on_there(
    make: MakeWorld,
) -> None:
    lost = make()
    lost.up()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    kill(lost, worker)
    second = lost.nth(worker["task"], 2)
    new = lost.tree("a", worker["worker"]) / "new.txt"
    until(lambda: new.read_text() == "x\nx\n", "the second has begun to work there")
    lost.cli("rm", worker["worker"])
    assert new.exists()
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    assert lost.remote.show(done["branch"], "new.txt") == "x\nx"

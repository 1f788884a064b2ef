"""What becomes of a task whose worker is killed: tried again where it was, as often as allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from outpost.testing.faulty import bring
from tests.doubles.bd import Rig, install_bd
from tests.integration.lost_world import LostWorld, lost_world
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MakeWorld = Callable[..., LostWorld]
SAVED = "its runner was killed; the work was saved afterwards"
ONCE = "  retry: {max_attempts: 1}\n"
BEAD = "gt-abc123"
SLOWLY = "  retry: {max_attempts: 3, initial_backoff: 60s, max_backoff: 60s}\n"


@pytest.fixture
def make(world: World, tmp_path: Path) -> Iterator[MakeWorld]:
    """Return what makes a world of faulty outposts whose workers get lost."""
    world.environment["PYTHONPATH"] = bring(tmp_path / "packages")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(lost_world(world, **options))


def with_beads(lost: LostWorld) -> Rig:
    """Put beads into the folder where the command line is used."""
    programs = lost.world.folder / "programs"
    programs.mkdir()
    install_bd(programs)
    lost.world.environment["PATH"] = f"{programs}:{lost.world.environment['PATH']}"
    rig = Rig.make(lost.cli.here)
    rig.add(BEAD)
    return rig


def bead(rig: Rig) -> dict[str, str]:
    """Return the bead as it is now; nothing while its file is being written."""
    try:
        return dict(rig.bead(BEAD))
    except json.JSONDecodeError:
        return {"status": ""}


def spawn_bead(lost: LostWorld, script: str) -> dict[str, str]:
    """Start a worker for the bead."""
    said = lost.cli("spawn", BEAD, "--repo", lost.remote.url, "--json", "--", "sh", "-c", script)
    document: dict[str, str] = said.json()
    return document


def working(lost: LostWorld, worker: dict[str, str], file: str = "new.txt") -> None:
    """Wait until a worker's agent has written a file."""
    tree = lost.tree(worker["outpost"], worker["worker"])
    until((tree / file).exists, f"{file} in the workspace")
    lost.until_written(worker["outpost"], worker["worker"], "working")


def test_a_killed_worker_is_tried_again_where_it_was(make: MakeWorld) -> None:
    lost = make()
    rig = with_beads(lost)
    lost.up()
    worker = spawn_bead(lost, lost.talk("echo x >> new.txt"))
    task = worker["task"]
    working(lost, worker)
    lost.kill_its_carers("a", worker["worker"])
    lost.until_state(worker["worker"], "failed")
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
    assert bead(rig)["status"] == "in_progress"
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    assert lost.remote.show(done["branch"], "new.txt") == "x\nx"
    assert set(lost.remote.refs("refs/outpost/")) == set()
    until(lambda: "notes" in bead(rig), "the bead is told")
    until(lambda: all(it["state"] == "done" for it in duties(lost, task)), "all duties are done")
    assert bead(rig)["notes"].count("outpost ") <= 3
    print(bead(rig))
    print(duties(lost, task))
    print(rig.calls())
    print(lost.cli("events", task).out)
    print(lost.cli("ps", "-a").out)
    print(lost.cli("status", worker["worker"]).out)
    print(lost.cli("explain", worker["task"]).out)


def duties(lost: LostWorld, task: str) -> list[dict[str, str]]:
    return lost._rows("select * from duties where task_id = ?", task)


def test_what_may_be_tried_once_fails_and_says_so(make: MakeWorld) -> None:
    lost = make(policy=ONCE)
    rig = with_beads(lost)
    lost.up()
    worker = spawn_bead(lost, lost.talk("echo x >> new.txt"))
    working(lost, worker)
    lost.kill_its_carers("a", worker["worker"])
    failed = lost.until_state(worker["worker"], "failed")
    assert failed["reason"].startswith(SAVED)
    assert lost.task(worker["task"])["state"] == "failed"
    until(lambda: bead(rig)["status"] == "open", "the bead is released")
    assert lost.remote.show(failed["branch"], "new.txt") == "x"
    assert len(lost.attempts_stored(worker["task"])) == 1
    print(bead(rig))


def test_who_always_dies_fails_in_the_end(make: MakeWorld) -> None:
    lost = make()
    rig = with_beads(lost)
    lost.up()
    worker = spawn_bead(lost, lost.talk("echo x >> new.txt"))
    task = worker["task"]
    for number in (1, 2, 3):
        attempt = lost.nth(task, number)
        lost.until_written("a", attempt["id"], "working")
        lost.kill_its_carers("a", attempt["id"])
        lost.until_state(attempt["id"], "failed")
        if number < 3:
            print(lost.cli("ps", "-a").out)
            print(lost.cli("explain", task).out)
            print(lost.cli("status", worker["worker"]).out)
    until(lambda: lost.task(task)["state"] == "failed", "the task failed")
    until(lambda: bead(rig)["status"] == "open", "the bead is released")
    print(lost.task(task), bead(rig))
    print(lost.cli("ps", "-a").out)
    print(lost.cli("explain", task).out)
    print(lost.cli("status", worker["worker"]).out)
    print(lost.cli("status").out)
    print(lost.cli("events", task).out)
    assert len(lost.attempts_stored(task)) == 3


@pytest.mark.parametrize("named", ["worker", "task", "issue"])
def test_what_waits_to_be_tried_again_can_be_stopped(make: MakeWorld, named: str) -> None:
    lost = make(policy=SLOWLY)
    lost.up()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    working(lost, worker)
    lost.kill_its_carers("a", worker["worker"])
    lost.until_state(worker["worker"], "failed")
    assert lost.task(worker["task"])["state"] == "queued"
    print(lost.cli("ps").out)
    print(lost.cli("explain", worker["task"]).out)
    print(lost.cli("status", worker["task"], code=0).out)
    print(lost.cli("queue").out)
    print(lost.cli("stop", worker[named]).out)
    assert lost.task(worker["task"])["state"] == "stopped"
    print(lost.cli("ps", "-a").out)


def test_who_is_stopped_as_it_dies_is_not_tried_again(make: MakeWorld) -> None:
    lost = make()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    working(lost, worker)
    lost.kill_its_carers("a", worker["worker"])
    print(lost.cli("stop", worker["worker"]).out)
    lost.up()
    until(lambda: lost.task(worker["task"])["state"] in ("stopped", "failed"), "it has ended")
    print(lost.cli("ps", "-a").out)
    assert len(lost.attempts_stored(worker["task"])) == 1


def test_a_branch_s_name_without_the_attempt_is_taken_over(make: MakeWorld) -> None:
    lost = make(defaults=", branch: 'polecat/{issue}'")
    lost.up()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    task = worker["task"]
    working(lost, worker)
    lost.kill_its_carers("a", worker["worker"])
    lost.until_state(worker["worker"], "failed")
    lost.go.touch()
    second = lost.nth(task, 2)
    done = lost.until_state(second["id"], "done", "failed")
    print(done)
    print(lost.remote.refs(), lost.remote.git("log", "--format=%h %s", "--all"))
    assert done["state"] == "done"
    assert lost.remote.show(done["branch"], "new.txt") == "x\nx"


def test_a_workspace_outlives_its_first_worker_while_another_goes_on_there(make: MakeWorld) -> None:
    lost = make()
    lost.up()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    working(lost, worker)
    lost.kill_its_carers("a", worker["worker"])
    second = lost.nth(worker["task"], 2)
    lost.until_written("a", second["id"], "working")
    tree = lost.tree("a", worker["worker"])
    assert (tree / "new.txt").read_text() == "x\nx\n"
    lost.cli("rm", worker["worker"])
    assert (tree / "new.txt").exists()
    lost.go.touch()
    lost.until_state(second["id"], "done")

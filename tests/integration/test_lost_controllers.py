"""Controllers that are stopped, come back, or share everything: nobody's work is lost or doubled."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from outpost.testing.faulty import bring
from tests.integration.lost_world import LostWorld, lost_world
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]

MakeWorld = Callable[..., LostWorld]
PATIENCE = "silent_after: 60s, lost_after: 120s, claim_grace: 5s, orphan_grace: 60s"


@pytest.fixture
def make(world: World, tmp_path: Path) -> Iterator[MakeWorld]:
    """Return what makes a world of faulty outposts whose controllers share one store."""
    world.environment["PYTHONPATH"] = bring(tmp_path / "packages")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(lost_world(world, **options))


def shared(world: World) -> str:
    return f"store: {{url: 'sqlite:///{world.home}/outpost.db'}}\n"


def leases(lost: LostWorld) -> dict[str, str]:
    with closing(sqlite3.connect(lost.world.home / "outpost.db")) as database:
        return dict(database.execute("select name, holder from leases").fetchall())


def test_a_controller_that_slept_finds_another_in_its_place(make: MakeWorld, world: World) -> None:
    lost = make(patience=PATIENCE, more=shared(world))
    first = lost.up()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    name, task = worker["worker"], worker["task"]
    lost.until_state(name, "working")
    lost.up("second")
    first.send_signal(signal.SIGSTOP)
    until(
        lambda: leases(lost)["outpost:a"].endswith("/second"), "another looks on", deadline_s=40
    )
    lost.kill_its_carers("a", name)
    lost.until_state(name, "failed")
    second = lost.nth(task, 2)
    first.send_signal(signal.SIGCONT)
    time.sleep(1)
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    assert lost.remote.show(done["branch"], "new.txt") == "x\nx"
    assert len(lost.attempts_stored(task)) == 2
    assert lost.task(task)["state"] == "done"
    assert all(charge["ended_at"] for charge in lost.charges(task))
    print(lost.said(), lost.said("second"), lost.cli("events", task).out, sep="\n---\n")


def test_a_start_that_slept_is_taken_back(make: MakeWorld, world: World) -> None:
    lost = make(patience=PATIENCE, more=shared(world))
    lost.faults["a"].write(delay_s=3)
    lost.faults["b"].write(ping="down")
    first = lost.up()
    lost.faults["a"].change(ping="down")
    worker = lost.cli.spawn(lost.talk("echo x >> new.txt"))
    task = worker["task"]
    assert not worker.get("worker")
    lost.faults["a"].change(ping=None)
    until(lambda: lost.attempts_stored(task), "a claim")
    first.send_signal(signal.SIGSTOP)
    lost.faults["a"].change(delay_s=0)
    lost.up("second")
    second = lost.nth(task, 2)
    assert lost.attempts_stored(task)[0]["state"] == "lost"
    first.send_signal(signal.SIGCONT)
    lost.until_written("a", second["id"], "working") if False else time.sleep(5)
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    assert lost.remote.show(done["branch"], "new.txt") == "x"
    print(lost.said(), lost.said("second"), lost.cli("events", task).out, sep="\n---\n")
    assert len(lost.attempts_stored(task)) == 2


LOCAL = """\
outposts:
  - {{name: local, type: local, max_workers: 4, min_free_mib: 0}}
defaults: {{stop_grace: 4s}}
controller: {{claim_grace: 5s, orphan_grace: 5s}}
store: {{url: 'sqlite:///{home}/outpost.db'}}
"""


def test_two_homes_on_one_machine_may_share_a_store(world: World, make: MakeWorld) -> None:
    """Each has an outpost of the same name, whose workers are in its own folder."""
    lost = make()
    world.config(LOCAL.format(home=world.home))
    lost.up("second")
    until(lambda: "outpost:local" in leases(lost), "the second has the lease")
    lost.up()
    quietly = f"echo working; until [ -e {lost.go} ]; do sleep 0.1; done"
    worker = lost.cli.spawn(quietly)
    name, task = worker["worker"], worker["task"]
    lost.until_written("local", name, "working")
    until(lambda: lost.stored(name)["state"] in ("working", "lost", "failed"), "it is looked at")
    time.sleep(5)
    assert lost.stored(name)["state"] == "working"
    lost.go.touch()
    lost.until_state(name, "done")
    assert len(lost.attempts_stored(task)) == 1
    print(lost.said(), lost.said("second"), lost.cli("events", task).out, sep="\n---\n")

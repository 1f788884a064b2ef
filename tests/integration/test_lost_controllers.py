"""Controllers that sleep, hang or share everything: no work is lost, none is done twice."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from outpost.control import start
from outpost.controller import Standing, standing
from outpost.federation import SpawnOptions
from outpost.model import State
from outpost.testing.faulty import bring
from tests.integration.lost_world import LostWorld, lost_world
from tests.postgres import Cluster
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]

MakeWorld = Callable[..., LostWorld]
LOCAL = """\
outposts:
  - {{name: local, type: local, max_workers: 4, min_free_mib: 0}}
defaults: {{stop_grace: 4s}}
controller: {{claim_grace: 5s, orphan_grace: 5s}}
store: {{url: 'sqlite:///{home}/outpost.db'}}
"""
PATIENCE = "silent_after: 60s, lost_after: 120s, claim_grace: 5s, orphan_grace: 60s"


@pytest.fixture
def make(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorld]:
    """Return what makes a world of faulty outposts whose controllers may share one store."""
    world.environment["PYTHONPATH"] = packages = bring(tmp_path / "packages")
    monkeypatch.syspath_prepend(packages)
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(lost_world(world, **options))


def shared(world: World) -> str:
    return f"store: {{url: 'sqlite:///{world.home}/outpost.db'}}\n"


def leases(lost: LostWorld) -> dict[str, str]:
    with closing(sqlite3.connect(lost.world.home / "outpost.db")) as database:
        return dict(database.execute("select name, holder from leases").fetchall())


def put_to_sleep(lost: LostWorld, process: subprocess.Popen[str]) -> None:
    """Stop a controller, but not while it writes: then nobody else could."""

    def sleeps() -> bool:
        process.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(lost.world.home / "outpost.db", timeout=0.2)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                return False
            database.rollback()
            return True

    until(sleeps, "it sleeps")


def test_a_controller_that_slept_finds_another_in_its_place(make: MakeWorld, world: World) -> None:
    lost = make(patience=PATIENCE, more=shared(world))
    first = lost.up()
    worker = lost.spawn(lost.talk("echo x >> new.txt"))
    name, task = worker["worker"], worker["task"]
    lost.until_state(name, "working")
    lost.up("second")
    put_to_sleep(lost, first)
    until(lambda: leases(lost)["outpost:a"].endswith("/second"), "another looks on", deadline_s=40)
    lost.kill_its_carers("a", name)
    lost.until_state(name, "failed")
    second = lost.nth(task, 2)
    first.send_signal(signal.SIGCONT)
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    assert lost.remote.show(done["branch"], "new.txt") == "x\nx"
    assert len(lost.attempts_stored(task)) == 2
    assert lost.task(task)["state"] == "done"
    assert all(charge["ended_at"] for charge in lost.charges(task))


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
    put_to_sleep(lost, first)
    lost.faults["a"].change(delay_s=0)
    lost.up("second")
    second = lost.nth(task, 2)
    assert lost.attempts_stored(task)[0]["state"] == "lost"
    first.send_signal(signal.SIGCONT)
    lost.until_state(second["id"], "working")
    until(lambda: "started" in lost.said(), "the first has come to the end of its start")
    lost.go.touch()
    done = lost.until_state(second["id"], "done")
    assert lost.remote.show(done["branch"], "new.txt") == "x"
    assert len(lost.attempts_stored(task)) == 2


def test_it_leaves_in_time_where_a_start_hangs(make: MakeWorld) -> None:
    lost = make(patience=PATIENCE)
    lost.faults["a"].write(spawn=["hang"])
    lost.faults["b"].write(ping="down")
    lost.up()
    lost.faults["a"].change(ping="down")
    task = lost.cli.spawn(lost.talk())["task"]
    lost.faults["a"].change(ping=None)
    until(lambda: lost.faulty.spawned("a") == ["hang"], "the start hangs")
    begun = time.monotonic()
    lost.cli("down")
    assert time.monotonic() - begun < 10
    (claimed,) = lost.attempts_stored(task)
    assert claimed["state"] == "reserved"
    lost.go.touch()
    lost.up()
    second = lost.nth(task, 2)
    lost.until_state(second["id"], "done")
    assert lost.attempts_stored(task)[0]["state"] == "lost"


async def test_a_start_that_never_returns_holds_up_nobody(
    make: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "SPAWN_S", 2.0)
    lost = make(outposts=("a",), patience=PATIENCE)
    lost.faults["a"].write(spawn=["hang"])
    async with lost.faulty.federation() as federation:
        submitted = await lost.faulty.submit(federation)
        assert submitted.worker
        assert submitted.worker.attempt.state is State.UNKNOWN
        assert submitted.worker.attempt.reason == "a gave no answer within 2 s"
        other = await lost.faulty.submit(federation)
        assert other.worker
        assert (await other.worker.result()).state is State.DONE


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


async def test_what_a_controller_starts_first_is_started(make: MakeWorld) -> None:
    """Whoever submits a task may be the slower of the two."""
    lost = make()
    async with lost.faulty.federation() as federation, lost.faulty.federation() as other:
        options = SpawnOptions(repo=lost.remote.url, argv=("true",))
        task = await federation.resolve("text:Mend", options)
        await federation.store.add_task(task)
        (started,) = await other.dispatch()
        assert started.worker
        queue = await federation.parts.queue()
        placement = await queue.enter(task, federation.refresh)
        assert placement.attempt
        assert placement.attempt.id == started.worker.id
        assert (await started.worker.result()).state is State.DONE


class Shaken:
    """A store on a server that goes away and comes back."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._cluster = cluster
        self._name = name_of(url)

    def go(self) -> None:
        self._cluster.run(
            f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname='{self._name}'",
        )

    def come_back(self) -> None:
        self._cluster.run(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")


def test_a_store_that_is_away_for_a_while_is_waited_for(make: MakeWorld, postgres: Cluster) -> None:
    with postgres.database() as url:
        lost = make(patience=PATIENCE, more=f"store: {{url: '{url}'}}\n")
        store = Shaken(postgres, url)
        process = lost.up()
        worker = lost.cli.spawn(lost.talk("echo x >> new.txt"))
        lost.until_written("a", worker["worker"], "working")
        store.go()
        until(lambda: (running := standing(lost.world.home)) and troubles(running), "it is said")
        assert process.poll() is None
        lost.go.touch()
        lost.until_written("a", worker["worker"], '"result"')
        store.come_back()

        def done() -> bool:
            return bool(lost.cli("status", worker["worker"], "--json").json()["state"] == "done")

        until(lambda: query(postgres, url, "select state from attempts") == [("done",)], "stored")
        assert done()
        assert query(postgres, url, "select count(*) from attempts") == [(1,)]
        store.go()
        until(lambda: (running := standing(lost.world.home)) and troubles(running), "it is said")
        begun = time.monotonic()
        lost.cli("down")
        assert time.monotonic() - begun < 10
        store.come_back()


def troubles(running: Standing) -> list[str]:
    return [loop.trouble for loop in running.loops if loop.trouble]


def query(cluster: Cluster, url: str, statement: str) -> list[tuple[object, ...]]:
    return cluster.run(statement, database=name_of(url))


def test_a_full_disk_is_waited_for(
    small_disk: Callable[[Path, int], None], make: MakeWorld, world: World
) -> None:
    small_disk(world.home, 60)
    lost = make(patience=PATIENCE)
    process = lost.up()
    worker = lost.cli.spawn(lost.talk("echo x >> new.txt"))
    name = worker["worker"]
    lost.until_written("a", name, "working")
    filler = world.home / "filler"
    fill(filler)
    until(lambda: "No space left" in lost.said() or "full" in lost.said(), "it is said")
    assert process.poll() is None
    filler.unlink()
    lost.go.touch()
    done = lost.until_state(name, "done", "failed")
    assert done["state"] == "done", done
    assert len(lost.attempts_stored(worker["task"])) == 1


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))


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


def test_a_worker_is_seen_where_it_was_started(world: World, make: MakeWorld) -> None:
    """Its outpost has another folder by now."""
    lost = make()
    world.config(LOCAL.format(home=world.home))
    lost.up()
    quietly = f"echo working; until [ -e {lost.go} ]; do sleep 0.1; done"
    name = lost.cli.spawn(quietly)["worker"]
    lost.until_written("local", name, "working")
    elsewhere = f"type: local, root: {world.folder}/new,"
    world.config(LOCAL.format(home=world.home).replace("type: local,", elsewhere))
    until(lambda: "the configuration has changed" in lost.said(), "it begins anew")
    time.sleep(6)
    assert lost.stored(name)["state"] == "working"
    lost.go.touch()
    lost.until_state(name, "done")

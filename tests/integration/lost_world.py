"""Outposts whose workers get lost: real workers, real controllers, and little patience."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outpost.controller import standing
from outpost.runner.place import Place
from tests.doubles.bd import Rig, install_bd
from tests.faulty_world import FaultyWorld
from tests.integration.cli_world import OUTPOST, Cli
from tests.world import World, pids_marked, pids_naming, until

Document = dict[str, Any]
RETRY = """\
  retry: {max_attempts: 3, initial_backoff: 1s, max_backoff: 1s}
"""
SLOWLY = """\
  retry: {max_attempts: 3, initial_backoff: 60s, max_backoff: 60s}
"""
ONCE = """\
  retry: {max_attempts: 1}
"""
TALK = "while [ ! -e {go} ]; do echo working; sleep 0.2; done"
"""A script that lets its log say something until it may go on."""


class LostWorld:
    """Outposts ``a``, ``b``, … tried in that order, the command line, and controllers."""

    def __init__(
        self,
        world: World,
        *,
        outposts: tuple[str, ...] = ("a", "b"),
        policy: str = RETRY,
        patience: str = "silent_after: 2s, lost_after: 3s",
        defaults: str = "",
        more: str = "",
    ) -> None:
        self.faulty = FaultyWorld(world, *outposts, policy=policy)
        self.faults = self.faulty.faults
        self.world = world
        self.remote = world.remote
        self.go = world.folder / "go"
        plain = "defaults: {stop_grace: 4s}"
        assert plain in self.faulty.config
        config = self.faulty.config.replace(
            plain, f"defaults: {{stop_grace: 4s, checkpoint: 1s{defaults}}}"
        )
        self.config = f"{config}controller: {{{patience}}}\n{more}"
        world.config(self.config)
        self.cli = Cli(world)
        self._controllers: list[subprocess.Popen[str]] = []

    def up(self, home: str = "state") -> subprocess.Popen[str]:
        """Start a controller of a home, and wait until it goes round."""
        folder = self.world.folder / home
        self.world.homes.add(folder)
        with (self.world.folder / f"{home}.log").open("a") as log:
            process = subprocess.Popen(
                [*OUTPOST, "up"],
                cwd=self.cli.here,
                env={**self.world.environment, "OUTPOST_HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )
        self._controllers.append(process)

        def goes_round() -> bool:
            running = standing(folder)
            return running is not None and running.pid == process.pid and running.rounds > 0

        until(goes_round, "a controller goes round")
        return process

    def said(self, home: str = "state") -> str:
        """Return what the controllers of a home have said so far."""
        return (self.world.folder / f"{home}.log").read_text()

    def end(self) -> None:
        """End the controllers; each has to leave by itself."""
        left = []
        for process in self._controllers:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                left.append(process.pid)
                process.kill()
                process.wait()
        assert not left, "a controller did not leave"

    def talk(self, before: str = "true", after: str = "true") -> str:
        """Return a script that does something, talks until ``go`` is there, and goes on."""
        return f"{before}; {TALK.format(go=self.go)}; {after}"

    def spawn(self, script: str, *more: str) -> Document:
        """Start one worker, and return what the command said of it."""
        said: Document = self.cli.spawn(script, *more)
        return said

    def until_state(self, worker_id: str, *states: str, deadline_s: float = 30) -> Document:
        """Wait until a worker is stored in one of these states."""

        def seen() -> Document | None:
            row = self.stored(worker_id)
            return row if row["state"] in states else None

        found = until(seen, f"{worker_id} is {' or '.join(states)}", deadline_s=deadline_s)
        assert found
        return found

    def stored(self, worker_id: str) -> Document:
        """Return what the store has of a worker, without a look at it."""
        return self._row("select * from attempts where id = ?", worker_id)

    def task(self, task_id: str) -> Document:
        """Return what the store has of a task."""
        return self._row("select * from tasks where id = ?", task_id)

    def charges(self, task_id: str) -> list[Document]:
        return self._rows("select * from charges where task_id = ?", task_id)

    def attempts_stored(self, task_id: str) -> list[Document]:
        return self._rows("select * from attempts where task_id = ? order by number", task_id)

    def nth(self, task_id: str, number: int) -> Document:
        """Return the attempt of that number once its worker was started."""

        def there() -> Document | None:
            found = self.attempts_stored(task_id)
            return found[number - 1] if len(found) >= number and found[-1]["handle"] else None

        found = until(there, f"attempt {number}")
        assert found
        return found

    def moves(self, task_id: str) -> list[Document]:
        """Return the log of what happened to a task and its attempts."""
        return self._rows("select * from transitions where task_id = ? order by id", task_id)

    def place(self, outpost: str, worker_id: str) -> Place:
        """Return a worker's private folder."""
        return Place(str(self.world.home / "outposts" / outpost / "workers" / worker_id))

    def tree(self, outpost: str, worker_id: str) -> Path:
        return self.world.home / "outposts" / outpost / "trees" / worker_id

    def until_written(self, outpost: str, worker_id: str, text: str) -> None:
        """Wait until the log of a worker holds ``text``."""
        log = Path(self.place(outpost, worker_id).path("events.jsonl"))
        until(lambda: log.exists() and text in log.read_text(), f"{text!r} in the log")

    def until_checkpoint(self, task_id: str, file: str) -> None:
        """Wait until the work in progress on the remote has a file."""
        ref = f"refs/outpost/wip/{task_id}"

        def there() -> bool:
            if ref not in self.remote.refs():
                return False
            return file in self.remote.git("ls-tree", "-r", "--name-only", ref).splitlines()

        until(there, f"{file} in {ref}")

    def pause(self, outpost: str, worker_id: str) -> set[int]:
        """Stop every process of a worker, as a machine that is put to sleep does."""
        paused: set[int] = set()
        place = self.place(outpost, worker_id)
        while found := self.pids(place, worker_id) - paused:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            paused |= found
        return paused

    @staticmethod
    def pids(place: Place, worker_id: str) -> set[int]:
        """Return the processes of a worker: runner, understudy, agent and their programs."""
        # The server of all live views names the first of them for ever.
        named = {pid for pid, line in pids_naming(place.directory).items() if "tmux" not in line}
        return {*named, *pids_marked({worker_id}), *place.pids("runner.pid")}

    def kill_its_carers(self, outpost: str, worker_id: str) -> None:
        """Kill runner and understudy at once, and nothing else."""
        place = self.place(outpost, worker_id)
        for pid in place.pids("runner.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def branches(self) -> dict[str, str]:
        return self.remote.refs("refs/heads/outpost/")

    def duties(self, task_id: str) -> list[Document]:
        return self._rows("select * from duties where task_id = ? order by id", task_id)

    def _row(self, query: str, *values: str) -> Document:
        (row,) = self._rows(query, *values)
        return row

    def _rows(self, query: str, *values: str) -> list[Document]:
        path = self.world.home / "outpost.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query, values)]


class Beads:
    """One bead in the folder where the command line is used, and the program that keeps it."""

    ID = "gt-abc123"

    def __init__(self, lost: LostWorld) -> None:
        programs = lost.world.folder / "programs"
        programs.mkdir()
        install_bd(programs)
        lost.world.environment["PATH"] = f"{programs}:{lost.world.environment['PATH']}"
        self._lost = lost
        self._rig = Rig.make(lost.cli.here)
        self._rig.add(self.ID)

    def spawn(self, script: str) -> Document:
        """Start a worker for the bead, and return what the command said of it."""
        arguments = ("spawn", self.ID, "--repo", self._lost.remote.url, "--json")
        said: Document = self._lost.cli(*arguments, "--", "sh", "-c", script).json()
        return said

    def bead(self) -> Document:
        """Return the bead as it is now; nothing of it while its file is being written."""
        try:
            return dict(self._rig.bead(self.ID))
        except json.JSONDecodeError:
            return {"status": ""}


def wake(pids: set[int]) -> None:
    """Let processes go on that were paused."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def lost_world(world: World, **options: Any) -> Iterator[LostWorld]:
    """Return a world whose controllers are ended with it."""
    lost = LostWorld(world, **options)
    try:
        yield lost
    finally:
        lost.end()

"""Several controllers on one store, killed in turn under load: every task ends exactly once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outpost.model import AgentSpec, Attempt, State
from outpost.ports import Store
from outpost.store import open_store
from tests.doubles.virtual_outpost import bring
from tests.doubles.virtual_records import Records
from tests.postgres import Cluster
from tests.unit.store_values import a_task

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TASKS = 1000
CONTROLLERS = 3
OUTPOSTS = 3
SLOTS = 60
KILL_EVERY_S = 2.0
DEADLINE_S = 240.0


class Controllers:
    """Processes with homes of their own that share a store and a configuration."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.kills = 0

    def start(self, number: int) -> None:
        home = self._folder / f"home-{number}"
        home.mkdir(exist_ok=True)
        with (self._folder / f"controller-{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [sys.executable, "-m", "outpost", "up"],
                env={**self._environment, "HOME": str(home), "OUTPOST_HOME": str(home)},
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, number: int) -> None:
        process = self._processes.pop(number)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        self.kills += 1

    def end(self) -> None:
        for number in list(self._processes):
            self.kill(number)

    def said(self) -> str:
        logs = sorted(self._folder.glob("controller-*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text()[-3000:]}" for log in logs)


@contextmanager
def controllers(folder: Path, environment: dict[str, str]) -> Iterator[Controllers]:
    running = Controllers(folder, environment)
    try:
        for number in range(CONTROLLERS):
            running.start(number)
        yield running
    finally:
        running.end()


def configuration(folder: Path, url: str) -> str:
    lines = ["outposts:"]
    for number in range(OUTPOSTS):
        lines += [f"  - name: place-{number}", "    type: virtual", f"    max_workers: {SLOTS}"]
        lines += [f"    folder: {folder / 'places'}"]
    lines += ["policy:", "  placement: spread", "  retry: {max_attempts: 20, initial_backoff: 1s}"]
    lines += ["controller: {claim_grace: 5s, orphan_grace: 5s}", f"store: {{url: '{url}'}}"]
    return "\n".join(lines) + "\n"


async def add_tasks(store: Store) -> None:
    chance = random.Random(5)
    now = datetime.now(UTC) - timedelta(hours=1)
    for number in range(1, TASKS + 1):
        argv = ("virtual", "--seconds", f"{chance.uniform(0.2, 4):.1f}", "--events-per-s", "1")
        agent = AgentSpec(name="command", argv=argv)
        at = now + timedelta(milliseconds=number)
        await store.add_task(replace(a_task(number), agent=agent, created_at=at))


async def quiet(store: Store, running: Controllers) -> None:
    """Kill controllers in turn and start them anew until all tasks have ended, then wait."""
    chance = random.Random(7)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        counts = await store.count_by_state()
        left = sum(count for state, count in counts.items() if not state.ended)
        if not left:
            return
        assert time.monotonic() < deadline, f"left: {dict(counts)}\n{running.said()}"
        number = chance.randrange(CONTROLLERS)
        running.kill(number)
        await asyncio.sleep(chance.uniform(0, KILL_EVERY_S / 2))
        running.start(number)
        await asyncio.sleep(chance.uniform(0.5, 1.5) * KILL_EVERY_S)
        for outpost, active in (await store.counts()).items():
            assert active <= SLOTS, f"{outpost} has {active} workers"


def ended_by_themselves(attempts: list[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.state is State.DONE]


async def test_every_task_ends_exactly_once(postgres: Cluster, tmp_path: Path) -> None:
    (tmp_path / "places").mkdir()
    with postgres.database() as url:
        await let_them_work(url, tmp_path)


async def let_them_work(url: str, folder: Path) -> None:
    config = folder / "outposts.yaml"
    config.write_text(configuration(folder, url))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": bring(folder / "packages"),
        "OUTPOST_CONFIG": str(config),
    }
    store = open_store(url)
    try:
        await store.federation_id()
        await add_tasks(store)
        with controllers(folder, environment) as running:
            await quiet(store, running)
            kills = running.kills
        assert kills > CONTROLLERS
        states = await store.count_by_state()
        assert states == {State.DONE: TASKS}
        # What really ran, as the places wrote it down: each task's work came to its own end once.
        records = Records(folder / "places")
        assert records.doubled() == []
        assert records.living() == []
        finished = Counter(line["task_id"] for line in records.finished())
        assert set(finished.values()) == {1}
        assert len(finished) == TASKS
        attempts = await store.attempts(ended=True)
        done = Counter(attempt.task_id for attempt in ended_by_themselves(attempts))
        assert set(done.values()) == {1}
        assert await store.attempts() == []
        assert all(charge.ended_at for charge in await store.charges())
    finally:
        await store.close()

"""A controller killed at any point while it looks after sandboxes of E2B: the next one goes on.

Afterwards no sandbox runs for longer than its lease, none is there that nobody knows of, and once
its worker is destroyed none is there at all.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outpost.federation import Federation
from outpost.runner.place import Place
from tests.crash_points import CrashWorld
from tests.crash_stories import NAME, Elsewhere, faults_of
from tests.doubles.e2b.cloud import E2bCloud, Record
from tests.e2b_world import KEY, TEMPLATE, place_of
from tests.world import Remote, pids_marked, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]

LANES = 5
LEASE_S = 60


class E2b:
    """The stand-in, with one team for all homes."""

    def __init__(self, cloud: E2bCloud) -> None:
        self._cloud = cloud
        cloud.add_template(TEMPLATE)
        self.elsewhere = Elsewhere(
            outposts=f"""\
  - name: {NAME}
    type: e2b
    template: {TEMPLATE}
    api_url: {cloud.api_url}
    sandbox_url: {cloud.sandbox_url}
    timeout: {LEASE_S}s
    min_free_mib: 0
    max_workers: 1
""",
            variables={KEY: cloud.api_key},
            steps=frozenset({"api.create", "shell.put", "shell.run"}),
            modules=("e2b",),
            kill=self.kill,
            afterwards=self.afterwards,
        )

    async def kill(self, world: CrashWorld, worker_id: str) -> None:
        """Have all of a worker die, and its sandbox go on."""
        (sandbox,) = self.sandboxes(world)
        place = Place(str(place_of(sandbox, worker_id)))
        for pid in (*place.pids("runner.pid"), *place.pids("agent.pid")):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not pids_marked({worker_id}), f"no process marked {worker_id}")

    async def afterwards(self, world: CrashWorld, federation: Federation) -> list[str]:
        """Return what is wrong with the sandboxes of a home where all is quiet."""
        attempts = await federation.store.attempts(ended=True)
        known = {it.id for it in attempts if it.handle}
        workers = [it.metadata["outpost_worker"] for it in self.sandboxes(world)]
        faults = [
            f"{name} has a sandbox, and nobody knows of it" for name in workers if name not in known
        ]
        if len(workers) != len(set(workers)):
            faults.append(f"there are several sandboxes of one worker: {workers}")
        latest = datetime.now(UTC) + timedelta(seconds=LEASE_S)
        faults += [
            f"{it.id} runs until {it.end_at}"
            for it in self.sandboxes(world)
            if it.state == "running" and it.end_at > latest
        ]
        outpost = (await federation.parts.sites()).backend(NAME)
        for attempt in attempts:
            if attempt.handle:
                await outpost.destroy(attempt.handle)
        return faults + [f"{it.id} is left, {it.state}" for it in self.sandboxes(world)]

    def sandboxes(self, world: CrashWorld) -> list[Record]:
        """Return the sandboxes of a home."""
        federation_id = world.world.federation_id()
        return [
            it
            for it in self._cloud.sandboxes()
            if it.metadata.get("outpost_federation") == federation_id
        ]


@pytest.fixture
def e2b(tmp_path: Path) -> Iterator[E2b]:
    with E2bCloud(tmp_path / "e2b") as cloud:
        yield E2b(cloud)


async def test_killed_at_a_start_its_task_is_done_once(
    tmp_path: Path, remote: Remote, e2b: E2b
) -> None:
    assert not await faults_of(e2b.elsewhere.started(), tmp_path, remote, LANES)


async def test_killed_at_a_stop_or_at_mending_it_is_finished_once(
    tmp_path: Path, remote: Remote, e2b: E2b
) -> None:
    stories = (e2b.elsewhere.stopped(), e2b.elsewhere.mended())
    found = await asyncio.gather(*(faults_of(it, tmp_path, remote, LANES) for it in stories))
    assert found == [{}, {}]

"""A controller killed at any point while it looks after machines of Fly: the next one goes on.

Afterwards no machine runs, none is there that nobody knows of, and once its worker is destroyed
none is there at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outpost.federation import Federation
from tests.crash_points import CrashWorld
from tests.crash_stories import NAME, Elsewhere, faults_of
from tests.doubles.fly import FlyCloud, MachineRecord
from tests.world import Remote, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]

LANES = 5
RUNNING = ("created", "starting", "started", "stopping", "suspending", "replacing", "destroying")


class Fly:
    """The stand-in, with one app for all homes."""

    def __init__(self, cloud: FlyCloud) -> None:
        self._cloud = cloud
        outposts = f"""\
  - name: {NAME}
    type: fly
    app: {cloud.app}
    region: iad
    api_url: {cloud.api_url}
    url: {cloud.url}
    requests_per_s: 1000
    idle_exit: 1s
    max_workers: 1
"""
        self.elsewhere = Elsewhere(
            outposts=outposts,
            variables={"FLY_API_TOKEN": cloud.token},
            steps=frozenset({"machines.create", "caller.session"}),
            modules=("httpx2", "pyqwest"),
            kill=self.kill,
            unrest=self.unrest,
            afterwards=self.afterwards,
        )
        self.with_pool = replace(
            self.elsewhere,
            outposts=f"{outposts}    warm: 1\n",
            steps=frozenset({"machines.lease", "machines.mark", "machines.start"}),
            ready=self.fill,
        )

    async def fill(self, world: CrashWorld, federation: Federation) -> None:
        """Have a machine wait that is nobody's yet."""
        outpost = (await federation.parts.sites()).backend(NAME)
        federation_id = world.world.federation_id()

        def waits() -> bool:
            return [
                it.state
                for it in self._cloud.machines()
                if it.metadata.get("outpost_federation") == federation_id
            ] == ["stopped"]

        await outpost.tend([])
        await asyncio.to_thread(until, waits, "a machine waits")

    async def kill(self, world: CrashWorld, worker_id: str) -> None:
        """Have a worker's machine die as if it had crashed, and be seen to be stopped."""
        (machine,) = self.machines(world)
        assert machine.metadata["outpost_worker"] == worker_id
        self._cloud.kill(machine.id)
        until(lambda: self.machines(world)[0].state == "stopped", "its machine has stopped")

    def unrest(self, world: CrashWorld) -> str:
        """Say which machines of a home run still."""
        return ", ".join(
            f"{it.name} {it.state}" for it in self.machines(world) if it.state in RUNNING
        )

    async def afterwards(self, world: CrashWorld, federation: Federation) -> list[str]:
        """Return what is wrong with the machines of a home where all is quiet."""
        attempts = await federation.store.attempts(ended=True)
        known = {it.id for it in attempts if it.handle}
        workers = [it.metadata.get("outpost_worker") for it in self.machines(world)]
        faults = [
            f"{name} has a machine, and nobody knows of it" for name in workers if name not in known
        ]
        if len(workers) != len(set(workers)):
            faults.append(f"there are several machines of one worker: {workers}")
        outpost = (await federation.parts.sites()).backend(NAME)
        for attempt in attempts:
            if attempt.handle:
                await outpost.destroy(attempt.handle)
        return faults + [f"{it.name} is left, {it.state}" for it in self.machines(world)]

    def machines(self, world: CrashWorld) -> list[MachineRecord]:
        """Return the machines of a home that are some worker's."""
        federation_id = world.world.federation_id()
        return [
            it
            for it in self._cloud.machines()
            if it.metadata.get("outpost_federation") == federation_id
            and it.metadata.get("outpost_worker")
        ]


@pytest.fixture
def fly(tmp_path: Path) -> Iterator[Fly]:
    with FlyCloud(tmp_path / "fly") as cloud:
        yield Fly(cloud)


async def test_killed_at_a_start_its_task_is_done_once(
    tmp_path: Path, remote: Remote, fly: Fly
) -> None:
    assert not await faults_of(fly.elsewhere.started(), tmp_path, remote, LANES)


async def test_killed_while_it_claims_a_machine_that_waits_its_task_is_done_once(
    tmp_path: Path, remote: Remote, fly: Fly
) -> None:
    assert not await faults_of(fly.with_pool.claimed(), tmp_path, remote, LANES)


async def test_killed_at_a_stop_or_at_mending_it_is_finished_once(
    tmp_path: Path, remote: Remote, fly: Fly
) -> None:
    stories = (fly.elsewhere.stopped(), fly.elsewhere.mended())
    found = await asyncio.gather(*(faults_of(it, tmp_path, remote, LANES) for it in stories))
    assert found == [{}, {}]

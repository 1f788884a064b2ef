"""What tests of single loops share: whose outposts are whose, and workers that are at work."""

from __future__ import annotations

import asyncio

from outpost.federation import Federation
from outpost.model import Attempt, State
from outpost.ports import Setup, Worker
from tests.faulty_world import FaultyWorld
from tests.world import World

BUSY = "echo x > new.txt; sleep 60"


class Ours:
    """The outposts that are ours to look after."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def mine(self, outpost: str) -> bool:
        return outpost in self._names

    def names(self) -> tuple[str, ...]:
        return self._names


def local_setup(world: World) -> Setup:
    """Return what an outpost called ``local`` is set up with in a home."""
    return Setup(
        name="local",
        federation_id="f-1",
        data_folder=str(world.home),
        environment=world.environment,
    )


async def newest(federation: Federation, attempt: Attempt) -> Attempt:
    """Return an attempt as it is stored now."""
    known = await federation.store.attempts_of(attempt.task_id)
    return next(it for it in known if it.id == attempt.id)


async def started(
    world: FaultyWorld, federation: Federation, script: str = BUSY, **more: object
) -> Attempt:
    """Start a worker and wait until it works, its first file written; return it as stored."""
    submitted = await world.submit(federation, script, **more)
    assert submitted.worker
    attempt = submitted.worker.attempt
    follower = await federation.parts.follower()
    tree = world.world.home / "outposts" / attempt.outpost / "trees" / attempt.id
    async with asyncio.timeout(20):
        while attempt.state is not State.WORKING or not (tree / "new.txt").exists():
            await asyncio.sleep(0.05)
            attempt = await follower.refresh(attempt)
    return attempt


async def port(federation: Federation, attempt: Attempt) -> Worker:
    """Return the running thing behind an attempt."""
    assert attempt.handle
    return (await federation.parts.sites()).backend(attempt.outpost).worker(attempt.handle)


async def end(federation: Federation, *attempts: Attempt) -> None:
    """End workers, whatever is stored of them."""
    for attempt in attempts:
        worker = await port(federation, attempt)
        await worker.stop(grace_s=1, reason="the test is over")

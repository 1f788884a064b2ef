"""Leases in the hands of processes that are killed: one holder at a time, and always another."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from outpost.store import open_store

pytestmark = pytest.mark.integration

DEADLINE_S = 60.0
TTL_S = 2.0
KILLS = 3
NAME = "outpost:local"


@dataclass(frozen=True)
class Hold:
    """What a process says of a lease it has just got or renewed; instants of the machine."""

    holder: str
    fence: int
    since: float
    until: float


async def hold_for_ever(url: str, holder: str) -> None:
    """Take and renew the lease again and again; print each time what is held."""
    store = open_store(url)
    while True:
        for lease in (await store.take_leases([NAME], holder, ttl_s=TTL_S)).values():
            since = time.time()
            print(holder, lease.fence, since, lease.until.timestamp(), flush=True)
        await asyncio.sleep(TTL_S / 20)


@contextmanager
def process(url: str, holder: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "tests.integration.test_store_leases", url, holder]
    folder = Path(__file__).parents[2]
    started = subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        with started:
            yield started
    finally:
        started.kill()


def holds(process: subprocess.Popen[str]) -> Hold:
    """Wait until a process says that it holds the lease."""
    assert process.stdout
    holder, fence, since, until = process.stdout.readline().split()
    return Hold(holder, int(fence), float(since), float(until))


def said_before_its_end(process: subprocess.Popen[str]) -> list[Hold]:
    """Kill a process; return what else it had said."""
    assert process.stdout
    process.kill()
    lines = process.stdout.read().split("\n")[:-1]
    process.wait()
    return [
        Hold(holder, int(fence), float(since), float(until))
        for holder, fence, since, until in map(str.split, lines)
    ]


def test_a_lease_passes_on_from_the_killed_and_is_never_held_twice(store_url: str) -> None:
    said: list[Hold] = []
    with ExitStack() as stack:
        holding = stack.enter_context(process(store_url, "h0"))
        said.append(holds(holding))
        for number in range(1, KILLS + 1):
            waiting = stack.enter_context(process(store_url, f"h{number}"))
            said += [holds(holding) for _ in range(number)]  # renewed a few times meanwhile
            said += said_before_its_end(holding)
            holding = waiting
            said.append(holds(holding))
        said += said_before_its_end(holding)
    said.sort(key=lambda hold: hold.since)
    assert [f"h{fence - 1}" for fence in sorted({hold.fence for hold in said})] == [
        f"h{number}" for number in range(KILLS + 1)
    ]
    for earlier, later in pairwise(said):
        if later.holder == earlier.holder:
            assert later.fence == earlier.fence
        else:
            assert later.fence == earlier.fence + 1
            assert later.since >= earlier.until, "not before the killed one's time was over"


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(hold_for_ever(*sys.argv[1:]), DEADLINE_S))

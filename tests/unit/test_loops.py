"""The loops side by side: their pace, their troubles, and what they keep of workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from outpost.control.loops import Loop
from outpost.control.loops.leases import Leases
from outpost.control.loops.recorder import Recorder
from outpost.control.loops.running import Running
from outpost.errors import OutpostFault, StoreError
from outpost.model import Attempt, State
from outpost.ports import Store
from outpost.store import open_store
from tests.unit.store_values import MovingClock, StandingClock, a_decision, a_task, an_attempt

SOON_S = 10.0


class Counting(Loop):
    """Counts its rounds; the first ones go wrong as told."""

    name: ClassVar[str] = "counting"

    def __init__(self, *troubles: Exception, every_s: float = 0.01) -> None:
        super().__init__()
        self.every_s = every_s
        self.rounds = 0
        self.closed = 0
        self._troubles = list(troubles)

    async def round(self) -> None:
        self.rounds += 1
        self.doing = f"round {self.rounds}"
        if self._troubles:
            raise self._troubles.pop(0)

    async def close(self) -> None:
        self.closed += 1


class Slow(Counting):
    name: ClassVar[str] = "slow"

    async def round(self) -> None:
        await super().round()
        await asyncio.Event().wait()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "outpost.db", clock=MovingClock())
    await opened.federation_id()
    yield opened
    await opened.close()


def running(store: Store, *loops: Loop) -> Running:
    return Running(loops, clock=StandingClock(), store=store, on_change=loops)


async def come(*, true: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(SOON_S):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_loop_goes_round_until_stopped_and_is_closed(store: Store) -> None:
    loop = Counting()
    loops = running(store, loop)
    task = asyncio.create_task(loops.run())
    await come(true=lambda: loop.rounds > 3)
    loops.stop()
    await asyncio.wait_for(task, SOON_S)
    assert loop.closed == 1
    (standing,) = loops.standings
    assert (standing.rounds, standing.doing) == (loop.rounds, f"round {loop.rounds}")
    assert (standing.trouble, standing.failures) == ("", 0)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (OutpostFault("it does not answer", outpost="far"), "it does not answer"),
        (ValueError("a fault of ours"), "ValueError: a fault of ours"),
    ],
)
async def test_trouble_is_told_and_gone_once_a_round_goes_well(
    store: Store, trouble: Exception, told: str
) -> None:
    loop = Counting(trouble, trouble, every_s=0.05)
    loops = running(store, loop)
    task = asyncio.create_task(loops.run())
    await come(true=lambda: loop.rounds == 2)
    await come(true=lambda: loops.standings[0].failures == 2)
    assert loops.standings[0].trouble == told
    await come(true=lambda: loop.rounds > 2 and not loops.standings[0].trouble)
    assert loops.standings[0].failures == 0
    loops.stop()
    await asyncio.wait_for(task, SOON_S)


async def test_a_loop_that_hangs_holds_no_other_up_and_is_cancelled(store: Store) -> None:
    quick, slow = Counting(), Slow()
    loops = running(store, quick, slow)
    task = asyncio.create_task(loops.run())
    await come(true=lambda: slow.rounds == 1 and quick.rounds > 5)
    loops.stop()
    task.cancel()
    await asyncio.wait([task])
    assert (quick.closed, slow.closed) == (1, 1)


async def test_a_change_by_another_process_wakes_a_loop(store: Store, tmp_path: Path) -> None:
    loop = Counting(every_s=3600)
    loops = running(store, loop)
    task = asyncio.create_task(loops.run())
    await come(true=lambda: loop.rounds == 1)
    other = open_store(tmp_path / "outpost.db", clock=StandingClock())
    number = 0
    async with asyncio.timeout(SOON_S):
        # Whoever listens only from now on does not hear of what was before.
        while loop.rounds == 1:
            number += 1
            await other.add_task(a_task(number))
            await asyncio.sleep(0.05)
    loops.stop()
    await asyncio.wait_for(task, SOON_S)
    await other.close()


async def test_leases_are_ours_until_they_run_out(store: Store, tmp_path: Path) -> None:
    clock = MovingClock()
    rivals = open_store(tmp_path / "outpost.db", clock=clock)
    leases = Leases(store, "here", ["a", "b"])
    other = Leases(rivals, "there", ["b", "c"])
    assert not leases.mine("a")
    await leases.round()
    await other.round()
    assert sorted(leases.names()) == ["a", "b"]
    assert (other.mine("b"), other.mine("c")) == (False, True)
    await leases.close()
    await other.round()
    assert other.mine("b")
    assert not leases.mine("a")
    await rivals.close()


async def working(store: Store, number: int) -> Attempt:
    task = a_task(number)
    await store.add_task(task)
    claimed = await store.claim(an_attempt(task), a_decision(task, "local"), max_workers=None)
    assert claimed
    started = replace(claimed, state=State.WORKING, seq=1)
    assert await store.apply(started)
    return started


async def test_what_is_recorded_is_stored_soon_and_the_newest_counts(store: Store) -> None:
    recorder = Recorder(store)
    recorder.start()
    first, second = await working(store, 1), await working(store, 2)
    for seq in range(2, 40):
        recorder.put(replace(first, seq=seq))
    recorder.put(replace(second, seq=5))
    recorder.drop(second.id)
    async with asyncio.timeout(SOON_S):
        while (await store.attempts_of(first.task_id))[0].seq != 39:
            await asyncio.sleep(0.01)
    assert (await store.attempts_of(second.task_id))[0].seq == 1, "it was taken back"
    recorder.put(replace(first, seq=40))
    await recorder.close()
    assert (await store.attempts_of(first.task_id))[0].seq == 40, "nothing is left behind"


async def test_what_cannot_be_stored_is_kept_and_the_trouble_told(
    store: Store, tmp_path: Path
) -> None:
    first = await working(store, 1)
    file = tmp_path / "outpost.db"
    broken = open_store(tmp_path / "absent" / "outpost.db", create=False)
    recorder = Recorder(broken)
    recorder.start()
    recorder.put(replace(first, seq=7))
    await come(true=lambda: recorder.trouble)
    with pytest.raises(StoreError):
        await broken.apply_all([first])
    (tmp_path / "absent").mkdir()
    await store.close()
    file.rename(tmp_path / "absent" / "outpost.db")
    await come(true=lambda: not recorder.trouble)
    assert (await broken.attempts_of(first.task_id))[0].seq == 7
    await recorder.close()
    await broken.close()

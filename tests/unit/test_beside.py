"""What goes on beside a loop's rounds: each thing once at a time, and again if it failed."""

from __future__ import annotations

import asyncio

import pytest

from outpost.control.loops.beside import Beside
from outpost.errors import OutpostFault


class Work:
    """An act that waits until it is let go, and then fails if told to."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.fault: Exception | None = None
        self.let_go = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        await self.let_go.wait()
        if self.fault:
            raise self.fault
        self.ended += 1


async def settled(beside: Beside) -> None:
    """Let what can go on do so."""
    while beside.running:
        beside.keep_at({})
        await asyncio.sleep(0)


async def test_never_twice_at_once_and_none_holds_up_another() -> None:
    beside, slow, quick = Beside(), Work(), Work()
    quick.let_go.set()
    for _ in range(5):
        beside.keep_at({"slow": slow, "quick": quick})
        await asyncio.sleep(0)
    # The one that has ended rests for a while: what came of it has to be seen.
    assert (slow.begun, quick.begun, quick.ended) == (1, 1, 1)
    slow.let_go.set()
    await settled(beside)
    assert slow.ended == 1


async def test_what_failed_is_shown_and_tried_again() -> None:
    beside, work = Beside(rest_s=0.01), Work()
    work.fault = OutpostFault("it does not answer", outpost="far")
    work.let_go.set()
    async with asyncio.timeout(5):
        while work.begun < 3:
            beside.keep_at({"w-1": work})
            await asyncio.sleep(0.001)
        assert beside.troubles == {"w-1": "it does not answer"}
        work.fault = None
        while not work.ended:
            beside.keep_at({"w-1": work})
            await asyncio.sleep(0.001)
    await settled(beside)
    assert beside.troubles == {}


async def test_what_is_called_for_no_longer_is_forgotten() -> None:
    beside, work = Beside(rest_s=60), Work()
    work.fault = OutpostFault("it does not answer", outpost="far")
    work.let_go.set()
    beside.keep_at({"w-1": work})
    await settled(beside)
    assert beside.troubles == {}
    beside.keep_at({"w-1": work})
    assert beside.running == 1, "and does not rest for what was long ago"
    await beside.close()


async def test_a_fault_of_ours_is_raised_in_a_round() -> None:
    beside, work, other = Beside(), Work(), Work()
    work.fault = ValueError("a bug")
    work.let_go.set()
    beside.keep_at({"w-1": work})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="a bug"):
        beside.keep_at({"w-1": work, "w-2": other})
    assert beside.running == 1, "the others are begun all the same"
    await beside.close()


async def test_closing_cancels() -> None:
    beside, work = Beside(), Work()
    beside.keep_at({"w-1": work})
    await asyncio.sleep(0)
    await beside.close()
    await beside.close()
    assert (beside.running, work.begun, work.ended) == (0, 1, 0)

"""The loop that takes away what nobody needs any more, on what real workers left."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.control.loops import sweep
from outpost.control.loops.sweep import FIRST_S, Sweep, is_nearly_full, shorten
from outpost.federation import Federation
from outpost.model import Attempt, State
from tests.faulty_world import SteppedClock
from tests.integration.loops_world import Ours
from tests.world import CONFIG, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

DAY_S = 86_400


async def ended(world: World, federation: Federation, script: str) -> Attempt:
    """Run a worker to its end, and until nothing of it lives."""
    attempt = await (await world.spawn(federation, script)).result()
    world.gone(attempt.id)
    return attempt


async def swept(federation: Federation, *names: str) -> Sweep:
    """Return the loop after its first sweep."""
    loop = Sweep(federation, leased=Ours(*names))
    await loop.round()
    await loop.round()
    return loop


async def stored(federation: Federation) -> set[str]:
    return {attempt.id for attempt in await federation.store.attempts(ended=True)}


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


async def test_it_begins_a_while_after_the_start_and_goes_on_every_hour(
    world: World, clock: SteppedClock
) -> None:
    async with world.federation() as federation:
        federation.clock = clock
        attempt = await ended(world, federation, "true")
        clock.step(31 * DAY_S)
        loop = Sweep(federation, leased=Ours("local"))
        assert loop.every_s == 3600
        await loop.round()
        assert (loop.every_s, await stored(federation)) == (FIRST_S, {attempt.id})
        await loop.round()
        assert (loop.every_s, await stored(federation)) == (3600, set())


async def test_what_ended_long_ago_goes_but_no_work_and_it_says_so(
    world: World, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "outpost.controller")
    async with world.federation() as federation:
        federation.clock = clock
        saved = await ended(world, federation, "echo x > new.txt; exit 1")
        world.remote.reject_pushes("not today")
        unsaved = await ended(world, federation, "echo x > new.txt; exit 1")
        clock.step(29 * DAY_S)
        await swept(federation, "local")
        assert await stored(federation) == {saved.id, unsaved.id}
        clock.step(2 * DAY_S)
        await swept(federation, "another")
        assert await stored(federation) == {saved.id, unsaved.id}, "that outpost is not ours"
        caplog.clear()
        await swept(federation, "local")
        assert await stored(federation) == {unsaved.id}
    assert world.tree(unsaved.id).is_dir()
    assert not world.place(saved.id).exists()
    (said,) = [it for it in caplog.records if saved.id in it.getMessage()]
    assert said.getMessage().startswith(f"removed worker {saved.id}, ")
    where = {key: said.__dict__[key] for key in ("worker", "task", "outpost")}
    assert where == {"worker": saved.id, "task": saved.task_id, "outpost": "local"}
    assert not [it for it in caplog.records if unsaved.id in it.getMessage()]


async def test_kept_for_ever_means_litter_alone_goes(world: World, clock: SteppedClock) -> None:
    text = CONFIG + "controller: {keep_ended: null}\n"
    async with world.federation(config=text) as federation:
        federation.clock = clock
        attempt = await ended(world, federation, "true")
        litter = world.place(attempt.id) / "screen.json"
        litter.write_text("{}")
        hours_ago = time.time() - 2 * 3600
        os.utime(litter, (hours_ago, hours_ago))
        clock.step(999 * DAY_S)
        await swept(federation, "local")
        assert await stored(federation) == {attempt.id}
        assert not litter.exists()


async def test_on_a_full_disk_a_day_is_long_ago(
    small_disk: Callable[[Path, int], None], world: World, clock: SteppedClock
) -> None:
    small_disk(world.home, 64)
    text = CONFIG.replace("    max_workers: 40\n", "    min_free_mib: 0\n")
    async with world.federation(config=text) as federation:
        federation.clock = clock
        attempt = await ended(world, federation, "true")
        assert not is_nearly_full(world.home)
        ballast = world.home / "ballast"
        clock.step(2 * DAY_S)
        await swept(federation, "local")
        assert await stored(federation) == {attempt.id}
        ballast.write_bytes(b"x" * (58 << 20))
        assert is_nearly_full(world.home)
        loop = await swept(federation, "local")
        assert await stored(federation) == set()
        assert loop.doing == f"the disk of {world.home} is nearly full"


async def test_a_full_disk_takes_nothing_that_is_kept_for_ever(
    small_disk: Callable[[Path, int], None], world: World, clock: SteppedClock
) -> None:
    small_disk(world.home, 64)
    text = CONFIG.replace("    max_workers: 40\n", "    min_free_mib: 0\n")
    async with world.federation(config=text + "controller: {keep_ended: null}\n") as federation:
        federation.clock = clock
        attempt = await ended(world, federation, "true")
        (world.home / "ballast").write_bytes(b"x" * (58 << 20))
        clock.step(2 * DAY_S)
        await swept(federation, "local")
        assert await stored(federation) == {attempt.id}


async def test_old_transitions_go(world: World, clock: SteppedClock) -> None:
    async with world.federation() as federation:
        federation.clock = clock
        await ended(world, federation, "true")
        before = await federation.store.transitions()
        assert before[-1].after is State.DONE
        clock.step(91 * DAY_S)
        late = await ended(world, federation, "true")
        await swept(federation, "local")
        left = await federation.store.transitions()
        assert left
        assert {it.task_id for it in left} == {late.task_id}


def test_a_log_keeps_its_newer_half_and_who_appends_goes_on_behind(tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    shorten(log, 100)
    with log.open("ab", buffering=0) as appending:
        for number in range(10):
            appending.write(f"line {number:04}\n".encode())
        shorten(log, 100)
        assert len(log.read_text().splitlines()) == 10
        appending.write(b"line 0010\n")
        shorten(log, 100)
        appending.write(b"line 0011\n")
    lines = log.read_text().splitlines()
    assert lines == [f"line {number:04}" for number in range(7, 12)]


async def test_the_controller_s_own_log_is_shortened(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "MOST_LOG_BYTES", 1000)
    async with world.federation() as federation:
        await federation.store.federation_id()
        log = world.home / sweep.LOG
        log.write_text("a line\n" * 1000)
        await swept(federation, "local")
        assert 400 < log.stat().st_size < 600

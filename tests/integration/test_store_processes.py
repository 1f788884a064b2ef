"""The store in the hands of many processes at once, and of some that are killed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from outpost.model import ACTIVE, ENDED, State
from outpost.store import open_store
from tests.integration.store_worker import MAX_WORKERS
from tests.unit.store_values import a_decision, a_task, an_attempt

pytestmark = pytest.mark.integration

WORKER = "tests.integration.store_worker"
PROCESSES = 4
DEADLINE_S = 60.0


@contextmanager
def worker(*arguments: object, module: str = WORKER) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def outputs(*commands: tuple[object, ...], module: str = WORKER) -> list[list[str]]:
    """Run all at once; every one must succeed in silence. Return the words each printed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(worker(*command, module=module)) for command in commands]
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        printed = []
        for process in processes:
            out, err = process.communicate(timeout=DEADLINE_S)
            assert (process.returncode, err) == (0, "")
            printed.append(out.split())
    return printed


def check_sound(path: Path) -> None:
    """The file is whole, and what its tables say of each other is true."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        newest = connection.execute(
            "SELECT tasks.state, attempts.state FROM tasks LEFT JOIN attempts"
            " ON attempts.task_id = tasks.id AND attempts.number = tasks.attempts_made"
        ).fetchall()
        undecided = connection.execute(
            "SELECT count(*) FROM attempts WHERE id NOT IN"
            " (SELECT attempt_id FROM decisions WHERE attempt_id IS NOT NULL)"
        ).fetchone()
        unlogged = connection.execute(
            "SELECT count(*) FROM attempts WHERE state IS NOT (SELECT after FROM transitions"
            " WHERE attempt_id = attempts.id ORDER BY id DESC LIMIT 1)"
        ).fetchone()
    assert undecided == unlogged == (0,)
    for task, attempt in newest:
        if task in ACTIVE or task in ENDED - {State.STOPPED}:
            assert attempt == task
        else:
            assert attempt in (None, State.FAILED, State.LOST)


@pytest.mark.parametrize("round_number", range(3))
def test_the_first_start_of_many_at_once(tmp_path: Path, round_number: int) -> None:
    path = tmp_path / "new" / "outpost.db"
    printed = outputs(*[("first", path)] * PROCESSES)
    assert len({words[0] for words in printed}) == 1
    check_sound(path)


def test_slots_are_never_oversold(tmp_path: Path) -> None:
    path = tmp_path / "outpost.db"
    each = 25
    printed = outputs(*[("fill", path, name, each) for name in "abcd"[:PROCESSES]])
    assert [len(words) for words in printed] == [each] * PROCESSES
    check_sound(path)

    async def states() -> dict[State, int]:
        store = open_store(path)
        try:
            return dict(await store.count_by_state())
        finally:
            await store.close()

    assert asyncio.run(states()) == {State.DONE: each * PROCESSES}


def test_a_task_has_one_winner(tmp_path: Path) -> None:
    path = tmp_path / "outpost.db"
    count = 60

    async def fill() -> None:
        store = open_store(path)
        for number in range(1, count + 1):
            await store.add_task(a_task(number))
        await store.close()

    asyncio.run(fill())
    printed = outputs(*[("race", path, name, count) for name in "abcd"[:PROCESSES]])
    won = sorted(task for words in printed for task in words)
    assert won == sorted(a_task(number).id for number in range(1, count + 1))
    check_sound(path)


def test_processes_killed_at_any_moment_leave_a_sound_store(tmp_path: Path) -> None:
    path = tmp_path / "outpost.db"
    confirmed: set[str] = set()
    for turn in range(6):
        with (
            worker("churn", path, f"a{turn}") as first,
            worker("churn", path, f"b{turn}") as second,
        ):
            for process in (first, second):
                assert process.stdout
                # Killed after a different number of steps each turn, wherever it is by then.
                confirmed.update(process.stdout.readline().strip() for _ in range(1 + turn * 3))
                os.kill(process.pid, 9)
                rest = process.stdout.read().split("\n")
                confirmed.update(rest[:-1])
                process.wait()
        check_sound(path)
    asyncio.run(check_slots(path, confirmed))


async def check_slots(path: Path, confirmed: set[str]) -> None:
    """What was confirmed is there; the slots of the killed are held, and can be given back."""
    store = open_store(path)
    for task_id in confirmed:
        assert (await store.task(task_id)).state is State.DONE
    active = await store.attempts()
    assert (await store.counts()).get("local", 0) == len(active) <= MAX_WORKERS
    for attempt in active:
        assert await store.release(attempt, "its process died") is (attempt.state is State.RESERVED)
    left = len(await store.attempts())
    task = a_task(0xFFFFF)
    await store.add_task(task)
    assert await store.claim(an_attempt(task), a_decision(task), max_workers=left + 1)
    await store.close()

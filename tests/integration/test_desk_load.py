"""Much at once over one channel: nothing starves, nothing grows without bound, idling is cheap."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import psutil
import pytest

from outpost.transports.desk import DeskShell
from tests.integration.desk_world import FarMachine, Machine, desk_on, eventually

pytestmark = pytest.mark.integration


async def process_of(shell: DeskShell) -> psutil.Process:
    pid = (await shell.facts())["pid"]
    assert isinstance(pid, int)
    return psutil.Process(pid)


async def test_five_hundred_requests_at_once_are_all_answered(tmp_path: Path) -> None:
    async with desk_on() as shell:

        async def all_three(number: int) -> None:
            data = str(number).encode()
            await shell.put(f"{tmp_path}/{number}", data)
            assert await shell.get(f"{tmp_path}/{number}") == data
            assert (await shell.run(["cat"], stdin=data)).stdout == data

        await asyncio.gather(*(all_three(number) for number in range(500)))
        desk = await process_of(shell)
        assert not desk.children()
        assert desk.num_fds() < 20
        assert shell.traffic.connections == 1
    assert len(list(tmp_path.iterdir())) == 500


async def test_two_hundred_files_are_followed_cheaply(tmp_path: Path) -> None:
    grown = 10
    seen = dict.fromkeys(range(200), b"")

    async def follow(number: int) -> None:
        async with contextlib.aclosing(shell.stream(f"{tmp_path}/{number}")) as pieces:
            async for piece in pieces:
                seen[number] += piece
                if seen[number].endswith(b"end"):
                    return

    async with desk_on() as shell, asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(follow(number))
        desk = await process_of(shell)
        await eventually(lambda: shell.traffic.requests >= 200, "all are asked for")
        for step in range(grown):
            for number in range(200):
                with (tmp_path / str(number)).open("ab") as file:
                    file.write(b"%d," % step)
            await eventually(
                lambda step=step: all(it.endswith(b"%d," % step) for it in seen.values()),  # type: ignore[misc]
                f"all have seen step {step}",
            )
        # Each piece that has arrived is answered with a wish for the next one.
        await eventually(lambda: shell.traffic.requests == 200 * (grown + 1), "all ask for more")
        await asyncio.sleep(0.2)  # until that is sent
        began, spent = time.monotonic(), sum(desk.cpu_times()[:2])
        received = shell.traffic.bytes_received + shell.traffic.bytes_sent
        await asyncio.sleep(3)
        share = (sum(desk.cpu_times()[:2]) - spent) / (time.monotonic() - began)
        assert share < 0.1, f"{share:.0%} of a processor for 200 files at rest"
        assert shell.traffic.bytes_received + shell.traffic.bytes_sent == received
        for number in range(200):
            with (tmp_path / str(number)).open("ab") as file:
                file.write(b"end")
    assert set(seen.values()) == {b"0,1,2,3,4,5,6,7,8,9,end"}


async def test_a_large_stream_and_a_small_command_do_not_wait_for_each_other(
    tmp_path: Path,
) -> None:
    size = 100 << 20
    path = tmp_path / "large"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(1 << 20))
    got = 0

    async def follow() -> None:
        nonlocal got
        async with contextlib.aclosing(shell.stream(str(path))) as pieces:
            async for piece in pieces:
                got += len(piece)
                if got >= size:
                    return

    slowest_s = 0.0
    calls = 0
    async with desk_on() as shell:
        desk = await process_of(shell)
        before = desk.memory_info().rss
        task = asyncio.create_task(follow())
        while not task.done():
            began = time.monotonic()
            assert (await shell.run(["true"])).exit_code == 0
            slowest_s = max(slowest_s, time.monotonic() - began)
            calls += 1
        await task
        grown = desk.memory_info().rss - before
    assert got == size
    assert calls > 5
    assert slowest_s < 3
    assert grown < 16 << 20, f"the desk grew by {grown >> 20} MiB"


async def test_a_command_that_floods_is_read_only_as_fast_as_it_is_heard() -> None:
    machine = Machine()
    async with desk_on(machine) as shell:
        desk = await process_of(shell)
        before = desk.memory_info().rss
        task = asyncio.create_task(shell.run(["head", "-c", str(60 << 20), "/dev/zero"]))
        quick = [await shell.run(["true"]) for _ in range(5)]
        assert {it.exit_code for it in quick} == {0}
        assert len((await task).stdout) == 60 << 20
        assert desk.memory_info().rss - before < 16 << 20


async def test_a_client_that_does_not_listen_holds_up_a_desk_without_filling_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    machine = Machine()
    async with desk_on(machine) as shell:
        desk = await process_of(shell)
        before = desk.memory_info().rss
        got = await asyncio.gather(*(shell.get(f"{tmp_path}/file") for _ in range(60)))
        assert {len(it) for it in got} == {1 << 20}
        assert desk.memory_info().rss - before < 16 << 20


async def test_at_a_distance_a_first_call_and_many_at_once_take_one_round_trip(
    tmp_path: Path,
) -> None:
    async with desk_on(FarMachine(0.3)) as shell:
        for calls in (1, 50):
            began = time.monotonic()
            await asyncio.gather(*(shell.put(f"{tmp_path}/{it}", b"x") for it in range(calls)))
            assert 0.6 <= time.monotonic() - began < 3
        assert shell.traffic.round_trips == 2


async def test_a_large_upload_lets_a_small_command_through(tmp_path: Path) -> None:
    async with desk_on() as shell:
        await shell.facts()
        task = asyncio.create_task(shell.put(f"{tmp_path}/file", bytes(150 << 20)))
        await eventually(lambda: list(tmp_path.iterdir()), "it is being written")
        assert (await shell.run(["true"])).exit_code == 0
        assert not task.done(), "the command came through meanwhile"
        await task
    assert (tmp_path / "file").stat().st_size == 150 << 20


async def test_more_commands_than_run_at_once_wait_for_their_turn(tmp_path: Path) -> None:
    async with desk_on() as shell:
        sleepers = [asyncio.create_task(shell.run(["sleep", "60"])) for _ in range(128)]
        await shell.facts()
        desk = await process_of(shell)
        await eventually(lambda: len(desk.children()) == 128, "all of them run")
        with pytest.raises(TimeoutError, match="touch: not done in time"):
            await shell.run(["touch", f"{tmp_path}/done"], timeout_s=0.3)
        last = asyncio.create_task(shell.run(["touch", f"{tmp_path}/turn"]))
        assert await shell.get("/etc/passwd")
        assert not last.done()
        sleepers[0].cancel()
        assert (await last).exit_code == 0
        for sleeper in sleepers:
            sleeper.cancel()
        await eventually(lambda: not desk.children(), "none runs any more")
    assert os.listdir(tmp_path) == ["turn"]  # noqa: PTH208 - a name is enough

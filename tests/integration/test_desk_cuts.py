"""A connection may end anywhere: nothing is left running, and the next call connects again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from outpost.runner.desk import Frames, frame
from outpost.transports.desk_link import LinkLost, Patience
from outpost.transports.desk_start import bootstrap_argv, desk_source
from tests.integration.desk_world import ChildPipe, Machine, desk_on, eventually, written_pid
from tests.world import alive, until

pytestmark = pytest.mark.integration
QUICK = Patience(pause_least_s=0.05, pause_most_s=0.4, short_pause_s=0.1)
STEADFAST = Patience(pause_least_s=0.01, pause_most_s=0.01)


async def test_a_lost_connection_is_an_error_and_the_next_call_makes_another() -> None:
    machine = Machine()
    async with desk_on(machine, patience=STEADFAST) as shell:
        await shell.facts()
        task = asyncio.create_task(shell.run(["sleep", "3"]))
        await eventually(lambda: shell.traffic.requests, "it is asked for")
        machine.kill()
        with pytest.raises(LinkLost, match="the connection was lost"):
            await task
        assert (await shell.run(["echo", "again"])).stdout == b"again\n"
        assert shell.traffic.connections == 2


async def _talk(machine: Machine, folder: Path) -> int:
    """Make one call of each kind; return how many bytes came for them."""
    async with desk_on(machine, patience=STEADFAST) as shell:
        await shell.put(f"{folder}/file", b"data")
        assert await shell.get(f"{folder}/file") == b"data"
        assert (await shell.run(["echo", "said"])).stdout == b"said\n"
        async with contextlib.aclosing(shell.stream(f"{folder}/file")) as pieces:
            async for piece in pieces:
                if piece:
                    assert piece == b"data"
                    break
        return shell.traffic.bytes_received


async def test_cut_behind_every_byte_a_call_fails_or_is_whole(tmp_path: Path) -> None:
    whole = await _talk(Machine(), tmp_path)
    async with asyncio.TaskGroup() as group:
        slots = asyncio.Semaphore(4)

        async def cut(at: int) -> None:
            async with slots:
                machine = Machine(bootstrap_argv(sys.executable))
                machine.cuts = [at]
                with contextlib.suppress(OSError):
                    await _talk(machine, tmp_path / str(at))
                for file in (tmp_path / str(at)).glob("*"):
                    assert file.read_bytes() == b"data"

        for at in range(0, whole, 7):
            group.create_task(cut(at))


async def test_a_stream_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    data = os.urandom(1_000_000)
    log.write_bytes(data)
    machine = Machine()
    machine.cuts = [100_000, 300_000, 700_001]
    seen = b""
    async with (
        desk_on(machine, patience=STEADFAST) as shell,
        contextlib.aclosing(shell.stream(str(log))) as pieces,
    ):
        async for piece in pieces:
            seen += piece
            if len(seen) >= len(data):
                break
        assert shell.traffic.connections == 4
    assert seen == data


async def test_a_stream_ends_with_an_error_where_the_place_is_gone(tmp_path: Path) -> None:
    machine = Machine()
    (tmp_path / "log").write_bytes(b"a")
    async with (
        desk_on(machine, patience=QUICK) as shell,
        contextlib.aclosing(shell.stream(f"{tmp_path}/log")) as pieces,
    ):
        assert await anext(pieces) == b"a"
        machine.refusal = ConnectionRefusedError("nobody listens")
        machine.kill()

        async def rest() -> None:
            async for piece in pieces:
                assert piece == b""

        with pytest.raises(OSError, match="nobody listens"):
            await rest()


async def test_many_streams_reconnect_over_one_connection(tmp_path: Path) -> None:
    machine = Machine()
    async with desk_on(machine, patience=STEADFAST) as shell:

        async def follow(number: int) -> None:
            path = tmp_path / str(number)
            path.write_bytes(b"a")
            async with contextlib.aclosing(shell.stream(str(path))) as pieces:
                seen = b""
                async for piece in pieces:
                    seen += piece
                    if seen == b"ab":
                        return
                    if piece:
                        begun.add(number)

        begun: set[int] = set()
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(follow(number))
            await eventually(lambda: len(begun) == 20, "all are followed")
            machine.kill()
            for number in range(20):
                with (tmp_path / str(number)).open("ab") as file:
                    file.write(b"b")
        assert shell.traffic.connections == 2


async def test_while_a_place_is_out_of_reach_calls_fail_at_once_and_say_why() -> None:
    machine = Machine()
    machine.refusal = ConnectionRefusedError("nobody listens")
    async with desk_on(machine, patience=QUICK) as shell:
        errors: list[str] = []
        async with asyncio.timeout(20):
            while not errors or "out of reach" not in errors[-1]:
                with pytest.raises(OSError, match="nobody listens") as caught:
                    await shell.run(["true"])
                errors.append(str(caught.value))
        assert "the box is out of reach for 0 s: nobody listens (tried again in" in errors[-1]
        began = time.monotonic()
        with pytest.raises(OSError, match="out of reach"):
            await shell.get("/etc/hostname")
        assert time.monotonic() - began < 0.5
        machine.refusal = None
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    assert (await shell.run(["true"])).exit_code == 0
                    break
                await asyncio.sleep(0.02)


async def test_a_place_that_lets_nobody_in_and_nobody_go_is_given_up() -> None:
    class Slow(Machine):
        async def open_pipe(self) -> ChildPipe:
            await asyncio.sleep(60)
            return await super().open_pipe()

    async with desk_on(Slow(), patience=Patience(connect_s=0.2)) as shell:
        with pytest.raises(TimeoutError, match=r"no connection to the box within 0\.2 s"):
            await shell.run(["true"])


async def test_many_calls_at_once_try_a_dead_place_few_times() -> None:
    tries = 0

    class Dead(Machine):
        async def open_pipe(self) -> ChildPipe:
            nonlocal tries
            tries += 1
            raise ConnectionRefusedError("nobody listens")

    async with desk_on(Dead(), patience=QUICK) as shell:
        got = await asyncio.gather(*(shell.get("/x") for _ in range(100)), return_exceptions=True)
    assert all(isinstance(it, ConnectionError) for it in got)
    assert tries <= 3


async def test_a_dead_peer_is_noticed_though_nothing_is_closed() -> None:
    machine = Machine()
    patience = Patience(ping_s=0.2, silent_s=0.6)
    async with desk_on(machine, patience=patience) as shell:
        await shell.facts()
        pid = machine.pipes[0].process.pid
        desks = [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for desk in desks:
            os.kill(desk, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(OSError, match="nothing was heard for"):
                await shell.run(["sleep", "20"])
            assert time.monotonic() - began < 5
        finally:
            for desk in desks:
                os.kill(desk, signal.SIGCONT)


async def test_an_idle_connection_stays_up() -> None:
    machine = Machine()
    async with desk_on(machine, patience=Patience(ping_s=0.05, silent_s=2)) as shell:
        await shell.facts()
        sent = shell.traffic.bytes_sent
        await eventually(lambda: shell.traffic.bytes_sent > sent + 100, "signs of life go out")
        assert (await shell.run(["true"])).exit_code == 0
        assert shell.traffic.connections == 1


async def test_ten_requests_at_once_are_one_round_trip(tmp_path: Path) -> None:
    async with desk_on() as shell:
        await asyncio.gather(*(shell.put(f"{tmp_path}/{it}", b"x") for it in range(10)))
        assert shell.traffic.round_trips == 1
        await shell.get(f"{tmp_path}/1")
        await shell.get(f"{tmp_path}/2")
        assert shell.traffic.round_trips == 3
    assert len(list(tmp_path.iterdir())) == 10


async def test_a_desk_whose_client_is_gone_kills_what_it_runs(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    script = f"echo $$ > {parent}; sh -c 'echo $$ > {child}; sleep 300' & wait"
    machine = Machine()
    async with desk_on(machine) as shell:
        task = asyncio.create_task(shell.run(["sh", "-c", script]))
        await eventually(lambda: written_pid(parent) and written_pid(child), "both run")
    with pytest.raises(ConnectionError):
        await task
    for path in (parent, child):
        pid = written_pid(path)
        assert pid
        await eventually(lambda pid=pid: not alive(pid), "it is dead")  # type: ignore[misc]
    assert machine.pipes[0].process.returncode == 0


async def test_a_cancelled_upload_leaves_nothing(tmp_path: Path) -> None:
    async with desk_on() as shell:
        await shell.facts()
        task = asyncio.create_task(shell.put(f"{tmp_path}/file", bytes(200 << 20)))
        await eventually(lambda: list(tmp_path.iterdir()), "it is being written")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await shell.run(["true"])
        assert not list(tmp_path.iterdir())


class Bare:
    """A desk that is talked to without the client."""

    def __init__(self, source: bytes | None = None) -> None:
        self.process = subprocess.Popen(
            bootstrap_argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.send(source or desk_source())

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def end(self) -> tuple[int, bytes]:
        """Close its stdin; return its exit code and all that it said."""
        said, _ = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"does not understand: a frame of"),
        (frame({"id": 1, "verb": "dance"}), b"does not understand: an unknown verb: 'dance'"),
        (frame({"id": 1}), b"does not understand: an unknown verb: None"),
        (frame({"id": 1, "verb": "get"}), b"does not understand: a malformed request: get"),
        (frame({"id": 1, "verb": "run", "argv": 3}), b"a malformed request: run"),
    ],
)
def test_garbage_ends_a_desk_with_a_word(garbage: bytes, why: bytes) -> None:
    desk = Bare()
    desk.send(garbage)
    until(lambda: desk.process.poll() is not None, "it ends by itself")
    code, said = desk.end()
    assert code == 2
    assert why in said
    assert b"Traceback" not in said


def test_an_upload_cut_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    desk = Bare()
    request = {"verb": "put", "id": 1, "path": f"{tmp_path}/file", "mode": 0o600, "more": True}
    desk.send(frame(request, b"half"))
    until(lambda: list(tmp_path.iterdir()), "it is being written")
    assert desk.end()[0] == 0
    assert not list(tmp_path.iterdir())


def test_a_desk_that_nobody_talks_to_ends(tmp_path: Path) -> None:
    source = zlib.decompress(desk_source()[8:])
    hasty = source.replace(b"SILENCE_S = 120.0", b"SILENCE_S = 1.0")
    assert hasty != source
    packed = zlib.compress(hasty)
    desk = Bare(b"%08d" % len(packed) + packed)
    argv = ["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 300"]
    desk.send(frame({"verb": "run", "id": 1, "argv": argv, "environment": None, "timeout_s": 100}))
    pid = until(lambda: written_pid(tmp_path / "pid"), "it runs")
    assert pid
    until(lambda: desk.process.poll() is not None, "it ends by itself")
    until(lambda: not alive(pid), "what it ran is dead")
    desk.end()


def test_requests_cut_behind_any_byte_are_carried_out_whole_or_not_at_all(tmp_path: Path) -> None:
    talk = b""
    for number in (1, 2):
        path = f"{tmp_path}/here/{number}"
        request = {"verb": "put", "id": number, "path": path, "mode": 0o600, "more": True}
        talk += frame(request, b"half") + frame({"verb": "piece", "id": number}, b"and half")
    for cut in range(0, len(talk) + 1, 17):
        desk = Bare()
        desk.send(talk[:cut])
        # Whatever was whole is answered before the end is heard.
        said = b""
        while talk[:cut].count(b"and half") > said.count(b'"id":1}') + said.count(b'"id":2}'):
            assert desk.process.stdout is not None
            said += os.read(desk.process.stdout.fileno(), 1 << 16)
        code, _ = desk.end()
        assert code == 0
        files = list((tmp_path / "here").glob("*"))
        assert {it.read_bytes() for it in files} <= {b"halfand half"}
        assert len(files) == talk[:cut].count(b"and half")
        for file in files:
            file.unlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_desk_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    desk = Bare()
    script = f"echo $$ > {tmp_path}/pid; sleep 300"
    argv = ["sh", "-c", script]
    desk.send(frame({"verb": "run", "id": 1, "argv": argv, "environment": None, "timeout_s": 100}))
    pid = until(lambda: written_pid(tmp_path / "pid"), "it runs")
    assert pid
    served = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(served, number)
    until(lambda: not alive(pid), "what it ran is dead")
    _, said = desk.end()
    frames = Frames().feed(said.split(b"\n", 2)[2])
    assert [header["id"] for header, _ in frames] == [0]

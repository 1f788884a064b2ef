"""Workers behind ``runner serve``: many streams in one process, dispatch to a warm one, a cold one.

Run as ``python -m benchmarks.http``. Nothing but loopback is between both ends. The floor of a
dispatch is a bare request of the same library to the same server; that of a cold start a Python
that imports the server library. Exits 1 where a limit does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.board import Board
from benchmarks.checks import Check, main
from benchmarks.controllers import use_of
from benchmarks.figures import NotMeasured
from benchmarks.puppets import SPARE_LINES, Puppets, employ
from benchmarks.sample import Sandbox
from benchmarks.watching import percentiles_ms
from outpost.control.environment import worker_environment
from outpost.model import Capabilities, Handle, Health, Quote, Task
from outpost.ports import Setup
from outpost.testing import Bench, BenchOptions
from outpost.transports.containers import Address, Container
from outpost.transports.http_client import Caller
from outpost.transports.http_containers import ContainerOutpost
from outpost.transports.http_held import HeldOutpost
from outpost.transports.http_link import LinkTerms

TOKEN = "a-token-of-this-benchmark"
MS = 1e3
DISPATCH_RATIO = 2.0
COLD_MS = 300.0
STREAMS = (50, 200, 1000)
TERMS = LinkTerms(keep_s=30.0, request_s=3000.0, lease_s=60.0, patience_s=30.0)
QUIET_S = 0.1
"""So that the worker before does not count: it takes its time to leave."""
SETTLE_S = 8.0
"""So that what attaching costs is not counted."""


class Server:
    """A ``runner serve`` on the folder ``root``."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.began_s = time.perf_counter()
        argv = [sys.executable, "-m", "outpost.runner", "serve", "--root", str(root)]
        self.process = subprocess.Popen(
            [*argv, "--listen", "127.0.0.1:0", "--max-workers", "2000"],
            env={**environment, "OUTPOST_SERVE_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise NotMeasured(f"runner serve said {line!r}")
        self.address = Address(url=f"http://{line.removeprefix('listening on ').strip()}")

    def end(self) -> None:
        """End it; its workers have ended by now."""
        self.process.terminate()
        self.process.wait(30)


class OneServer(ContainerOutpost):
    """All workers behind one server, as if each had a container of its own."""

    kind: ClassVar[str] = "benchmark"
    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(self, setup: Setup, address: Address) -> None:
        super().__init__(setup)
        self._address = address

    async def ping(self) -> Health:
        return Health(ok=True)

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="a benchmark")

    async def look(self, worker_id: str | None = None) -> Sequence[Container]:
        assert worker_id
        return [Container(worker_id=worker_id, state="running", address=self._address)]

    def token_of(self, worker_id: str) -> str:
        return TOKEN


class OneInstance(HeldOutpost):
    """The same server, held by an open request."""

    kind: ClassVar[str] = "benchmark"
    capabilities: ClassVar[Capabilities] = Capabilities(held=True)

    def __init__(self, setup: Setup, address: Address) -> None:
        super().__init__(setup, TERMS)
        self._where = address

    async def ping(self) -> Health:
        return Health(ok=True)

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="a benchmark")

    async def url(self) -> str:
        return self._where.url

    async def headers(self) -> Mapping[str, str]:
        return {}

    def token(self) -> str:
        return TOKEN


async def measure(options: argparse.Namespace) -> list[Check]:
    """Measure all there is to measure."""
    checks = await _dispatches(options.times)
    for count in options.streams:
        checks += await _streams(count, options.seconds)
    return checks


async def _dispatches(times: int) -> list[Check]:
    with Sandbox() as sandbox:
        environment = sandbox.environment()
        cold_s, bare_s = [], []
        for number in range(times):
            bare_s.append(_bare_start(environment))
            async with _instance(sandbox, f"cold{number}") as (server, outpost):
                handle = await _spawn(sandbox, outpost)
                await _first_event(outpost, handle)
                cold_s.append(time.perf_counter() - server.began_s)
                await _ended(outpost, handle)
        async with _instance(sandbox, "warm") as (server, outpost):
            await _ended(outpost, await _spawn(sandbox, outpost))
            dispatch_s, request_s = [], []
            caller = Caller()
            await caller.health(server.address, TOKEN)
            for _ in range(times):
                await asyncio.sleep(QUIET_S)
                began = time.perf_counter()
                await caller.health(server.address, TOKEN)
                request_s.append(time.perf_counter() - began)
                await asyncio.sleep(QUIET_S)
                dispatch_s.append(await _dispatch(sandbox, outpost))
    cold_ms = (statistics.median(cold_s) - statistics.median(bare_s)) * MS
    ratio = statistics.median(dispatch_s) / statistics.median(request_s)
    return [
        Check(what="bare request", figure=statistics.median(request_s) * MS, unit="ms"),
        Check(
            what="dispatch on a warm instance", figure=statistics.median(dispatch_s) * MS, unit="ms"
        ),
        Check(what="- against the bare request", figure=ratio, unit="x", at_most=DISPATCH_RATIO),
        Check(what="server library's start", figure=statistics.median(bare_s) * MS, unit="ms"),
        Check(what="cold: first event beyond that", figure=cold_ms, unit="ms", at_most=COLD_MS),
    ]


async def _dispatch(sandbox: Sandbox, outpost: OneInstance) -> float:
    began = time.perf_counter()
    handle = await _spawn(sandbox, outpost)
    took_s = time.perf_counter() - began
    await _ended(outpost, handle)
    return took_s


def _bare_start(environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    code = "import granian.server.embed, asyncio"
    subprocess.run([sys.executable, "-c", code], env=dict(environment), check=True)
    return time.perf_counter() - began


@contextlib.asynccontextmanager
async def _instance(sandbox: Sandbox, name: str) -> AsyncIterator[tuple[Server, OneInstance]]:
    server = Server(sandbox.folder / name, sandbox.environment())
    outpost = OneInstance(_setup(sandbox, name), server.address)
    try:
        yield server, outpost
    finally:
        await outpost.close()
        server.end()


def _setup(sandbox: Sandbox, name: str) -> Setup:
    return Setup(
        name=name,
        federation_id="f-benchmark",
        data_folder=str(sandbox.folder / "data"),
        environment=sandbox.environment(),
    )


async def _spawn(sandbox: Sandbox, outpost: OneInstance) -> Handle:
    environment = worker_environment(sandbox.environment(), agent_variables=(), extra=())
    options = BenchOptions(
        make=lambda _: outpost, repo_url=str(sandbox.remote), environment=environment
    )
    order = Bench(options).order("true", federation_id=outpost.federation_id)
    return await outpost.spawn(order, environment)


async def _first_event(outpost: OneInstance, handle: Handle) -> None:
    events = outpost.worker(handle).events(follow=True)
    async with contextlib.aclosing(events):
        async for _ in events:
            return


async def _ended(outpost: OneInstance, handle: Handle) -> None:
    async for _ in outpost.worker(handle).events(follow=True):
        pass
    link = outpost.link_of(handle.worker_id)
    async with asyncio.timeout(10):
        while link is not None and not link.is_warm(0):
            await asyncio.sleep(0.002)


async def _streams(count: int, seconds: float) -> list[Check]:
    """Follow so many workers, each with a line a second, in this process."""
    with Sandbox() as sandbox:
        many = f"outposts: [{{name: local, type: local, max_workers: {count}}}]\n"
        sandbox.config.write_text(many)
        async with sandbox.federation() as federation:
            names = sorted(await employ(federation, count))
        root = sandbox.home() / "outposts" / "local"
        lines = round(seconds * 1.5) + SPARE_LINES
        board_file = sandbox.folder / "board"
        puppets = Puppets(root, board_file, lines=lines, rate=1.0)
        server = Server(root, sandbox.environment())
        outpost = OneServer(_setup(sandbox, "streams"), server.address)
        board = Board(board_file, count, lines)
        try:
            return await _followed(outpost, names, board, puppets, server, seconds)
        finally:
            await outpost.close()
            puppets.leave()
            server.end()


async def _followed(
    outpost: OneServer,
    names: Sequence[str],
    board: Board,
    puppets: Puppets,
    server: Server,
    seconds: float,
) -> list[Check]:
    lags_s = array("d")
    attached = 0

    async def follow(number: int, name: str) -> None:
        nonlocal attached
        first = True
        async for event in outpost.worker(outpost.handle_of(name)).events(follow=True):
            if first:
                attached += 1
                first = False
            lags_s.append(time.monotonic() - board.written_at(number, event.seq))

    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(names):
            group.create_task(follow(number, name))
        async with asyncio.timeout(120):
            while attached < len(names):
                await asyncio.sleep(0.1)
        await asyncio.sleep(SETTLE_S)
        del lags_s[:]
        ours, theirs = use_of(os.getpid()), use_of(server.process.pid)
        puppets.talk()
        await asyncio.sleep(seconds)
        later, theirs_later = use_of(os.getpid()), use_of(server.process.pid)
        lag_ms = percentiles_ms(lags_s, (50, 99, 100))
        seen = len(lags_s)
        puppets.end()
    if seen < len(names) * seconds * 0.8:
        raise NotMeasured(f"{seen} lines of {len(names)} workers came in {seconds:g} s")
    took_s = later.at_s - ours.at_s
    return [
        Check(what=f"{len(names)} streams: memory", figure=later.memory_mb, unit="MB"),
        Check(what="- CPU", figure=(later.cpu_s - ours.cpu_s) / took_s, unit="cores"),
        Check(
            what="- CPU of the server",
            figure=(theirs_later.cpu_s - theirs.cpu_s) / took_s,
            unit="cores",
        ),
        Check(what="- descriptors", figure=later.descriptors),
        Check(what="- lag, p50", figure=lag_ms[50], unit="ms"),
        Check(what="- lag, p99", figure=lag_ms[99], unit="ms"),
        Check(what="- lag, most", figure=lag_ms[100], unit="ms"),
    ]


def arguments() -> argparse.ArgumentParser:
    """Return the options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--streams", type=int, nargs="*", default=list(STREAMS))
    return parser


if __name__ == "__main__":
    main(measure, arguments())

"""HTTP libraries side by side: each client to each server, over h2c with prior knowledge.

Run as ``python -m benchmarks.http_libraries``. Each measurement has a client and a server process
of its own. A connection has 100 streams where nothing else is said; other limits are the
libraries' own. gRPC is left out: it is another protocol, which curl cannot drive.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any
from urllib.request import urlopen

import psutil

from benchmarks.controllers import use_of
from benchmarks.figures import MS, markdown

PROGRAM = (sys.executable, "-m", "benchmarks.http_libraries")
CLIENTS = {"httpx2": "httpx2", "niquests": "niquests", "pyqwest": "pyqwest"}
SERVERS = {"granian": "granian.server.embed", "hypercorn": "hypercorn.asyncio"}
TIMES, EXITS, EARLY, MANY, LINES, PATIENCE_S, IDLE_S = 3, 40, 150, 1000, 300, 4.0, 6.0
Cells = dict[str, float | str]
TICKING: set[asyncio.Task[None]] = set()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer what comes, as it comes; or a line each ``x-every`` s; or how many get those."""

    def say(line: bytes, *, more: bool = True) -> Any:
        return send({"type": "http.response.body", "body": line, "more_body": more})

    async def tick(every_s: float) -> None:
        while not await say(b"tick\n"):
            await asyncio.sleep(every_s)

    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/served":
        await say(b"%d" % len(TICKING), more=False)
    elif every_s := float(dict(scope["headers"]).get(b"x-every", 0)):
        TICKING.add(ticking := asyncio.create_task(tick(every_s)))
        while (await receive())["type"] != "http.disconnect":
            pass
        ticking.cancel()
        TICKING.discard(ticking)
    else:
        more = True
        while more and (message := await receive())["type"] == "http.request":
            more = message.get("more_body", False)
            await say(message["body"], more=more)


async def serve(name: str, port: int, streams: int) -> None:
    library = import_module(SERVERS[name])
    if name == "granian":
        http2 = import_module("granian.http").HTTP2Settings(max_concurrent_streams=streams)
        options = {"interface": "asginl", "http2_settings": http2, "log_enabled": False}
        await library.Server(application, port=port, **options).serve()
    else:
        options = {"bind": f"127.0.0.1:{port}", "h2_max_concurrent_streams": streams}
        config = import_module("hypercorn.config").Config.from_mapping(options)
        await library.serve(application, config)


class Client:
    """One of the libraries, and what is measured of it."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port, self.url = name, port, f"http://127.0.0.1:{port}/"
        it = import_module(CLIENTS[name])
        if name == "pyqwest":
            self._it = it.Client(it.HTTPTransport(http_version=it.HTTPVersion.HTTP2))
        elif name == "httpx2":
            self._it = it.AsyncClient(http1=False, http2=True, timeout=None)
        else:
            self._it = it.AsyncSession(disable_http1=True, disable_http3=True)

    @asynccontextmanager
    async def stream(self, body: Any, every_s: float = 0) -> AsyncGenerator[AsyncIterator[Any]]:
        """Yield what comes, as it comes; the request ends where that is left."""
        headers = {"x-every": str(every_s)}
        if self.name == "niquests":
            response = await self._it.post(self.url, data=body, headers=headers, stream=True)
            try:
                yield await response.iter_raw(-1)
            finally:
                await response.close()
        else:
            request = self._it.stream("POST", self.url, content=body, headers=headers)
            async with request as response:
                yield response.content if self.name == "pyqwest" else response.aiter_raw()

    async def post_ms(self, times: int) -> float:
        """Send 200 bytes and read all of the answer, so often; return the p50."""
        took_ms = []
        for _ in range(times):
            began_s = time.perf_counter()
            async with asyncio.timeout(PATIENCE_S), self.stream(b"x" * 200) as content:
                assert len(b"".join([bytes(piece) async for piece in content])) == 200
            took_ms.append((time.perf_counter() - began_s) * MS)
        return statistics.median(took_ms)

    async def follow(self, lines: list[int], number: int, every_s: float) -> None:
        async with self.stream(b"x", every_s) as content:
            async for _ in content:
                lines[number] += 1

    def ports(self) -> set[int]:
        """Return this process's ends of its connections to the server."""
        found = [it for it in psutil.Process().net_connections() if it.status == "ESTABLISHED"]
        return {it.laddr.port for it in found if it.raddr.port == self.port}

    async def post(self, _: int) -> Cells:
        return {"POST of 200 bytes, p50 ms": await self.post_ms(LINES)}

    async def duplex(self, _: int) -> Cells:
        outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        took_ms: list[float] = []
        body = (await outgoing.get() for _ in range(LINES))
        outgoing.put_nowait(b"first\n")
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S), self.stream(body) as content:
                await anext(content)
                while len(took_ms) < LINES - 1:
                    began_s = time.perf_counter()
                    outgoing.put_nowait(b"line\n")
                    await anext(content)
                    took_ms.append((time.perf_counter() - began_s) * MS)
        return {"duplex: a line and back, p50 ms": statistics.median(took_ms) if took_ms else "no"}

    async def early(self, _: int) -> Cells:
        closed, after_ms = 0, f"none in {PATIENCE_S:g} s"
        with suppress(Exception):  # whatever it is, it does not work
            while closed < EARLY:
                async with asyncio.timeout(PATIENCE_S), self.stream(b"x", 0.05) as content:
                    await anext(content)
                closed += 1
        served = float(urlopen(f"{self.url}served").read())
        with suppress(Exception):
            after_ms = f"{await self.post_ms(20):.2g}"
        what, found = f"closed early, of {EARLY}", {"- connections": len(self.ports())}
        return {what: closed, "- still served": served, "- POST then, p50 ms": after_ms, **found}

    async def idle(self, _: int) -> Cells:
        await self.post_ms(1)
        before = self.ports()
        await asyncio.sleep(IDLE_S)
        await self.post_ms(1)
        return {f"idle {IDLE_S:g} s, kept": "yes" if before == self.ports() else "no"}

    async def many(self, server_pid: int) -> Cells:
        lines, pids = [0] * MANY, {"client": os.getpid(), "server": server_pid}
        streams = asyncio.gather(*(self.follow(lines, number, 1.0) for number in range(MANY)))
        await asyncio.sleep(6)
        before, began = list(lines), {who: use_of(pid) for who, pid in pids.items()}
        await asyncio.sleep(6)
        works = sum(now - then > 3 for now, then in zip(lines, before, strict=True))
        found: Cells = {"work": works, "connections": len(self.ports())}
        for who, then in began.items():
            now = use_of(pids[who])
            found[f"{who}, MB"] = now.memory_mb
            found[f"{who}, cores"] = (now.cpu_s - then.cpu_s) / (now.at_s - then.at_s)
        streams.cancel()
        return found

    async def leave(self, pause_ms: int) -> Cells:
        streams = asyncio.gather(*(self.follow([0], 0, 0.01) for _ in range(20)))
        await asyncio.sleep(0.2)
        streams.cancel()
        await asyncio.wait([streams], timeout=PATIENCE_S)
        await asyncio.sleep(pause_ms / MS)
        return {}


def measured(part: str, client: str, name: str, streams: int, number: int = -1) -> Cells:
    """Measure with a new server, in a process of its own, whose exit code comes along."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [*PROGRAM, "serve", name, str(port), str(streams)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as server, ExitStack() as stack:
        stack.callback(server.kill)
        for _ in range(400):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        argv = [*PROGRAM, part, client, str(port), str(server.pid if number < 0 else number)]
        done = subprocess.run(["timeout", "40", *argv], check=False, capture_output=True)
        return {"exit code": done.returncode, **json.loads(done.stdout or "{}")}


def pairs(clients: Sequence[str], servers: Sequence[str]) -> str:
    found: dict[tuple[str, str], dict[str, list[float | str]]] = {}
    plan = [(part, 100) for part in (*("post", "duplex", "early") * TIMES, "idle", "many")]
    for part, streams in [*plan, ("many", 2000)]:
        prefix = f"{MANY:,} streams, {streams:,} a connection: " if part == "many" else ""
        for pair in product(clients, servers):
            for row, figure in measured(part, *pair, streams).items():
                found.setdefault(pair, {}).setdefault(prefix + row, []).append(figure)
    names = dict.fromkeys(row for rows in found.values() for row in rows if "exit" not in row)
    lines = [[name, *(shown(rows.get(name, [])) for rows in found.values())] for name in names]
    return markdown([["", *map(", ".join, found)], *lines])


def shown(figures: Sequence[float | str]) -> str:
    numbers = [float(it) for it in figures if not isinstance(it, str)]
    if not numbers:
        return " or ".join(dict.fromkeys(map(str, figures))) or "failed"
    middle = statistics.median(numbers)
    return f"{middle:,.0f}" if middle >= 100 or middle.is_integer() else f"{middle:.2g}"


def main() -> None:
    modules = {**CLIENTS, **SERVERS}
    for it in (missing := {it for it in modules if not find_spec(it)}):
        print(f"{it} is not installed: pip install {it}")
    print(pairs(sorted({*CLIENTS} - missing), sorted({*SERVERS} - missing)))
    for it in sorted({*modules} - missing):
        code = "import asyncio, time; t = time.time; s = t(); import {}; print(t() - s)"
        argv = [sys.executable, "-c", code.format(modules[it])]
        took_s = [float(subprocess.check_output(argv)) for _ in range(7)]
        print(f"import of {it}: {shown([MS * one_s for one_s in took_s])} ms")
    for pause_ms in (0, 100):
        ended = [measured("leave", "pyqwest", "granian", 100, pause_ms) for _ in range(EXITS)]
        # timeout(1) ends by its child's signal, or tells of it as a shell does.
        aborts = sum(it["exit code"] in (-signal.SIGABRT, 128 + signal.SIGABRT) for it in ended)
        print(f"pyqwest aborted {pause_ms} ms after its streams: {aborts} of {EXITS}")


async def one(what: str, name: str, port: str, number: str) -> None:
    if what == "serve":
        return await serve(name, int(port), int(number))
    return print(json.dumps(await getattr(Client(name, int(port)), what)(int(number))), flush=True)


if __name__ == "__main__":
    asyncio.run(one(*sys.argv[1:])) if sys.argv[1:] else main()

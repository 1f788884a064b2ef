"""A small service to try the stand-in with: ``python -m tests.doubles.cloud_run.sample_app``.

``GET /about``: who answers, as JSON. ``GET /ticks``: how often its clock and that of a child in a
session of its own have ticked. ``POST /echo``: who answers, then every piece of the request.
``GET /hold``: who answers, then nothing until the client goes. Variables: ``GRACE_S``, what it
takes to end after SIGTERM; ``EXIT_CODE``: it ends with that at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from granian.constants import Interfaces
from granian.http import HTTP2Settings
from granian.server.embed import Server

Message = MutableMapping[str, Any]
CHILD = "while :; do echo >> ticks; sleep 0.01; done"


class Clock:
    ticks = 0


clock = Clock()


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    headers = [(b"x-pid", str(os.getpid()).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def say(data: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": more})

    if scope["path"] == "/about":
        given = {name.decode(): value.decode() for name, value in scope["headers"]}
        about = {"path": scope["path"], "headers": given, "environment": dict(os.environ)}
        await say(json.dumps(about).encode(), more=False)
    elif scope["path"] == "/ticks":
        child = Path("ticks").stat().st_size if Path("ticks").exists() else 0
        await say(json.dumps([clock.ticks, child]).encode(), more=False)
    else:
        await say(f"{os.getpid()}\n".encode())
        while (message := await receive())["type"] == "http.request":
            if message.get("body"):
                await say(message["body"])
            if not message.get("more_body") and scope["path"] == "/echo":
                await say(b"", more=False)
                return
            if not message.get("more_body"):
                await asyncio.sleep(0.005)
        print("the client has gone", flush=True)


async def main() -> None:
    if code := os.environ.get("EXIT_CODE"):
        sys.exit(int(code))
    server = Server(
        app,
        address="0.0.0.0",
        port=int(os.environ["PORT"]),
        interface=Interfaces.ASGINL,
        log_enabled=False,
        http2_settings=HTTP2Settings(max_concurrent_streams=2000),
    )
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    subprocess.Popen(["sh", "-c", CHILD], start_new_session=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tick())
        tasks.create_task(server.serve())
        await ending.wait()
        print("SIGTERM", flush=True)
        await asyncio.sleep(float(os.environ.get("GRACE_S", "0")))
        print("bye", flush=True)
        os._exit(0)


async def tick() -> None:
    while True:
        clock.ticks += 1
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main())

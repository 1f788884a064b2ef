"""``runner serve`` as a program: it listens, serves, and ends when it is told to or not needed.

It starts processes and forks none itself, as it has threads. What its workers leave behind when
they and the nursery end is reaped by the first process of the container: use one that does so
(tini, ``docker run --init``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from importlib.util import find_spec

from outpost.runner.serve.options import Misuse, read_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granian.server.embed import Server as Granian

    from outpost.runner.serve.app import App
    from outpost.runner.serve.options import Options

STREAMS_A_CONNECTION = 2000
CONNECTIONS = 4096
PING_S, PING_TIMEOUT_S = 15, 30
LISTENING_S = 10.0
GOODBYE_S = 0.5


def main(arguments: Sequence[str]) -> int:
    """Serve until told to end; returns the exit code."""
    if arguments and arguments[0] in ("-h", "--help"):
        from outpost.runner.serve.options import USAGE  # noqa: PLC0415 - for this only

        print(USAGE)
        return 0
    os.umask(0o077)
    try:
        options = read_options(arguments, os.environ)
        _prepare(options)
    except (Misuse, OSError) as exc:
        print(f"runner serve: {exc}", file=sys.stderr)
        return 2
    loop = asyncio.new_event_loop()
    try:
        code = loop.run_until_complete(_serve(options))
    except OSError as exc:
        print(f"runner serve: cannot listen on {options.host}: {exc}", file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing waits for anything any more: threads of the server library may be within a
    # connection that its client holds open.
    os._exit(code)


def _prepare(options: Options) -> None:
    """Make the folders, and have caches lie where they outlive the container.

    Raises ``Misuse``, ``OSError``.
    """
    if find_spec("granian") is None:
        raise Misuse("granian is not installed\npip install granian")
    os.makedirs(os.path.join(options.root, "runner"), mode=0o700, exist_ok=True)
    link = os.path.join(options.root, "cache")
    if options.cache:
        with contextlib.suppress(OSError):  # it holds something: that stays
            os.rmdir(link)
        if os.path.islink(link):
            os.unlink(link)
        if not os.path.lexists(link):
            os.symlink(options.cache, link)


async def _serve(options: Options) -> int:
    from outpost.runner.serve.server import Server  # noqa: PLC0415 - only once it is to run

    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    with _port(options) as port:
        server = Server(options, dict(os.environ))
        server.nursery.launch()
        await asyncio.sleep(0)  # so that it is under way
        from outpost.runner.serve.app import App  # noqa: PLC0415 - while the nursery starts
        from outpost.runner.serve.leaving import Leaving  # noqa: PLC0415 - the same

        granian = _granian(App(server), options.host, port)
        serving = asyncio.ensure_future(granian.serve())
        await _until_listening(options.host, port, serving)
    print(f"listening on {options.host}:{port}", flush=True)
    leaving = Leaving(server, lease_s=options.lease_s, idle_exit_s=options.idle_exit_s)
    ending = asyncio.ensure_future(leaving.wait_for_end(asked))
    await asyncio.wait({ending, serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        print("runner serve: the server library has given up", file=sys.stderr)
        return 1
    if ending.result():
        print("leaving", flush=True)
        await leaving.leave(options.grace_s - GOODBYE_S)
    else:
        print("nobody needs it any more", flush=True)
    granian.stop()  # type: ignore[no-untyped-call]
    await asyncio.wait({serving}, timeout=GOODBYE_S)
    return 0


def _granian(app: App, host: str, port: int) -> Granian:
    from granian.constants import HTTPModes, Interfaces  # noqa: PLC0415 - heavy
    from granian.http import HTTP2Settings  # noqa: PLC0415
    from granian.server.embed import Server as Granian  # noqa: PLC0415

    http2 = HTTP2Settings(
        max_concurrent_streams=STREAMS_A_CONNECTION,
        max_headers_size=64 << 10,
        keep_alive_interval=PING_S * 1000,
        keep_alive_timeout=PING_TIMEOUT_S,
    )
    return Granian(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto,
        http2_settings=http2,
        websockets=False,
        backlog=1024,
        backpressure=CONNECTIONS,
        runtime_blocking_threads=8,
        log_enabled=False,
    )


@contextlib.contextmanager
def _port(options: Options) -> Iterator[int]:
    """Yield the port to listen on, and hold it where it was chosen for us; raises ``OSError``."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.port == 0:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((options.host, options.port))
        port: int = holder.getsockname()[1]
        if options.port:
            # The library shares ports, so nobody else would say that this one is taken.
            holder.close()
        yield port


async def _until_listening(host: str, port: int, serving: asyncio.Future[None]) -> None:
    """Return once somebody can connect; raises ``OSError`` where that does not come."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - to compare with
    deadline = asyncio.get_running_loop().time() + LISTENING_S
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(here, port)
        except ConnectionError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.001)
        else:
            writer.close()
            break
    if serving.done():
        raise OSError(str(serving.exception() or "it has ended").partition("\n")[0])

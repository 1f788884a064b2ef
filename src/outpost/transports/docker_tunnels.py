"""Ways to ports inside containers that lead through the engine, for one that is elsewhere.

Whoever may ask an engine may run a program in a container, so no port has to be published there,
and all that is said goes over the engine's own connection: SSH or TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outpost.transports.docker_engine import DockerEngine

CHUNK_BYTES = 1 << 16
# Runs in the container: its standard streams are a connection to a port there.
DIAL = """\
import os, socket, sys, threading
there = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def back():
    while data := there.recv(65536):
        while data:
            data = data[os.write(1, data):]
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    there.sendall(data)
"""


class Tunnels:
    """Loopback ports of this process, each leading to a port in a container."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._carrying: set[asyncio.Task[None]] = set()

    async def to(self, container_id: str, port: int) -> tuple[str, int]:
        """Return host and port here that lead to ``port`` there; asks nobody yet."""
        way = (container_id, port)
        if way not in self._servers:

            def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.create_task(self._carry(way, reader, writer))
                self._carrying.add(task)
                task.add_done_callback(self._carrying.discard)

            server = await asyncio.start_server(carry, "127.0.0.1", 0)
            if way in self._servers:  # somebody else was as fast
                server.close()
            self._servers.setdefault(way, server)
        host, listening = self._servers[way].sockets[0].getsockname()
        return str(host), int(listening)

    async def close(self) -> None:
        """End all connections, and take no more."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(
        self, way: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        container_id, port = way
        try:
            process = await self._engine.open(
                *("exec", "--interactive", container_id, "python3", "-c", DIAL, str(port))
            )
            assert process.stdin
            assert process.stdout
            pumps = [
                asyncio.create_task(_pump(reader, process.stdin)),
                asyncio.create_task(_pump(process.stdout, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        except OSError:
            return  # whoever connected sees the connection end
        finally:
            writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(CHUNK_BYTES):
            sink.write(data)
            await sink.drain()

"""Machines reached over SSH: an ``sshd`` each on a loopback port, and a line that is long."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from tests.ssh_hosts import SSHD, Host

from benchmarks.figures import NotMeasured

PIECE_BYTES = 1 << 16


class Machine(Host):
    """A machine that lets one key in; ``key`` is the private one."""

    def __init__(self, folder: Path, key: Path) -> None:
        authorized = key.with_suffix(".pub").read_text().strip()
        super().__init__(name=folder.name, folder=folder, authorized=authorized)
        self.key = key

    def start(self) -> None:
        if not Path(SSHD).exists() or not shutil.which("ssh-keygen"):
            raise NotMeasured("there is no sshd here: sudo apt-get install openssh-server")
        Path("/run/sshd").mkdir(exist_ok=True)
        super().start()

    def leave(self) -> None:
        """End it with all of its connections, and what stays there for workers to come."""
        self.stop()
        self.clear()

    def entry(self, name: str, *, port: int | None = None, max_workers: int = 64) -> str:
        """Return the outpost of a configuration that it is."""
        return (
            f"  - {{name: {name}, type: ssh, host: {self.address}, port: {port or self.port},"
            f" ssh_key: {self.key}, host_key: {self.public_key}, max_workers: {max_workers},"
            " min_free_mib: 0}\n"
        )


@contextlib.asynccontextmanager
async def long_line(port: int, delay_s: float) -> AsyncIterator[int]:
    """Yield a port that leads to another one, ``delay_s`` later in each direction."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(PIECE_BYTES):
            loop.call_later(delay_s, writer.write, data)
        loop.call_later(delay_s, writer.close)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            await asyncio.gather(carry(reader, back), carry(there, writer))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()

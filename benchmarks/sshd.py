"""Machines reached over SSH: an ``sshd`` each on a loopback port, and a line that is long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.figures import NotMeasured

SSHD = "/usr/sbin/sshd"
START_S = 10.0
PIECE_BYTES = 1 << 16


class Machine:
    """One ``sshd`` with a home of its own; ``key`` is the private key that it lets in."""

    def __init__(self, folder: Path, key: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.key = key
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        if not Path(SSHD).exists() or not shutil.which("ssh-keygen"):
            raise NotMeasured("there is no sshd here: sudo apt-get install openssh-server")
        self.home.mkdir(parents=True)
        make_key(self.folder / "host_key")
        Path("/run/sshd").mkdir(exist_ok=True)
        settings = {
            "ListenAddress": f"127.0.0.1:{self.port}",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": f"{self.key}.pub",
            "SetEnv": f"HOME={self.home} TMUX_TMPDIR={self.folder}",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "UseDNS": "no",
        }
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._process = subprocess.Popen(
            [SSHD, "-D", "-f", str(config)], stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise NotMeasured("sshd does not start")
            time.sleep(0.02)

    def leave(self) -> None:
        """End it with all of its connections."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
        for path in self.folder.glob("tmux-*/*"):
            subprocess.run(
                ["tmux", "-S", str(path), "kill-server"], check=False, capture_output=True
            )

    def host_key(self) -> str:
        """Return the key it shows."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def entry(self, name: str, *, port: int | None = None, max_workers: int = 64) -> str:
        """Return the outpost of a configuration that it is."""
        return (
            f"  - {{name: {name}, type: ssh, host: 127.0.0.1, port: {port or self.port},"
            f" ssh_key: {self.key}, host_key: {self.host_key()}, max_workers: {max_workers},"
            " min_free_mib: 0}\n"
        )


def make_key(path: Path) -> None:
    """Make a key without a passphrase."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(argv, check=True, capture_output=True)


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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port

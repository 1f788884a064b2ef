"""A container of the stand-in: a real process tree with a folder, variables and a port of its own.

What the platform can do to one is here: start it, withhold its CPU, ask it to end, kill it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.doubles.cloud_run import container_init
from tests.doubles.cloud_run.container_init import below

PORTS = range(18000, 32000)  # below those that the kernel gives to whoever connects
POLL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Content:
    """What runs in a container, and what it finds there.

    ``files`` are by the path in the container: they lie below the container's own folder, and
    whatever names such a path in ``argv`` or ``environment`` is told where that is. ``{port}`` in
    ``argv`` is the port, which is also ``PORT`` in the environment, if it ``listens``.
    """

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    listens: bool = True


class Container:
    """One container; ``folder`` is its disk, gone with it, ``log`` is what it printed."""

    def __init__(self, content: Content, folder: Path, log: Path) -> None:
        self.content = content
        self.folder = folder
        self.log = log
        self.port = free_port()
        self._stopped: list[int] = []
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the command; raises ``OSError`` where it cannot be."""
        for path, data in self.content.files.items():
            place = self.folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        words = [self._inside(word).replace("{port}", str(self.port)) for word in self.content.argv]
        with self.log.open("ab") as output:
            starting = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", container_init.__file__, *words),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment(),
                    cwd=self.folder,
                    start_new_session=True,
                )
            )
            try:
                self._process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                self._process = await starting
                self.kill()
                raise

    async def listening(self) -> bool:
        """Wait until its port takes connections; ``False`` if it ended before that."""
        while self.alive:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return True
            await asyncio.sleep(POLL_S)
        return False

    async def ended(self) -> int:
        """Wait until nothing of it runs any more; return its exit code."""
        assert self._process is not None
        return await self._process.wait()

    @property
    def begun(self) -> bool:
        return self._process is not None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def frozen(self) -> bool:
        return bool(self._stopped)

    @property
    def pids(self) -> list[int]:
        """The processes that run in it, the command first."""
        return below(self._process.pid) if self._process and self.alive else []

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def freeze(self) -> None:
        """Withhold the CPU from everything in it."""
        while new := [pid for pid in self.pids if pid not in self._stopped]:
            for pid in new:
                _signal(pid, signal.SIGSTOP)
            self._stopped += new

    def thaw(self) -> None:
        """Give the CPU back."""
        for pid in reversed(self._stopped):
            _signal(pid, signal.SIGCONT)
        self._stopped.clear()

    def terminate(self) -> None:
        """Ask the command to end: SIGTERM."""
        self.thaw()
        if self._process and self.alive:
            _signal(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill everything in it: SIGKILL."""
        if self._process and self.alive:
            _signal(self._process.pid, signal.SIGHUP)

    def remove(self) -> None:
        """Take its disk away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        given = {name: self._inside(value) for name, value in self.content.environment.items()}
        port = {"PORT": str(self.port)} if self.content.listens else {}
        return {"HOME": str(self.folder), **port, **given}

    def _inside(self, text: str) -> str:
        """Return a text with the paths of our files as they are on this machine."""
        mounts = {str(Path(path).parent) for path in self.content.files}
        for mount in mounts:
            if text == mount or text.startswith(f"{mount}/"):
                return f"{self.folder}{text}"
        return text


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

"""The machine of a sandbox: a folder for a disk and a tree of real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.cloud_run.container_init import below
from tests.doubles.e2b import machine_init

LINE_BYTES = 64 << 10
POLL_S = 0.002
STANDING = ("T", "t", "Z", "")
"""States of processes that do nothing: stopped, traced, ended, gone."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a process is to be; ``files`` are its standard input, output and errors."""

    argv: Sequence[str]
    cwd: Path
    environment: Mapping[str, str]
    files: tuple[int, int, int]


class Machine:
    """One machine; ``folder`` is its disk and gone with it, ``home`` the home of its user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.sockets = Path(tempfile.mkdtemp(prefix="e2b-"))  # paths of sockets must be short
        self._line: socket.socket | None = None
        self._init: asyncio.subprocess.Process | None = None
        self._ordering = asyncio.Lock()
        self._answers: asyncio.Queue[tuple[int, asyncio.Future[int]] | None] = asyncio.Queue()
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._heard = b""
        self._stopped: set[int] = set()
        self._frozen = False

    async def boot(self) -> None:
        """Start it: nothing but its first process runs."""
        ours, theirs = socket.socketpair()
        self.home.mkdir(parents=True, exist_ok=True)
        with theirs:
            starting = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", machine_init.__file__),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
            try:
                self._init = await asyncio.shield(starting)
            except asyncio.CancelledError:
                self._init = await starting
                ours.close()
                raise
        self._line = ours
        self._answers = asyncio.Queue()
        asyncio.get_running_loop().add_reader(ours, self._hear)

    async def start(self, command: Command) -> tuple[int, asyncio.Future[int]]:
        """Start a process; return its id and what becomes its exit code, or minus a signal.

        The descriptors stay open here. Raises ``OSError`` where the machine does not run.
        """
        told = {
            "argv": list(command.argv),
            "cwd": str(command.cwd),
            "environment": dict(command.environment),
        }
        data = json.dumps(told).encode()
        async with self._ordering:
            if self._line is None or self._frozen:
                raise OSError("the machine does not run")
            head = f"{len(data):0{machine_init.DIGITS}}".encode()
            socket.send_fds(self._line, [head], list(command.files))
            self._line.sendall(data)
            started = await self._answers.get()
        if started is None:
            raise OSError("the machine went off")
        return started

    @property
    def is_on(self) -> bool:
        return self._line is not None

    @property
    def pids(self) -> list[int]:
        """The processes that run in it."""
        return below(self._init.pid) if self._init and self._init.returncode is None else []

    async def freeze(self) -> None:
        """Withhold the CPU from everything in it; returns once nothing runs."""
        async with self._ordering:
            self._frozen = True
            while going := [pid for pid in self.pids if _state(pid) not in STANDING]:
                for pid in going:
                    _signal(pid, signal.SIGSTOP)
                self._stopped |= set(going)
                await asyncio.sleep(POLL_S)

    def thaw(self) -> None:
        """Give the CPU back."""
        for pid in self._stopped & set(self.pids):
            _signal(pid, signal.SIGCONT)
        self._stopped.clear()
        self._frozen = False

    async def off(self) -> None:
        """Kill everything in it; its disk stays."""
        self._hang_up()
        if self._init:
            await self._init.wait()

    def remove(self) -> None:
        """Take its disk away."""
        for folder in (self.folder, self.sockets):
            shutil.rmtree(folder, ignore_errors=True)

    def _hear(self) -> None:
        assert self._line is not None
        try:
            data = self._line.recv(LINE_BYTES, socket.MSG_DONTWAIT)
        except ConnectionError:
            data = b""
        if not data:
            self._hang_up()
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        loop = asyncio.get_running_loop()
        for told in map(json.loads, lines):
            if "status" not in told:
                end = self._ends[told["pid"]] = loop.create_future()
                self._answers.put_nowait((told["pid"], end))
            elif told["pid"] in self._ends:
                self._ends.pop(told["pid"]).set_result(told["status"])

    def _hang_up(self) -> None:
        if self._line is None:
            return
        asyncio.get_running_loop().remove_reader(self._line)
        self._line.close()
        self._line = None
        self._answers.put_nowait(None)
        for end in self._ends.values():
            end.set_result(-signal.SIGKILL)
        self._ends.clear()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""

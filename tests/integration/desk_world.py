"""A desk on this machine: the real command as a child, through real pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from outpost.transports.desk import DeskShell
from outpost.transports.desk_link import Patience
from outpost.transports.desk_start import bootstrap_argv

READ_BYTES = 1 << 16


class ChildPipe:
    """The pipes of a child; ``cut_after`` ends what is read of it behind so many bytes."""

    def __init__(self, process: asyncio.subprocess.Process, cut_after: int | None = None) -> None:
        self.process = process
        self._left = cut_after

    async def read(self) -> bytes:
        assert self.process.stdout is not None
        if self._left == 0:
            return b""
        size = READ_BYTES if self._left is None else min(self._left, READ_BYTES)
        data = await self.process.stdout.read(size)
        if self._left is not None:
            self._left -= len(data)
        return data

    async def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def close(self) -> None:
        transport = self.process._transport  # type: ignore[attr-defined]
        for number in (0, 1):
            transport.get_pipe_transport(number).close()
        await self.process.wait()
        transport.close()


class Machine:
    """A machine that is reached by starting a child; each connection is one."""

    def __init__(
        self, argv: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.argv = list(argv) or bootstrap_argv()
        self.environment = environment
        self.pipes: list[ChildPipe] = []
        self.refusal: OSError | None = None
        self.cuts: list[int | None] = []
        """Where the next connections are cut, in bytes read."""

    async def open_pipe(self) -> ChildPipe:
        if self.refusal is not None:
            raise self.refusal
        process = await asyncio.create_subprocess_exec(
            *self.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self.environment,
            start_new_session=True,
        )
        pipe = ChildPipe(process, self.cuts.pop(0) if self.cuts else None)
        self.pipes.append(pipe)
        return pipe

    def kill(self) -> None:
        """Kill the desk of the last connection: its group has nothing but the desk in it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pipes[-1].process.pid, signal.SIGKILL)


class FarPipe(ChildPipe):
    """A pipe with a way of ``way_s`` in each direction, on which any number of bytes travel."""

    def __init__(self, process: asyncio.subprocess.Process, way_s: float) -> None:
        super().__init__(process)
        self._way_s = way_s
        self._coming: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._going: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._carriers = [
            asyncio.create_task(self._carry_here()),
            asyncio.create_task(self._carry_there()),
        ]

    async def read(self) -> bytes:
        return await self._arrived(self._coming)

    async def write(self, data: bytes) -> None:
        self._going.put_nowait((asyncio.get_running_loop().time(), data))

    async def close(self) -> None:
        for carrier in self._carriers:
            carrier.cancel()
        await asyncio.wait(self._carriers)
        await super().close()

    async def _carry_here(self) -> None:
        while data := await super().read():
            self._coming.put_nowait((asyncio.get_running_loop().time(), data))
        self._coming.put_nowait((asyncio.get_running_loop().time(), b""))

    async def _carry_there(self) -> None:
        while True:
            await super().write(await self._arrived(self._going))

    async def _arrived(self, queue: asyncio.Queue[tuple[float, bytes]]) -> bytes:
        left_at, data = await queue.get()
        await asyncio.sleep(left_at + self._way_s - asyncio.get_running_loop().time())
        return data


class FarMachine(Machine):
    """A machine ``way_s`` away."""

    def __init__(self, way_s: float) -> None:
        super().__init__(bootstrap_argv(sys.executable))
        self._way_s = way_s

    async def open_pipe(self) -> ChildPipe:
        return FarPipe((await super().open_pipe()).process, self._way_s)


@contextlib.asynccontextmanager
async def desk_on(
    machine: Machine | None = None, *, patience: Patience | None = None
) -> AsyncGenerator[DeskShell, None]:
    """Yield a shell through a desk, and close it."""
    opener: Callable[[], Awaitable[ChildPipe]] = (machine or Machine()).open_pipe
    shell = DeskShell(opener, name="the box", patience=patience)
    try:
        yield shell
    finally:
        await shell.close()


async def eventually(look: Callable[[], object], what: str, *, deadline_s: float = 10.0) -> None:
    """Wait until ``look`` says yes, without holding up the loop."""
    async with asyncio.timeout(deadline_s):
        while not look():
            await asyncio.sleep(0.01)


def written_pid(path: Path) -> int | None:
    """Return the pid that a script wrote into a file, once it is there whole."""
    with contextlib.suppress(FileNotFoundError):
        if (text := path.read_text()).endswith("\n"):
            return int(text)
    return None

"""``Shell`` on this machine: processes and files, no shell in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path

from outpost.ports import Completed, Shell

CHUNK_BYTES = 1 << 20
POLL_LEAST_S = 0.003
POLL_MOST_S = 0.04
POLL_EACH_S = 0.00015
"""How much less often each file is looked at for every other one that is followed as well."""
IDLE_S = 0.5
LONGEST_ADDRESS = 100  # what fits on every system: Linux takes 107 bytes, macOS 103


class ThisMachine(Shell):
    """Runs commands as children of this process, with a given environment and nothing else."""

    def __init__(self) -> None:
        self._streams = 0

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Completed:
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )
        )
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Cancelled half-way it would run on, and nobody would know of it.
            with contextlib.suppress(OSError):
                await _end(await starting)
            raise
        try:
            async with asyncio.timeout(timeout_s):
                stdout, stderr = await process.communicate(stdin or None)
        except BaseException:
            await _end(process)
            raise
        assert process.returncode is not None
        return Completed(exit_code=process.returncode, stdout=stdout, stderr=stderr)

    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        _write(Path(path), data, mode)

    async def get(self, path: str, *, offset: int = 0) -> bytes:
        return _read(path, offset)

    async def call(self, path: str, data: bytes, *, timeout_s: float = 30.0) -> bytes:
        async with asyncio.timeout(timeout_s):
            with reachable(path) as address:
                reader, writer = await asyncio.open_unix_connection(address)
            with contextlib.closing(writer):
                writer.write(data)
                writer.write_eof()
                return await reader.read()

    async def stream(self, path: str, *, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Look again after a tenth of the time the file has rested: late by a tenth at most.

        Where many are followed, each is looked at less often.
        """
        self._streams += 1
        try:
            async with contextlib.aclosing(self._grow(path, offset)) as pieces:
                async for data in pieces:
                    yield data
        finally:
            self._streams -= 1

    async def _grow(self, path: str, offset: int) -> AsyncGenerator[bytes, None]:
        rested_s = told_s = 0.0
        while True:
            try:
                data = _read(path, offset)
            except FileNotFoundError:
                data = b""
            if data:
                offset += len(data)
                rested_s = told_s = 0.0
                yield data
            elif rested_s - told_s >= IDLE_S:
                told_s = rested_s
                yield b""
            crowd_s = (self._streams - 1) * POLL_EACH_S
            pause_s = max(min(max(rested_s / 10, POLL_LEAST_S), POLL_MOST_S), crowd_s)
            if not data or (crowd_s > POLL_MOST_S and len(data) < CHUNK_BYTES):
                await asyncio.sleep(pause_s)
                rested_s += pause_s


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """Yield a socket's path short enough for an address: through an open folder, if need be."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield path
        return
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{Path(path).name}"
    finally:
        os.close(folder)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a process with all that it started, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _write(path: Path, data: bytes, mode: int) -> None:
    _make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        # A full disk is not to be left with half of it.
        temporary.unlink(missing_ok=True)
        raise


def _make_folder(path: Path) -> None:
    """Make a folder and those it is in, all of them private."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        _make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _read(path: str, offset: int) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        # Asking for no more than there is: room for a whole chunk is dear where there is nothing.
        there = os.fstat(fd).st_size - offset
        return os.pread(fd, min(there, CHUNK_BYTES), offset) if there > 0 else b""
    finally:
        os.close(fd)

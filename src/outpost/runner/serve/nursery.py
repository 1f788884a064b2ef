"""The warm parent of the workers, seen from the server, which has threads and so may not fork.

Workers are children of the nursery: they go on if the server dies, and the next one finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import zlib

from outpost.runner.agents.native import runner_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 5.0  # it answers in milliseconds; all that it does can be done without it
START_S = 60.0
TRIES = 2
_ADDRESS_BYTES = 100


def runner_argv() -> list[str]:
    """Return the command line that is this very runner."""
    program = runner_program()
    # An archive has all that it needs within; a package is found as it was for this process.
    return [sys.executable, *(("-I", "-S") if os.path.isfile(program[0]) else ()), *program]


class Nursery:
    """Starts workers through a nursery at ``root``; itself started where there is none."""

    def __init__(self, root: str) -> None:
        self._argv = runner_argv()
        # Another version of the runner has a nursery of its own.
        code = zlib.crc32("\0".join(self._argv).encode("utf-8", "surrogateescape"))
        self._path = os.path.join(root, "runner", f"nursery-{code:08x}.sock")
        self._launching: asyncio.Task[None] | None = None

    def launch(self) -> None:
        """Begin to start the nursery, unless that has begun already."""
        if self._launching is None or self._launching.done():
            self._launching = asyncio.ensure_future(self._launch())

    async def start(self, directory: str, environment: bytes) -> bool:
        """Start the worker whose order lies in ``directory``; ``False`` if it died at once.

        Idempotent: it takes the worker's lock. Raises ``OSError`` where nothing can be started.
        """
        for _ in range(TRIES):
            if self._launching is not None:
                await asyncio.shield(self._launching)
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                request = json.dumps(["start", directory]).encode() + b"\n" + environment
                if await asyncio.wait_for(self._ask(request), PATIENCE_S):
                    return True
            self.launch()
        return bool(await self._start_without(directory, environment))

    async def _launch(self) -> None:
        """Start it; returns once it listens, or another one does, or it cannot."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(*self._argv, "nursery", self._path),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            await asyncio.wait_for(process.wait(), START_S)
        except (OSError, asyncio.TimeoutError) as exc:
            print(f"no nursery: {exc!r}", file=sys.stderr, flush=True)

    async def _ask(self, request: bytes) -> bytes:
        with _reachable(self._path) as path:
            reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(request)
            writer.write_eof()
            return await reader.read()
        finally:
            writer.close()

    async def _start_without(self, directory: str, environment: bytes) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *(*self._argv, "start", directory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(environment), START_S)
        except asyncio.TimeoutError:
            process.kill()
            raise OSError("the runner did not start in time") from None
        return said.strip()


@contextlib.contextmanager
def _reachable(path: str) -> Iterator[str]:
    """Yield a short way to a socket: an address may be no longer than about a hundred bytes."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)

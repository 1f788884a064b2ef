"""Commands of the runner that somebody asks for: each a process of its own, bounded in all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal

from outpost.runner.serve.calls import read_environment, read_object
from outpost.runner.serve.nursery import runner_argv
from outpost.wire.work import VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from outpost.runner.place import Place
    from outpost.runner.serve.works import Works

TIME_S = 300.0
MOST_BYTES = 64 << 20
AT_ONCE = 8
STDERR_BYTES = 64 << 10
LATE, TOO_MUCH, NOT_RUN, UNKNOWN = 124, 125, 126, 2
"""Exit codes for what is none of the command's own."""
_TAKE_VARIABLES = ("recover", "transcript")
_READ_BYTES = 64 << 10


class Done:
    """How a command ended, and what it said."""

    __slots__ = ("exit_code", "stderr", "stdout")

    def __init__(self, exit_code: int, stdout: bytes = b"", stderr: bytes = b"") -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class Asking:
    """Runs commands, ``AT_ONCE`` at a time; ``running`` are those asked for and not yet done.

    What was begun goes on to its end, whether or not anybody waits for it.
    """

    def __init__(self, works: Works) -> None:
        self.running: set[asyncio.Task[Done]] = set()
        self._works = works
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._argv = runner_argv()

    def begin(
        self, place: Place, verb: str, arguments: Sequence[str], stdin: bytes
    ) -> asyncio.Task[Done]:
        """Begin a command; raises ``Refused`` where what it is to read makes no sense."""
        self._works.woken(place)
        if verb in _TAKE_VARIABLES:
            # As for a worker that is started: those of this place are added.
            given = read_environment(read_object(stdin, "stdin"))
            stdin = json.dumps(self._works.with_ours(given)).encode()
        task = asyncio.ensure_future(self._run((verb, place.directory, *arguments), stdin))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    async def _run(self, arguments: Sequence[str], stdin: bytes) -> Done:
        if arguments[0] not in VERBS:
            return Done(UNKNOWN, stderr=f"there is no {arguments[0]!r}: {VERBS}".encode())
        async with self._slots:
            return await self._run_now(arguments, stdin)

    async def _run_now(self, arguments: Sequence[str], stdin: bytes) -> Done:
        try:
            process = await asyncio.create_subprocess_exec(
                *(*self._argv, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as exc:
            return Done(NOT_RUN, stderr=f"it cannot be run: {exc}".encode())
        try:
            return await asyncio.wait_for(_talk(process, stdin), TIME_S)
        except asyncio.TimeoutError:
            return Done(LATE, stderr=f"not done within {TIME_S:g} s".encode())
        except _TooMuch:
            return Done(TOO_MUCH, stderr=f"it said more than {MOST_BYTES} bytes".encode())
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


class _TooMuch(Exception):
    """A command said more than anybody wants to hear."""


async def _talk(process: asyncio.subprocess.Process, stdin: bytes) -> Done:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    reading = (_read(process.stdout), _read(process.stderr, tail_bytes=STDERR_BYTES))
    _, stdout, stderr = await asyncio.gather(_write(process.stdin, stdin), *reading)
    return Done(await process.wait(), stdout, stderr)


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # one that will not read it all is no error
        stream.write(data)
        await stream.drain()
    stream.close()


async def _read(stream: asyncio.StreamReader, *, tail_bytes: int = 0) -> bytes:
    """Return what is said, or the end of it; raises ``_TooMuch``."""
    said = bytearray()
    while piece := await stream.read(_READ_BYTES):
        said += piece
        if tail_bytes:
            del said[:-tail_bytes]
        elif len(said) > MOST_BYTES:
            raise _TooMuch
    return bytes(said)

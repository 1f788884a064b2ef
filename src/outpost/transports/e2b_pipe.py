"""The way into one sandbox: a command of its own there, whose stdin and stdout are a desk's.

The SDK hands on what a command prints as text, so what a desk says travels as the characters of
the same numbers: a small program beside it writes them as UTF-8, and they are bytes again here.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import TYPE_CHECKING

from outpost.errors import OutpostFault, Rejected
from outpost.transports.desk_start import bootstrap_argv
from outpost.transports.place import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2b import AsyncCommandHandle, AsyncSandbox

    from outpost.transports.e2b_api import E2bApi

OPEN_S = 20.0
WRITE_S = 30.0
PIECES_MOST = 64
"""What is not read yet; then the command has to wait."""
_AS_TEXT = (
    "import os\n"
    "while data := os.read(0, 65536):\n"
    '    data = data.decode("latin-1").encode()\n'
    "    while data: data = data[os.write(1, data):]"
)
_COMMAND = "{desk} | {{ command -v python3 >/dev/null && exec {as_text}; exec cat; }}"


class E2bPipe:
    """A command's stdin and stdout; see ``desk_link.Pipe``."""

    def __init__(self, api: E2bApi) -> None:
        self._api = api
        self._said: asyncio.Queue[bytes | OSError] = asyncio.Queue(PIECES_MOST)
        self._handle: AsyncCommandHandle[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def open(self, sandbox: AsyncSandbox) -> None:
        """Start what a desk comes to life from. Raises ``OSError``."""
        argv = ["python3", "-I", "-S", "-c", _AS_TEXT]
        command = _COMMAND.format(desk=shlex.join(bootstrap_argv()), as_text=shlex.join(argv))
        with as_os_errors(), self._api.in_our_words():
            self._handle = await sandbox.commands.run(
                command,
                background=True,
                stdin=True,
                on_stdout=self._hear,
                # It lasts as long as the connection does.
                timeout=0,
                request_timeout=OPEN_S,
                retain_output=False,
            )
        self._ending = asyncio.create_task(self._end(self._handle))

    async def read(self) -> bytes:
        said = await self._said.get()
        if isinstance(said, OSError):
            raise said
        return said

    async def write(self, data: bytes) -> None:
        assert self._handle, "not open"
        with as_os_errors(), self._api.in_our_words():
            await self._handle.send_stdin(data, request_timeout=WRITE_S)

    async def close(self) -> None:
        if self._handle is None or self._ending is None:
            return
        ending, handle = self._ending, self._handle
        self._handle = self._ending = None
        ending.cancel()
        try:
            with as_os_errors(), self._api.in_our_words():
                await handle.close_stdin(request_timeout=OPEN_S)
        finally:
            await handle.disconnect()

    async def _hear(self, text: str) -> None:
        await self._said.put(text.encode("latin-1", "replace"))

    async def _end(self, handle: AsyncCommandHandle[None]) -> None:
        """Wait for the command's end, and tell whoever reads."""
        why: OSError | None = None
        try:
            with as_os_errors(), self._api.in_our_words():
                await handle.wait()
        except OSError as exc:
            why = exc
        await self._said.put(why or b"")


@contextlib.contextmanager
def as_os_errors() -> Iterator[None]:
    """Turn an ``OutpostFault`` into the ``OSError`` that a shell's trouble is."""
    try:
        yield
    except Rejected as exc:
        raise Refused(exc.message, hint=exc.hint) from exc
    except OutpostFault as exc:
        raise ConnectionError(exc.message) from exc

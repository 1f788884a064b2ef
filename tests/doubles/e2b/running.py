"""A process that envd started: its output goes to whoever listens at that moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process.process_pb import ProcessConfig, ProcessEvent

from tests.doubles.e2b.events import Event, ended, said

PIECE_BYTES = 32 << 10


class Running:
    """One process, from its start until its end was told.

    It has ended once it is gone and nobody holds its output any more, unless it was killed through
    envd: then nobody waits for the output.
    """

    def __init__(
        self, pid: int, exited: asyncio.Future[int], config: ProcessConfig, tag: str | None
    ) -> None:
        self.pid = pid
        self._exited = exited
        self.config = config
        self.tag = tag
        self.end: ProcessEvent | None = None
        self.stdin: asyncio.WriteTransport | None = None
        self._listeners: set[asyncio.Queue[Event]] = set()
        self._open: set[int] = set()
        self._quiet = asyncio.Event()

    def listen(self) -> asyncio.Queue[Event]:
        """Return what will get all events from now on."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[Event]) -> None:
        self._listeners.discard(queue)

    def read(self, file: int, where: Literal["stdout", "stderr"]) -> None:
        """Pass on what comes out of a descriptor, which is closed at its end."""
        os.set_blocking(file, False)
        self._open.add(file)
        asyncio.get_running_loop().add_reader(file, self._pass_on, file, where)

    async def follow(self) -> None:
        """Return once it has ended and everybody was told."""
        quiet = asyncio.ensure_future(self._quiet.wait())
        try:
            code = await self._exited
            await quiet
        finally:
            quiet.cancel()
            self._close()
        self.end = ended(code)
        self.tell(self.end)

    def signal(self, number: int) -> None:
        """Send it a signal: it alone, not what it has started."""
        self.stop_reading()
        if not self._exited.done():  # its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop_reading(self) -> None:
        """Wait for its output no longer."""
        self._quiet.set()

    def tell(self, event: Event) -> None:
        """Tell all that listen; an error breaks their streams."""
        for queue in self._listeners:
            queue.put_nowait(event)

    def write(self, data: bytes) -> None:
        """Write to its standard input; raises ``ConnectError``."""
        if self.stdin is None or self.stdin.is_closing():
            raise ConnectError(Code.INTERNAL, "error writing to stdin: stdin not enabled or closed")
        self.stdin.write(data)

    def close_stdin(self) -> None:
        if self.stdin is not None:
            self.stdin.close()

    def _pass_on(self, file: int, where: Literal["stdout", "stderr"]) -> None:
        try:
            data = os.read(file, PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.tell(said(where, data))
        else:
            self._shut(file)

    def _shut(self, file: int) -> None:
        asyncio.get_running_loop().remove_reader(file)
        os.close(file)
        self._open.discard(file)
        if not self._open:
            self._quiet.set()

    def _close(self) -> None:
        for file in list(self._open):
            self._shut(file)
        self.close_stdin()

"""Reading a growing event log as whole lines, byte for byte, from an event or an offset on."""

from __future__ import annotations

import asyncio
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

PIECE_BYTES = 64 << 10
"""As much is read ahead of a slow client, a few times over."""
SCAN_BYTES = 1 << 20
_NUMBERED = re.compile(rb'^\{"seq":(\d{1,18}),', re.MULTILINE)
_RESULT = re.compile(rb'\{"seq":\d+,"time":"[^"]*","type":"result"')


class LogLines:
    """One reader of a log, which may not be there yet; holds it open.

    A line without its newline is not handed out: its writer may have died over it, and the next
    one ends it. A long line comes in pieces, and only once it is whole.
    """

    def __init__(self, path: str) -> None:
        self.offset = 0
        self.ended = False  # the last line handed out is a result
        self._path = path
        self._fd = -1
        self._whole = 0  # behind the last newline that was seen
        self._looked = 0  # behind the last byte that was looked at for one

    def __enter__(self) -> LogLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def within_line(self) -> bool:
        """Whether a part of a line was handed out, and the rest can be at once."""
        return self.offset < self._whole

    async def seek(self, after: int, offset: int) -> None:
        """Go to where event ``after`` ends: ``offset``, or if that is 0 where it is found.

        An offset that is no line's beginning is not believed.
        """
        if not offset or not self._is_beginning(offset):
            offset = await self._beginning_after(after) if after else 0
        self.offset = self._whole = self._looked = offset

    def piece(self) -> bytes:
        """Return what follows, ``PIECE_BYTES`` at most; empty where no more whole line is there."""
        if not self.within_line:
            self._look_ahead()
        size = min(self._whole - self.offset, PIECE_BYTES)
        if not size:
            return b""
        data = os.pread(self._fd, size, self.offset)
        if len(data) < size:  # nobody cuts a log
            raise OSError(f"the log ends before byte {self.offset + size}")
        self.offset += size
        last = data.rfind(b"\n", 0, -1) + 1
        self.ended = bool(_RESULT.match(data, last))
        return data

    def _look_ahead(self) -> None:
        """Look for the end of the next line, and as many more as come with it."""
        while data := self._read(self._looked, PIECE_BYTES):
            newline = data.rfind(b"\n")
            if newline >= 0:
                self._looked = self._whole = self._looked + newline + 1
                return
            self._looked += len(data)

    def _is_beginning(self, offset: int) -> bool:
        return self._read(offset - 1, 1) == b"\n"

    async def _beginning_after(self, after: int) -> int:
        """Return where the first line stands that is of a later event; the end, if none is."""
        position = 0
        while data := self._read(position, SCAN_BYTES):
            for found in _NUMBERED.finditer(data):
                if int(found[1]) > after:
                    return position + found.start()
            # What began in this piece and does not end there is looked at with the next one.
            newline = data.rfind(b"\n") + 1
            end = position + newline if newline else self._line_end(position + len(data))
            if not end:
                break
            position = end
            await asyncio.sleep(0)
        return position

    def _line_end(self, position: int) -> int:
        """Return where the line ends that ``position`` is in; 0 if it does not yet."""
        while data := self._read(position, SCAN_BYTES):
            newline = data.find(b"\n")
            if newline >= 0:
                return position + newline + 1
            position += len(data)
        return 0

    def _read(self, offset: int, size: int) -> bytes:
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""
        return os.pread(self._fd, size, offset)

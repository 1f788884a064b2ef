"""Noticing that logs grow: at once where the kernel tells (inotify), else by looking often."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = "events.jsonl"
LOOK_EVERY_S = 0.05
"""Where the kernel does not tell, or may watch no more folders for this user."""
_MODIFY, _CREATE, _MOVED_TO = 0x2, 0x100, 0x80
_OVERFLOW = 0x4000
_HEADER = struct.Struct("iIII")
_READ_BYTES = 64 << 10


class Growth:
    """Sets events of asyncio when something is written to the log in a folder."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._numbers: dict[str, int] = {}
        self._folders: dict[int, str] = {}
        self._sizes: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        with contextlib.suppress(AttributeError):  # not Linux
            self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            asyncio.get_running_loop().add_reader(self._fd, self._told)

    @contextlib.contextmanager
    def watched(self, folder: str, grown: asyncio.Event) -> Iterator[None]:
        """Have ``grown`` set whenever the log in a folder may have grown, as long as this lasts."""
        waiting = self._waiting.setdefault(folder, [])
        waiting.append(grown)
        if len(waiting) == 1:
            self._watch(folder)
        try:
            yield
        finally:
            waiting.remove(grown)
            if not waiting:
                del self._waiting[folder]
                self._forget(folder)

    def _watch(self, folder: str) -> None:
        number = -1
        if self._fd >= 0:
            mask = _MODIFY | _CREATE | _MOVED_TO
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), mask)
        if number >= 0:
            self._numbers[folder], self._folders[number] = number, folder
            return
        self._sizes[folder] = 0
        if self._timer is None:
            self._look()

    def _forget(self, folder: str) -> None:
        self._sizes.pop(folder, None)
        number = self._numbers.pop(folder, -1)
        if number >= 0:
            del self._folders[number]
            self._libc.inotify_rm_watch(self._fd, number)  # fails where the folder is gone: good

    def _told(self) -> None:
        """Read what the kernel says."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        position = 0
        while position < len(data):
            number, mask, _, length = _HEADER.unpack_from(data, position)
            position += _HEADER.size + length
            name = data[position - length : position].rstrip(b"\0")
            if mask & _OVERFLOW:
                for folder in self._waiting:
                    self._tell(folder)
            elif name == LOG.encode() and number in self._folders:
                self._tell(self._folders[number])

    def _look(self) -> None:
        """Look at the logs of which the kernel does not tell."""
        self._timer = None
        for folder, size in self._sizes.items():
            with contextlib.suppress(OSError):
                now = os.stat(os.path.join(folder, LOG)).st_size
                if now != size:
                    self._sizes[folder] = now
                    self._tell(folder)
        if self._sizes:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LOOK_EVERY_S, self._look)

    def _tell(self, folder: str) -> None:
        for grown in self._waiting.get(folder, ()):
            grown.set()

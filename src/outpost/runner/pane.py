"""The live view of a worker: events as lines into a named pipe that a terminal shows.

The viewer (``cat`` in a tmux pane) may lag or be slow to come; the work never waits for it: what it
has not taken is kept for it, the latest of it if that is much. Once it was there, its going means
that somebody closed the view.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import subprocess
import time
from collections import deque

from outpost.wire.render import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.wire.events import Event
    from outpost.wire.orders import View

BACKLOG_LINES = 500
BACKLOG_BYTES = 1 << 20
TRIES = 5
VIEW_AFTER_S = 0.1
COMES_S = 10.0  # a viewer that was started and has not come by then was closed before


class Pane:
    """The writing end of the pipe at ``path``; keeps lines until the viewer has taken them.

    The viewer is started a moment after the worker: on a busy machine the agent comes first.
    """

    def __init__(self, path: str, view: View | None) -> None:
        self._path = path
        self._view = view
        self._tries = 0
        self._opener: subprocess.Popen[bytes] | None = None
        self._fd = -1
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._begun = b""  # what is still to come of a line that the pipe took half
        self._gone = False  # the viewer has, and nobody was told yet
        self.closed = view is None
        if view is not None:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
        self._open_at = time.monotonic() + VIEW_AFTER_S
        self._opened_at = math.inf

    def show(self, event: Event) -> None:
        """Write one event's lines, as far as the viewer takes them at once."""
        text = render(event, colour=True)
        if not text or self.closed:
            return
        line = text.encode("utf-8", "replace") + b"\n"
        self._backlog.append(line)
        self._backlog_bytes += len(line)
        self._write()
        # What is going on now is worth more than what was.
        while len(self._backlog) > BACKLOG_LINES or self._backlog_bytes > BACKLOG_BYTES:
            self._backlog_bytes -= len(self._backlog.popleft())

    def look(self) -> bool:
        """Start or greet the viewer; return whether one was here and has gone."""
        if self._view and not self._tries and time.monotonic() >= self._open_at:
            self._open_view(self._view)
        if self._opener is not None and self._opener.poll() is not None:
            failed = self._opener.returncode != 0
            self._opener = None
            if not failed:
                self._opened_at = time.monotonic()
            elif self._view and self._tries < TRIES:
                # A tmux server that ends with its last session takes a new client with it.
                self._open_view(self._view)
        self.greet()
        if self._fd < 0 and time.monotonic() > self._opened_at + COMES_S and not self.closed:
            self.closed = self._gone = True
        if self._fd >= 0:
            poller = select.poll()
            poller.register(self._fd, 0)
            if poller.poll(0):
                self._close()
        gone, self._gone = self._gone, False
        return gone

    def greet(self) -> None:
        """Write to a viewer that has come, or has room again; costs next to nothing."""
        if self._fd < 0 and not self.closed:
            self._open()
        self._write()

    def _open_view(self, view: View) -> None:
        self._tries += 1
        with contextlib.suppress(OSError):
            self._opener = subprocess.Popen(
                [*view["argv"], self._path],
                env=view["environment"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _open(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                self.closed = True

    def _write(self) -> None:
        """Write what the viewer takes of all that is kept for it."""
        try:
            while self._fd >= 0 and (self._begun or self._backlog):
                if not self._begun:
                    self._begun = self._backlog.popleft()
                    self._backlog_bytes -= len(self._begun)
                self._begun = self._begun[os.write(self._fd, self._begun) :]
        except BlockingIOError:
            return
        except OSError:
            self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1
        self._backlog.clear()
        self.closed = self._gone = True


def release(path: str) -> None:
    """Let every viewer of the pipe at ``path`` go, also one that waits for a writer or is to come.

    Opened for both it has a writer for those who wait, deleted it is not found by those to come.
    """
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        os.unlink(path)
        os.close(fd)

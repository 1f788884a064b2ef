"""What this machine knows of a worker that lives by a request of ours: files in its own folder.

::

    worker.json     whose it is: written before the first request goes out
    attached        there once a server has said that it has the worker
    ended           there once its instance has said that it lives no more
    events.jsonl    the copy of its log
    inbox.jsonl     messages to it, one a line, for whoever holds it to send
    sent            how much of that has arrived, in bytes
    holder.lock     held (flock) by the process that holds the request; touched while it is heard
    lost            why it is given up: its instance is gone, or has ended it by now
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outpost.transports.log_copy import LogCopy
from outpost.wire.work import DEAD_AFTER_S

if TYPE_CHECKING:
    from outpost.wire.orders import Message


class HeldFiles:
    """The files of one worker. Any process may read and post; one at a time holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker_id = folder.name
        self.copy = LogCopy(folder)
        self._lock_fd = -1

    def make(self, federation_id: str) -> None:
        """Say whose worker it is to be."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write("worker.json", json.dumps({"federation_id": federation_id}))

    @property
    def federation_id(self) -> str | None:
        """Whose worker it is; ``None`` where none was ever asked for."""
        try:
            said: Any = json.loads((self.folder / "worker.json").read_bytes())
            return str(said["federation_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def attached(self) -> bool:
        """Whether a server has said that it has the worker."""
        return (self.folder / "attached").exists()

    def note_attached(self) -> None:
        """Say that a server has the worker."""
        (self.folder / "attached").touch(mode=0o600)

    @property
    def ended(self) -> bool:
        """Whether its instance has said that it lives no more."""
        return (self.folder / "ended").exists()

    def note_ended(self) -> None:
        """Say that it lives no more, and that all of its log is here."""
        (self.folder / "ended").touch(mode=0o600)

    @property
    def lost(self) -> str:
        """Why the worker was given up; empty: it was not."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "lost").read_text()
        return ""

    def lose(self, why: str) -> None:
        """Give the worker up."""
        self._write("lost", why)

    @property
    def has_result(self) -> bool:
        """Whether the copy of the log ends with a result."""
        return self.copy.has_result

    def hold(self) -> bool:
        """Become the process that holds the worker; ``False`` where another one does."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.folder / "holder.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        return True

    def let_go(self) -> None:
        """Hold it no longer."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def heard(self) -> None:
        """Note that the worker's instance was heard just now."""
        with contextlib.suppress(OSError):
            os.utime(self.folder / "holder.lock")

    def held(self) -> bool:
        """Whether some process holds the worker, and has heard of its instance of late."""
        with contextlib.suppress(FileNotFoundError):
            heard_at = (self.folder / "holder.lock").stat().st_mtime
            if abs(time.time() - heard_at) > DEAD_AFTER_S:
                return False
            return self._is_locked()
        return False

    def post(self, message: Message) -> None:
        """Leave a message for whoever holds the worker; the type ``kill`` is for that one."""
        # What was left half for want of room is a line of its own then.
        line = b"\n" + json.dumps(message).encode() + b"\n"
        fd = os.open(self.folder / "inbox.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(fd, "ab") as file:
            file.write(line)

    def sent(self) -> int:
        """Return how much of the inbox is in the worker's own mailbox, in bytes."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.folder / "sent").read_text())
        return 0

    def posted(self, after: int) -> list[tuple[int, Message]]:
        """Return the messages behind so many bytes of the inbox, each with where it ends."""
        try:
            with (self.folder / "inbox.jsonl").open("rb") as file:
                file.seek(after)
                data = file.read()
        except FileNotFoundError:
            return []
        messages: list[tuple[int, Message]] = []
        for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
            after += len(line)
            with contextlib.suppress(ValueError):
                messages.append((after, json.loads(line)))
        return messages

    def note_sent(self, offset: int) -> None:
        """Say how much of the inbox has arrived."""
        self._write("sent", str(offset))

    def remove(self) -> None:
        """Remove all that is known here."""
        self.copy.remove()

    def _is_locked(self) -> bool:
        fd = os.open(self.folder / "holder.lock", os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _write(self, name: str, text: str) -> None:
        new = self.folder / f"{name}.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
        new.replace(self.folder / name)

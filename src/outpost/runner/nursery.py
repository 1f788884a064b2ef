"""Starting workers detached: at once from a warm parent, or from this very process.

A Python that has imported the runner forks a worker in two milliseconds; a fresh one takes thirty.
The nursery is such a parent. It listens on a Unix socket, forks a worker for each folder named to
it, and leaves when nothing was asked for a while. It holds no state and sees no secret, as its
forks read what is sent: if it dies, the workers do not notice and the next start makes a new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import socket

from outpost.runner import work
from outpost.runner.agents import NAMES, load
from outpost.runner.main import probe
from outpost.runner.place import Place
from outpost.wire.redact import Redactor

IDLE_S = 600.0
REQUEST_BYTES = 1 << 16
STARTED = b"started\n"
RUNNING = b"running\n"
END = b".\n"  # of an answer that may be long
PATIENCE_S = 5.0


def start(directory: str, environment: bytes) -> bytes:
    """Start the worker of a folder in a process of its own; returns once it holds its lock.

    It gets its ``Environment`` (JSON) from here: that is never on a disk. ``STARTED``, or
    ``RUNNING`` where somebody cares for it already; empty if it died at once.
    """
    listening, speaking = os.pipe()
    if os.fork() == 0:
        os.close(listening)
        _become_worker(directory, environment, speaking)
    os.close(speaking)
    with os.fdopen(listening, "rb") as pipe:
        return pipe.read()


def serve(path: str, cache_max_mib: str = "") -> None:
    """Fork for whatever is asked on the socket at ``path``, until nobody asks any more.

    The caller sends a line with a JSON array and ends that: ``start`` and a folder, followed by the
    worker's ``Environment``, to get what ``start`` returns; or ``probe`` and its arguments, to get
    what that prints, and a line with a dot. Goes into the background as soon as it listens; returns
    at once where another nursery listens there. On its way out, when all is quiet, it brings the
    caches back to ``cache_max_mib``.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if not _bind(listener, path):
        return
    if os.fork():
        return
    _leave_everything()
    with open(path + ".pid", "w") as file:
        file.write(str(os.getpid()))
    for name in NAMES:
        load(name)
    # What is there now is left alone by the collector, so that forks go on sharing its memory.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener.settimeout(IDLE_S)
    inode = os.stat(path).st_ino
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            break
        with connection:
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(connection)
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    if cache_max_mib:
        from outpost.runner import caches  # noqa: PLC0415 - at the very end only

        caches.bound(os.path.dirname(os.path.dirname(path)), int(cache_max_mib))


def _answer(connection: socket.socket) -> None:
    """In a fork: do what is asked; never returns."""
    status = 1
    try:
        connection.settimeout(PATIENCE_S)
        line, _, payload = _whole(connection).partition(b"\n")
        verb, *rest = json.loads(line)
        if verb == "start":
            _become_worker(rest[0], payload, connection.detach())
        rows = "".join(f"{json.dumps(row)}\n" for row in probe(*rest))
        connection.sendall(rows.encode() + END)
        status = 0
    finally:
        os._exit(status)


def _whole(connection: socket.socket) -> bytes:
    """Return all that is sent until its end."""
    pieces = []
    while piece := connection.recv(REQUEST_BYTES):
        pieces.append(piece)
    return b"".join(pieces)


def _bind(listener: socket.socket, path: str) -> bool:
    """Take the address, and from a dead nursery if need be; a lock keeps two from racing."""
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # By its bare name, as an address may be no longer than about a hundred bytes.
        os.chdir(os.path.dirname(path))
        name = os.path.basename(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(name) == 0:
                return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        mask = os.umask(0o177)
        listener.bind(name)
        os.umask(mask)
        listener.listen(128)
    finally:
        os.close(lock)
    return True


def _leave_everything() -> None:
    """Leave the session, the terminal and the folder that this process was started from."""
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


def _become_worker(directory: str, environment: bytes, answer: int) -> None:
    """In a fork: leave the parent's session and terminal, then run the attempt; never returns."""
    status = 1
    try:
        _leave_everything()
        place = Place(directory)
        taken = place.take_lock()
        os.write(answer, STARTED if taken else RUNNING)
        os.close(answer)
        if taken:
            work.run(place, json.loads(environment))
        status = 0
    except BaseException:
        _note_death(directory)
        raise
    finally:
        os._exit(status)


def _note_death(directory: str) -> None:
    """Leave the traceback of a fault of ours beside the log; the understudy does the rest."""
    import traceback  # noqa: PLC0415 - for the worst case only

    text = Redactor().text(traceback.format_exc())
    Place(directory).write("fault.txt", text.encode("utf-8", "backslashreplace"))

"""The first process of a stand-in's sandbox: starts what it is told to, and all of it is below it.

It runs by itself, with the standard library only. Orders come through the socket that is its
standard input: eight digits, the length of a JSON object with ``argv``, ``cwd`` and
``environment``, and with the digits three descriptors: the standard ones of the new process. It
answers in lines:
``{"pid": …}`` for each order, and ``{"pid": …, "status": …}`` once such a process has ended. What
loses its parent becomes a child of this process (Linux: ``PR_SET_CHILD_SUBREAPER``). When the
socket ends, also by the death of the stand-in, everything is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
DIGITS = 8


def main() -> int:
    line = socket.socket(fileno=0)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: reap(line))
    while order := receive(line):
        told, files = order
        # So that nobody hears of an end before it hears of the start.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = start(told, files)
        for file in files:
            os.close(file)
        tell(line, {"pid": pid})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kill_all()
    return 0


def receive(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next order with its descriptors; ``None`` at the end, which may be abrupt."""
    try:
        head, files, _, _ = socket.recv_fds(line, DIGITS, 3)
        head += _exactly(line, DIGITS - len(head))
        return json.loads(_exactly(line, int(head))), files
    except (ConnectionError, EOFError):
        return None


def start(told: dict[str, Any], files: list[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        for usual in (signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(usual, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.closerange(len(files), 1024)
        os.chdir(told["cwd"])
        os.execvpe(told["argv"][0], told["argv"], told["environment"])
    except OSError as exc:
        os.write(2, f"{told['argv'][0]}: {exc.strerror}\n".encode())
    finally:
        os._exit(127)


def reap(line: socket.socket) -> None:
    """Tell of every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        tell(line, {"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def tell(line: socket.socket, what: dict[str, int]) -> None:
    with contextlib.suppress(OSError):  # nobody is left to be told
        line.sendall(json.dumps(what).encode() + b"\n")


def kill_all() -> None:
    """Kill every process below this one: whoever loses its parent comes here."""
    me = os.getpid()
    while True:
        with open(f"/proc/{me}/task/{me}/children") as file:  # noqa: PTH123 - starts faster so
            children = [int(pid) for pid in file.read().split()]
        if not children:
            return
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (piece := line.recv(count - len(data))):
            raise EOFError
        data += piece
    return data


if __name__ == "__main__":
    sys.exit(main())

"""The first process of a stand-in's container: runs a command and never leaves a process behind.

``python container_init.py COMMAND…``. All that the command starts stays below it, however it is
started (Linux: ``PR_SET_CHILD_SUBREAPER``); once the command ends, the rest is killed, as it is
in a container. SIGTERM goes to the command; SIGHUP, which also comes when the stand-in dies, kills
everything. It exits as the command did, with 128 and the number for a signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command: int | None = None
    terminated = False

    def terminate(_number: int, _frame: object) -> None:
        nonlocal terminated
        terminated = True
        if command is not None:
            os.kill(command, signal.SIGTERM)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGHUP, lambda _number, _frame: kill_all())
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
    command = os.posix_spawnp(argv[0], argv, os.environ)
    if terminated:
        os.kill(command, signal.SIGTERM)
    status = reap(command)
    while kill_all():
        # Each that ends may have left one behind that was begun after the look.
        os.wait()
    return status


def reap(pid: int) -> int:
    """Wait for one process, whoever else ends meanwhile; return its exit code."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def kill_all() -> bool:
    """Kill every process below this one; return whether there was any, dead ones included."""
    found = below(os.getpid())
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return bool(found)


def below(root: int) -> list[int]:
    """Return the processes below one, parents first."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - starts faster without pathlib
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", errors="replace") as file:  # noqa: PTH123 - as above
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

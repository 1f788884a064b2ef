"""Where a worker's files are: the layout of an outpost's folder on the machine of the runner.

::

    ROOT/cache/KEY.git            objects of one repository, shared by all its workers
    ROOT/cache/KEY.lock           held while that cache is fetched into
    ROOT/trees/WORKER             the workspace: a repository of its own over those objects; a
                                  worker that goes on with an earlier one's work has that one's
    ROOT/workers/WORKER/          private (0700)
        order.json                the work order
        task.md                   the prompt
        transcript                an earlier attempt's conversation from another place, compressed
        events.jsonl              the event log
        inbox.jsonl               messages to the worker, one a line
        events.jsonl.reserve      room set aside for the log's end, should the disk fill up
        reserve                   room set aside for saving the work then
        settings/                 the agent settings of the branch while those of the base hold
        pane                      a named pipe: the live view
        lock                      held (flock) while anything cares for the worker
        killing                   held (flock) while somebody kills it
        runner.pid                the runner's understudy and the runner
        agent.pid                 the agent's process group
        stopping.json             why the runner ends before its agent is done
        screen.*                  of an agent at its own screen: what to start (taken at once),
                                  who shows it, that it was closed, how it ended
        checkpoint.*              of work in progress on the remote: what it holds, who makes it,
                                  the index and the message it is made with
        lease.git                 commits that say on the remote whose task it is, and whether
                                  they are there
        work.bundle               commits that could not be pushed
"""

from __future__ import annotations

import fcntl
import json
import os
import time

from outpost.runner.processes import birth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.wire.orders import WorkOrder


LOCK, KILLING = "lock", "killing"
LOCK_PATIENCE_S = 0.2


class Place:
    """The files of one worker, found from its private folder ``ROOT/workers/WORKER``."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self.worker_id = os.path.basename(self.directory)
        self.root = os.path.dirname(os.path.dirname(self.directory))
        self.cache = os.path.join(self.root, "cache")
        self._tree = ""
        self._locks: list[int] = []

    @property
    def tree(self) -> str:
        """The workspace: the worker's own, or that of an earlier one whose work it goes on with.

        An agent's conversation is tied to its folder, so that is the same one again.
        """
        if not self._tree:
            try:
                resume = self.order().get("resume")
            except (OSError, ValueError):
                return os.path.join(self.root, "trees", self.worker_id)
            name = os.path.basename(resume["tree"]) if resume else self.worker_id
            self._tree = os.path.join(self.root, "trees", name)
        return self._tree

    def path(self, name: str) -> str:
        """Return the path of a file in the private folder."""
        return os.path.join(self.directory, name)

    def order(self) -> WorkOrder:
        """Read the work order."""
        with open(self.path("order.json"), "rb") as file:
            order: WorkOrder = json.load(file)
        return order

    def write(self, name: str, data: bytes) -> str:
        """Write a private file whole and return its path."""
        path = self.path(name)
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
        except OSError:
            os.unlink(path + ".new")
            raise
        os.replace(path + ".new", path)
        return path

    def note_pids(self, name: str, *pids: int) -> None:
        """Note processes in a file, each with the moment of its birth: numbers are used again."""
        self.write(name, " ".join(f"{pid} {birth(pid) or 'dead'}" for pid in pids).encode())

    def pids(self, name: str) -> list[int]:
        """Return the processes noted in a file that still live; none if it is not there."""
        return [pid for pid, born in self._noted(name) if birth(pid) == born]

    def agent_pid(self) -> int | None:
        """Return the agent's pid, which is its group's and session's number even once it is dead.

        ``None`` before it started, or when the number is another process's by now.
        """
        for pid, born in self._noted("agent.pid"):
            if birth(pid) in ("", born):
                return pid
        return None

    def _noted(self, name: str) -> list[tuple[int, str]]:
        try:
            with open(self.path(name)) as file:
                words = file.read().split()
        except FileNotFoundError:
            return []
        return [(int(pid), born) for pid, born in zip(words[::2], words[1::2], strict=False)]

    def take_lock(self, name: str = LOCK) -> bool:
        """Take one of the worker's locks for as long as this process (or a fork of it) lives.

        Whoever asks ``cared_for`` holds it for an instant: that is waited out.
        """
        fd = os.open(self.path(name), os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(fd)
                    return False
                time.sleep(0.001)
            else:
                self._locks.append(fd)
                return True

    def drop_lock(self) -> None:
        """Give back what locks are held."""
        while self._locks:
            os.close(self._locks.pop())

    def cared_for(self) -> bool:
        """Whether a living process holds one of the worker's locks."""
        # In this order: who kills it has the second one from before the first one is free.
        return self._is_held(LOCK) or self._is_held(KILLING)

    def _is_held(self, name: str) -> bool:
        try:
            fd = os.open(self.path(name), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

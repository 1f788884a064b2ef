"""Work in progress on the remote: at an interval, and once more when the worker is told to end.

Each checkpoint is made by a fork, so that the worker's loop never waits for it. The fork keeps
nothing of the runner's open and reports through a file, which whoever ends the work after a death
reads as well.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import time

from outpost.runner import processes, snapshot
from outpost.runner.delivery import WIP_REFS
from outpost.runner.git import GitError
from outpost.runner.lease import NO_TRANSACTIONS, Superseded
from outpost.runner.loop import Interrupted, Loop
from outpost.runner.workspace import EMPTY_TREE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from outpost.runner.git import Git
    from outpost.runner.log import EventLog
    from outpost.runner.place import Place
    from outpost.runner.stopping import Stopping
    from outpost.runner.workspace import Workspace
    from outpost.wire.orders import WorkOrder

LONGEST_S = 600.0  # then whatever a checkpoint waits for is taken for dead
END_S = 2.0
NICENESS = 10


class State:
    """What is known of the ref: ``seen`` is what it held last, ``tried`` what was pushed last.

    ``seen`` is empty where there was no such ref, ``None`` where nobody has looked yet; ``ours``
    tells whether it is this worker's, or was gone on from. ``head_and_content`` are those of the
    last snapshot there. ``problem`` is why the last one failed, and ``superseded`` that it was
    because another worker holds the task.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.seen: str | None = fields.get("seen")
        self.tried = str(fields.get("tried", ""))
        self.ours = bool(fields.get("ours"))
        self.head_and_content = list(fields.get("head_and_content", ()))
        self.problem = str(fields.get("problem", ""))
        self.superseded = bool(fields.get("superseded"))


class Checkpoints:
    """The checkpoints of one worker: off until ``begin``, over with ``end``."""

    def __init__(
        self, place: Place, order: WorkOrder, workspace: Workspace, git: Git, log: EventLog
    ) -> None:
        self.ref = WIP_REFS + order["task_id"]
        self._place = place
        self._order = order
        self._workspace = workspace
        self._git = git
        self._log = log
        self._interval_s = order["limits"].get("checkpoint_s") or math.inf
        self._next_at = math.inf
        self._began_at = 0.0
        self._pid = 0
        self._again = False
        self._last = State({})
        self._complained = ""
        self._said = False

    def begin(self, start: str, there: str) -> None:
        """Start the clock; ``start`` is the checkpoint that the workspace was made from, if any.

        ``there`` is what an earlier attempt left in the ref: that is this worker's to replace.
        """
        if self._interval_s == math.inf and not there:
            return
        git, tree = self._workspace.git, self._workspace.tree
        head = snapshot.head_of(git, tree)
        content = git.run("rev-parse", f"{start or head or EMPTY_TREE}^{{tree}}", cwd=tree)
        self._last = State(
            {"head_and_content": [head, content], "seen": there or None, "ours": bool(there)}
        )
        self._write(self._last)
        if self._interval_s < math.inf:
            self._next_at = time.monotonic() + self._interval_s

    def hurry(self) -> None:
        """Make one at once: the worker has not long to live."""
        if self._next_at < math.inf:
            self._next_at = 0.0
            self._again = bool(self._pid)

    def tick(self, stopping: Stopping) -> None:
        """Begin one that is due, and tell what became of the last."""
        now = time.monotonic()
        if self._pid:
            self._look(now, stopping)
        elif now >= self._next_at:
            self._began_at, self._again = now, False
            self._next_at = now + self._interval_s
            try:
                self._pid = self._fork()
                self._place.note_pids("checkpoint.pid", self._pid)
            except OSError as exc:
                self._complain(str(exc))

    def end(self) -> None:
        """End one that is being made, by whatever process; what it pushed by then counts."""
        began = time.monotonic()
        while pids := self._makers():
            waited_s = time.monotonic() - began
            if waited_s > END_S:
                break  # killed, and held by the system: no reason not to save the work
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if waited_s < END_S / 2 else signal.SIGKILL)
            time.sleep(0.005)
        self._next_at = math.inf

    def _makers(self) -> list[int]:
        """Return who makes a checkpoint now, a child of this process or of one that died."""
        if self._pid and not os.waitpid(self._pid, os.WNOHANG)[0]:
            return [self._pid]
        self._pid = 0
        return self._place.pids("checkpoint.pid")

    def withdraw(self) -> None:
        """Delete the ref if this worker put it there or went on from it; raises ``GitError``."""
        state = self._read()
        if not state.tried and not state.ours:
            return
        tip = self._workspace.delivery.tip(self.ref)
        if tip and (tip == state.tried or (state.ours and tip == state.seen)):
            self._workspace.delivery.withdraw(self.ref, seen=tip)

    def _look(self, now: float, stopping: Stopping) -> None:
        """Take note of what the fork left, once it is done."""
        ended, status = os.waitpid(self._pid, os.WNOHANG)
        if not ended:
            if now - self._began_at > LONGEST_S:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGTERM)
            return
        self._pid = 0
        # Counted from its end, so that a slow remote is not kept busy all the time.
        self._next_at = 0.0 if self._again else now + self._interval_s
        before, self._last = self._last, self._read()
        if self._last.superseded:
            self._next_at = math.inf
            stopping.ask(self._last.problem)
        elif status or self._last.problem:
            self._complain(self._last.problem or "it did not come to its end")
        else:
            self._complained = ""
            self._say_how_fenced()
            if self._last.seen and self._last.head_and_content != before.head_and_content:
                kept = self._workspace.kept
                self._log.write("checkpoint", ref=self.ref, commit=self._last.seen, kept=kept)

    def _say_how_fenced(self) -> None:
        """Say once, of a lease that came with a checkpoint, how much it is worth."""
        lease = self._workspace.delivery.lease
        if lease and lease.lazy and not lease.atomic and not self._said:
            self._said = True
            self._log.write("log", stream="runner", text=NO_TRANSACTIONS)

    def _complain(self, problem: str) -> None:
        """Say what went wrong, once for as long as it does."""
        if problem != self._complained:
            self._complained = problem
            text = f"no checkpoint: {problem}; it is tried again"
            self._log.write("log", stream="runner", text=text)

    def _fork(self) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            self._become_fork()
            self._make(parent)
            status = 0
        finally:
            os._exit(status)

    def _become_fork(self) -> None:
        """Keep nothing open: not the agent's input, nor what the understudy listens to."""
        os.setsid()
        os.closerange(3, max(os.sysconf("SC_OPEN_MAX"), 4096))
        os.nice(NICENESS)
        loop = self._git.loop = Loop(lambda _number: None)

        def give_up(*_: object) -> None:
            if loop.child_pid:
                processes.signal_group(loop.child_pid, signal.SIGKILL)
            os._exit(1)

        signal.signal(signal.SIGTERM, give_up)

    def _make(self, parent: int) -> None:
        """In the fork: make one and push it, unless nothing has changed."""
        state = State({**vars(self._last), "problem": ""})
        try:
            self._push(state, parent)
        except Superseded as exc:
            state.problem, state.superseded = str(exc), True
        except (GitError, OSError, Interrupted) as exc:
            state.problem = str(exc)
        self._write(state)

    def _push(self, state: State, parent: int) -> None:
        workspace = self._workspace
        message = self._place.write("checkpoint.txt", self._message())
        index = self._place.path("checkpoint.index")
        made = snapshot.take(workspace.git, workspace.tree, index, message)
        if [made.head, made.content] == state.head_and_content:
            if workspace.delivery.lease:
                workspace.delivery.lease.check()  # no use in going on for nobody
            return
        if state.seen is None:
            state.seen = workspace.delivery.tip(self.ref)
        elif state.tried not in ("", state.seen) and (
            # The last push was cut short: it may have arrived all the same.
            workspace.delivery.tip(self.ref) == state.tried
        ):
            state.seen, state.ours = state.tried, True
        state.tried = made.commit
        self._write(state)
        if os.getppid() != parent:
            return  # the worker is being ended without us
        workspace.delivery.put(self.ref, made.commit, seen=state.seen, base=workspace.base)
        state.seen, state.ours = made.commit, True
        state.head_and_content = [made.head, made.content]

    def _message(self) -> bytes:
        title = " ".join(self._order["title"].split())[:200]
        text = (
            f"WIP: {title}\n\nIssue: {self._order['issue_id']}\n"
            f"Outpost-Worker: {self._order['worker_id']}\n"
            f"{snapshot.MARK}{self._order['task_id']}\n"
        )
        return text.encode("utf-8", "replace").replace(b"\0", b"")

    def _read(self) -> State:
        try:
            with open(self._place.path("checkpoint.json"), "rb") as file:
                return State(json.load(file))
        except (OSError, ValueError):
            return State({})  # then nothing on the remote is known to be ours

    def _write(self, state: State) -> None:
        self._place.write("checkpoint.json", json.dumps(vars(state)).encode())

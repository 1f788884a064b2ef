"""Ending a worker before its agent is done: the first reason counts, then signals climb."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time

from outpost.runner import processes
from outpost.runner.agents import Ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.runner.loop import Loop
    from outpost.runner.mailbox import Mailbox
    from outpost.runner.place import Place
    from outpost.wire.orders import Message

ON_REQUEST = "stopped on request"
NOTE = "stopping.json"

SAVE_S = 20.0  # beyond a stop's grace; the controller waits 30 s beyond it


class Stopping:
    """Whether and why a worker is to end, and the signals that see to it.

    ``outcome`` is what the attempt ends as. What is being saved already is saved to its end.
    ``evicted``: only its place is at an end, and the work is to be gone on with elsewhere.
    """

    def __init__(self, loop: Loop, worker_id: str, grace_s: float) -> None:
        self.loop = loop
        self.reason = ""
        self.outcome = "stopped"
        self.evicted = False
        self.saving = False
        self.leader: int | None = None  # of a program that is no child of the loop
        self._noted = False
        self._worker_id = worker_id
        self._grace_s = grace_s
        self._began = 0.0
        self._give_up_at = math.inf
        self._signals_sent = 0

    def ask(self, reason: str, grace_s: float | None = None, outcome: str = "stopped") -> None:
        """Ask the worker to end; asked again, only a shorter grace makes a difference."""
        if grace_s is None:
            grace_s = self._grace_s
        if self.reason:
            self._grace_s = min(self._grace_s, grace_s)
            return
        self.reason, self.outcome = reason, outcome
        self._grace_s = grace_s
        self._began = time.monotonic()
        self._give_up_at = self._began + grace_s + SAVE_S
        self.loop.interrupted = not self.saving

    def give_up_after(self, seconds: float) -> None:
        """Let the saving take no longer than this, counted from now."""
        self._give_up_at = time.monotonic() + seconds

    def ask_as_told(self, message: Message) -> None:
        """Ask as a message of the mailbox does."""
        evicted = bool(message.get("again")) and not self.reason
        outcome = "failed" if evicted else "stopped"
        self.ask(message.get("reason") or ON_REQUEST, message.get("grace_s"), outcome)
        self.evicted = self.evicted or evicted

    def note(self, place: Place) -> None:
        """Leave word of why the worker ends, for whoever has to end it in our place."""
        # An evicted worker that dies as well is no different from any that dies.
        if self.reason and not self._noted and not self.evicted:
            self._noted = True
            with contextlib.suppress(OSError):
                said = json.dumps({"outcome": self.outcome, "reason": self.reason})
                place.write(NOTE, said.encode())

    def tick(self) -> None:
        """Send the signal that is due."""
        now = time.monotonic()
        leader = self.loop.child_pid or self.leader
        if self.reason and leader and not self.saving:
            self._climb(leader, now - self._began)
        if self.saving and self.loop.child_pid and now > self._give_up_at:
            # A git command keeps the worker from ending; what it pushes is bundled then.
            self._give_up_at = math.inf
            processes.signal_group(self.loop.child_pid, signal.SIGKILL)

    def _climb(self, leader: int, waited_s: float) -> None:
        """Send SIGINT at once, SIGTERM after half the grace, then kill all that is left."""
        if self._signals_sent == 0:
            processes.signal_group(leader, signal.SIGINT)
            self._signals_sent = 1
        if self._signals_sent == 1 and waited_s >= self._grace_s / 2:
            processes.signal_group(leader, signal.SIGTERM)
            self._signals_sent = 2
        if waited_s >= self._grace_s:
            processes.signal_group(leader, signal.SIGKILL)
            processes.kill_all(self._worker_id, leader, patience_s=0.2)


def asked_before_death(place: Place, mailbox: Mailbox) -> Ending | None:
    """Return how a worker was to end when its runner died; ``None`` where nobody had asked it to.

    The runner left word of it, or had not yet read the message.
    """
    with contextlib.suppress(OSError, ValueError), open(place.path(NOTE), "rb") as file:
        said = json.load(file)
        return Ending(said["outcome"], said["reason"])
    while messages := mailbox.read():
        for message in messages:
            if isinstance(message, str) or message.get("again"):
                continue
            if message["type"] == "stop":
                return Ending("stopped", message.get("reason") or ON_REQUEST)
    return None

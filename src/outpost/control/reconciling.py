"""What outposts really run against what the store says: where they differ, and when to act. Pure.

============  ======================================================  ==============================
finding       is                                                      and then
============  ======================================================  ==============================
``orphan``    alive there, unknown to the store                       stopped, after a grace period
``zombie``    alive there, its attempt has ended                      stopped; at once if its task
                                                                      went on, else after the grace
``returned``  given up as lost, and seen again: dead, or alive with   its log is read on
              nobody in its place
``missing``   at work for the store, and not there                    said; its follower finds out
============  ======================================================  ==============================

Nothing is stopped that was not seen so by two looks: whatever was under way during the first has
come to its end by the next. What is dead and unknown is litter, which ``prune`` takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from outpost.model import Attempt, Handle, Liveness, Sighting, State, Task

LOOKS = 2


class Kind(StrEnum):
    """How a worker at an outpost differs from what the store says; see above."""

    ORPHAN = "orphan"
    ZOMBIE = "zombie"
    RETURNED = "returned"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the store says of an attempt that is not active: its task, and that one's newest."""

    attempt: Attempt
    task: Task
    newest_id: str

    @property
    def went_on(self) -> bool:
        """Whether its task has been tried again since, or will be."""
        return self.newest_id != self.attempt.id or self.task.state is State.QUEUED


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One worker that differs. ``attempt`` is the store's, ``None`` where that knows of none.

    ``handle`` is where it was seen or, if it is missing, should have been. ``went_on``: somebody
    else has its task, or will. It has been seen so by ``looks`` looks, the first ``since``.
    """

    kind: Kind
    outpost: str
    handle: Handle
    alive: bool
    attempt: Attempt | None = None
    went_on: bool = False
    looks: int = 1
    since: datetime | None = None

    @property
    def worker_id(self) -> str:
        """The worker's id."""
        return self.handle.worker_id

    @property
    def stops(self) -> bool:
        """Whether it is to be stopped, sooner or later."""
        return self.kind in (Kind.ORPHAN, Kind.ZOMBIE)

    @property
    def why(self) -> str:
        """Say what is wrong in a few words."""
        match self.kind:
            case Kind.ORPHAN:
                return "nobody knows of it"
            case Kind.ZOMBIE if self.went_on:
                return "its task went on without it"
            case Kind.ZOMBIE:
                state = self.attempt.state if self.attempt else State.STOPPED
                return f"it has ended ({state}), and still runs"
            case Kind.RETURNED if self.alive:
                return "it was given up as lost, and runs again"
            case Kind.RETURNED:
                return "it was given up as lost, and its log is there"
            case Kind.MISSING:
                return "it should be at work, and is not there"

    def is_due(self, now: datetime, grace: timedelta) -> bool:
        """Whether to act on it now."""
        if self.kind is Kind.RETURNED:
            return True
        if not self.stops or self.looks < LOOKS:
            return False
        return self.went_on or (self.since is not None and now - self.since >= grace)


def compare(
    outpost: str,
    sightings: Iterable[Sighting],
    active: Iterable[Attempt],
    known: Mapping[str, Known],
) -> list[Finding]:
    """Return what differs at one outpost.

    ``active`` are all attempts that the store has as active, wherever they are; ``known`` what it
    says of others that were seen. A worker of an active attempt is as it should be wherever it was
    seen: two outposts may share a folder.
    """
    attempts = {attempt.id: attempt for attempt in active}
    found, seen = [], set()
    for sighting in sightings:
        name = sighting.handle.worker_id
        seen.add(name)
        if name not in attempts:
            finding = _finding(outpost, sighting, known.get(name))
            found += [finding] if finding else []
    for attempt in attempts.values():
        if attempt.outpost == outpost and attempt.handle and attempt.id not in seen:
            missing = Finding(
                kind=Kind.MISSING,
                outpost=outpost,
                handle=attempt.handle,
                alive=False,
                attempt=attempt,
            )
            found.append(missing)
    return found


def _finding(outpost: str, sighting: Sighting, known: Known | None) -> Finding | None:
    """Return what is wrong with a worker that has no active attempt; ``None``: nothing."""
    alive = sighting.liveness is Liveness.ALIVE
    finding = Finding(kind=Kind.ORPHAN, outpost=outpost, handle=sighting.handle, alive=alive)
    if known is None:
        return finding if alive else None
    attempt = known.attempt
    if not attempt.state.ended:
        # It has begun since the active ones were read.
        return None
    finding = replace(finding, kind=Kind.ZOMBIE, attempt=attempt, went_on=known.went_on)
    if attempt.state is State.LOST and attempt.outpost == outpost:
        given_up = known.task.state is State.LOST and not known.went_on
        if not alive or given_up:
            return replace(finding, kind=Kind.RETURNED)
    return finding if alive else None


class Looks:
    """Remembers what earlier looks found, for as long as each look finds it again."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, Kind], Finding] = {}

    def note(
        self, found: Iterable[Finding], asked: Collection[str], now: datetime
    ) -> list[Finding]:
        """Return what a look found, with how often and since when it has been found.

        ``asked`` are the outposts that were looked at: of others nothing is forgotten, nor is it
        another look.
        """
        before, self._found = self._found, {}
        for key, finding in before.items():
            if finding.outpost not in asked:
                self._found[key] = finding
        noted = []
        for finding in found:
            key = (finding.outpost, finding.worker_id, finding.kind)
            last = before.get(key)
            # Where now is before the first look, our own clock was set back.
            since = min(last.since, now) if last and last.since else now
            looks = last.looks + 1 if last else 1
            self._found[key] = replace(finding, looks=looks, since=since)
            noted.append(self._found[key])
        return noted

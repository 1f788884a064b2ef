"""The states of tasks and attempts: changed here and nowhere else, each with a line in the log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import (
    Connection,
    bindparam,
    func,
    insert,
    select,
    update,
)

from outpost.model import ACTIVE, Attempt, State, Task
from outpost.store.batches import Known, select_all, update_all
from outpost.store.rows import (
    USAGE,
    Values,
    attempt_values,
    observed_values,
    progress_values,
    stored,
    task_values,
)
from outpost.store.schema import attempts, tasks, transitions

REASON_CHARS = 500
"""The most that a line of the log quotes of a reason; the rest is an attempt's or a task's."""

# What has to be known of an attempt to say what may become of it.
_KNOWN = select(
    *(attempts.c[name] for name in ("id", "task_id", "number", "fence", "outpost")),
    *(attempts.c[name] for name in ("state", "reason", "seq", "stop_asked", *USAGE)),
    attempts.c.handle.is_not(None).label("handle"),
).with_for_update()
_UPDATE_TASK = update(tasks).where(tasks.c.id == bindparam("of"))
_UPDATE_ATTEMPT = update(attempts).where(attempts.c.id == bindparam("of"))
# A handle once known stays known.
_OBSERVE = _UPDATE_ATTEMPT.values(handle=func.coalesce(bindparam("new_handle"), attempts.c.handle))
# The task is where its newest attempt, this one, was so far.
_FOLLOW = _UPDATE_TASK.where(
    tasks.c.attempts_made == bindparam("newest"), tasks.c.state == bindparam("was")
)

News = tuple[Known, Attempt]
"""What is known of an attempt, and what was learnt of it."""


class Moves:
    """The changes of state of one transaction: at one instant, by one process.

    Where a task merely follows its newest attempt the line of the attempt tells of both.
    """

    def __init__(self, connection: Connection, *, now: datetime, by: str) -> None:
        self._connection = connection
        self._now = now
        self._by = by
        self.logged = False

    def known(self, attempt: Attempt) -> Known | None:
        """Return what is known of an attempt, if ``attempt`` still holds its fence."""
        query = _KNOWN.where(attempts.c.id == attempt.id, attempts.c.fence == attempt.fence)
        return self._connection.execute(query).mappings().one_or_none()

    def all_known(self, news: Sequence[Attempt]) -> dict[str, Known]:
        """Return the same of each of these attempts that still holds its fence, by its id."""
        fences = {attempt.id: attempt.fence for attempt in news}
        rows = select_all(self._connection, _KNOWN, attempts.c.id, fences)
        return {row["id"]: row for row in rows if row["fence"] == fences[row["id"]]}

    def add(self, task: Task) -> None:
        """Insert a task in ``queued``."""
        self._connection.execute(insert(tasks), {**task_values(task), "attempts_made": 0})
        self._log(self._line(task.id, None, State.QUEUED, task.reason))

    def reserve(self, claimed: Attempt, why: str) -> None:
        """Insert an attempt of a queued task, which is its newest from now on."""
        self._connection.execute(insert(attempts), attempt_values(claimed))
        made = {"state": State.RESERVED, "attempts_made": claimed.number}
        reason = stored(claimed.reason)
        self._connection.execute(_UPDATE_TASK, {"of": claimed.task_id, "reason": reason, **made})
        line = self._line(claimed.task_id, State.QUEUED, State.RESERVED, why)
        self._log({**line, "attempt_id": claimed.id, "outpost": claimed.outpost})

    def take_back(self, known: Known, reason: str) -> None:
        """End an attempt that started nothing as failed."""
        changes = {"state": State.FAILED, "reason": stored(reason), "ended_at": stored(self._now)}
        self._connection.execute(_UPDATE_ATTEMPT, {"of": known["id"], **changes})
        self._log(self._line_of(known, State.FAILED, reason))

    def observe(self, news: Sequence[News], *, in_a_batch: bool = False) -> None:
        """Store all that was learnt of attempts.

        ``in_a_batch``: of those that go on in the same state, what changes as they do.
        """
        if not news:
            return
        progress, changes = list[Values](), list[Values]()
        for known, attempt in news:
            if in_a_batch and _goes_on(known, attempt):
                progress.append({"id": attempt.id, **progress_values(attempt)})
            else:
                changes.append({"of": attempt.id, **observed_values(attempt)})
        update_all(self._connection, attempts, "id", progress)
        if changes:
            self._connection.execute(_OBSERVE, changes)
        moved = [it for it in news if it[1].state != it[0]["state"]]
        self._log(*(self._line_of(known, it.state, it.reason) for known, it in moved))

    def ask_to_stop(self, attempt_id: str, reason: str) -> bool:
        """Note why an active attempt is to stop, unless that is known; ``False``: it has ended."""
        query = _KNOWN.where(attempts.c.id == attempt_id, attempts.c.state.in_(ACTIVE))
        known = self._connection.execute(query).mappings().one_or_none()
        if known is None:
            return False
        if not known["stop_asked"]:
            asked = stored(reason) or "no reason given"
            self._connection.execute(_UPDATE_ATTEMPT, {"of": attempt_id, "stop_asked": asked})
            asking = f"asked to stop: {asked}"
            self._log(self._line_of(known, State(known["state"]), asking))
        return True

    def follow(self, news: Sequence[News]) -> bool:
        """Let tasks follow their newest attempts; ``False`` if none does.

        What an earlier attempt did is history, and so is what the newest did once the task is
        queued again or was ended without it.
        """
        following = [
            {**_following(known), "state": attempt.state, "reason": stored(attempt.reason)}
            for known, attempt in news
            if attempt.state != known["state"] or stored(attempt.reason) != known["reason"]
        ]
        return bool(following) and self._connection.execute(_FOLLOW, following).rowcount > 0

    def queue_again(
        self, known: Known, end: State, reason: str, *, due_at: datetime | None, failed: bool
    ) -> bool:
        """Queue a task anew as its newest attempt comes to ``end``; ``False`` if it is not that."""
        changes = {"state": State.QUEUED, "reason": stored(reason), "due_at": stored(due_at)}
        again = _FOLLOW.values(retries=tasks.c.retries + int(failed))
        if not self._connection.execute(again, {**_following(known), **changes}).rowcount:
            return False
        self._log(self._line(known["task_id"], end, State.QUEUED, reason))
        return True

    def end_queued(self, task_id: str, end: State, reason: str, number: int | None = None) -> bool:
        """End a task that is queued; with ``number`` only while that attempt is its newest."""
        queued = update(tasks).where(tasks.c.id == task_id, tasks.c.state == State.QUEUED)
        if number is not None:
            queued = queued.where(tasks.c.attempts_made == number)
        changes: Values = {"state": end, "reason": stored(reason)}
        if not self._connection.execute(queued, changes).rowcount:
            return False
        self._log(self._line(task_id, State.QUEUED, end, reason))
        return True

    def _line_of(self, known: Known, after: State, reason: str) -> Values:
        """Return the line about an attempt."""
        of = {"attempt_id": known["id"], "outpost": known["outpost"]}
        return {**self._line(known["task_id"], known["state"], after, reason), **of}

    def _line(self, task_id: str, before: str | None, after: State, reason: str) -> Values:
        """Return the line about a task alone."""
        return {
            "at": stored(self._now),
            "task_id": task_id,
            "attempt_id": "",
            "outpost": "",
            "before": before,
            "after": after,
            "by": stored(self._by),
            "reason": stored(reason[:REASON_CHARS]),
        }

    def _log(self, *lines: Values) -> None:
        if lines:
            self._connection.execute(insert(transitions), list(lines))
            self.logged = True


def _goes_on(known: Known, attempt: Attempt) -> bool:
    """Whether an attempt is where it was: most of its columns are as they were, too."""
    return bool(attempt.state in ACTIVE and attempt.handle and known["handle"]) and (
        attempt.state == known["state"] and attempt.reason == known["reason"]
    )


def _following(known: Known) -> Values:
    """Return what ``_FOLLOW`` has to be given of an attempt."""
    return {"of": known["task_id"], "newest": known["number"], "was": known["state"]}

"""What is learnt of attempts: how they stand, what they cost, and what follows their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select

from outpost.model import ACTIVE, ENDED, Attempt, State, may_become
from outpost.store import billing, duties
from outpost.store.batches import Known
from outpost.store.moves import Moves, News
from outpost.store.reads import Reader
from outpost.store.rows import USAGE
from outpost.store.schema import tasks


class Learner:
    """Stores in one transaction what was learnt of attempts."""

    def __init__(
        self, connection: Connection, reader: Reader, moves: Moves, *, now: datetime
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._moves = moves
        self._now = now

    def apply(self, attempt: Attempt, again_at: datetime | None) -> bool:
        """Store what was learnt of an attempt, unless it is old news or not allowed."""
        known = self._moves.known(attempt)
        if known is None or not _allowed(known, attempt):
            return False
        if attempt.state in ENDED:
            self._end(known, attempt, again_at)
        else:
            self._go_on([(known, attempt)])
        return True

    def apply_all(self, attempts: Sequence[Attempt]) -> list[bool]:
        """Do the same for each; those that go on are stored all at once."""
        if len({attempt.id for attempt in attempts}) < len(attempts):
            return [self.apply(attempt, None) for attempt in attempts]
        known = self._moves.all_known(attempts)
        news = [(known[it.id], it) for it in attempts if it.id in known]
        news = [it for it in news if _allowed(*it)]
        self._go_on([it for it in news if it[1].state in ACTIVE], in_a_batch=True)
        for it in news:
            if it[1].state in ENDED:
                self._end(*it, None)
        applied = {attempt.id for _, attempt in news}
        return [attempt.id in applied for attempt in attempts]

    def _go_on(self, news: Sequence[News], *, in_a_batch: bool = False) -> None:
        """Store what was learnt of attempts that have not ended."""
        self._moves.observe(news, in_a_batch=in_a_batch)
        self._moves.follow(news)
        used = [attempt for known, attempt in news if _uses_more(known, attempt)]
        if used:
            billing.note_tokens(self._connection, used, self._now)

    def _end(self, known: Known, attempt: Attempt, again_at: datetime | None) -> None:
        """Store the end of an attempt: the bill, and what becomes of its task."""
        self._moves.observe([(known, attempt)])
        self._settle(known["task_id"], attempt)
        if again_at is not None and self._queue_again(known, attempt, again_at):
            return
        if self._follow(known, attempt):
            duties.add(self._connection, known["task_id"], attempt.id, self._now)

    def _queue_again(self, known: Known, attempt: Attempt, again_at: datetime) -> bool:
        """Let a task be tried anew whose attempt came to an end that is not its own."""
        broken_off = attempt.state is State.LOST or (attempt.state is State.FAILED and attempt.died)
        return (
            broken_off
            and not known["stop_asked"]
            and self._moves.queue_again(
                known, attempt.state, attempt.reason, due_at=again_at, failed=not attempt.got_on
            )
        )

    def _follow(self, known: Known, attempt: Attempt) -> bool:
        """Let a task follow; it needs no other try once its work is found done after all."""
        if self._moves.follow([(known, attempt)]):
            return True
        late = known["state"] == State.LOST and attempt.state is State.DONE
        return late and self._moves.end_queued(
            known["task_id"], State.DONE, attempt.reason, known["number"]
        )

    def _settle(self, task_id: str, attempt: Attempt) -> None:
        charge = self._reader.charge(attempt.id)
        if charge is None:
            return
        told = charge.told_by(attempt, self._now)
        if billing.untold(charge, attempt, interactive=self._is_interactive(task_id)):
            # What nobody told of counts as all that was reserved for it.
            told = replace(told, tokens_known=False)
        billing.change(self._connection, charge, told)

    def _is_interactive(self, task_id: str) -> bool:
        """Whether the agent of a task works at its own screen."""
        query = select(tasks.c.interactive).where(tasks.c.id == task_id)
        return bool(self._connection.scalar(query))


def _allowed(known: Known, attempt: Attempt) -> bool:
    """Whether this is news, and of what may become of an attempt."""
    before = State(known["state"])
    # What ended for good stays as it is: its task may be queued again by now.
    return (
        attempt.seq >= known["seq"]
        and attempt.state is not State.QUEUED
        and before not in ENDED - {State.LOST}
        and may_become(before, attempt.state)
    )


def _uses_more(known: Known, attempt: Attempt) -> bool:
    return any(getattr(attempt.usage, name) != known[name] for name in USAGE)

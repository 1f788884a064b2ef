"""The changes. Each runs alone among all writers of all processes.

``with_for_update`` says so to PostgreSQL; SQLite knows it from how the transaction began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import (
    Connection,
    Engine,
    StaticPool,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from outpost.model import (
    ACTIVE,
    ENDED,
    Attempt,
    Breaker,
    CapWindow,
    Charge,
    Decision,
    Duty,
    DutyState,
    Lease,
    State,
    Task,
    may_become,
)
from outpost.store import billing, duties, leasing, schema
from outpost.store.learning import Learner
from outpost.store.moves import Moves
from outpost.store.reads import Reader
from outpost.store.rows import (
    Row,
    breaker_values,
    decision_values,
    stored,
)
from outpost.store.schema import attempts, breakers, decisions, tasks, transitions


def make_engine(connection: sqlite3.Connection) -> Engine:
    """Return an engine over one open connection, which stays the caller's to close.

    Transactions take the write lock as they begin, and wait for it: taken later it could be
    refused at once.
    """
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def begin(beginning: Connection) -> None:
        beginning.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Begin and commit, or roll back; failures are ``sqlite3.Error``, as without SQLAlchemy."""
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as exc:
        if isinstance(exc.orig, sqlite3.Error):
            raise exc.orig from exc
        raise


class Writer:
    """The changes of one transaction, made at one instant by one process."""

    def __init__(self, connection: Connection, *, now: datetime, by: str) -> None:
        self._connection = connection
        self._now = now
        self._reader = Reader(self._ask)
        self._moves = Moves(connection, now=now, by=by)
        self._learner = Learner(connection, self._reader, self._moves, now=now)
        self._freed = False

    @property
    def of_consequence(self) -> bool:
        """Whether others would act on what has been changed so far, and should look at once."""
        return self._moves.logged or self._freed

    def add_task(self, task: Task) -> None:
        """Insert a task in ``queued``."""
        self._moves.add(replace(task, state=State.QUEUED))

    def claim(
        self,
        attempt: Attempt,
        decision: Decision,
        max_workers: int | None,
        charge: Charge | None = None,
        caps: Sequence[CapWindow] = (),
    ) -> Attempt | None:
        """Take slot and money for an attempt of a queued task; return it as stored, or ``None``."""
        columns = tasks.c.state, tasks.c.attempts_made, tasks.c.resumes
        query = select(*columns).where(tasks.c.id == attempt.task_id)
        task = self._connection.execute(query.with_for_update()).mappings().one_or_none()
        if task is None or task["state"] != State.QUEUED:
            return None
        if task["resumes"] and (rival := self._active_on(attempt.branch)):
            self.end_queued(attempt.task_id, State.STOPPED, f"{rival} is at work on its branch")
            return None
        if max_workers is not None and self._active_at(attempt.outpost) >= max_workers:
            return None
        if charge and caps and not self._reader.has_room(charge, caps, attempt.created_at):
            return None
        number = task["attempts_made"] + 1
        claimed = replace(attempt, number=number, fence=number, state=State.RESERVED)
        self._moves.reserve(claimed, claimed.reason or _why(decision, claimed.outpost))
        self._connection.execute(insert(decisions), decision_values(decision, attempt.id))
        if charge is not None:
            billing.reserve(self._connection, charge)
        return claimed

    def release(
        self, attempt: Attempt, reason: str, *, due_at: datetime | None, failed: bool
    ) -> bool:
        """End a claim that started nothing, and queue its task again."""
        known = self._moves.known(attempt)
        if known is None or not may_become(State(known["state"]), State.QUEUED):
            return False
        self._moves.take_back(known, reason)
        billing.take_back(self._connection, attempt.id)
        self._moves.queue_again(known, State.FAILED, reason, due_at=due_at, failed=failed)
        return True

    def hold(self, task_id: str, decision: Decision) -> None:
        """Store why a queued task waits, in place of why it waited before."""
        waiting = update(tasks).where(tasks.c.id == task_id, tasks.c.state == State.QUEUED)
        if self._connection.execute(waiting, {"reason": stored(decision.why())}).rowcount:
            earlier = decisions.c.task_id == task_id, decisions.c.attempt_id.is_(None)
            self._connection.execute(delete(decisions).where(*earlier))
            self._connection.execute(insert(decisions), decision_values(decision, None))

    def apply(self, attempt: Attempt, again_at: datetime | None) -> bool:
        """Store what was learnt of an attempt, unless it is old news or not allowed."""
        return self._learner.apply(attempt, again_at)

    def apply_all(self, attempts: Sequence[Attempt]) -> list[bool]:
        """Do the same for each of many."""
        return self._learner.apply_all(attempts)

    def ask_to_stop(self, attempt_id: str, reason: str) -> bool:
        """Note why an active attempt is to stop."""
        return self._moves.ask_to_stop(attempt_id, reason)

    def end_queued(self, task_id: str, end: State, reason: str) -> bool:
        """End a task that is still queued; nobody works on its issue any more."""
        if not self._moves.end_queued(task_id, end, reason):
            return False
        duties.add(self._connection, task_id, None, self._now)
        return True

    def take_leases(self, names: Sequence[str], holder: str, ttl: timedelta) -> dict[str, Lease]:
        """Take or renew what nobody else holds now."""
        return leasing.take(self._connection, names, holder, self._now, ttl)

    def drop_leases(self, holder: str) -> None:
        """Let go of everything that is held."""
        self._freed = leasing.drop(self._connection, holder, self._now) or self._freed

    def trim_transitions(self, before: datetime) -> int:
        """Delete what happened before then."""
        old = delete(transitions).where(transitions.c.at < stored(before))
        return self._connection.execute(old).rowcount

    def change_breaker(
        self, outpost: str, scope: str, change: Callable[[Breaker, Sequence[Breaker]], Breaker]
    ) -> Breaker:
        """Store what ``change`` makes of a breaker, given it and all the others; return that."""
        known = {(breaker.outpost, breaker.scope): breaker for breaker in self._reader.breakers()}
        old = known.pop((outpost, scope), None)
        new = change(old or Breaker(outpost=outpost, scope=scope), list(known.values()))
        same = breakers.c.outpost == outpost, breakers.c.scope == scope
        if new != old:
            self._connection.execute(delete(breakers).where(*same))
            if new.failures or new.trips or new.probe:
                self._connection.execute(insert(breakers), breaker_values(new))
        return new

    def take_duty(self, duty: Duty, lease: timedelta) -> Duty | None:
        """Begin a try of a pending duty."""
        return duties.take(self._connection, duty, self._now + lease)

    def settle_duty(self, duty: Duty) -> bool:
        """Store what came of a try."""
        return duties.settle(self._connection, duty)

    def note_pr(self, attempt_id: str, pr_url: str) -> bool:
        """Store the pull request of an ended attempt."""
        ended = attempts.c.id == attempt_id, attempts.c.state.in_(ENDED)
        changes = {"pr_url": stored(pr_url)}
        return self._connection.execute(update(attempts).where(*ended), changes).rowcount > 0

    def note_metered(self, attempt_id: str, seconds: float) -> bool:
        """Move the end of a settled charge to where its provider's meter has it."""
        charge = self._reader.charge(attempt_id)
        if charge is None or charge.ended_at is None:
            return False
        ended_at = charge.started_at + timedelta(seconds=seconds)
        billing.change(self._connection, charge, replace(charge, ended_at=ended_at))
        return True

    def forget(self, attempt_id: str) -> None:
        """Delete an ended attempt; with the last one its task, unless that is to be tried again."""
        ended = attempts.c.id == attempt_id, attempts.c.state.in_(ENDED)
        task_id = self._connection.scalar(select(attempts.c.task_id).where(*ended))
        if task_id is None:
            return
        self._connection.execute(delete(attempts).where(*ended))
        owed = schema.duties.c
        self._connection.execute(
            delete(tasks).where(
                tasks.c.id == task_id,
                tasks.c.state.in_(ENDED),
                ~exists().where(attempts.c.task_id == task_id),
                ~exists().where(owed.task_id == task_id, owed.state == DutyState.PENDING),
            )
        )

    def _ask(self, query: str, values: dict[str, object]) -> Sequence[Row]:
        named = {name: stored(value) for name, value in values.items()}
        return self._connection.execute(text(query), named).mappings().all()

    def _active_at(self, outpost: str) -> int:
        active = attempts.c.state.in_(ACTIVE), attempts.c.outpost == outpost
        return self._connection.scalars(select(func.count()).where(*active)).one()

    def _active_on(self, branch: str) -> str | None:
        working = attempts.c.state.in_(ACTIVE), attempts.c.branch == branch
        return self._connection.scalars(select(attempts.c.id).where(*working)).first()


def _why(decision: Decision, outpost: str) -> str:
    """Return why the policy ranked the outpost where it did."""
    return next((item.why for item in decision.ranked if item.outpost == outpost), "")

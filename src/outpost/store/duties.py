"""What is written of duties: they come up with the end of a task, are taken, and settled."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from outpost.model import Duty, DutyKind, DutyState, State
from outpost.store.rows import Values, duties_values, stored
from outpost.store.schema import duties, tasks


def add(connection: Connection, task_id: str, attempt_id: str | None, now: datetime) -> None:
    """Note what a task that has ended asks for.

    Without an attempt that ended it nobody works on its issue any more, and that is all.
    """
    task = connection.execute(select(tasks).where(tasks.c.id == task_id)).mappings().one()
    asked = duties_values(task, attempt_id, State(task["state"]), now)
    if attempt_id is None:
        asked = [values for values in asked if values["kind"] == DutyKind.RELEASE]
    if asked:
        connection.execute(insert(duties), asked)


def take(connection: Connection, duty: Duty, until: datetime) -> Duty | None:
    """Begin a try of a pending duty, unless another has begun since it was read."""
    taken = replace(duty, tries=duty.tries + 1, due_at=until, detail="")
    changes = {"tries": taken.tries, "due_at": stored(until), "detail": ""}
    return taken if _change(connection, duty, changes) else None


def settle(connection: Connection, duty: Duty) -> bool:
    """Store what came of a try, unless another has begun since."""
    names = ("state", "due_at", "detail")
    return _change(connection, duty, {name: stored(getattr(duty, name)) for name in names})


def _change(connection: Connection, duty: Duty, changes: Values) -> bool:
    same = update(duties).where(
        duties.c.id == duty.id,
        duties.c.state == DutyState.PENDING,
        duties.c.tries == duty.tries,
    )
    return connection.execute(same, changes).rowcount > 0

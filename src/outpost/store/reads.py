"""The queries, in the SQL that SQLite and PostgreSQL share, run by the driver as they are.

Loading SQLAlchemy takes longer than all the rest of ``outpost ps``; so what only reads does
without it. What is active or queued is found without touching what has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from outpost.errors import NotFound
from outpost.model import (
    ACTIVE,
    Attempt,
    Breaker,
    CapWindow,
    Charge,
    Decision,
    Duty,
    Lease,
    State,
    Task,
    Transition,
    Used,
)
from outpost.store import ledger
from outpost.store.rows import (
    Ask,
    attempt_from,
    breaker_from,
    charge_from,
    decision_from,
    duty_from,
    lease_from,
    task_from,
    transition_from,
)

_ID_PREFIX = "w-"
_BEHIND_ALL = "\U0010ffff"
_ACTIVE = ", ".join(f"'{state.value}'" for state in sorted(ACTIVE))

_FEDERATION = "SELECT id FROM federation"
_SLOTS = f"SELECT outpost, count(*) AS n FROM attempts WHERE state IN ({_ACTIVE}) GROUP BY outpost"  # noqa: S608 - our own words
_STATES = "SELECT state, count(*) AS n FROM tasks GROUP BY state"
_TASK = "SELECT * FROM tasks WHERE id = :id"
_QUEUED = "SELECT * FROM tasks WHERE state = 'queued'"
_BEHIND = " AND (rank, id) > (:rank, :id)"
_DUE = " AND (due_at IS NULL OR due_at <= :due_by)"
_BY_RANK = " ORDER BY rank, id"
_QUEUE_LENGTH = "SELECT count(*) AS n FROM tasks WHERE state = 'queued'"
_BEFORE = " AND (rank, id) < (:rank, :id)"
_NEWEST_FIRST = "ORDER BY created_at DESC, number DESC, id DESC"
_ALL_ATTEMPTS = f"SELECT * FROM attempts {_NEWEST_FIRST}"  # noqa: S608 - our own words
_ACTIVE_ATTEMPTS = f"SELECT * FROM attempts WHERE state IN ({_ACTIVE}) {_NEWEST_FIRST}"  # noqa: S608 - our own words
_ATTEMPTS_OF = "SELECT * FROM attempts WHERE task_id = :id ORDER BY number"
_ATTEMPTS_NAMED = f"""
    SELECT * FROM attempts
    WHERE id = :name OR id = :id OR task_id = :name OR issue_id = :name OR branch = :name
    {_NEWEST_FIRST}"""  # noqa: S608 - our own words
# Ranges, not LIKE: they use the index, and every character stands for itself.
_ATTEMPTS_BEGINNING = f"""
    SELECT * FROM attempts
    WHERE (id >= :name AND id < :name_end) OR (id >= :id AND id < :id_end)
    {_NEWEST_FIRST}"""  # noqa: S608 - our own words
_TASKS_NAMED = """
    SELECT * FROM tasks WHERE id = :name OR issue_id = :name ORDER BY created_at DESC, id"""
_TASKS_BEGINNING = """
    SELECT * FROM tasks WHERE id >= :name AND id < :end ORDER BY created_at DESC, id"""
_DECISION = "SELECT * FROM decisions WHERE task_id = :id ORDER BY id DESC LIMIT 1"

_CHARGES = """
    SELECT * FROM charges WHERE ended_at IS NULL OR ended_at >= :since
    ORDER BY started_at, attempt_id"""
_CHARGE = "SELECT * FROM charges WHERE attempt_id = :id"
_CHARGES_OF = "SELECT * FROM charges WHERE task_id = :id"
_BREAKERS = "SELECT * FROM breakers ORDER BY outpost, scope"

_PENDING_DUTIES = "SELECT * FROM duties WHERE state = 'pending' ORDER BY due_at, id"
_DUTIES_OF = "SELECT * FROM duties WHERE task_id = :id ORDER BY id"

_TRANSITIONS = "SELECT * FROM transitions WHERE id > :after"
_OF_TASK = " AND task_id = :task_id"
_BY_ID = " ORDER BY id"
_NEWEST = " ORDER BY id DESC"
_LEASES = "SELECT * FROM leases WHERE until > :now ORDER BY name"


class Reader:
    """The queries of one transaction."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def federation_id(self) -> str | None:
        """Return the id made with the store, ``None`` where there is no store yet."""
        rows = self._ask(_FEDERATION, {})
        return rows[0]["id"] if rows else None

    def counts(self) -> dict[str, int]:
        """Return how many attempts are active at each outpost that has any."""
        return {row["outpost"]: row["n"] for row in self._ask(_SLOTS, {})}

    def count_by_state(self) -> dict[State, int]:
        """Return how many tasks are in each state that any is in."""
        return {State(row["state"]): row["n"] for row in self._ask(_STATES, {})}

    def task(self, task_id: str) -> Task:
        """Return a task; raises ``NotFound``."""
        rows = self._ask(_TASK, {"id": task_id})
        if not rows:
            raise NotFound(f"there is no task '{task_id}'", hint="outpost ps -a")
        return task_from(rows[0])

    def queued(
        self, *, limit: int | None, after: Task | None, due_by: datetime | None
    ) -> list[Task]:
        """Return queued tasks by rank: the first ``limit`` behind ``after`` that may be tried."""
        query, values = _QUEUED, dict[str, object]()
        if after is not None:
            query, values = query + _BEHIND, {"rank": after.rank, "id": after.id}
        if due_by is not None:
            query, values = query + _DUE, {**values, "due_by": due_by}
        query += _BY_RANK
        if limit is not None:
            query, values = query + " LIMIT :limit", {**values, "limit": limit}
        return [task_from(row) for row in self._ask(query, values)]

    def queue_length(self, before: Task | None) -> int:
        """Return how many tasks are queued, or how many of them before a task."""
        if before is None:
            rows = self._ask(_QUEUE_LENGTH, {})
        else:
            rows = self._ask(_QUEUE_LENGTH + _BEFORE, {"rank": before.rank, "id": before.id})
        return int(rows[0]["n"]) if rows else 0

    def used(self, windows: Sequence[CapWindow], now: datetime) -> list[Used]:
        """Return what counts towards each of these caps."""
        return ledger.used(self._ask, windows, now)

    def has_room(self, charge: Charge, caps: Sequence[CapWindow], now: datetime) -> bool:
        """Whether all that a new charge reserves fits under every one of these caps."""
        return ledger.has_room(self._ask, charge, caps, now)

    def task_cost(self, task_id: str, now: datetime) -> int:
        """Return what the attempts of a task cost or hold."""
        charges = [charge_from(row) for row in self._ask(_CHARGES_OF, {"id": task_id})]
        return sum(charge.reserved_microusd(now) for charge in charges)

    def charges(self, since: datetime) -> list[Charge]:
        """Return the charges that are open or ended since, oldest first."""
        return [charge_from(row) for row in self._ask(_CHARGES, {"since": since})]

    def charge(self, attempt_id: str) -> Charge | None:
        """Return what an attempt is charged."""
        rows = self._ask(_CHARGE, {"id": attempt_id})
        return charge_from(rows[0]) if rows else None

    def breakers(self) -> list[Breaker]:
        """Return all breakers, by outpost."""
        return [breaker_from(row) for row in self._ask(_BREAKERS, {})]

    def attempts(self, *, ended: bool, limit: int | None) -> list[Attempt]:
        """Return the newest ``limit`` attempts, oldest of them first; the active only, or all."""
        query = _ALL_ATTEMPTS if ended else _ACTIVE_ATTEMPTS
        if limit is None:
            rows = self._ask(query, {})
        else:
            rows = self._ask(f"{query} LIMIT :limit", {"limit": limit})
        return [attempt_from(row) for row in reversed(rows)]

    def attempts_of(self, task_id: str) -> list[Attempt]:
        """Return every attempt of a task, oldest first."""
        return [attempt_from(row) for row in self._ask(_ATTEMPTS_OF, {"id": task_id})]

    def find(self, name: str) -> list[Attempt]:
        """Return the attempts that ``name`` is exactly, else those whose id it begins."""
        names: dict[str, object] = {"name": name, "id": _ID_PREFIX + name}
        rows = self._ask(_ATTEMPTS_NAMED, names)
        if name and not rows:
            ends = {f"{key}_end": f"{start}{_BEHIND_ALL}" for key, start in names.items()}
            rows = self._ask(_ATTEMPTS_BEGINNING, names | ends)
        return [attempt_from(row) for row in rows]

    def find_tasks(self, name: str) -> list[Task]:
        """Return the tasks that ``name`` is exactly, else those whose id it begins."""
        rows = self._ask(_TASKS_NAMED, {"name": name})
        if name and not rows:
            rows = self._ask(_TASKS_BEGINNING, {"name": name, "end": name + _BEHIND_ALL})
        return [task_from(row) for row in rows]

    def decision(self, task_id: str) -> Decision | None:
        """Return the newest decision about a task."""
        rows = self._ask(_DECISION, {"id": task_id})
        return decision_from(rows[0]) if rows else None

    def pending_duties(self) -> list[Duty]:
        """Return the duties yet to be carried out, the longest due first."""
        return [duty_from(row) for row in self._ask(_PENDING_DUTIES, {})]

    def duties_of(self, task_id: str) -> list[Duty]:
        """Return every duty of a task, in the order in which they came up."""
        return [duty_from(row) for row in self._ask(_DUTIES_OF, {"id": task_id})]

    def transitions(
        self, *, after: int, limit: int | None, task_id: str | None
    ) -> list[Transition]:
        """Return what happened after a transition; the first ``limit``, or the last after none."""
        query, values = _TRANSITIONS, dict[str, object](after=after)
        if task_id is not None:
            query, values = query + _OF_TASK, {**values, "task_id": task_id}
        newest = limit is not None and after == 0
        query += _NEWEST if newest else _BY_ID
        if limit is not None:
            query, values = query + " LIMIT :limit", {**values, "limit": limit}
        rows = self._ask(query, values)
        return [transition_from(row) for row in (reversed(rows) if newest else rows)]

    def leases(self, now: datetime) -> list[Lease]:
        """Return the leases that have not run out, by name."""
        return [lease_from(row) for row in self._ask(_LEASES, {"now": now})]

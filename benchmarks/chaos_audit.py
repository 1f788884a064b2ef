"""What must always be so, asked of the store in queries of our own: each on one view of it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Engine, create_engine, text

from outpost.model import ACTIVE, ENDED
from outpost.store.rows import charge_from

TWICE_AT_WORK = "two attempts of a task at work"
TWICE_DONE = "a task done twice"
OPEN_AFTER_END = "a charge open after its attempt's end"
UNCHARGED = "an attempt at work without a charge"
SLOTS_EXCEEDED = "more workers than slots"
CAP_EXCEEDED = "more reserved than the cap"
_HELD = ", ".join(f"'{state.value}'" for state in sorted(ACTIVE))
_OVER = ", ".join(f"'{state.value}'" for state in sorted(ENDED))
_TWICE_AT_WORK = f"""
    SELECT task_id FROM attempts WHERE state IN ({_HELD}) GROUP BY task_id HAVING count(*) > 1"""
# One that was given up and is found done after all is an earlier try, and no longer counts.
_TWICE_DONE = """
    SELECT task_id FROM attempts WHERE state = 'done'
        AND id NOT IN (SELECT attempt_id FROM transitions WHERE before = 'lost')
    GROUP BY task_id HAVING count(*) > 1"""
_SLOTS = f"SELECT outpost, count(*) FROM attempts WHERE state IN ({_HELD}) GROUP BY outpost"
_OPEN_AFTER_END = f"""
    SELECT attempts.id FROM charges JOIN attempts ON attempts.id = charges.attempt_id
    WHERE charges.ended_at IS NULL AND attempts.state IN ({_OVER})"""
_UNCHARGED = f"""
    SELECT attempts.id FROM attempts LEFT JOIN charges ON attempts.id = charges.attempt_id
    WHERE attempts.state IN ({_HELD})
        AND (charges.attempt_id IS NULL OR charges.ended_at IS NOT NULL)"""
_HISTORY = """
    SELECT at, attempt_id, outpost, before, after, reason, by FROM transitions
    WHERE task_id = :name OR attempt_id = :name ORDER BY id"""
_AT_WORK = f"SELECT id FROM attempts WHERE state IN ({_HELD})"
_UNFINISHED = f"SELECT id FROM tasks WHERE state NOT IN ({_OVER})"
_CHARGES = "SELECT * FROM charges WHERE outpost = :outpost"


@dataclass(slots=True)
class Auditor:
    """Looks at a store again and again; ``breaches`` says what was wrong with whom, and since when.

    ``slots`` and ``caps`` (micro-dollars for all that a run may cost) are by outpost.
    """

    url: str
    slots: Mapping[str, int]
    caps: Mapping[str, int]
    breaches: dict[str, dict[str, datetime]] = field(default_factory=dict)
    looks: int = 0
    most: Counter[str] = field(default_factory=Counter)
    _engine: Engine | None = None

    def look(self) -> None:
        """Check everything once."""
        self.looks += 1
        self._none(TWICE_AT_WORK, _TWICE_AT_WORK)
        self._none(TWICE_DONE, _TWICE_DONE)
        self._none(OPEN_AFTER_END, _OPEN_AFTER_END)
        self._none(UNCHARGED, _UNCHARGED)
        for outpost, count in self.rows(_SLOTS):
            self._at_most(
                SLOTS_EXCEEDED, "slots", str(outpost), int(str(count)), self.slots[str(outpost)]
            )
        for outpost, limit in self.caps.items():
            self._at_most(CAP_EXCEEDED, "reserved", outpost, self._reserved(outpost), limit)

    def at_work(self) -> set[str]:
        """Return the attempts that hold a slot now."""
        return {str(row[0]) for row in self.rows(_AT_WORK)}

    def broken(self, *what: str) -> list[str]:
        """Return all with whom one of these things was wrong, each with what became of it."""
        found = {(it, whose): at for it in what for whose, at in self.breaches.get(it, {}).items()}
        return [
            "\n  ".join((f"{at.isoformat()} {it}: {whose}", *self.history(whose)))
            for (it, whose), at in found.items()
        ]

    def history(self, name: str) -> list[str]:
        """Return what happened to a task, or to the task of an attempt, a line for each."""
        return [str(tuple(row)) for row in self.rows(_HISTORY, name=name)]

    def unfinished(self) -> int:
        """Return how many tasks have not ended."""
        return len(self.rows(_UNFINISHED))

    def rows(self, query: str, **values: object) -> Sequence[Sequence[object]]:
        """Return what a query of our own finds."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            url = self.url.replace("postgresql://", "postgresql+psycopg://")
            self._engine = create_engine(url)
        return self._engine

    def _reserved(self, outpost: str) -> int:
        now = datetime.now(UTC)
        with self.engine.connect() as connection:
            rows = connection.execute(text(_CHARGES), {"outpost": outpost}).mappings()
            return sum(charge_from(row).reserved_microusd(now) for row in rows)

    def _none(self, what: str, query: str) -> None:
        for row in self.rows(query):
            self._breach(what, str(row[0]))

    def _at_most(self, breach: str, what: str, outpost: str, seen: int, limit: int) -> None:
        self.most[f"{what} of {outpost}"] = max(self.most[f"{what} of {outpost}"], seen)
        if seen > limit:
            self._breach(breach, f"{outpost}: {seen} of {limit}")

    def _breach(self, what: str, whose: str) -> None:
        self.breaches.setdefault(what, {}).setdefault(whose, datetime.now(UTC))

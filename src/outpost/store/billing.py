"""What is written about money: a charge as it is reserved, learnt of, and settled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from outpost.model import Attempt, Charge, State
from outpost.store.batches import select_all, update_all
from outpost.store.ledger import postings
from outpost.store.rows import Values, charge_from, charge_values, stored
from outpost.store.schema import charges

_UPDATE = update(charges).where(charges.c.attempt_id == bindparam("of"))
_CHARGES = select(charges)
_LEARNT = ("tokens_microusd", "tokens_known", "ended_at")
_ADD = text("""
    INSERT INTO spent (span, bucket, outpost, microusd)
    VALUES (:span, :bucket, :outpost, :microusd)
    ON CONFLICT (span, bucket, outpost) DO UPDATE
    SET microusd = spent.microusd + excluded.microusd""")


def reserve(connection: Connection, charge: Charge) -> None:
    """Insert a charge: from now on all of it counts."""
    connection.execute(insert(charges), charge_values(charge))


def take_back(connection: Connection, attempt_id: str) -> None:
    """Delete the charge of an attempt that never started anything: it costs nothing."""
    connection.execute(delete(charges).where(charges.c.attempt_id == attempt_id))


def change(connection: Connection, old: Charge, new: Charge) -> None:
    """Store what has become of a charge, and in the sums what its end, or another end, makes."""
    if new == old:
        return
    connection.execute(_UPDATE, {"of": old.attempt_id, **_learnt(new)})
    before, after = postings(old), postings(new)
    for key in before.keys() | after.keys():
        more = after.get(key, 0) - before.get(key, 0)
        if more:
            span, bucket = key
            posting = {"span": span, "bucket": stored(bucket), "outpost": old.outpost}
            connection.execute(_ADD, {**posting, "microusd": more})


def note_tokens(connection: Connection, attempts: Sequence[Attempt], now: datetime) -> None:
    """Store what their tokens so far cost attempts that go on; of all of them at once."""
    by_id = {attempt.id: attempt for attempt in attempts}
    changes = []
    for row in select_all(connection, _CHARGES, charges.c.attempt_id, by_id):
        told = charge_from(row).told_by(by_id[row["attempt_id"]], now)
        changes.append({"attempt_id": told.attempt_id, **_learnt(told)})
    update_all(connection, charges, "attempt_id", changes)


def untold(charge: Charge, attempt: Attempt, *, interactive: bool) -> bool:
    """Whether an ended attempt's agent has worked without a word of the tokens reserved for it.

    Some never tell, such as one at its own screen, and some only at their end. One that failed
    by itself has maybe never reached its model.
    """
    told = attempt.usage.tokens or attempt.usage.cost_microusd is not None
    if told or not charge.token_budget_microusd:
        return False
    if interactive:
        return True
    worked = attempt.exit_code is not None or attempt.session_id is not None
    by_itself = attempt.state is State.FAILED and attempt.exit_code is not None
    return worked and not by_itself


def _learnt(charge: Charge) -> Values:
    return {name: stored(getattr(charge, name)) for name in _LEARNT}

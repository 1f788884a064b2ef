"""What is written of leases: who looks after what, one holder at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, text, update

from outpost.model import Lease
from outpost.store.rows import lease_from, lease_values, stored
from outpost.store.schema import leases

_STORE = text("""
    INSERT INTO leases (name, holder, fence, until) VALUES (:name, :holder, :fence, :until)
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, fence = excluded.fence, until = excluded.until""")


def take(
    connection: Connection, names: Sequence[str], holder: str, now: datetime, ttl: timedelta
) -> dict[str, Lease]:
    """Take or renew what nobody else holds now; return that by name."""
    query = select(leases).where(leases.c.name.in_(names))
    found = [lease_from(row) for row in connection.execute(query).mappings()]
    known = {lease.name: lease for lease in found}
    taken = {}
    for name in names:
        old = known.get(name)
        if old is None or old.holder == holder or old.until <= now:
            fence = _fence(old, holder)
            taken[name] = Lease(name=name, holder=holder, fence=fence, until=now + ttl)
    if taken:
        connection.execute(_STORE, [lease_values(lease) for lease in taken.values()])
    return taken


def drop(connection: Connection, holder: str, now: datetime) -> bool:
    """End what is held; ``False`` if that is nothing. The fence stays, to rise from there."""
    held = update(leases).where(leases.c.holder == holder, leases.c.until > stored(now))
    return connection.execute(held, {"until": stored(now)}).rowcount > 0


def _fence(old: Lease | None, holder: str) -> int:
    if old is None:
        return 1
    return old.fence if old.holder == holder else old.fence + 1

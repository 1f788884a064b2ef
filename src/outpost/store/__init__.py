"""What must survive: tasks, attempts and decisions, safe with many processes at once.

Kept in a file of this machine (SQLite), or by a PostgreSQL server for several machines.
"""

from __future__ import annotations

from pathlib import Path

from outpost.clock import SystemClock
from outpost.ports import Clock, Store
from outpost.store.database import Database
from outpost.store.place import Server, name_of, needing_driver, place_of
from outpost.store.sql import SqlStore

__all__ = ["name_of", "open_store", "path_of"]


def open_store(
    url_or_path: str | Path, *, clock: Clock | None = None, create: bool = True, by: str = ""
) -> Store:
    """Return the store kept in a file (a path, or ``sqlite:///`` and a path) or by a server.

    A server is named as ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTIONS``, all of it
    optional, as libpq reads it; the database must exist.

    Nothing is touched yet: the first method called opens the file, makes it (and its folder) where
    it is absent, or connects to the server; and makes the tables, or brings older ones up to date.
    Without ``create`` what is absent is left absent: reads then see an empty store until somebody
    makes one, writes and ``federation_id`` raise ``StoreError``.

    ``by`` is who does what is done through this store, as its transitions tell.

    Every method raises ``StoreError`` where the store cannot be used. A cancelled call has either
    done all of its transaction or none; which, the next read tells.
    """
    clock = clock or SystemClock()
    return SqlStore(_database(url_or_path, clock=clock, create=create, by=by), clock=clock)


def path_of(url_or_path: str | Path) -> Path | None:
    """Return the file of a store, absolute; ``None`` where a server keeps it."""
    place = place_of(url_or_path)
    return None if isinstance(place, Server) else place


def _database(url_or_path: str | Path, *, clock: Clock, create: bool, by: str) -> Database:
    place = place_of(url_or_path)
    if not isinstance(place, Server):
        from outpost.store.sqlite import SqliteDatabase  # noqa: PLC0415 - one of the two is needed

        return SqliteDatabase(place, clock=clock, create=create, by=by)
    with needing_driver(place):
        from outpost.store.postgres import PostgresDatabase  # noqa: PLC0415 - loads the driver
    return PostgresDatabase(place, clock=clock, create=create, by=by)

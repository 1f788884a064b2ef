"""How every process opens the database file, and which revision of the tables it finds there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

HEAD = "0004"
"""The newest revision. Compared at every start, so that Alembic is loaded only to change tables."""

BUSY_TIMEOUT_S = 30.0


def connect(path: Path, *, foreign_keys: bool = True) -> sqlite3.Connection:
    """Open an existing database file; transactions begin only where the caller says so.

    Writers of other processes are waited for, up to ``BUSY_TIMEOUT_S``. Raises ``sqlite3.Error``.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    try:
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        connection.execute("PRAGMA synchronous=FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def revision(connection: sqlite3.Connection) -> str | None:
    """Return the revision of the tables, ``None`` where none have been made."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        query = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
        if connection.execute(query).fetchone()[0]:
            raise
        return None
    return str(row[0]) if row else None

"""Making the tables, and bringing older ones up to date; one process at a time."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.command import upgrade
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, select

from outpost.errors import StoreError
from outpost.ports import Clock
from outpost.store.connection import BUSY_TIMEOUT_S, HEAD, connect, revision
from outpost.store.place import Server
from outpost.store.rows import stored
from outpost.store.schema import federation
from outpost.store.writes import make_engine, transaction

if TYPE_CHECKING:
    from outpost.store.postgres_session import Session

_LOCK_POLL_S = 0.02
_ALEMBIC = threading.Lock()  # Alembic keeps what it works on in globals


def migrate(path: Path, clock: Clock) -> None:
    """Make the database where it is absent or empty, and apply the revisions it lacks.

    Waits for another process that does the same, and then finds nothing left to do. Killed
    half-way it leaves the tables as they were. Raises ``StoreError`` for a database that a newer
    version has written, ``sqlite3.Error`` or ``OSError`` where the file cannot be used.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path):
        # An existing file is not even opened here: closing it would drop SQLite's locks on it.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # A revision may have to rebuild a table, which foreign keys would empty others for.
        with closing(connect(path, foreign_keys=False)) as connection:
            found = revision(connection)
            if found == HEAD:
                return
            # Stays with the file. Impossible inside a transaction, or while others do it too.
            connection.execute("PRAGMA journal_mode=WAL")
            with _ALEMBIC, transaction(make_engine(connection)) as transacting:
                _upgrade(transacting, str(path), found)
                _name_federation(transacting, clock)


def migrate_server(session: Session, server: Server, clock: Clock) -> None:
    """Make the tables in a database that has none, and apply the revisions that they lack.

    All in one transaction, alone among all writers: as ``migrate`` otherwise. Raises
    ``StoreError`` for tables that a newer version has made, ``psycopg.Error``.
    """
    with session.transaction() as transacting:
        found = session.revision()
        if found != HEAD:
            with _ALEMBIC:
                _upgrade(transacting, server.name, found)
                _name_federation(transacting, clock)


def _upgrade(connection: Connection, name: str, found: str | None) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "outpost.store:migrations")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StoreError(
            f"the store {name} was written by a newer outpost (its schema is '{found}')",
            hint="use a newer version of outpost",
        )
    upgrade(config, "head")


def _name_federation(connection: Connection, clock: Clock) -> None:
    if connection.scalar(select(federation.c.id)) is None:
        name = base64.b32encode(secrets.token_bytes(5)).decode().lower()
        connection.execute(insert(federation), {"id": name, "created_at": stored(clock.now())})


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock file beside ``path``; the system releases it should this process die."""
    lock = path.with_name(f"{path.name}.lock")
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise StoreError(
                    f"another process has been setting up the store {path} for too long",
                    hint=f"see who holds it: fuser -v {lock}",
                )
            time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

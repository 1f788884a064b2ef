"""One connection to a PostgreSQL server, and the transactions that run on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg.types.numeric import IntLoader
from psycopg.types.string import StrDumper

from outpost.errors import StoreError
from outpost.store.connection import BUSY_TIMEOUT_S
from outpost.store.place import Server, malformed
from outpost.store.placeholders import pyformat
from outpost.store.reads import Reader
from outpost.store.rows import Row, stored

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Result = TypeVar("Result")

# What a URL does not say. A server that is gone without a word is noticed within a minute.
_DEFAULTS: dict[str, Any] = {
    "application_name": "outpost",
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# Whoever hangs inside a transaction (a machine that sleeps, say) lets go of it after a while.
_SETTINGS = f"""
    SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S:.0f}s';
    SET LOCAL idle_in_transaction_session_timeout = '{BUSY_TIMEOUT_S:.0f}s'"""
_BEGIN_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_SETTINGS}"
# One writer at a time, as with SQLite: what it read is true until it has written. The lock is the
# database's, ends with the transaction, and is waited for by whoever changes the tables too.
_WRITERS = int.from_bytes(b"outpost", "big")
_BEGIN_WRITE = f"""
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_SETTINGS};
    SELECT pg_advisory_xact_lock({_WRITERS})"""
_HAS_REVISION = "SELECT to_regclass('alembic_version') IS NOT NULL"
_REVISION = "SELECT version_num FROM alembic_version"
_NUL_SHOWN = "\N{SYMBOL FOR NULL}"


class CommitLost(Exception):
    """The connection broke while a transaction was committed: it may or may not have been."""


class Session:
    """One open connection; not for two threads at once. Raises ``psycopg.Error``."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._engine: Engine | None = None

    def read(self, work: Callable[[Reader], Result]) -> Result:
        """Run queries on one view of everything."""
        self._connection.execute(_BEGIN_READ)
        try:
            return work(Reader(self._ask))
        finally:
            self._connection.rollback()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin alone among all writers of all machines; commit, or roll back what raises.

        Raises also ``CommitLost``.
        """
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - takes a while to load

        if self._engine is None:
            self._engine = _engine(self._connection)
        committing = False
        try:
            with self._engine.begin() as transacting:
                yield transacting
                committing = True
        except (DBAPIError, psycopg.Error) as exc:
            if committing and self.lost:
                raise CommitLost from exc
            if isinstance(exc, DBAPIError) and isinstance(exc.orig, psycopg.Error):
                raise exc.orig from exc
            raise

    def revision(self) -> str | None:
        """Return the revision of the tables, ``None`` where none have been made."""
        (made,) = self._connection.execute(_HAS_REVISION).fetchone() or (False,)
        row = self._connection.execute(_REVISION).fetchone() if made else None
        return str(row[0]) if row else None

    @property
    def lost(self) -> bool:
        """Whether nothing more can be done with this connection."""
        return self._connection.closed

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._connection.close()

    def _ask(self, query: str, values: dict[str, object]) -> Sequence[Row]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            held = {name: stored(value) for name, value in values.items()}
            return cursor.execute(_pyformat(query), held).fetchall()


def connect(server: Server) -> Session:
    """Connect to a server; raises ``psycopg.Error``, or ``StoreError`` for what cannot be used."""
    connection = psycopg.connect(
        server.url,
        autocommit=True,
        # Plans of one connection would outlive a change of the tables by another.
        prepare_threshold=None,
        **settings(server),
    )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise StoreError(
            f"the database of the store {server.name} holds text as {encoding}, not as UTF8",
            hint="make another: createdb --encoding=UTF8 --template=template0 NAME",
        )
    connection.adapters.register_dumper(str, _TextDumper)
    connection.adapters.register_loader("numeric", IntLoader)  # what sum() of whole numbers is
    return Session(connection)


def settings(server: Server) -> dict[str, Any]:
    """Return what to connect with beside the URL; raises ``StoreError`` if that cannot be read."""
    try:
        given = conninfo_to_dict(server.url)
    except psycopg.ProgrammingError:
        raise malformed() from None  # what libpq says quotes the URL
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
    return {"client_encoding": "utf8", **defaults}


class _TextDumper(StrDumper):
    """Dumps text; NUL, which no PostgreSQL text takes, becomes the symbol for it."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", _NUL_SHOWN) if "\0" in obj else obj)


_pyformat = lru_cache(maxsize=256)(pyformat)


def _engine(connection: psycopg.Connection[Any]) -> Engine:
    """Return an engine over one open connection, which stays the caller's to close."""
    from sqlalchemy import StaticPool, create_engine, event  # noqa: PLC0415 - takes a while to load

    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connection,
        poolclass=StaticPool,
        hide_parameters=True,
        use_native_hstore=False,
    )

    @event.listens_for(engine, "begin")
    def begin(beginning: Connection) -> None:
        connection.execute(_BEGIN_WRITE)

    return engine

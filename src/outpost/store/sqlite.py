"""A store in a file of this machine."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from outpost.errors import StoreError
from outpost.ports import Clock
from outpost.store.connection import HEAD, connect, revision
from outpost.store.database import Database, Result, nothing
from outpost.store.faults import fault
from outpost.store.reads import Reader
from outpost.store.rows import Row, stored

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from outpost.store.writes import Writer

POLL_S = 0.05
"""How often the file is looked at while a change by others is waited for; it takes microseconds."""


class SqliteDatabase(Database):
    """One file and the one connection to it, opened by the first transaction."""

    def __init__(self, path: Path, *, clock: Clock, by: str, create: bool) -> None:
        super().__init__(clock=clock, by=by)
        self._path = path
        self._create = create
        self._connection: sqlite3.Connection | None = None
        self._engine: Engine | None = None
        self._seen: int | None = None

    def absent(self) -> StoreError:
        return StoreError(
            f"there is no store at {self._path} yet",
            hint="it is made when the first issue is spawned: outpost spawn ISSUE",
        )

    def _read(self, work: Callable[[Reader], Result]) -> Result:
        with self._explained():
            connection = self._open()
            if connection is None:
                return work(Reader(nothing))
            cursor = connection.cursor()
            cursor.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            try:
                return work(Reader(lambda query, values: _rows(cursor, query, values)))
            finally:
                connection.rollback()

    def _write(self, work: Callable[[Writer], Result]) -> Result:
        # Late: SQLAlchemy takes a while to load, and what only reads does without it.
        from outpost.store.writes import make_engine, transaction  # noqa: PLC0415

        with self._explained():
            connection = self._open()
            if connection is None:
                raise self.absent()
            if self._engine is None:
                self._engine = make_engine(connection)
            with transaction(self._engine) as transacting:
                return work(self._writer(transacting))

    async def _changed(self) -> None:
        if self._seen is None:
            self._seen = await self._in_thread(self._version)
        while (version := await self._in_thread(self._version)) == self._seen:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(POLL_S)
        self._seen = version

    def _version(self) -> int:
        """Return a number that changes once another connection has committed; 0: no store yet."""
        with self._explained():
            connection = self._open()
            return connection.execute("PRAGMA data_version").fetchone()[0] if connection else 0

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> sqlite3.Connection | None:
        """Return the connection, opened and its tables current; ``None``: absent, and to stay."""
        if self._connection is None and (self._create or self._path.exists()):
            self._connection = self._connect_if_current() or self._migrate_and_connect()
        return self._connection

    def _connect_if_current(self) -> sqlite3.Connection | None:
        if not self._path.exists():
            return None
        with ExitStack() as stack:
            connection = stack.enter_context(closing(connect(self._path)))
            if revision(connection) != HEAD:
                return None
            stack.pop_all()
            return connection

    def _migrate_and_connect(self) -> sqlite3.Connection:
        from outpost.store.migrate import migrate  # noqa: PLC0415 - loads Alembic

        migrate(self._path, self._clock)
        return connect(self._path)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise fault(self._path, exc) from exc


def _rows(cursor: sqlite3.Cursor, query: str, values: dict[str, object]) -> Sequence[Row]:
    return cursor.execute(query, {name: stored(value) for name, value in values.items()}).fetchall()

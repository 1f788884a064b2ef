"""A store kept by a PostgreSQL server, for several machines at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from outpost.errors import StoreError
from outpost.ports import Clock
from outpost.store.connection import HEAD
from outpost.store.database import Database, Result, nothing
from outpost.store.place import Server
from outpost.store.postgres_calls import CALL, Listener
from outpost.store.postgres_faults import doubt, fault
from outpost.store.postgres_session import CommitLost, Session, connect
from outpost.store.reads import Reader

if TYPE_CHECKING:
    from outpost.store.writes import Writer

TRIES = 5
_PAUSE_S = 0.02  # before the second try; doubles with every further one
_CLASHES = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


class PostgresDatabase(Database):
    """One database of a server and one connection to it, made by the first transaction.

    Whoever waits for changes has another.

    A transaction that clashed with another, or lost its connection before it was committed, is
    run again, on a new connection where needed.
    """

    def __init__(self, server: Server, *, clock: Clock, by: str, create: bool) -> None:
        super().__init__(clock=clock, by=by)
        self._server = server
        self._create = create
        self._listener = Listener(server)
        self._session: Session | None = None
        self._current = False

    def absent(self) -> StoreError:
        return StoreError(
            f"there is no store at {self._server.name} yet: the database has no tables",
            hint="they are made when the first issue is spawned: outpost spawn ISSUE",
        )

    def _read(self, work: Callable[[Reader], Result]) -> Result:
        def run(session: Session) -> Result:
            return session.read(work) if self._current else work(Reader(nothing))

        return self._tried(run)

    def _write(self, work: Callable[[Writer], Result]) -> Result:
        def run(session: Session) -> Result:
            if not self._current:
                raise self.absent()
            with session.transaction() as transacting:
                writer = self._writer(transacting)
                result = work(writer)
                if writer.of_consequence:
                    transacting.exec_driver_sql(CALL, (self._listener.name,))
                return result

        return self._tried(run)

    async def close(self) -> None:
        """Close both connections. Idempotent."""
        await super().close()
        await self._listener.close()

    async def _changed(self) -> None:
        await self._listener.called()

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _tried(self, run: Callable[[Session], Result]) -> Result:
        for number in range(TRIES):
            try:
                return run(self._open())
            except CommitLost as exc:
                raise doubt(self._server) from exc
            except psycopg.Error as exc:
                lost = self._session is not None and self._session.lost
                last = number == TRIES - 1
                if last or not (lost or isinstance(exc, _CLASHES)):
                    raise fault(self._server, exc, connected=self._session is not None) from exc
            time.sleep(random.uniform(0, _PAUSE_S * 2**number))  # noqa: S311 - spreads the clashing
        raise AssertionError("the last try either returns or raises")

    def _open(self) -> Session:
        """Return the connection, made anew if lost; ``_current`` tells whether it has tables."""
        if self._session is None or self._session.lost:
            self._session, self._current = None, False
            self._session = connect(self._server)
        if not self._current:
            self._current = self._tables_current(self._session)
        return self._session

    def _tables_current(self, session: Session) -> bool:
        found = session.revision()
        if found == HEAD:
            return True
        if found is None and not self._create:
            return False
        from outpost.store.migrate import migrate_server  # noqa: PLC0415 - loads Alembic

        migrate_server(session, self._server, self._clock)
        return True


def revision_at(server: Server) -> str | None:
    """Return the revision of the tables a server has, ``None`` if none; changes nothing.

    Raises ``StoreError``.
    """
    session = None
    try:
        with closing(connect(server)) as session:
            return session.revision()
    except psycopg.Error as exc:
        raise fault(server, exc, connected=session is not None) from exc

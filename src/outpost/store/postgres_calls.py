"""What processes call out to each other through a PostgreSQL server: that something has changed."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing
from typing import Any

import psycopg

from outpost.store.place import Server
from outpost.store.postgres_session import settings

_CHANNEL = "outpost"
CALL = f"SELECT pg_notify('{_CHANNEL}', %s)"
"""Calls out, with the caller's name, once the transaction is committed."""
_RETRY_S = 1.0


class Listener:
    """Hears what others call out, on a connection of its own, made when first needed.

    A server that cannot be reached is tried again and again: it is for the transactions to
    complain of it.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._begun = False
        self.name = secrets.token_hex(8)

    async def called(self) -> None:
        """Wait until another has called since this last returned, or may have unheard.

        Not for two at once. Raises ``StoreError`` for a URL that cannot be read.
        """
        while True:
            try:
                missed = self._connection is None and await self._connect()
                if not missed:
                    await self._hear()
            except psycopg.Error:
                await self.close()
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connect(self) -> bool:
        """Connect; return whether others may have called before, when nobody listened."""
        missed, self._begun = self._begun, True
        connection = await psycopg.AsyncConnection.connect(
            self._server.url, autocommit=True, **settings(self._server)
        )
        try:
            await connection.execute(f"LISTEN {_CHANNEL}")
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return missed

    async def _hear(self) -> None:
        assert self._connection is not None
        async with aclosing(self._connection.notifies()) as calls:
            async for call in calls:
                if call.payload != self.name:
                    return

"""Fetching the conversation of an attempt that was cut short elsewhere, for the one after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outpost.errors import NotFound, OutpostFault
from outpost.model import Attempt
from outpost.ports import Outpost
from outpost.wire.orders import Environment

FETCH_S = 8.0
"""How much later than without it an attempt may start."""


async def fetched(
    attempt: Attempt, outposts: Callable[[str], Outpost], environment: Environment
) -> bytes | None:
    """Return the conversation of an attempt's agent; ``None`` where it cannot be had soon."""
    if attempt.handle is None or attempt.session_id is None:
        return None
    known: Environment = {"agent": environment["agent"], "git": {}}
    try:
        worker = outposts(attempt.outpost).worker(attempt.handle)
        async with asyncio.timeout(FETCH_S):
            return await worker.transcript(attempt.session_id, known)
    except (OutpostFault, NotFound, TimeoutError):
        return None

"""Access tokens for Google's APIs that are called without a library of Google's."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from outpost.errors import OutpostFault, Rejected
from outpost.transports.google_tokens import FETCH_S, HTTP_S, credentials, fault_of

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

Access = Callable[[str], Awaitable[str]]
"""Returns a token, another one than the one named, which was refused. Raises ``OutpostFault``."""


def google_access(outpost: str) -> Access:
    """Return what gives tokens of whoever we are here, each until shortly before it expires."""
    lock = asyncio.Lock()
    own: list[Credentials] = []

    async def access(refused: str) -> str:
        async with lock:
            if not own:
                own.append(await credentials(outpost))
            found: Any = own[0]
            if not found.valid or found.token == refused:
                try:
                    async with asyncio.timeout(FETCH_S):
                        await asyncio.to_thread(_refresh, found, outpost)
                except TimeoutError as exc:
                    what = f"Google gives no token within {FETCH_S:g} s"
                    raise OutpostFault(what, outpost=outpost) from exc
                except Rejected:
                    own.clear()  # by the next call somebody may have logged in again
                    raise
            return str(found.token)

    return access


def _refresh(found: Any, outpost: str) -> None:
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - loads late
    from google.auth.transport.requests import Request  # noqa: PLC0415 - as above

    try:
        found.refresh(functools.partial(Request(), timeout=HTTP_S))
    except GoogleAuthError as exc:
        raise fault_of(exc, outpost) from exc

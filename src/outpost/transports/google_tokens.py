"""Google's credentials on this machine, and the ID tokens that services of ours let us in with.

google-auth finds the credentials, in the order that all of Google's tools know: the file named by
``GOOGLE_APPLICATION_CREDENTIALS``, ``gcloud auth application-default login``, the metadata server.
It is synchronous and reads the process's own environment: it is asked in a thread.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from outpost.errors import OutpostFault, Rejected
from outpost.ports import Clock

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.exceptions import GoogleAuthError

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
FIND_S, FETCH_S = 6.0, 20.0
HTTP_S = 8.0
AHEAD = timedelta(minutes=5)
"""A token is replaced so long before it expires; they live for an hour."""
NAMED = "GOOGLE_APPLICATION_CREDENTIALS"
LOGIN = "gcloud auth application-default login"
INSTALL = "pip install '.[cloudrun]'  in the checkout of outpost"


@dataclass(frozen=True, slots=True)
class IdToken:
    """A token as it stands in a header, and when it expires."""

    text: str
    expires_at: datetime


Fetch = Callable[[str], Awaitable[IdToken]]


class IdTokens:
    """The ID tokens of one identity, by audience: fetched ahead of expiry, one at a time."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._tokens: dict[str, IdToken] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def token(self, audience: str, *, refused: str = "") -> str:
        """Return a token for a service; another one than that which was ``refused``.

        An older one is good as long as no newer one can be had and it has not expired. Raises
        ``OutpostFault`` where there is none at all.
        """
        if token := self._good(audience, refused, AHEAD):
            return token
        async with self._locks.setdefault(audience, asyncio.Lock()):
            if token := self._good(audience, refused, AHEAD):
                return token
            try:
                self._tokens[audience] = await self._fetch(audience)
            except OutpostFault:
                if token := self._good(audience, refused, timedelta()):
                    return token
                raise
            return self._tokens[audience].text

    def _good(self, audience: str, refused: str, ahead: timedelta) -> str | None:
        token = self._tokens.get(audience)
        if token is None or token.text == refused:
            return None
        return token.text if token.expires_at - ahead > self._clock.now() else None


def google_fetch(outpost: str, impersonate: str | None) -> Fetch:
    """Return what fetches ID tokens as whoever we are here, or as a service account."""

    async def fetch(audience: str) -> IdToken:
        own = await credentials(outpost)
        try:
            async with asyncio.timeout(FETCH_S):
                return await asyncio.to_thread(_exchanged, own, audience, outpost, impersonate)
        except TimeoutError as exc:
            what = f"Google gives no token within {FETCH_S:g} s"
            raise OutpostFault(what, outpost=outpost) from exc

    return fetch


async def credentials(outpost: str) -> Credentials:
    """Return what Google's own services let us in with. Raises ``OutpostFault``."""
    try:
        async with asyncio.timeout(FIND_S):
            return await asyncio.to_thread(_credentials, outpost)
    except TimeoutError as exc:
        # Where nothing else is found a metadata server is looked for, which few machines have.
        raise _absent(outpost) from exc


def fault_of(exc: GoogleAuthError, outpost: str) -> OutpostFault:
    """Return what it means that there are no credentials, or that they are not taken."""
    from google.auth import exceptions  # noqa: PLC0415 - loads late

    said = str(exc.args[0] if exc.args else exc).strip().partition("\n")[0]
    if isinstance(exc, exceptions.DefaultCredentialsError):
        return _absent(outpost, said if NAMED in os.environ else "")
    if isinstance(exc, exceptions.RefreshError) and not exc.retryable:
        what = f"Google does not take the credentials here: {said}"
        return Rejected(what, outpost=outpost, hint=LOGIN)
    return OutpostFault(f"Google's tokens cannot be had: {said}", outpost=outpost)


def _credentials(outpost: str) -> Credentials:
    try:
        import google.auth  # noqa: PLC0415 - an extra; loads late
        from google.auth import exceptions  # noqa: PLC0415 - as above
    except ImportError as exc:
        what = f"google-auth cannot be loaded ({exc})"
        raise Rejected(what, outpost=outpost, hint=INSTALL) from exc
    try:
        own, _ = google.auth.default(scopes=SCOPES, request=_request())
    except exceptions.GoogleAuthError as exc:
        raise fault_of(exc, outpost) from exc
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as exc:
        # So google-auth says that a file holds no credentials, whichever file it took.
        path = os.environ.get(NAMED)
        raise _absent(outpost, f"{path or 'a file'} cannot be used: {exc}") from exc
    return own


def _exchanged(own: Credentials, audience: str, outpost: str, impersonate: str | None) -> IdToken:
    """Return an ID token for an audience, had with credentials."""
    from google.auth import exceptions, impersonated_credentials  # noqa: PLC0415 - as above

    request = _request()
    try:
        if impersonate is not None:
            untyped: Any = impersonated_credentials
            own = untyped.Credentials(own, impersonate, list(SCOPES))
        made = _id_credentials(own, audience, request)
        if made is None:
            raise _cannot(outpost)
        made.refresh(request)
    except exceptions.GoogleAuthError as exc:
        raise fault_of(exc, outpost) from exc
    # google-auth counts in UTC and does not say so.
    return IdToken(str(made.token), made.expiry.replace(tzinfo=UTC))


def _id_credentials(own: Credentials, audience: str, request: Any) -> Any:
    """Return credentials whose token is for an audience; ``None``: there are none from these."""
    from google.auth import compute_engine, impersonated_credentials  # noqa: PLC0415 - as above
    from google.oauth2 import id_token, service_account  # noqa: PLC0415 - as above

    if isinstance(own, impersonated_credentials.Credentials):
        untyped: Any = impersonated_credentials
        return untyped.IDTokenCredentials(own, target_audience=audience, include_email=True)
    if isinstance(own, service_account.Credentials | compute_engine.Credentials):
        finding: Any = id_token
        return finding.fetch_id_token_credentials(audience, request)
    return None


def _absent(outpost: str, why: str = "") -> Rejected:
    what = f"there are no Google credentials here{f': {why}' if why else ''}"
    hint = f"{LOGIN}\nor name a key file: export {NAMED}=/PATH/key.json"
    return Rejected(what, outpost=outpost, hint=hint)


def _cannot(outpost: str) -> Rejected:
    return Rejected(
        "the Google credentials here are a person's, and no ID token for a service comes from such",
        outpost=outpost,
        hint="call it as a service account that may, with this option of the outpost:\n"
        "impersonate: NAME@PROJECT.iam.gserviceaccount.com\n"
        "(for which you need roles/iam.serviceAccountTokenCreator on that account)",
    )


def _request() -> Any:
    from google.auth.transport.requests import Request  # noqa: PLC0415 - as above

    return functools.partial(Request(), timeout=HTTP_S)

"""ID tokens as Google's: minted, checked and shown to containers without their signature.

Sources: "Authenticating service-to-service" (a token in ``Authorization`` or in
``X-Serverless-Authorization``; only the latter is checked where both are there, and the former is
the container's own then) and "Troubleshoot Cloud Run issues", signature removed
(``SIGNATURE_REMOVED_BY_GOOGLE``); cloud.google.com/run/docs, in excerpts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Collection
from typing import Any

from tests.doubles.cloud_run.exchange import Exchange, Headers

OWN, OTHER = "x-serverless-authorization", "authorization"
REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
INVOKER = "invoker@example-project.iam.gserviceaccount.com"
LIFE_S = 3600.0


class Tokens:
    """Mints tokens and knows them again. ``invokers`` are who may call; others are 403."""

    def __init__(self) -> None:
        self.invokers = {INVOKER}
        self.revoked: set[str] = set()
        self.minted = 0
        self._key = b"the stand-in's own key"

    def mint(self, audience: str, *, email: str = INVOKER, life_s: float = LIFE_S) -> str:
        """Return an ID token (HS256 in place of RS256) for a service's address."""
        now = time.time()
        self.minted += 1
        claims = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "azp": email,
            "email": email,
            "email_verified": True,
            "sub": str(self.minted),
            "iat": int(now),
            "exp": int(now + life_s),
        }
        head = _encoded({"alg": "HS256", "kid": "stand-in", "typ": "JWT"})
        signed = f"{head}.{_encoded(claims)}"
        return f"{signed}.{self._signature(signed)}"

    def revoke(self, token: str) -> None:
        """Take no request with this token any more."""
        self.revoked.add(token)

    def refusal(self, exchange: Exchange, audiences: Collection[str]) -> int | None:
        """Return the status that a request is refused with: 401, 403, or ``None``."""
        given = exchange.header(OWN) or exchange.header(OTHER)
        if given is None:
            return 403
        scheme, _, token = given.partition(" ")
        claims = self._claims(token) if scheme.lower() == "bearer" else None
        if claims is None or token in self.revoked or claims["aud"] not in audiences:
            return 401
        if claims["exp"] <= time.time():
            return 401
        return None if claims["email"] in self.invokers else 403

    def _claims(self, token: str) -> dict[str, Any] | None:
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(signed).encode()):
            return None
        claims: dict[str, Any] = json.loads(_decoded(signed.partition(".")[2]))
        return claims

    def _signature(self, signed: str) -> str:
        digest = hmac.new(self._key, signed.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def shown(headers: Headers) -> list[tuple[str, str]]:
    """Return a request's headers as a container gets them: the checked token has no signature."""
    names = {name for name, _ in headers}
    checked = OWN if OWN in names else OTHER
    return [
        (name, f"{value.rpartition('.')[0]}.{REMOVED}" if name == checked else value)
        for name, value in headers
    ]


def _encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

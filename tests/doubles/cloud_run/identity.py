"""Where Google's libraries get tokens: the metadata server, and the token endpoint of key files.

``google-auth`` finds either by its environment: ``metadata`` are the variables of a machine of
Google's, ``key_file`` is what ``GOOGLE_APPLICATION_CREDENTIALS`` names elsewhere. The ID tokens are
those that the front ends take. Sources: "View and query VM metadata" (cloud.google.com/compute),
"Using OAuth 2.0 for server to server applications" (developers.google.com/identity).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.doubles.cloud_run.exchange import Exchange
from tests.doubles.cloud_run.listener import Listener
from tests.doubles.cloud_run.tokens import INVOKER, LIFE_S, Tokens

PROJECT = "example-project"
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"
FLAVOR = ("metadata-flavor", "Google")


class Identity:
    """``async with Identity(cloud.tokens) as identity``. ``asked`` are the audiences so far.

    ``life_s`` is how long the tokens live that are given out, ``refusing`` whether none are.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.email = INVOKER
        self.life_s = LIFE_S
        self.refusing = False
        self.asked: list[str] = []
        self._listener = Listener(self._serve, streams=100)

    async def __aenter__(self) -> Self:
        await self._listener.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._listener.close()

    @property
    def metadata(self) -> dict[str, str]:
        """The variables under which google-auth takes this machine for one of Google's."""
        host = urlsplit(self._listener.url).netloc
        return {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "GCE_METADATA_ROOT": host}

    def key_file(self, folder: Path) -> Path:
        """Write the key of a service account and return where it is."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = folder / "key.json"
        account = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": "1",
            "token_uri": f"{self._listener.url}/token",
        }
        path.write_text(json.dumps(account))
        return path

    async def _serve(self, exchange: Exchange) -> None:
        url = urlsplit(exchange.target)
        values = {name: texts[0] for name, texts in parse_qs(url.query).items()}
        if self.refusing:
            await exchange.answer(503, [FLAVOR], b"not now")
        elif url.path == "/token":
            body = b"".join([piece async for piece in exchange.body()])
            await _answer_json(exchange, self._granted(body.decode()))
        elif url.path == f"{ACCOUNT}identity":
            token = self._id_token(values["audience"])
            await exchange.answer(200, [FLAVOR, ("content-type", "text/html")], token.encode())
        elif url.path == f"{ACCOUNT}token":
            await _answer_json(exchange, self._access_token())
        elif url.path == ACCOUNT:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            about = {"email": self.email, "aliases": ["default"], "scopes": scopes}
            await _answer_json(exchange, about)
        else:
            known = {"project/project-id": PROJECT, "universe/universe-domain": "googleapis.com"}
            text = known.get(url.path.removeprefix("/computeMetadata/v1/"), "")
            await exchange.answer(200, [FLAVOR, ("content-type", "text/plain")], text.encode())

    def _granted(self, body: str) -> dict[str, Any]:
        """Return what a signed assertion is exchanged for: an ID token where it names a target."""
        assertion = parse_qs(body)["assertion"][0].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(assertion + "=" * (-len(assertion) % 4)))
        if audience := claims.get("target_audience"):
            return {"id_token": self._id_token(audience)}
        return self._access_token()

    def _id_token(self, audience: str) -> str:
        self.asked.append(audience)
        return self.tokens.mint(audience, email=self.email, life_s=self.life_s)

    def _access_token(self) -> dict[str, Any]:
        return {"access_token": "ya29.stand-in", "expires_in": 3599, "token_type": "Bearer"}


async def _answer_json(exchange: Exchange, value: dict[str, Any]) -> None:
    headers = [FLAVOR, ("content-type", "application/json")]
    await exchange.answer(200, headers, json.dumps(value).encode())

"""A stand-in for where Google's libraries get tokens: token endpoint and metadata server.

Sources: "Using OAuth 2.0 for server to server applications" (developers.google.com/identity),
"View and query VM metadata" (cloud.google.com/compute), read 2026-11-22.
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.doubles.cloud_run.tokens import INVOKER, LIFE_S, Tokens

PROJECT = "example-project"
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default"


class GoogleIdentity:
    """Hands out tokens of one account: ``with GoogleIdentity(cloud.tokens) as google``.

    ``asked`` are the audiences that ID tokens were asked for, ``life_s`` is how long those live,
    ``failing`` a status to answer with instead.
    """

    def __init__(self, tokens: Tokens | None = None) -> None:
        self.tokens = tokens or Tokens()
        self.life_s = LIFE_S
        self.failing = 0
        self.asked: list[str] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        poll_s = 0.05
        self._thread = threading.Thread(target=self._server.serve_forever, args=(poll_s,))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def metadata(self) -> dict[str, str]:
        """The variables under which google-auth takes this machine for one of Google's."""
        return {"GCE_METADATA_HOST": self.address, "GCE_METADATA_IP": self.address}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def key_file(self, folder: Path) -> Path:
        """Write the key file of a service account that asks here for its tokens."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        account = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": INVOKER,
            "token_uri": f"http://{self.address}/token",
        }
        path = folder / "key.json"
        path.write_text(json.dumps(account))
        return path

    def looked_up(self, path: str, query: str) -> str | dict[str, Any]:
        """Return what the metadata server says at a path."""
        if path == f"{ACCOUNT}/identity":
            return self._mint(urllib.parse.parse_qs(query)["audience"][0])
        if path == f"{ACCOUNT}/token":
            return self._access_token()
        if path.rstrip("/") == ACCOUNT:
            return {"email": INVOKER, "scopes": [], "aliases": ["default"]}
        return "googleapis.com" if path.endswith("universe-domain") else PROJECT

    def exchanged(self, body: str) -> dict[str, Any]:
        """Return what a signed assertion is exchanged for: an ID token if it names a target."""
        if self.failing:
            return {"error": "invalid_grant", "error_description": "Account disabled"}
        part = urllib.parse.parse_qs(body)["assertion"][0].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        audience = claims.get("target_audience")
        return {"id_token": self._mint(audience)} if audience else self._access_token()

    def _mint(self, audience: str) -> str:
        with self._lock:
            self.asked.append(audience)
            return self.tokens.mint(audience, life_s=self.life_s)

    def _access_token(self) -> dict[str, Any]:
        return {"access_token": "ya29.stand-in", "expires_in": 3599, "token_type": "Bearer"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        identity = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                self.answer(identity.looked_up(path, query))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                self.answer(identity.exchanged(body))

            def answer(self, said: str | dict[str, Any]) -> None:
                text = isinstance(said, str)
                body = said.encode() if isinstance(said, str) else json.dumps(said).encode()
                self.send_response(identity.failing or 200)
                self.send_header("Metadata-Flavor", "Google")
                self.send_header("content-type", "text/html" if text else "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler

"""A folder of a bucket of Google's, with the account of the machine and the standard library.

``STORAGE_EMULATOR_HOST`` and ``GCE_METADATA_HOST`` lead elsewhere, as they do Google's own clients.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST_S = 10.0
AHEAD_S = 60.0
MOST_BYTES = 80 << 20
"""No object of ours is larger; of one that is, only the beginning is read."""
_TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 - a path


class Changed(Exception):
    """The object is not (any more) the one that was to be replaced."""


class Bucket:
    """The objects whose names begin with ``folder``. Calls block, and raise ``OSError``."""

    def __init__(self, name: str, folder: str, variables: Mapping[str, str]) -> None:
        host = variables.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        self._storage = host if "://" in host else f"http://{host}"
        metadata = variables.get("GCE_METADATA_HOST") or "metadata.google.internal"
        self._metadata = f"http://{metadata}{_TOKEN}"
        self._bucket = urllib.parse.quote(name, safe="")
        self._folder = folder
        self._token = ""
        self._good_until = 0.0

    def get(self, name: str) -> tuple[bytes, int] | None:
        """Return an object and its generation; ``None`` where there is none."""
        path = urllib.parse.quote(self._folder + name, safe="")
        try:
            return self._asked(f"/storage/v1/b/{self._bucket}/o/{path}?alt=media")
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code == 404:
                    return None
                raise

    def put(self, name: str, data: bytes, *, generation: int) -> None:
        """Write an object on top of a generation (0: there is none); raises ``Changed``."""
        query = urllib.parse.urlencode(
            {
                "uploadType": "media",
                "name": self._folder + name,
                "ifGenerationMatch": str(generation),
            }
        )
        try:
            self._asked(f"/upload/storage/v1/b/{self._bucket}/o?{query}", data)
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code == 412:
                    raise Changed(name) from None
                raise

    def _asked(self, path: str, data: bytes | None = None) -> tuple[bytes, int]:
        try:
            headers = {
                "Authorization": f"Bearer {self._access()}",
                "Content-Type": "application/octet-stream",
            }
            request = urllib.request.Request(self._storage + path, data, headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:  # noqa: S310
                generation = answer.headers.get("x-goog-generation") or "0"
                return _read(answer), int(generation)
        except urllib.error.HTTPError as exc:
            if exc.code == 401:
                self._good_until = 0.0
            raise
        # Whatever an answer is that makes no sense: the work here goes on, and it is asked again.
        except (http.client.HTTPException, ValueError, KeyError, TypeError) as exc:
            raise OSError(f"{type(exc).__name__}: {exc}") from exc

    def _access(self) -> str:
        """Return a token of the account that this machine has."""
        if time.monotonic() > self._good_until:
            request = urllib.request.Request(self._metadata, headers={"Metadata-Flavor": "Google"})  # noqa: S310
            # It is on this machine: no proxy leads there.
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(request, timeout=REQUEST_S) as answer:
                found = json.load(answer)
            self._token = str(found["access_token"])
            self._good_until = time.monotonic() + float(found["expires_in"]) - AHEAD_S
        return self._token


def _read(answer: http.client.HTTPResponse) -> bytes:
    data = answer.read(MOST_BYTES)
    if len(data) < MOST_BYTES and answer.length:  # only a read of all of it says so by itself
        raise http.client.IncompleteRead(data, answer.length)
    return data

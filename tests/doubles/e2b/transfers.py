"""envd's REST interface to files: downloads and uploads."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import time
from pathlib import Path
from typing import IO, Any

from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from tests.doubles.e2b.calls import Call, Refused, Reply
from tests.doubles.e2b.disk import Disk
from tests.doubles.e2b.users import USERS

BYTES = "application/octet-stream"


class Transfers:
    """``GET`` and ``POST /files`` of one sandbox, opened by its token or by a signature with it."""

    def __init__(self, disk: Disk, token: str) -> None:
        self._disk = disk
        self._token = token

    def answer(self, call: Call) -> Reply:
        """Return the answer; raises ``Refused``."""
        self._check(call)
        if (user := call.query.get("username", USERS[0])) not in USERS:
            raise Refused(401, f"error looking up user '{user}': user: unknown user {user}")
        if call.method == "GET":
            return self._download(call)
        return self._upload(call)

    def _download(self, call: Call) -> Reply:
        place = self._place(call.query.get("path", ""))
        if not place.exists():
            raise Refused(404, f"path '{self._disk.shown(place)}' does not exist")
        if place.is_dir():
            raise Refused(400, f"path '{self._disk.shown(place)}' is a directory")
        try:
            data = place.read_bytes()
        except OSError as exc:
            raise Refused(500, f"error opening file: {exc}") from exc
        headers = {"vary": "Accept-Encoding"}
        if "gzip" in call.headers.get("accept-encoding", ""):
            data, headers["content-encoding"] = gzip.compress(data), "gzip"
        return Reply(status=200, body=data, content_type=BYTES, headers=headers)

    def _upload(self, call: Call) -> Reply:
        body = call.body
        if call.headers.get("content-encoding") == "gzip":
            try:
                body = gzip.decompress(body)
            except OSError as exc:
                raise Refused(400, f"error decompressing request body: {exc}") from exc
        kind, options = parse_options_header(call.content_type)
        path = call.query.get("path")
        if kind == BYTES:
            if path is None:
                raise Refused(400, "path query parameter is required for raw body upload")
            return Reply.of(200, [self._write(path, body)])
        if not kind.startswith("multipart/"):
            what = f"unsupported content type: {kind}, expected multipart/form-data or {BYTES}"
            raise Refused(400, what)
        _, _, parts = FormDataParser(stream_factory=_in_memory, silent=False).parse(
            io.BytesIO(body), kind, len(body), dict(options)
        )
        files = parts.getlist("file")
        rows = [self._write(path or part.filename or "", part.read()) for part in files]
        return Reply.of(200, rows)

    def _write(self, path: str, data: bytes) -> dict[str, Any]:
        place = self._place(path)
        if place.is_dir():
            raise Refused(400, f"path is a directory: {self._disk.shown(place)}")
        try:
            self._disk.check(place).parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        except OSError as exc:
            raise Refused(500, f"error opening file: {exc}") from exc
        return {"path": self._disk.shown(place), "name": place.name, "type": "file"}

    def _place(self, path: str) -> Path:
        try:
            return self._disk.inside(path)
        except ValueError as exc:
            raise Refused(400, f"error resolving path: {exc}") from exc

    def _check(self, call: Call) -> None:
        """Raises ``Refused`` where neither the token nor a signature opens the file."""
        if given := call.headers.get("x-access-token"):
            if given != self._token:
                raise Refused(401, "access token present in header but does not match")
            return
        signature = call.query.get("signature")
        if signature is None:
            raise Refused(401, "missing signature query parameter")
        operation = "read" if call.method == "GET" else "write"
        user, path = call.query.get("username", ""), call.query.get("path", "")
        words = [path, operation, user, self._token]
        expires = call.query.get("signature_expiration")
        if expires:
            words.append(expires)
        digest = hashlib.sha256(":".join(words).encode()).digest()
        if signature != "v1_" + base64.b64encode(digest).rstrip(b"=").decode():
            raise Refused(401, "invalid signature")
        if expires and int(expires) < time.time():
            raise Refused(401, "signature is already expired")


def _in_memory(
    total_content_length: int | None,
    content_type: str | None,
    filename: str | None,
    content_length: int | None = None,
) -> IO[bytes]:
    return io.BytesIO()

"""The bearer tokens of workers' servers: made from one secret here, so that none is stored."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

SECRET_BYTES = 32


def token_of(data_folder: str, name: str) -> str:
    """Return the token of the server called ``name``; the same one each time.

    The secret behind all of them is in the federation's folder (0600), made by the first call.
    """
    key = _secret(Path(data_folder) / "serve.secret")
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()


def _secret(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{secrets.token_hex(4)}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(secrets.token_bytes(SECRET_BYTES))
    # Whoever was first has made it.
    with contextlib.suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    return path.read_bytes()

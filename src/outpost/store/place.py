"""Where a store is: a file of this machine, or a database of a PostgreSQL server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from outpost.errors import StoreError

_SQLITE_URL = "sqlite:///"
_SERVER_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_SHAPE = "postgresql://USER@HOST/DATABASE"
# As libpq takes it apart, but refusing what could be read in two ways.
_AFTER_SCHEME = re.compile(
    r"(?:(?P<user>[^:@/?\s]*)(?::[^@/\s]*)?@)?"
    r"(?P<hosts>[^@/?#\s]*)"
    r"(?:/(?P<database>[^@/?#\s]*))?"
    r"(?:\?(?P<options>[^\s]*))?"
)
# All others may hold secrets, or say nothing about where the store is.
_SHOWN_OPTIONS = {"host", "hostaddr", "port", "dbname", "user", "service", "sslmode"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A database of a server: ``url`` is for the driver alone, ``name`` may be shown to anybody."""

    url: str = field(repr=False)
    name: str


def place_of(url_or_path: str | Path) -> Path | Server:
    """Return the file, absolute, or the server that a URL or path means.

    Raises ``StoreError`` where it means neither; never with a password in it.
    """
    text = str(url_or_path)
    scheme, separator, rest = text.partition("://")
    if isinstance(url_or_path, Path) or not separator:
        return Path(text).absolute()
    if text.startswith(_SQLITE_URL):
        return Path(text.removeprefix(_SQLITE_URL)).absolute()
    if scheme in _SERVER_SCHEMES:
        return Server(url=f"postgresql://{rest}", name=_shown(rest))
    raise StoreError(
        f"the store cannot be kept in '{scheme}'",
        hint=f"give a file: a path, or {_SQLITE_URL}/path/to/outpost.db; or {_SHAPE}",
    )


def name_of(url_or_path: str | Path) -> str:
    """Return what may be shown of where a store is: its file, or its server and database."""
    place = place_of(url_or_path)
    return place.name if isinstance(place, Server) else str(place)


@contextmanager
def needing_driver(server: Server) -> Iterator[None]:
    """Say what to install where an import inside finds no driver for a server."""
    try:
        yield
    except ImportError as exc:
        # Without libpq psycopg is there but cannot be imported, and names no module.
        if not (exc.name or "psycopg").startswith("psycopg"):
            raise
        raise StoreError(
            f"the store {server.name} needs PostgreSQL's driver: {exc}",
            hint="pip install '.[postgres]'  in the checkout of outpost",
        ) from exc


def malformed() -> StoreError:
    """Return the error for a URL that PostgreSQL does not understand; shows nothing of it."""
    return StoreError(
        "the store's PostgreSQL URL cannot be read",
        hint=f"it looks like {_SHAPE}; in a password write % as %25, / as %2F, @ as %40",
    )


def _shown(rest: str) -> str:
    """Return a URL without password, and without the options that nobody needs to see."""
    found = _AFTER_SCHEME.fullmatch(rest)
    if found is None:
        raise malformed()
    pairs = (found["options"] or "").split("&")
    options = "&".join(pair for pair in pairs if pair.partition("=")[0] in _SHOWN_OPTIONS)
    return "".join(
        (
            "postgresql://",
            f"{found['user']}@" if found["user"] else "",
            found["hosts"],
            f"/{found['database']}" if found["database"] is not None else "",
            f"?{options}" if options else "",
        )
    )

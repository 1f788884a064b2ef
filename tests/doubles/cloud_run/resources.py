"""What services, jobs and executions have in common: names, etags and pages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from tests.doubles.cloud_run.rpc import Code, Refused

_etags = itertools.count(1)


def new_etag() -> str:
    """Return an etag that nothing else ever had."""
    return f'"{next(_etags)}"'


def check_etag(stored: Any, given: str) -> None:
    """Refuse a change of something that somebody else has changed meanwhile."""
    if given and given != stored.etag:
        raise Refused(
            Code.ABORTED, f"Conflict for resource '{stored.name}': etag {given}, not {stored.etag}."
        )


def found(name: str, among: Mapping[str, Any]) -> Any:
    """Return what has a name; raises ``Refused``."""
    if name not in among:
        raise Refused(Code.NOT_FOUND, f"Resource '{name.rpartition('/')[2]}' was not found.")
    return among[name]


def parent_of(name: str) -> str:
    """Return the project and location of a resource."""
    return "/".join(name.split("/")[:4])


def paged(rows: list[Any], request: Any) -> tuple[list[Any], str]:
    """Return a page of a list, and the token of the next."""
    start, size = int(request.page_token or 0), request.page_size or 100
    rest = str(start + size) if len(rows) > start + size else ""
    return rows[start : start + size], rest

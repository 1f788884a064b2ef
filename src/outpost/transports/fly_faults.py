"""What the Machines API complains of, told apart by status and message, as no status says enough.

Texts as users have reported them and as Fly's own client knows them (2026-11); what is not known
counts as a failure of the outpost, never of a task.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum

MOST_REASON_CHARS = 300


class Trouble(StrEnum):
    """What went wrong, by what may be done next."""

    UNREACHED = "unreached"  # no way there: nothing was asked
    LOST = "lost"  # asked, and no answer that says what became of it
    RATE = "rate"
    FULL = "full"  # no room in that region, or on that host
    QUOTA = "quota"  # no room in what the organization may have
    TAKEN = "taken"  # there is a machine of that name
    HELD = "held"  # somebody else has a lease on it
    STATE = "state"  # not from the state that it is in
    LATE = "late"  # what was waited for has not come
    ABSENT = "absent"
    NO_APP = "no_app"
    NO_IMAGE = "no_image"
    REFUSED = "refused"  # the token is none, or not for this
    INVALID = "invalid"
    FAILED = "failed"


class ApiFault(Exception):
    """An answer of the API that is not a 2xx, or none.

    ``machine_id`` is the machine that a complaint names. ``retry_after_s`` is what it asks for.
    """

    def __init__(
        self,
        message: str,
        trouble: Trouble,
        *,
        machine_id: str = "",
        retry_after_s: float | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.trouble = trouble
        self.machine_id = machine_id
        self.retry_after_s = retry_after_s
        self.hint = hint


_BY_TEXT: tuple[tuple[Trouble, str], ...] = (
    (Trouble.TAKEN, r"already_exists|unique machine name violation"),
    (Trouble.HELD, r"lease (is )?currently held|lease.*held by|lease_held"),
    (Trouble.QUOTA, r"quota|over the allowed|machine limit|reached.*limit of machines"),
    (
        Trouble.FULL,
        r"insufficient (resources|capacity|memory|cpus?)|could not reserve resource|no capacity"
        r"|not enough capacity|resource_exhausted|could not (find|claim) (a )?(host|capacity)",
    ),
    (Trouble.STATE, r"unable to \w+ machine from current state|machine (is )?not in a valid state"),
    (
        Trouble.NO_IMAGE,
        r"failed to get manifest|manifest unknown|manifest_unknown|image.*not found"
        r"|could not (resolve|find) image|failed to (pull|resolve) image",
    ),
    (Trouble.NO_APP, r"app(lication)?( \S+)? (was )?not found|could not find app"),
)
"""Texts that mean the same whatever the status; the first that is found counts."""
_MACHINE = re.compile(r"machine ID (\w+) already exists", re.IGNORECASE)


def fault_of(
    status: int, body: bytes, *, asked: str, retry_after: str = "", changes: bool = True
) -> ApiFault:
    """Return what an answer means that is not a 2xx.

    ``asked`` says in a few words what was asked for; ``changes``: it may have changed something.
    """
    said = _said(body)
    message = said or _as_text(body) or f"it answered {status}"
    found = _MACHINE.search(message)
    trouble = _trouble(status, message.lower(), changes=changes)
    if trouble is Trouble.ABSENT and not said:
        # Somebody in between does not know the way: that is no word of Fly's that it is gone.
        trouble = Trouble.FAILED
    return ApiFault(
        f"Fly does not {asked}: {message}",
        trouble,
        machine_id=found[1] if found else "",
        retry_after_s=_seconds(retry_after),
    )


def _trouble(status: int, text: str, *, changes: bool) -> Trouble:
    if status == 429:
        return Trouble.RATE
    if status == 401:
        return Trouble.REFUSED
    for trouble, pattern in _BY_TEXT:
        if re.search(pattern, text):
            return trouble
    match status:
        case 403:
            return Trouble.REFUSED
        case 404 | 410:
            return Trouble.ABSENT
        case 408 | 504 if not changes:
            return Trouble.LATE
        case 409 | 412:
            return Trouble.STATE
        case 400 | 422:
            return Trouble.INVALID
        case 408:
            return Trouble.LOST
        case _ if status >= 500:
            return Trouble.LOST if changes else Trouble.FAILED
    return Trouble.FAILED


def _said(body: bytes) -> str:
    """Return what the API itself says; empty where it says nothing, or it is not the API."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(said, dict):
        said = said.get("error") or said.get("message") or ""
    return str(said)[:MOST_REASON_CHARS]


def _as_text(body: bytes) -> str:
    """Return a body that is no JSON, unless it is a page."""
    text = body.decode("utf-8", "replace").strip()
    return "" if text.startswith(("<", "{")) else text[:MOST_REASON_CHARS]


def _seconds(text: str) -> float | None:
    try:
        return max(0.0, float(text))
    except ValueError:
        return None

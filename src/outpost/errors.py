"""Every error that Outpost raises on purpose, and what may be done next.

::

    OutpostError
    ├── UserError              the person can mend it: exit code 2
    │   ├── ConfigError        the configuration; carries every problem found
    │   ├── IssueError         the issue named is absent, ambiguous or malformed
    │   ├── NotFound           no such worker, task or outpost
    │   ├── PolicyError        the user's own policy function is absent or failed
    │   ├── AlreadyUp          another controller looks after the same home
    │   └── WorkAtRisk         refused: the command would lose work
    ├── Unsupported            this backend declares that it cannot do that
    ├── StoreError             the store cannot be opened, read or migrated
    ├── DutyError              what is left to do after a task's end cannot be done
    │   └── DutyDelayed        not now: it is tried again
    └── OutpostFault           an outpost did not do what was asked
        ├── NotDispatched      nothing was started: another outpost may be tried
        │   ├── NoCapacity     it is full; ask again later
        │   └── RateLimited    it asks for patience: ``retry_after_s``
        ├── Ambiguous          something may have been started: look with ``find``
        └── Rejected           configuration or credentials: never retried silently
            └── NotOurs        the worker is looked after by whoever runs on its machine

A task that fails on its own account is no error here: it is a result.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar


class Retry(StrEnum):
    """What a caller may do after an error."""

    NEVER = "never"
    ELSEWHERE = "elsewhere"
    LATER = "later"
    LOOK_FIRST = "look_first"


class OutpostError(Exception):
    """The root of all errors raised on purpose.

    ``message`` says what happened and why, ``hint`` what to type next (empty where nothing helps).
    """

    code: ClassVar[str] = "error"
    retry: ClassVar[Retry] = Retry.NEVER
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, object]:
        """Return the error as the object that ``--json`` commands print."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class UserError(OutpostError):
    """Something the person typed or wrote cannot be used as it is."""

    code = "usage"
    exit_code = 2


class ConfigError(UserError):
    """The configuration cannot be used; ``problems`` lists every fault found, one string each."""

    code = "config"

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__("\n".join((message, *problems)), hint=hint)
        self.problems = problems


class IssueError(UserError):
    """The issue named on the command line is absent, ambiguous or malformed."""

    code = "issue"


class NotFound(UserError):
    """No worker, task or outpost answers to that name."""

    code = "not_found"


class PolicyError(UserError):
    """The function that the policy names cannot be had, failed, or gave no usable answer."""

    code = "policy"


class AlreadyUp(UserError):
    """Another controller looks after this home."""

    code = "already_up"


class WorkAtRisk(UserError):
    """Refused because work that exists nowhere else would be lost."""

    code = "work_at_risk"


class Unsupported(OutpostError):
    """The backend declares in its ``capabilities`` that it cannot do this."""

    code = "unsupported"


class StoreError(OutpostError):
    """The store cannot be opened, read or brought to the current schema."""

    code = "store"


class DutyError(OutpostError):
    """What is left to do after a task's end cannot be done, and trying again would not help."""

    code = "duty"


class DutyDelayed(DutyError):
    """It cannot be done now; ``retry_after_s`` is ``None`` where nothing says how long to wait."""

    retry = Retry.LATER

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class OutpostFault(OutpostError):
    """An outpost did not do what was asked; ``outpost`` is its configured name.

    ``scope`` names the part of it that the trouble is confined to, such as a region or a size;
    empty: all of it.
    """

    code = "fault"

    def __init__(self, message: str, *, outpost: str, hint: str = "", scope: str = "") -> None:
        super().__init__(message, hint=hint)
        self.outpost = outpost
        self.scope = scope


class NotDispatched(OutpostFault):
    """Nothing was started there, for certain."""

    code = "not_dispatched"
    retry = Retry.ELSEWHERE


class NoCapacity(NotDispatched):
    """The outpost is full at present."""

    code = "no_capacity"


class RateLimited(NotDispatched):
    """The outpost asks to wait ``retry_after_s`` seconds (``None``: it did not say how long)."""

    code = "rate_limited"
    retry = Retry.LATER

    def __init__(
        self,
        message: str,
        *,
        outpost: str,
        retry_after_s: float | None = None,
        hint: str = "",
        scope: str = "",
    ) -> None:
        super().__init__(message, outpost=outpost, hint=hint, scope=scope)
        self.retry_after_s = retry_after_s


class Ambiguous(OutpostFault):
    """The request may or may not have started a worker: look with ``find``, adopt or destroy."""

    code = "ambiguous"
    retry = Retry.LOOK_FIRST


class Rejected(OutpostFault):
    """The outpost refuses this configuration or these credentials."""

    code = "rejected"


class NotOurs(Rejected):
    """The worker is on another machine: whoever runs there looks after it."""

    code = "not_ours"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known name nearest to ``name``, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""

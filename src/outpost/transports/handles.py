"""Whose a handle is: a worker is touched by the outpost that started it, and by no other."""

from __future__ import annotations

from outpost.errors import Rejected
from outpost.model import Handle
from outpost.ports import Outpost


def check_owner(outpost: Outpost, handle: Handle) -> None:
    """Raise ``Rejected`` for the handle of another outpost, or of another kind."""
    if handle.outpost != outpost.name or handle.kind != outpost.kind:
        raise Rejected(
            f"worker {handle.worker_id} belongs to {handle.outpost}, not to {outpost.name}",
            outpost=outpost.name,
        )

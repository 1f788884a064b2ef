"""What a user may call a worker or an outpost, and what is said of a name that nothing has."""

from __future__ import annotations

from collections.abc import Collection

from outpost.errors import NotFound, nearest
from outpost.model import Attempt
from outpost.ports import Store

NAMES_TO_COMPARE = 200
_LONGEST_SHOWN = 63


def unknown_outpost(name: str, configured: Collection[str]) -> NotFound:
    """Return what is said of a name that no configured outpost has."""
    shown = f"'{name[:_LONGEST_SHOWN]}'{nearest(name, configured)}"
    return NotFound(f"there is no outpost {shown}", hint=_configured(configured))


async def find_attempt(store: Store, name: str, *, outposts: Collection[str] = ()) -> Attempt:
    """Return the attempt that ``name`` means; of several on one issue or branch the newest.

    It is an attempt's id or the beginning of it, its issue, or its branch. Raises ``NotFound``,
    also where a beginning fits attempts of several tasks. ``outposts`` are names that could have
    been meant as well, where an outpost may be named in the same place.
    """
    found = await store.find(name)
    if not found:
        newest = await store.attempts(ended=True, limit=NAMES_TO_COMPARE)
        workers = [known for it in newest for known in (it.id, it.issue_id)]
        near = nearest(name, [*outposts, *workers])
        hints = [_configured(outposts)] if outposts else []
        raise NotFound(
            f"no {'outpost, ' if outposts else ''}worker, issue or branch is called '{name}'{near}",
            hint="\n".join([*hints, "outpost ps -a  shows all workers"]),
        )
    exact = all(name in (attempt.issue_id, attempt.branch) for attempt in found)
    if not exact and len({attempt.task_id for attempt in found}) > 1:
        names = ", ".join(f"{attempt.id} ({attempt.issue_id})" for attempt in found[:5])
        raise NotFound(f"'{name}' may mean several workers: {names}", hint="give the whole id")
    return found[0]


def _configured(outposts: Collection[str]) -> str:
    return f"configured are: {', '.join(outposts)}"

"""Finding what a user names: a worker, or a task that still waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outpost.errors import NotFound, UserError
from outpost.model import State, Task

if TYPE_CHECKING:
    from outpost.federation import Federation, SpawnedWorker


async def worker_or_task(
    federation: Federation, name: str, *, or_outpost: bool = False
) -> SpawnedWorker | Task:
    """Return the worker that ``name`` means, else the queued task. Raises ``NotFound``.

    Of a task that was given back to the queue it is the task, not the attempt that came to
    nothing, unless that is named by its own id. ``or_outpost``: an outpost was looked for before.
    """
    try:
        worker = await federation.worker(name, or_outpost=or_outpost)
    except NotFound:
        task = await federation.find_queued(name)
        if task is None:
            raise
        return task
    if not worker.id.removeprefix("w-").startswith(name.removeprefix("w-")):
        return await federation.find_queued(name) or worker
    return worker


async def started_worker(federation: Federation, name: str) -> SpawnedWorker:
    """Return the worker that ``name`` means, if it was started at all. Raises ``UserError``."""
    found = await worker_or_task(federation, name)
    if isinstance(found, Task):
        why = f": {found.reason}" if found.reason else ""
        raise UserError(
            f"{found.issue_id} waits for a slot{why}", hint="outpost ps  shows when it has started"
        )
    attempt = await found.status()
    if attempt.handle is None and attempt.state is State.UNKNOWN:
        raise UserError(
            f"{found.id} may have been started, and has not been seen: {attempt.reason}",
            hint=f"outpost status {found.id}  looks again",
        )
    if attempt.handle is None:
        reason = attempt.reason or f"it is {attempt.state}"
        raise UserError(f"{found.id} was never started: {reason}", hint="outpost ps -a")
    return found

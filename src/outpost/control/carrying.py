"""Pushing what a worker may not push itself, before its end is stored.

What is killed on the way is done again: until it is done the attempt has not ended.
"""

from __future__ import annotations

from dataclasses import replace

from outpost.model import Attempt, State, Task
from outpost.ports import Parcel, Worker
from outpost.wire.events import RELAY
from outpost.wire.orders import Environment
from outpost.wire.urls import apart

MIRROR = "mirror"
"""How work is kept that the remote has refused: on the controller's machine."""


def waits(attempt: Attempt) -> bool:
    """Whether an ended worker's work has yet to be pushed from here."""
    return attempt.state.ended and attempt.kept_how == RELAY


async def carry(attempt: Attempt, worker: Worker, task: Task, environment: Environment) -> Attempt:
    """Push the work of an attempt; return it as it is then: kept on the remote, or failed.

    Raises ``OutpostFault`` where its place cannot be reached.
    """
    url, environment = apart(task.repo_url, environment)
    commit = attempt.commit if attempt.state.ended else None
    parcel = Parcel(
        worker_id=attempt.id,
        task_id=task.id,
        fence=attempt.fence,
        repo_url=url,
        branch=attempt.branch,
        commit=commit or "",
        ended=attempt.state.ended,
    )
    carried = await worker.carry(parcel, environment)
    if not attempt.state.ended:
        return attempt
    if not carried.problem:
        return replace(attempt, kept_how="remote")
    kept = replace(attempt, kept_how=MIRROR, kept_where=carried.where)
    if carried.superseded:
        return replace(kept, state=State.STOPPED, reason=carried.problem)
    state = State.FAILED if attempt.state is State.DONE else attempt.state
    said = f"not pushed: {carried.problem}"
    if commit:
        said += f"; later: git -C {carried.where} push {url} {commit}:refs/heads/{attempt.branch}"
    return replace(kept, state=state, reason="; ".join(filter(None, (attempt.reason, said))))

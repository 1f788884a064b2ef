"""Pushing what a worker may not push itself, before its end is stored.

What is killed on the way is done again: until it is done the attempt has not ended.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from outpost.model import Attempt, State, Task
from outpost.ports import Carried, Parcel, Worker
from outpost.wire.commits import COMMIT
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

    Of one that has not ended it is the work in progress. Its branch must be what the store says:
    a log lies where an agent can write. Raises ``OutpostFault`` where its place is out of reach.
    """
    ended = attempt.state.ended
    commit = attempt.commit if ended and attempt.commit else ""
    if commit and not COMMIT.fullmatch(commit):
        return _failed(replace(attempt, commit=None, kept_how=""), "its result names no commit")
    url, environment = apart(task.repo_url, environment)
    parcel = Parcel(
        worker_id=attempt.id,
        task_id=task.id,
        fence=attempt.fence,
        repo_url=url,
        branch=attempt.branch,
        commit=commit,
        ended=ended,
    )
    carried = await worker.carry(parcel, environment)
    if not ended:
        return attempt
    if not carried.problem:
        return replace(attempt, kept_how="remote")
    return _refused(attempt, parcel, carried)


def _refused(attempt: Attempt, parcel: Parcel, carried: Carried) -> Attempt:
    kept = replace(attempt, kept_how=MIRROR, kept_where=carried.where)
    if carried.superseded:
        return replace(kept, state=State.STOPPED, reason=carried.problem)
    problem = carried.problem
    if parcel.commit:
        refspec = f"{parcel.commit}:refs/heads/{parcel.branch}"
        push = ("git", "-C", carried.where, "push", parcel.repo_url, refspec)
        problem += f"; later: {shlex.join(push)}"
    return _failed(kept, problem)


def _failed(attempt: Attempt, problem: str) -> Attempt:
    state = State.FAILED if attempt.state is State.DONE else attempt.state
    reason = "; ".join(filter(None, (attempt.reason, f"not pushed: {problem}")))
    return replace(attempt, state=state, reason=reason)

"""Going on from an earlier worker: by hand in a new task on its branch, or by itself in the same
task after an attempt that did not come to its own end. With the same conversation, where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile

from outpost.control.orders import Earlier
from outpost.control.tasks import new_id
from outpost.errors import UserError
from outpost.model import Attempt, State, Task
from outpost.ports import Store
from outpost.wire.orders import Resume

MOST_GENERATIONS = 1000
BRANCHES = "refs/heads/"
CHECKPOINTS = "refs/outpost/wip/"
"""Behind it stands the task's id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Succession:
    """Knows which workers went on from which."""

    store: Store

    async def successor(
        self, attempt: Attempt, message: str, *, agent: str | None, now: datetime
    ) -> Task:
        """Return the task that goes on from an ended worker, told ``message`` (may be empty).

        It stays on the worker's outpost, where its workspace and conversation are. Raises
        ``UserError`` where the worker, or one that goes on from it already, still runs.
        """
        newest = await self._newest(attempt)
        if not newest.state.ended:
            raise UserError(
                f"{newest.id} is still {newest.state}",
                hint=f"outpost send {newest.id} TEXT  tells it something",
            )
        before = await self.store.task(newest.task_id)
        spec = before.agent if agent is None else replace(before.agent, name=agent, argv=())
        return replace(
            before,
            id=new_id("t"),
            body=message,
            agent=spec,
            outpost=newest.outpost,
            resumes=newest.id,
            created_at=now,
            state=State.QUEUED,
            reason="",
            retries=0,
            due_at=None,
        )

    async def heirs(self, attempt: Attempt) -> list[str]:
        """Return the workers that go on from this one, and the queued tasks that are to."""
        queued = [task.id for task in await self.store.queued() if task.resumes == attempt.id]
        later = [
            found.id
            for found in await self.store.find(attempt.branch)
            if (await self.store.task(found.task_id)).resumes == attempt.id
        ]
        return later + queued

    async def predecessor(self, task: Task) -> Attempt | None:
        """Return the worker that a task goes on from; ``None`` where it starts afresh."""
        if task.resumes is None:
            return None
        found = await self.store.find(task.resumes)
        return next((attempt for attempt in found if attempt.id == task.resumes), None)

    async def earlier(self, task: Task, outpost: str) -> Earlier | None:
        """Return what a task's worker on ``outpost`` needs to know of the one it goes on from.

        Another outpost (empty: one that keeps its workers apart), or another agent, knows the
        branch but not the conversation.
        """
        last = await self.predecessor(task)
        if last is None:
            return None if task.resumes else await self._cut_short(task, outpost)
        session_id = tree = None
        cost: int | None = 0
        body, attempt, agent = task.body, last, task.agent.name
        for _ in range(MOST_GENERATIONS):
            past = await self.store.task(attempt.task_id)
            body = past.body
            if attempt.outpost == outpost and (tree is None or tree == attempt.id):
                tree = attempt.id
            if attempt is last and attempt.outpost == outpost and past.agent.name == agent:
                session_id = attempt.session_id
            if session_id and attempt.session_id == session_id:
                spent = attempt.usage.cost_microusd
                cost = None if cost is None or spent is None else cost + spent
            before = await self.predecessor(past)
            if before is None:
                if past.resumes and tree == attempt.id:
                    tree = past.resumes  # that one's records are gone, its workspace may not be
                break
            if tree == attempt.id and before.outpost == outpost:
                tree = before.id
            attempt = before
        resume: Resume = {
            "worker_id": last.id,
            "session_id": session_id,
            "cost_microusd": cost,
            "tree": tree or last.id,
        }
        return Earlier(body=body, resume=resume)

    async def _cut_short(self, task: Task, outpost: str) -> Earlier | None:
        """Return what a further attempt at a task goes on from; ``None`` for its first.

        Where the last one was proven dead on the same outpost, its workspace is gone on in.
        """
        ended = [it for it in reversed(await self.store.attempts_of(task.id)) if it.state.ended]
        if not ended:
            return None
        alone = all(it.died or it.state is not State.LOST for it in ended)
        begun = [it for it in ended if it.seq]
        if not begun:
            return Earlier(body=task.body, resume=None, alone=alone)
        branches = [f"{BRANCHES}{attempt.branch}" for attempt in begun]
        refs = (branches[0], f"{CHECKPOINTS}{task.id}", *branches[1:])
        there = list(takewhile(lambda it: it.died and it.outpost == outpost, begun))
        resume: Resume | None = None
        elsewhere = None if there else next((it for it in begun if it.session_id), None)
        if there:
            last = there[0]
            costs = [it.usage.cost_microusd for it in there if it.session_id == last.session_id]
            known = [cost for cost in costs if cost is not None]
            resume = {
                "worker_id": last.id,
                "session_id": last.session_id,
                "cost_microusd": sum(known) if len(known) == len(costs) else None,
                "tree": there[-1].id,
            }
        return Earlier(
            body=task.body,
            resume=resume,
            from_refs=refs,
            again=True,
            alone=alone,
            elsewhere=elsewhere,
        )

    async def _newest(self, attempt: Attempt) -> Attempt:
        """Return the worker that went on last from this one, or this one."""
        on_branch = await self.store.find(attempt.branch)
        heirs = [found for found in on_branch if found.branch == attempt.branch]
        return max([attempt, *heirs], key=lambda found: (found.created_at, found.id))

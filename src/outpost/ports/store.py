"""What must survive: tasks, attempts, decisions, duties, money, and what outposts did of late."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from outpost.model import (
    Attempt,
    Breaker,
    CapWindow,
    Charge,
    Decision,
    Duty,
    Lease,
    State,
    Task,
    Transition,
    Used,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """The store at one moment, as far as placing a task depends on it."""

    counts: Mapping[str, int]
    breakers: Sequence[Breaker]
    used: Sequence[Used]
    task_cost_microusd: int = 0


class Store(ABC):
    """What must survive: tasks, attempts, decisions, duties. Safe with many processes at once.

    Every method is one short transaction; none is open while anything outside is waited for.
    Attempts are written only by whoever holds their fence: a write with an older one changes
    nothing and returns ``False``.
    """

    @abstractmethod
    async def federation_id(self) -> str:
        """Return the id that marks everything this federation starts, made at first use."""

    @abstractmethod
    async def add_task(self, task: Task) -> None:
        """Insert a new task in ``queued``."""

    @abstractmethod
    async def claim(
        self,
        attempt: Attempt,
        decision: Decision,
        *,
        max_workers: int | None,
        charge: Charge | None = None,
        caps: Sequence[CapWindow] = (),
    ) -> Attempt | None:
        """Take a slot and money for an attempt of a queued task: the intent, before any call.

        In one transaction: the task must be ``queued`` (else ``None``), fewer than ``max_workers``
        attempts may be active on ``attempt.outpost`` (else ``None``), and in every one of ``caps``
        there must be room for all that ``charge`` reserves (else ``None``; each cap is one that
        covers the outpost). Then attempt and charge are inserted, the attempt with the next
        ``number`` and ``fence``, the task becomes ``reserved`` and the decision is stored.
        Returns the attempt as stored. A task that goes on from an attempt is ``stopped`` instead
        where another attempt is active on the same branch.

        In an hour that rolls, compute counts as far as it can fall into one such hour; everywhere
        else, and for tokens, the whole of a reservation counts, and after its end the whole bill.
        """

    @abstractmethod
    async def release(
        self, attempt: Attempt, reason: str, *, due_at: datetime | None = None, failed: bool = True
    ) -> bool:
        """Give a claim back because nothing was started: attempt ``failed``, task ``queued``.

        Its charge is taken back. ``failed`` counts it as one of the task's ``retries``;
        until ``due_at`` the task is not tried again.
        """

    @abstractmethod
    async def hold(self, task_id: str, decision: Decision) -> None:
        """Store why a queued task could not be placed; it stays ``queued`` with that reason."""

    @abstractmethod
    async def give_up(self, task_id: str, reason: str) -> bool:
        """Make a queued task ``failed``: its retries are used up. ``False`` if it is not queued.

        Its issue, if it was claimed, is to be released: a duty.
        """

    @abstractmethod
    async def apply(self, attempt: Attempt, *, again_at: datetime | None = None) -> bool:
        """Store what was learnt of an attempt, guarded by its fence and the transition table.

        The task follows its newest attempt. An older observation (lower ``seq``) changes nothing,
        nor does any of an attempt that has ended and is not ``lost``. With the end come, in the
        same transaction, the duties that the task's ``pr`` and ``write_back`` ask for.

        What its tokens cost so far goes into its charge, and its end settles that: never refused
        for a cap.

        With ``again_at`` an attempt that ends as ``lost``, or ``died`` and failed, leaves its task
        ``queued`` until then, with one of its ``retries`` used and no duties; unless the task has
        another attempt by now, or the attempt was asked to stop.
        """

    @abstractmethod
    async def apply_all(self, attempts: Sequence[Attempt]) -> list[bool]:
        """Do what ``apply`` does for each of many attempts, in one transaction; in their order.

        Cheap for those that only go on in the state they are stored in; what does not change as
        they do (a handle that is known, say) is not stored anew.
        """

    @abstractmethod
    async def ask_to_stop(self, attempt_id: str, reason: str) -> bool:
        """Note that an active attempt is to stop, and why; ``False`` if it has ended.

        The first reason stays. ``apply`` never takes that back.
        """

    @abstractmethod
    async def take_leases(
        self, names: Sequence[str], holder: str, *, ttl_s: float
    ) -> dict[str, Lease]:
        """Take or renew what nobody else holds now, for ``ttl_s`` seconds; return what we hold."""

    @abstractmethod
    async def drop_leases(self, holder: str) -> None:
        """Let go of everything that ``holder`` holds. Idempotent."""

    @abstractmethod
    async def leases(self) -> list[Lease]:
        """Return the leases that have not run out, by name."""

    @abstractmethod
    async def transitions(
        self, *, after: int = 0, limit: int | None = None, task_id: str | None = None
    ) -> list[Transition]:
        """Return what happened after the transition with that id, oldest first.

        Of more than ``limit`` the newest if ``after`` is 0, else the oldest.
        """

    @abstractmethod
    async def trim_transitions(self, before: datetime) -> int:
        """Delete the transitions of before then; return how many."""

    @abstractmethod
    async def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until another process has written to the store; ``False`` once time is over.

        It may wake for nothing. What was written before the first call does not count. All who wait
        at that moment are woken; one that comes later is not told again.
        """

    @abstractmethod
    async def cancel(self, task_id: str, reason: str) -> bool:
        """Make a queued task ``stopped``; ``False`` if it is no longer queued.

        Its issue, if it was claimed, is to be released: a duty.
        """

    @abstractmethod
    async def pending_duties(self) -> list[Duty]:
        """Return the duties yet to be carried out, the longest due first."""

    @abstractmethod
    async def duties_of(self, task_id: str) -> list[Duty]:
        """Return every duty of a task, in the order in which they came up."""

    @abstractmethod
    async def take_duty(self, duty: Duty, *, lease_s: float) -> Duty | None:
        """Begin a try of a pending duty: nobody else takes it for ``lease_s`` seconds.

        Returns it as stored, or ``None`` where it has been taken or settled since it was read.
        """

    @abstractmethod
    async def settle_duty(self, duty: Duty) -> bool:
        """Store what came of a try: state, detail and, if pending still, when it is due again.

        ``False``, and nothing changes, if the duty has been taken anew since.
        """

    @abstractmethod
    async def note_pr(self, attempt_id: str, pr_url: str) -> bool:
        """Store the pull request of an ended attempt; ``False`` if there is no such attempt."""

    @abstractmethod
    async def note_metered(self, attempt_id: str, seconds: float) -> bool:
        """Bill an ended attempt's compute for so long as its provider does, from its beginning.

        ``False`` where it has no charge, or one that goes on.
        """

    @abstractmethod
    async def forget(self, attempt_id: str) -> None:
        """Delete an ended attempt and its duties, and its task with the last of its attempts."""

    @abstractmethod
    async def counts(self) -> Mapping[str, int]:
        """Return how many attempts hold a slot at each outpost."""

    @abstractmethod
    async def task(self, task_id: str) -> Task:
        """Return a task; raises ``NotFound``."""

    @abstractmethod
    async def queued(
        self, *, limit: int | None = None, after: Task | None = None, due_by: datetime | None = None
    ) -> list[Task]:
        """Return queued tasks by their ``rank``: most urgent first, where age makes up for it.

        At most ``limit``, of those behind ``after``; with ``due_by`` only those that may be tried
        by then. The cost of a page does not depend on how many wait.
        """

    @abstractmethod
    async def queue_length(self, before: Task | None = None) -> int:
        """Return how many tasks are queued, or how many of them stand before a queued task."""

    @abstractmethod
    async def look(
        self, windows: Sequence[CapWindow], now: datetime, *, task_id: str | None = None
    ) -> Look:
        """Return all that placing a task depends on, on one view: what ``counts``, ``breakers``,
        ``used`` and, with ``task_id``, ``task_cost`` return.
        """

    @abstractmethod
    async def used(self, windows: Sequence[CapWindow], now: datetime) -> list[Used]:
        """Return what counts towards each of these caps, in their order, on one view of all."""

    @abstractmethod
    async def task_cost(self, task_id: str, now: datetime) -> int:
        """Return what the attempts of a task cost or hold, in micro-dollars."""

    @abstractmethod
    async def charges(self, *, since: datetime | None = None) -> list[Charge]:
        """Return the charges of attempts that run, or ended at or after ``since``; oldest first."""

    @abstractmethod
    async def charge(self, attempt_id: str) -> Charge | None:
        """Return what an attempt is charged; ``None`` where there is none."""

    @abstractmethod
    async def breakers(self) -> list[Breaker]:
        """Return how outposts have failed of late; one that works has none."""

    @abstractmethod
    async def change_breaker(
        self, outpost: str, scope: str, change: Callable[[Breaker, Sequence[Breaker]], Breaker]
    ) -> Breaker:
        """Let ``change`` say what becomes of a breaker, alone among all writers; return that.

        It is given the breaker as it is (a fresh one if there is none) and all the others, and
        must be pure. A breaker without failures, trips and probe is deleted.
        """

    @abstractmethod
    async def attempts(self, *, ended: bool = False, limit: int | None = None) -> list[Attempt]:
        """Return the active attempts, oldest first; with ``ended`` those too, newest last."""

    @abstractmethod
    async def attempts_of(self, task_id: str) -> list[Attempt]:
        """Return every attempt of a task, oldest first."""

    @abstractmethod
    async def find(self, name: str) -> list[Attempt]:
        """Return the attempts that ``name`` may mean, newest first: id or a prefix of it (with or
        without ``w-``), task id, issue id, or branch. Exact matches hide prefix matches.
        """

    @abstractmethod
    async def find_tasks(self, name: str) -> list[Task]:
        """Return the tasks that ``name`` may mean, newest first: id or prefix, or issue id."""

    @abstractmethod
    async def decision(self, task_id: str) -> Decision | None:
        """Return the newest decision about a task."""

    @abstractmethod
    async def count_by_state(self) -> Mapping[State, int]:
        """Return how many tasks are in each state."""

    @abstractmethod
    async def close(self) -> None:
        """Release files and connections. Idempotent."""

"""Issues, tasks, their attempts, and what follows their end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum


class Priority(IntEnum):
    """How urgent a task is; P0 is the most urgent, P4 the least."""

    P0 = 0
    P1 = 1
    P2 = 2
    P3 = 3
    P4 = 4


class State(StrEnum):
    """Where a task, or one attempt of it, stands."""

    QUEUED = "queued"
    RESERVED = "reserved"
    STARTING = "starting"
    WORKING = "working"
    WAITING = "waiting"
    PUSHING = "pushing"
    UNKNOWN = "unknown"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether nothing follows: the slot is free and the bill is settled."""
        return self in ENDED


ENDED = frozenset({State.DONE, State.FAILED, State.STOPPED, State.LOST})
ACTIVE = frozenset(set(State) - ENDED - {State.QUEUED})

_RUNNING = frozenset({State.STARTING, State.WORKING, State.WAITING, State.PUSHING})
_ANYWHERE = _RUNNING | ENDED | {State.UNKNOWN}
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RESERVED, State.STOPPED, State.FAILED}),
    State.RESERVED: _ANYWHERE | {State.QUEUED},
    State.STARTING: _ANYWHERE - {State.STARTING},
    State.WORKING: _ANYWHERE - {State.STARTING, State.WORKING},
    State.WAITING: _ANYWHERE - {State.STARTING, State.WAITING},
    State.PUSHING: ENDED | {State.UNKNOWN},
    State.UNKNOWN: _RUNNING | ENDED,
    State.LOST: frozenset({State.DONE, State.FAILED, State.STOPPED}),
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
    State.STOPPED: frozenset(),
}


def may_become(old: State, new: State) -> bool:
    """Whether the transition table lets an attempt in ``old`` become ``new`` (or stay)."""
    return old == new or new in TRANSITIONS[old]


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSpec:
    """The coding program a task asks for: a name, and an argv for the agent ``command``."""

    name: str
    argv: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Issue:
    """An issue as its source gave it, cleaned; what is ``None`` the issue did not say."""

    id: str
    title: str
    body: str
    source: str
    url: str | None = None
    repo_url: str | None = None
    base: str | None = None
    priority: Priority | None = None
    labels: tuple[str, ...] = ()
    type: str | None = None
    epic: str | None = None
    estimate_s: float | None = None
    agent: str | None = None
    source_folder: str | None = None
    requires: Mapping[str, str] = field(default_factory=dict)
    sensitivity: str | None = None
    max_cost_microusd: int | None = None


AGEING = timedelta(hours=6)
"""How much longer a task has waited than one a priority above it, once it goes before that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """An issue once resolved: everything needed to try it anywhere. Durable.

    ``requires`` are the labels that an outpost must have. ``max_cost_microusd`` limits all its
    attempts together, ``token_budget_microusd`` what the tokens of one may cost (``None``: nobody
    said; 0: its agent uses none). ``retries`` counts the attempts that an outpost failed to start
    or lost, ``due_at`` is when the next may be tried.

    ``pr`` asks for a pull request (``draft`` or ``ready``), ``write_back`` names what its source
    is told at the end (``DutyKind`` values), ``resumes`` is the attempt it goes on from,
    ``source_folder`` where its source is asked, if that is bound to a folder.
    """

    id: str
    issue_id: str
    source: str
    title: str
    body: str
    repo_url: str
    created_at: datetime
    agent: AgentSpec
    url: str | None = None
    base: str | None = None
    priority: Priority = Priority.P2
    labels: tuple[str, ...] = ()
    type: str | None = None
    epic: str | None = None
    estimate_s: float | None = None
    time_limit_s: float | None = None
    outpost: str | None = None
    state: State = State.QUEUED
    reason: str = ""
    pr: str | None = None
    write_back: tuple[str, ...] = ()
    resumes: str | None = None
    interactive: bool = False
    source_folder: str | None = None
    requires: Mapping[str, str] = field(default_factory=dict)
    sensitivity: str | None = None
    max_cost_microusd: int | None = None
    token_budget_microusd: int | None = None
    retries: int = 0
    due_at: datetime | None = None

    @property
    def rank(self) -> datetime:
        """Where it stands in the queue: the earlier the sooner. Age makes up for priority."""
        return self.created_at + self.priority * AGEING


@dataclass(frozen=True, kw_only=True, slots=True)
class Handle:
    """Where a worker is, as its backend wrote it down. ``data`` is JSON and the backend's own."""

    outpost: str
    kind: str
    worker_id: str
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens and money of a worker so far. ``cost_microusd`` is ``None`` where it is unknown."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_microusd: int | None = None

    @property
    def tokens(self) -> int:
        """All tokens, whatever each of them costs."""
        read = self.input_tokens + self.cache_read_tokens + self.cache_write_tokens
        return read + self.output_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One try of a task on one outpost. Its id is the worker's id and ends its branch's name.

    ``told`` is the state that its log told last, which holds again once it can be seen. ``died``
    says that its runner did not come to its own end, ``evicted`` that its place ended it (not
    stored: it matters only as its end is), ``stop_asked`` why it was asked to stop
    (empty: it was not), ``checkpoint`` the newest commit of its work in progress on the remote.
    """

    id: str
    task_id: str
    issue_id: str
    number: int
    fence: int
    outpost: str
    kind: str
    branch: str
    created_at: datetime
    state: State = State.RESERVED
    reason: str = ""
    handle: Handle | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seen_at: datetime | None = None
    seq: int = 0
    offset: int = 0
    activity: str = ""
    active_at: datetime | None = None
    usage: Usage = field(default_factory=Usage)
    commit: str | None = None
    pr_url: str | None = None
    summary: str = ""
    exit_code: int | None = None
    session_id: str | None = None
    kept_how: str = ""
    kept_where: str = ""
    told: State = State.STARTING
    died: bool = False
    evicted: bool = False
    stop_asked: str = ""
    checkpoint: str = ""

    @property
    def got_on(self) -> bool:
        """Whether it was evicted, and only once it had saved some work: no failure of anybody's."""
        return self.evicted and bool(self.commit or self.checkpoint)


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One line of the federation's log: a task, or an attempt of it, went to another state.

    ``attempt_id`` and ``outpost`` are empty for what happened to a task alone, ``before`` is
    ``None`` for its beginning. ``by`` is who did it: ``PROGRAM@HOST:PID``.
    """

    id: int
    at: datetime
    task_id: str
    attempt_id: str
    outpost: str
    before: State | None
    after: State
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """Who looks after something until when. ``fence`` rises with every other holder."""

    name: str
    holder: str
    fence: int
    until: datetime


class DutyKind(StrEnum):
    """What is left to do once a task has ended; in the order in which it is done."""

    PR = "pr"
    NOTES = "notes"
    COMMENT = "comment"
    RELEASE = "release"
    CLOSE = "close"


DUE_AFTER: Mapping[DutyKind, frozenset[State]] = {
    DutyKind.PR: frozenset({State.DONE}),
    DutyKind.NOTES: frozenset({State.DONE, State.FAILED, State.STOPPED}),
    DutyKind.COMMENT: frozenset({State.DONE, State.FAILED, State.STOPPED}),
    DutyKind.RELEASE: frozenset({State.FAILED, State.STOPPED}),
    DutyKind.CLOSE: frozenset({State.DONE}),
}
"""Which ends of a task call for which duty."""


class DutyState(StrEnum):
    """Where a duty stands. ``FAILED``: given up, for good."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """Something to tell the world of a task that has ended. Durable until carried out.

    ``attempt_id`` is ``None`` for a task taken back before any attempt. ``detail`` says what came
    of the newest of its ``tries`` (empty while that goes on), ``due_at`` when the next may be.
    """

    id: int
    task_id: str
    attempt_id: str | None
    kind: DutyKind
    due_at: datetime
    state: DutyState = DutyState.PENDING
    tries: int = 0
    detail: str = ""


class Liveness(StrEnum):
    """What a look at a worker's place shows. ``UNSEEN``: cannot see, which is not dead."""

    ALIVE = "alive"
    DEAD = "dead"
    ABSENT = "absent"
    UNSEEN = "unseen"


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One look at a worker: ``ABSENT`` means that its place has never heard of it or it is gone.

    ``paused``: its place rests with all that is in it, so it lives and says nothing.
    """

    liveness: Liveness
    detail: str = ""
    paused: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """A worker of our federation seen at an outpost, whether or not the store knows of it."""

    handle: Handle
    liveness: Liveness

"""The work order: all that a runner needs to know, as one JSON object.

Types only; nothing here is needed when the runner runs.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

ORDER_VERSION = 1


class AgentOrder(TypedDict):
    """Which coding program runs. ``name`` is the module in ``outpost.runner.agents``."""

    name: str
    argv: list[str]
    options: dict[str, Any]


class Limits(TypedDict):
    """Seconds. ``time_s``: for the agent's work, null for none. ``grace_s``: what a stop may take.

    ``silence_s``: after which an agent that says nothing is taken for stuck, null for never.
    ``answer_s``: after which a question that nobody answered is answered with no, null for never.
    ``busy_pause_s``: the first pause where the model's API is too busy; each further one doubles.
    ``min_free_mib``: without so much room on the disk it does not begin.
    ``wall_s``: for all of it from the runner's start, waiting and preparing included, where the
    place costs money; null for none. ``tokens_microusd``: micro-dollars that the tokens of this
    worker may cost, null for any number. ``checkpoint_s``: how often work in progress is pushed,
    null for never.
    """

    time_s: float | None
    grace_s: float
    silence_s: NotRequired[float | None]
    answer_s: NotRequired[float | None]
    busy_pause_s: NotRequired[float]
    min_free_mib: NotRequired[int]
    wall_s: NotRequired[float | None]
    tokens_microusd: NotRequired[int | None]
    checkpoint_s: NotRequired[float | None]


class PermissionRules(TypedDict):
    """What an agent may do; patterns as in ``outpost.runner.permissions``.

    ``default`` (allow, ask or deny) holds for what no pattern decides.
    """

    default: str
    allow: list[str]
    ask: list[str]
    deny: list[str]


class Price(TypedDict):
    """US dollars for a million tokens of a model."""

    input: float
    output: float
    cache_write: float
    cache_read: float


class Resume(TypedDict):
    """An earlier worker whose branch, and conversation if it still exists, are gone on with.

    ``session_id`` is null where there is no conversation to go on with. ``cost_microusd``: what
    that session had cost by then. ``tree``: the workspace's folder name at the same place.
    """

    worker_id: str
    session_id: str | None
    cost_microusd: int | None
    tree: str


class Transcript(TypedDict):
    """The conversation of an attempt that was cut short at another place.

    ``prompt`` is said to an agent that can go on in it, instead of the order's. ``data``: what the
    runner there printed, in base64; it is taken out on the way and put beside the order.
    """

    session_id: str
    prompt: str
    data: NotRequired[str]


class Environment(TypedDict):
    """Variables for the agent and for git. May hold secrets: travels apart, 0600, read once."""

    agent: dict[str, str]
    git: dict[str, str]


class View(TypedDict):
    """The command that shows a live view: the runner adds a named pipe to read from."""

    argv: list[str]
    environment: dict[str, str]


class WorkOrder(TypedDict):
    """One attempt of a task. Idempotent by ``worker_id``; ``branch`` carries it as a suffix.

    ``asked_at`` (seconds since the epoch) is when the work was asked for: no older state of the
    base will do. It is left out for a place whose clock is not the controller's. ``fence``: nothing
    is published once a worker with a higher one has taken the task; without it nobody asks.
    ``alone``: every earlier attempt is proven dead, so there is nobody to fence off.
    ``from_refs``: refs of the remote, in full, where an earlier attempt left its work: the worker
    begins from the first of them that is there, or from a later one that is newer, as they are once
    the task's lease is taken. ``unprepared``: why the remote did not give what the controller was
    to bring here. ``transcript``: the conversation to go on in where there is no ``resume``.
    """

    version: int
    federation_id: str
    worker_id: str
    task_id: str
    issue_id: str
    repo_url: str
    base: str | None
    branch: str
    title: str
    body: str
    prompt: str
    agent: AgentOrder
    limits: Limits
    author: NotRequired[dict[str, str]]
    keep_workspace: bool
    permissions: NotRequired[PermissionRules]
    prices: NotRequired[dict[str, Price]]
    resume: NotRequired[Resume]
    transcript: NotRequired[Transcript]
    branch_settings: NotRequired[bool]
    interactive: NotRequired[bool]
    view: NotRequired[View]
    asked_at: NotRequired[float]
    from_refs: NotRequired[list[str]]
    fence: NotRequired[int]
    alone: NotRequired[bool]
    unprepared: NotRequired[str]


class Message(TypedDict):
    """One line of a worker's mailbox.

    ``type``: ``stop`` (``grace_s``, ``reason``; ``again``: only its place is at an end, the work
    is to be gone on with elsewhere) or ``text`` (``text``; ``message_id`` names it in
    the event that says what became of it; ``question_id`` names the question it answers, without
    it the oldest open one).
    """

    type: str
    text: NotRequired[str]
    message_id: NotRequired[str]
    question_id: NotRequired[str]
    grace_s: NotRequired[float]
    reason: NotRequired[str]
    again: NotRequired[bool]

"""The seams of Outpost. Read this file first: it is enough to understand the system.

A *source* turns what the user typed into an issue. The *policy* (``outpost.policy.decide``, a pure
function) ranks the outposts for it. The *store* claims a slot for an attempt before anything is
started. An *outpost* starts a *worker* from a work order; the worker writes an append-only event
log and everything known of it is read from there. Two transports reach workers: a *shell* (run,
put, get, stream) or HTTP/2; a backend is provisioning plus one of them.

Rules for every method here:

* No I/O in ``__init__``. An ``async`` method may be cancelled at any ``await`` and then leaves
  nothing running that ``find`` or ``workers`` would not show.
* Every remote call has a deadline of its own. Failures are ``outpost.errors`` and say what may
  happen next; an outpost's trouble is never reported as the task's failure, nor the reverse.
* Instants are aware UTC, durations are seconds, money is integer micro-dollars.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from outpost.errors import DutyError, Unsupported
from outpost.model import (
    Attempt,
    Capabilities,
    DutyKind,
    Handle,
    Health,
    Issue,
    Metered,
    Observation,
    Quote,
    Sighting,
    Task,
)
from outpost.ports.store import Store
from outpost.wire.events import Event
from outpost.wire.orders import Environment, Message, WorkOrder
from outpost.wire.tidying import Leftover, TidyOrder

__all__ = [
    "Carried",
    "Clock",
    "Completed",
    "Greeting",
    "IssueSource",
    "Outpost",
    "Parcel",
    "Plan",
    "Report",
    "Setup",
    "Shell",
    "SourceRequest",
    "Store",
    "Tended",
    "Worker",
]


class Clock(Protocol):
    """The only way time enters."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """What a worker left at its place for the controller to push, as the store knows it.

    ``commit`` is for ``branch``, empty where nothing is; ``ended``: the worker leaves no more.
    """

    worker_id: str
    task_id: str
    fence: int
    repo_url: str
    branch: str
    commit: str
    ended: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """Why it is not on the remote (empty: it is), and ``where`` on this machine it is kept then.

    ``superseded``: because another worker holds the task.
    """

    problem: str
    superseded: bool
    where: str


class Worker(ABC):
    """The running thing of an attempt, addressed by its handle; may outlive any controller."""

    id: str
    outpost: str

    @abstractmethod
    async def status(self) -> Observation:
        """Look once. ``UNSEEN`` when its place cannot be asked; never raises for that."""

    @abstractmethod
    def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        """Yield the events after number ``after``, each once and in order.

        ``offset`` is the byte behind event ``after`` (0: unknown, read from the start and skip).
        Without ``follow`` it ends with the log as it is now; with it, after the ``result`` or once
        the worker is proven dead. Raises ``OutpostFault`` if the log cannot be read.
        """

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Put a message in the worker's mailbox; delivered once the runner reads it."""

    @abstractmethod
    async def stop(self, *, grace_s: float, reason: str) -> None:
        """End the worker: SIGINT, SIGTERM, then kill the whole tree, within about ``grace_s``.

        Work is committed and pushed by the runner on its way out. Idempotent; returns once the
        worker has ended.
        """

    @abstractmethod
    async def recover(self, environment: Environment) -> bool:
        """Finish for a runner that died: kill what it left, save the work, write the result.

        Returns whether the log now ends with a result. Does nothing to a living worker.
        ``environment`` is what git needs to push.
        """

    async def carry(self, parcel: Parcel, environment: Environment) -> Carried:
        """Push from here what its place may not push itself; ``environment`` is what git needs.

        Only after a result or a checkpoint that says ``relay``. Idempotent. Raises
        ``OutpostFault`` where the place, or what is there, cannot be had.
        """
        raise Unsupported(f"workers on {self.outpost} push by themselves")

    async def transcript(self, session_id: str, environment: Environment) -> bytes | None:
        """Return its agent's conversation, for a runner elsewhere to go on in; ``None``: none.

        There is none to be had from an agent that cannot hand it on, or where it is too large.
        ``environment`` is what the agent has. Raises ``OutpostFault`` for a place out of reach.
        """
        return None

    @abstractmethod
    async def unsaved(self) -> str:
        """Say in a few words what work at its place exists nowhere else; empty if there is none.

        The lines behind the first are the commands that would save it.
        """

    @abstractmethod
    async def diff(self, options: Sequence[str]) -> bytes | None:
        """Return what its workspace holds that its base does not, as a patch; writes nothing.

        ``options`` are git's for a diff. ``None`` where there is no workspace (any more).
        """

    @abstractmethod
    async def attach(self) -> Sequence[str]:
        """Return the argv to exec in the user's terminal, as soon as there is a view to show.

        Raises ``Unsupported``, or ``OutpostFault`` where the view does not come or was lost.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What an outpost is given besides its options: all it may know of the federation.

    ``data_folder`` is the federation's own folder on this machine, ``environment`` our variables,
    ``max_workers`` how many workers it may be asked for at once (``None``: there is no limit).
    ``price`` puts the configuration's price in the place of the outpost's own, and
    ``allow_unpriced`` says whether it is used where that is not known either: both for what is
    said of costs, as ``quote`` is priced by whoever asks for it.
    """

    name: str
    federation_id: str
    data_folder: str
    environment: Mapping[str, str]
    max_workers: int | None = None
    price: Callable[[Quote], Quote] = lambda quote: quote
    allow_unpriced: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Greeting:
    """What there is to be said, and agreed to, before an outpost is used for the first time.

    A yes to ``question`` (empty: the user has agreed already) adds ``options`` to the outpost's
    entry. ``hint`` is what to type where there is nobody to ask.
    """

    lines: tuple[str, ...]
    question: str
    options: Mapping[str, str]
    hint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What has to change at an outpost's provider before it can take work as configured.

    ``changes`` are lines for people that begin with ``+`` (comes), ``~`` (changes) or ``-``
    (goes), with secrets by reference only; none: all is as it should be. ``notes`` are what else
    there is to know, such as what it costs. ``data`` is what the outpost carries it out by.
    """

    outpost: str
    changes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tended:
    """A worker that lives, as an outpost is told of it from time to time.

    ``waiting_s`` is for how long it has waited for an answer of a person (``None``: it does not).
    """

    handle: Handle
    waiting_s: float | None = None


class Outpost(ABC):
    """A place that can run workers. Stateless: configured once, knows only what its place tells.

    A backend also has a class attribute ``Options``, the pydantic model of what its ``type`` takes
    in the configuration, and is made as ``Backend(setup, options)``.
    """

    kind: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    name: str

    @abstractmethod
    async def ping(self) -> Health:
        """Say whether work can be taken now; never raises for a place that is down."""

    async def greet(self) -> Greeting | None:
        """Return what the user has to agree to before the first use; ``None``: nothing.

        Raises ``OutpostFault`` where that cannot be found out now, ``Rejected`` where it must not
        be used so.
        """
        return None

    async def plan(self, image: str | None = None, *, adopt: bool = False) -> Plan:
        """Return what ``deploy`` would change at the provider; changes nothing.

        ``image`` is the worker image to run from now on (``None``: the configured one). What is
        there already and not of our federation is taken over only with ``adopt``. Raises
        ``OutpostFault``.
        """
        raise Unsupported(f"{self.name} needs no deployment: outposts of type {self.kind} do not")

    async def deploy(self, plan: Plan, report: Callable[[str], None]) -> Sequence[str]:
        """Carry out a plan, wait until it holds, and return where the outpost answers then.

        ``report`` is told in a few words how far it is. What has changed there since the plan was
        made stays as it is: an ``OutpostFault``. Cancelled, the provider goes on with what it was
        asked for; made again, the plan says what is left to do.
        """
        raise Unsupported(f"{self.name} needs no deployment: outposts of type {self.kind} do not")

    async def lacking(self, programs: Sequence[str]) -> list[str]:
        """Return those of these programs that workers there would not find.

        Raises ``OutpostFault``. By default nothing is known to lack.
        """
        return []

    @abstractmethod
    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        """Start a worker, or attach to the one with that ``worker_id``: idempotent.

        Returns once the worker exists, before the agent runs. Raises ``NotDispatched`` (nothing
        started), ``Ambiguous`` (look with ``find``) or ``Rejected``.
        """

    @abstractmethod
    async def find(self, worker_id: str) -> Handle | None:
        """Return a worker's handle after an ambiguous spawn, ``None`` if it never came to be."""

    @abstractmethod
    def workers(self) -> AsyncIterator[Sighting]:
        """Yield everything of our federation that is there, known to the store or not."""

    @abstractmethod
    def worker(self, handle: Handle) -> Worker:
        """Return the worker behind a handle; no I/O. Raises ``Rejected`` for another's handle."""

    @abstractmethod
    async def destroy(self, handle: Handle) -> None:
        """Remove the worker and all it left, verified gone; kills what still runs. Idempotent.

        Does not ask whether work would be lost: the caller has.
        """

    async def tend(self, workers: Sequence[Tended]) -> None:  # noqa: B027 - most need nothing
        """Do what has to be done from time to time, such as renewing what would run out.

        Called about twice a minute by the controller that looks after the outpost, with all its
        workers that live, where ``capabilities.tended``. What is left undone is done the next
        time. Raises ``OutpostFault``.
        """

    async def metered(self, handle: Handle) -> Metered | None:
        """Return for how long the provider bills an ended worker; ``None``: not known (any more).

        Only asked where ``capabilities.metered``. Raises ``OutpostFault``.
        """
        return None

    async def tidy(self, order: TidyOrder, handles: Sequence[Handle]) -> list[Leftover]:
        """Take away what nobody needs there, and say what went (with ``dry_run``: would go).

        ``order["workers"]`` may have their handles in ``handles``: one that means another place
        stays. Looks itself whether a worker lives or holds unsaved work; such stay, with the
        reason. Raises ``Unsupported`` where there is nothing to tidy, ``OutpostFault``.
        """
        raise Unsupported(f"{self.name} tidies up by itself")

    async def close(self) -> None:  # noqa: B027 - not every outpost keeps something open
        """Let go of connections; whatever runs there runs on. A later call opens them again."""

    @abstractmethod
    def quote(self, task: Task | None) -> Quote:
        """Return what a worker for this task (``None``: for any) costs here; no I/O."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """How a command ended: ``exit_code`` is negative for a signal, as in ``subprocess``."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def complaint(self) -> str:
        """The last line on its standard error: there programs say what they failed at."""
        return self.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]


class Shell(ABC):
    """Running commands and moving bytes at a place; nothing else.

    Commands are argv lists, never strings for a shell to split. Trouble of the connection raises
    ``OSError``; the transport above turns it into an ``OutpostFault``.
    """

    @abstractmethod
    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Completed:
        """Run a command to its end; raises ``TimeoutError`` and kills it after ``timeout_s``."""

    @abstractmethod
    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file whole or not at all (temporary name, rename); makes its folders (0700)."""

    @abstractmethod
    async def get(self, path: str, *, offset: int = 0) -> bytes:
        """Return bytes of a file from ``offset`` (at most 1 MiB); raises ``FileNotFoundError``."""

    async def call(self, path: str, data: bytes, *, timeout_s: float = 30.0) -> bytes:
        """Send bytes to whoever listens on a Unix socket there, and return all of the answer.

        Raises ``OSError`` where nobody listens, or the place has nothing of that kind.
        """
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)

    @abstractmethod
    def stream(self, path: str, *, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield what a growing file holds from ``offset`` on, as it grows, until closed.

        Yields ``b""`` when there was nothing new for a while, so that the caller can look around.
        """


class IssueSource(ABC):
    """Turns one way of naming an issue into an ``Issue``. Entry points ``outpost.sources``."""

    name: ClassVar[str]
    order: ClassVar[int]
    """Sources are asked in rising ``order``: the stricter a source's form, the lower."""

    @abstractmethod
    def recognises(self, reference: str, request: SourceRequest) -> bool:
        """Whether ``reference`` has the form this source reads; no network, no guess."""

    duties: ClassVar[tuple[DutyKind, ...]] = ()
    """What it can be told of a task once that has ended."""

    @abstractmethod
    async def fetch(self, reference: str, request: SourceRequest) -> Issue:
        """Return the issue. Raises ``IssueError`` when it is absent, ambiguous or malformed."""

    async def claim(  # noqa: B027 - not every source knows claims
        self, task: Task, request: SourceRequest, *, predecessor: str | None
    ) -> None:
        """Take the task's issue, so that nobody else works on it; what is its own already stays.

        ``predecessor`` is the task whose claim it may take over. Raises ``IssueError`` where
        somebody else has the issue. Does nothing for a source without claims.
        """

    async def tell(self, kind: DutyKind, report: Report, request: SourceRequest) -> str:
        """Carry out one of ``duties``; return in a few words what was done.

        It may have been carried out before, or half: the outcome is the same. Raises
        ``DutyError``, and ``DutyDelayed`` where it is worth trying again.
        """
        raise DutyError(f"the source '{self.name}' cannot be told: {kind}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What became of a task. ``attempt`` is ``None`` for one taken back before any.

    ``redact`` takes secrets out of a text; whatever leaves for elsewhere has gone through it.
    """

    task: Task
    attempt: Attempt | None
    redact: Callable[[str], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRequest:
    """What a source may look at besides the reference: folder, environment, stdin, options."""

    directory: str
    environment: Mapping[str, str]
    options: Mapping[str, object]
    read_stdin: bool = True

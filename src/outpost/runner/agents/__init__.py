"""The coding programs a runner can run: one file each, named as in the work order.

A module here defines ``AGENT``, a subclass of ``Agent``, and its name stands in ``NAMES``; that is
all it takes to add one.
"""

from __future__ import annotations

import importlib

NAMES = ("acp", "builtin", "claude", "codex", "command", "gemini")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from outpost.wire.orders import WorkOrder

    Emission = tuple[str, dict[str, Any]]


class AgentUnavailable(Exception):
    """The agent cannot be started as ordered; the text says why and what to do."""


class Ending:
    """How one run of the program ended: ``outcome`` is done or failed, ``reason`` one line.

    ``retry_in_s`` says that the model's API was busy (rate limit, overload) and that it is worth
    going on after so many seconds; ``None``: it is not.
    """

    __slots__ = ("outcome", "reason", "retry_in_s", "summary")

    def __init__(
        self, outcome: str, reason: str = "", summary: str = "", retry_in_s: float | None = None
    ) -> None:
        self.outcome = outcome
        self.reason = reason
        self.summary = summary
        self.retry_in_s = retry_in_s


class Agent:
    """How to start one coding program, how to read what it prints, and how to talk to it.

    ``directory`` is the worker's private folder (0700), outside the repository; ``task_file`` in
    it holds the prompt. The runner starts ``argv()`` in the workspace, in a process group of its
    own, with an allowlisted environment plus ``environment()``, writes ``opening()`` to its
    standard input, hands each line of standard output to ``read_line`` and, at the end, asks
    ``finish``. Standard error goes to the log as it is.

    A program that can be talked to while it runs (``two_way``) has its standard input kept open:
    what lies in ``outgoing`` is written to it after each call of a method here, and it is closed
    once the program is ``idle`` and nobody has said more.
    What is said to any other program waits until its run has ended; then ``go_on`` prepares
    another.

    An agent asks a human with the event ``question`` (``question_id``, ``kind`` permission or
    question, ``text``, ``options``); ``answer`` gets what was said.
    """

    variables: tuple[str, ...] = ()
    """Names of our variables that the program needs; a name ending in ``*`` is a prefix."""
    two_way: bool = False

    def __init__(self, order: WorkOrder, directory: str, task_file: str) -> None:
        self.order = order
        self.directory = directory
        self.task_file = task_file
        self.given: Mapping[str, str] = {}  # our variables that the program gets
        self.outgoing = bytearray()
        self._idle = False

    @property
    def idle(self) -> bool:
        """Whether the program waits for nothing but more to do."""
        return self._idle

    def argv(self) -> list[str]:
        """Return the command; raises ``AgentUnavailable``."""
        raise NotImplementedError

    def screen_argv(self) -> list[str]:
        """Return the command of the program's own full-screen face, which a human works with.

        Raises ``AgentUnavailable`` for a program that has none.
        """
        raise AgentUnavailable(
            f"the agent '{self.order['agent']['name']}' has no screen of its own"
        )

    def environment(self) -> dict[str, str]:
        """Return variables to add to the allowlisted environment."""
        return {}

    def opening(self) -> bytes:
        """Return what the program first reads on standard input."""
        return self.order["prompt"].encode()

    def read_line(self, line: bytes) -> list[Emission]:
        """Return the events, as (type, fields), that one line of standard output stands for."""
        return [("log", {"stream": "stdout", "text": line.decode("utf-8", "replace")})]

    def say(self, text: str) -> None:
        """Tell the running program something (``two_way`` only); it is not ``idle`` then."""
        raise NotImplementedError

    def tick(self) -> None:
        """Note that time passes; called all the time while the program runs."""

    def answer(self, question_id: str, text: str) -> list[Emission]:
        """Answer a question of the running program; returns events that tell what it led to."""
        raise NotImplementedError

    def go_on(self, text: str) -> bool:
        """Prepare another run that goes on with the same conversation, with ``text``.

        ``argv``, ``opening`` and ``read_line`` then mean that run. ``False``: it cannot.
        """
        return False

    def transcript(self, session_id: str) -> str:
        """Return the file that holds a conversation had here; empty: none can be handed on."""
        return ""

    def adopt(self, session_id: str, transcript: bytes) -> bool:
        """Take up a conversation from another place: an order may ``resume`` it from now on.

        ``False``: it cannot, and nothing was done. Raises ``OSError``.
        """
        return False

    def last_words(self) -> list[Emission]:
        """Return the events that only the end of a run brings to light, before ``finish``."""
        return []

    def missing(self) -> str:
        """Say what to do where the program of ``argv`` is not there."""
        return f"cannot find the program '{self.argv()[0]}': install it there or give its path"

    def finish(self, exit_code: int) -> Ending:
        """Say how the run ended; ``exit_code`` is negative for a signal."""
        return self.closed(exit_code)

    def closed(self, exit_code: int) -> Ending:
        """Say how a program ended of which nothing but its exit code is known."""
        if exit_code == 0:
            return Ending("done")
        how = f"exited {exit_code}" if exit_code > 0 else f"was killed by signal {-exit_code}"
        return Ending("failed", f"the agent {how}")


def load(name: str) -> type[Agent]:
    """Return the class of the agent ``name``; raises ``AgentUnavailable`` if there is none."""
    if name not in NAMES:
        raise AgentUnavailable(f"this runner knows no agent '{name}'")
    module = importlib.import_module(f"outpost.runner.agents.{name}")
    agent: type[Agent] = module.AGENT
    return agent

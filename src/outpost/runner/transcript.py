"""An agent's conversation on its way to another place: printed at one, gone on in at the other."""

from __future__ import annotations

import os
import re
import stat
import sys
import zlib

from outpost.runner.agents import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.runner.agents import Agent
    from outpost.runner.place import Place
    from outpost.wire.orders import Environment, Resume, WorkOrder

FILE = "transcript"
"""Beside the order, as it was printed."""
ABSENT = 3
"""The exit code where there is none that could be carried."""
MOST_BYTES = 32 << 20
_SESSION = re.compile(r"[A-Za-z0-9][\w-]{0,99}", re.ASCII)  # it becomes part of paths


def is_name(session_id: str) -> bool:
    """Whether this can be a session's id: it comes from a log that an agent may have written to."""
    return bool(_SESSION.fullmatch(session_id))


def print_transcript(place: Place, session_id: str, environment: Environment) -> int:
    """Write a conversation of a worker's agent to standard output, compressed; the exit code."""
    agent = _agent(place, place.order(), environment)
    path = agent.transcript(session_id) if is_name(session_id) else ""
    data = _read(path) if path else b""
    if not 0 < len(data) <= MOST_BYTES:
        return ABSENT
    sys.stdout.buffer.write(zlib.compress(data))
    return 0


def gone_on_in(place: Place, order: WorkOrder, environment: Environment) -> WorkOrder:
    """Return the order for an agent that goes on in the conversation that came with it.

    It is the same order where none came, or the agent cannot go on in it.
    """
    carried = order.get("transcript")
    if carried is None or not is_name(carried["session_id"]):
        return order
    try:
        data = zlib.decompressobj().decompress(_read(place.path(FILE)), MOST_BYTES)
        if not _agent(place, order, environment).adopt(carried["session_id"], data):
            return order
    except (OSError, zlib.error):
        return order
    # What it has cost the program itself must say: a run that was killed may not be counted.
    resume: Resume = {
        "worker_id": place.worker_id,
        "session_id": carried["session_id"],
        "cost_microusd": None,
        "tree": place.worker_id,
    }
    return {**order, "prompt": carried["prompt"], "resume": resume}


def _agent(place: Place, order: WorkOrder, environment: Environment) -> Agent:
    agent = load(order["agent"]["name"])(order, place.directory, place.path("task.md"))
    agent.given = environment["agent"]
    return agent


def _read(path: str) -> bytes:
    """Return what a file holds, but for what is too much; nothing of what leads elsewhere.

    It lies where an agent could have put a link to what it may not read itself.
    """
    try:
        with open(path, "rb", opener=_exactly) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return file.read(MOST_BYTES + 1) if regular else b""
    except OSError:
        return b""


def _exactly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

"""Which of our variables a worker gets: an allowlist, and nothing else.

Whatever an agent's shell can see, the agent can print. Names ending in ``*`` are prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from outpost.transports.variables import GIT_WAYS, SYSTEM, picked
from outpost.wire.orders import Environment


def worker_environment(
    ours: Mapping[str, str], *, agent_variables: Iterable[str], extra: Iterable[str]
) -> Environment:
    """Return the variables for the agent and for git, out of ours.

    ``agent_variables`` are what the agent's program needs, ``extra`` what the user lets through.
    """
    return {
        "agent": picked(ours, (*SYSTEM, *agent_variables, *extra)),
        "git": picked(ours, (*SYSTEM, *GIT_WAYS, "GIT_CONFIG_*")),
    }

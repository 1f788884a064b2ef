"""The program behind the agent ``acp``: between the runner's lines and the Agent Client Protocol.

It speaks as ``outpost.runner.agents.native`` says and is the only part of the runner that needs
the library ``agent-client-protocol``. It starts the agent in the workspace, with a session (and so
a process group) of its own: a stop then reaches this program first, which asks the agent to cancel
before it ends it.
"""

from __future__ import annotations

import signal
import sys

from outpost.runner.acp.output import tell_end
from outpost.runner.agents import Ending
from outpost.runner.place import Place


def main(directory: str) -> int:
    """Run the agent of the order in ``directory``; returns 0 if its work is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # while nothing runs yet that needs more care
    try:
        import acp  # noqa: F401, PLC0415 - this is where its absence can be told
    except ImportError as exc:
        ending = Ending(
            "failed",
            f"{sys.executable} lacks what the agent 'acp' needs ({exc}): "
            "pip install '.[acp]' for it, in a checkout of outpost, or name another Python as the "
            "agent's executable",
        )
    else:
        from outpost.runner.acp.program import run  # noqa: PLC0415 - needs the library

        ending = run(Place(directory).order(), directory)
    tell_end(ending)
    return 0 if ending.outcome == "done" else 1

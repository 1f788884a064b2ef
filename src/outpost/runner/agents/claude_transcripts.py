"""Where Claude Code keeps its conversations: a file each, in a folder for each workspace.

``--resume ID`` looks into the folder whose name is made from the workspace's path, and (2.1,
November 2026) then into all others. What the session has cost is in the file, but for a run that
was killed.
"""

from __future__ import annotations

import glob
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_CHARS = 200  # the program shortens longer names in a way of its own


def newest(environment: Mapping[str, str], session_id: str) -> str:
    """Return the file of a conversation, empty if there is none.

    Outposts of one machine may have a home together, and so a file each.
    """
    projects = glob.escape(_projects(environment))
    found = glob.glob(os.path.join(projects, "*", f"{session_id}.jsonl"))
    return max(found, key=os.path.getmtime, default="")


def put(environment: Mapping[str, str], tree: str, session_id: str, transcript: bytes) -> bool:
    """Put a conversation where the program looks for those held in ``tree``; whether it could.

    Whoever was killed may have left half a line: the next one must not become part of it.
    """
    whole = transcript[: transcript.rfind(b"\n") + 1]
    name = re.sub("[^a-zA-Z0-9]", "-", os.path.realpath(tree))
    if not whole or len(name) > NAME_CHARS:
        return False
    folder = os.path.join(_projects(environment), name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"{session_id}.jsonl")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(whole)
    return True


def _projects(environment: Mapping[str, str]) -> str:
    home = environment.get("HOME") or os.path.expanduser("~")
    own = environment.get("CLAUDE_CONFIG_DIR") or os.path.join(home, ".claude")
    return os.path.join(own, "projects")

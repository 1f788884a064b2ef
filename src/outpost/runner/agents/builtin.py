"""The agent ``builtin``: our own loop on Anthropic's Messages API (``outpost.runner.builtin``)."""

from __future__ import annotations

import os

from outpost.runner.agents.native import NativeAgent
from outpost.runner.builtin.trajectory import EARLIER, FILE, is_whole


class BuiltinAgent(NativeAgent):
    """Runs our own program; it says itself what it lacks."""

    name = "builtin"
    variables = ("ANTHROPIC_*",)

    def transcript(self, session_id: str) -> str:
        return os.path.join(self.directory, FILE)

    def adopt(self, session_id: str, transcript: bytes) -> bool:
        if not is_whole(transcript):
            return False
        path = os.path.join(self.directory, EARLIER)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(transcript)
        return True


AGENT = BuiltinAgent

"""What is said of an outpost that did not do what it was asked, where several were asked."""

from __future__ import annotations

import re

from outpost.cli.failures import say
from outpost.errors import OutpostError


def complain(outpost: str, problem: OutpostError) -> None:
    """Say on standard error which outpost has which problem, and what to type next."""
    say("error", told_by(outpost, problem.message), "31")
    if problem.hint:
        say("hint", problem.hint, "36")


def told_by(outpost: str, text: str) -> str:
    """Return what an outpost said, with its name in front unless it stands in there."""
    if not text.strip():
        return f"{outpost}: it said nothing"
    is_named = re.search(rf"(?<![\w.-]){re.escape(outpost)}(?![\w-])", text)
    return text if is_named else f"{outpost}: {text}"

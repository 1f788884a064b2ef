"""How a task ended, in two lines or three."""

from __future__ import annotations

from collections.abc import Iterable

from outpost.cli.failures import colourful
from outpost.cli.following import undone
from outpost.cli.lines import fitted
from outpost.cli.phrases import dollars, one_line, span
from outpost.model import Attempt, Duty, State

_COLOURS = {State.DONE: "32", State.STOPPED: "35"}
_MARKS = {State.DONE: "✓", State.STOPPED: "■"}
_RED = "31"
KEPT_ELSEWHERE = ("bundle", "workspace", "mirror")
"""How work is kept that did not reach the remote."""


def outcome(attempt: Attempt, duties: Iterable[Duty] = ()) -> str:
    """Return what became of a worker: its end, and below it where its work is or why not.

    Of ``duties``, what follows its task, those that are not done say why.
    """
    mark = _MARKS.get(attempt.state, "✗")
    state = f"{mark} {attempt.state}"
    if colourful(1):
        state = f"\x1b[{_COLOURS.get(attempt.state, _RED)}m{state}\x1b[0m"
    first = f"{state} {attempt.id}  {one_line(attempt.issue_id)}"
    if attempt.started_at and attempt.ended_at:
        first += f"  after {span((attempt.ended_at - attempt.started_at).total_seconds())}"
    if attempt.usage.cost_microusd is not None:
        first += f", {dollars(attempt.usage.cost_microusd)}"
    details = [fitted(line, 1, 2) for line in [*_details(attempt), *undone(duties)]]
    return "\n  ".join([first, *details])


def _details(attempt: Attempt) -> list[str]:
    details = []
    if attempt.reason:
        details.append(one_line(attempt.reason))
    if attempt.commit:
        details.append(f"{attempt.branch} at {attempt.commit[:10]}")
    if attempt.kept_how in KEPT_ELSEWHERE:
        details.append(f"work kept in {attempt.kept_where}")
    if attempt.pr_url:
        details.append(attempt.pr_url)
    return details

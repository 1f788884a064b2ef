"""``outpost doctor --conformance``: what comes of each check, as it comes, and the sum."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outpost.cli.documents import Document
from outpost.cli.failures import colourful, say
from outpost.cli.lines import fitted
from outpost.cli.options import run
from outpost.wire.render import harmless

if TYPE_CHECKING:
    from outpost.federation import Federation
    from outpost.testing import Result

_COLOURS = {"passed": "32", "failed": "31", "skipped": "33"}
_WIDTH = max(map(len, _COLOURS))


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Which outpost is checked: on which repository (``None``: a sample), the long ones too?"""

    outpost: str
    repo_url: str | None
    slow: bool


def carry_out(config: str | None, asked: Asked, *, quiet: bool) -> list[Result]:
    """Carry the checks out and return what came of each; unless ``quiet`` print it as it comes.

    Interrupted, it takes its workers away first.
    """

    async def work(federation: Federation) -> list[Result]:
        _end_well()
        return await federation.conformance(
            asked.outpost,
            repo_url=asked.repo_url,
            slow=asked.slow,
            report=None if quiet else _print,
        )

    try:
        return run(config, work, read_only=True)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def summary(results: Sequence[Result]) -> str:
    """Return how many checks ended how, and how long they took."""
    counts = Counter(result.outcome.value for result in results)
    named = [f"{counts[word]} {word}" for word in _COLOURS if counts[word]]
    return f"{', '.join(named)} in {sum(result.seconds for result in results):.0f} s."


def document(outpost: str, results: Sequence[Result], *, ok: bool) -> Document:
    """Return what ``--json`` prints."""
    return {
        "ok": ok,
        "outpost": outpost,
        "checks": [
            {
                "name": result.name,
                "contract": result.contract,
                "outcome": result.outcome.value,
                "seconds": round(result.seconds, 3),
                "reason": result.reason,
                "detail": result.detail,
            }
            for result in results
        ],
    }


def _print(result: Result) -> None:
    word, indent = result.outcome.value.ljust(_WIDTH), _WIDTH + 2
    mark = f"\x1b[{_COLOURS[result.outcome]}m{word}\x1b[0m" if colourful(1) else word
    name = result.name.replace("_", " ")
    rest = f": {result.reason}" if result.reason else f"  {result.seconds:.1f} s"
    lines = [f"{mark}  {fitted(harmless(name + rest), 1, indent)}"]
    lines += [f"{' ' * indent}{line}" for line in harmless(result.detail).splitlines()]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _end_well() -> None:
    """Cancel this task at the first signal to end, so that no worker stays; the next one kills."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        say("note", "taking its workers away; once more leaves them where they are", "33")
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, end)

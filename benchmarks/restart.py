"""How long a controller that was killed takes until it knows all its workers again.

Run as ``python -m benchmarks.restart``; exits 1 where a limit does not hold. While no controller
runs the workers go on talking: one counts as found again once the store has every line that it had
written by the moment the next controller was started.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.board import Board
from benchmarks.checks import Check, main
from benchmarks.controllers import Up, use_of
from benchmarks.puppets import SPARE_LINES, Puppets, employ
from benchmarks.sample import Sandbox
from benchmarks.watching import Watcher, watch_until

LIMITS_S = {1000: 10.0}
WITHIN_S = 120.0
MOST_TALK_S = 3 * WITHIN_S


async def measure(options: argparse.Namespace) -> list[Check]:
    """Kill a controller with each of these numbers of workers, and start the next one."""
    checks: list[Check] = []
    with Sandbox() as sandbox:
        most = max(options.workers)
        many = f"outposts: [{{name: local, type: local, max_workers: {most}}}]\n"
        sandbox.config.write_text(many)
        for count in options.workers:
            checks += await _with(sandbox, count, options)
    return checks


async def _with(sandbox: Sandbox, count: int, options: argparse.Namespace) -> list[Check]:
    name = f"home-{count}"
    async with sandbox.federation(name) as federation:
        names = await employ(federation, count)
    home = sandbox.home(name)
    lines = round(options.rate * MOST_TALK_S) + SPARE_LINES
    board = sandbox.folder / f"board-{count}"
    puppets = Puppets(home / "outposts" / "local", board, lines=lines, rate=options.rate)
    watcher = Watcher(home / "outpost.db", names, Board(board, count, lines))
    up = Up(sandbox.environment(name), home / "up.log")
    try:
        up.start()
        first = watcher.written()
        watch_until(watcher, lambda: not watcher.behind(first), WITHIN_S, "they are attached")
        puppets.talk()
        return _rows(count, [_again(up, watcher, options.down) for _ in range(options.runs)])
    finally:
        puppets.leave()
        up.leave()
        watcher.close()


def _again(up: Up, watcher: Watcher, down_s: float) -> tuple[float, int, float]:
    """Kill and start; return the seconds until all are attached, lines missed, CPU seconds."""
    up.kill()
    watcher.look()
    seen = sum(watcher.seen)
    time.sleep(down_s)
    written = watcher.written()
    up.start()
    took_s = watch_until(watcher, lambda: not watcher.behind(written), WITHIN_S, "all attached")
    return took_s, sum(written) - seen, use_of(up.pid).cpu_s


def _rows(count: int, runs: list[tuple[float, int, float]]) -> list[Check]:
    took_s, missed, cpu_s = (max(column) for column in zip(*runs, strict=True))
    what = f"{count:,} workers attached again, slowest of {len(runs)}"
    return [
        Check(what=what, figure=took_s, unit="s", at_most=LIMITS_S.get(count)),
        Check(what="- CPU until then", figure=cpu_s, unit="s"),
        Check(what="- lines written meanwhile", figure=missed),
    ]


def arguments() -> argparse.ArgumentParser:
    """Return the options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rate", type=float, default=1, help="lines a second of each worker")
    parser.add_argument("--down", type=float, default=5, help="seconds without a controller")
    parser.add_argument("--runs", type=int, default=3)
    return parser


if __name__ == "__main__":
    main(measure, arguments())

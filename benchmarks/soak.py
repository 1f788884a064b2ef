"""What a controller uses, and how far its store lags behind, while many workers talk all the time.

Run as ``python -m benchmarks.soak``; ``--seconds 60`` for a quick look. Exits 1 where a limit does
not hold.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.board import Board
from benchmarks.checks import Check, main
from benchmarks.controllers import Up, Use, use_of
from benchmarks.puppets import SPARE_LINES, Puppets, employ
from benchmarks.sample import Sandbox
from benchmarks.watching import LOOK_S, Watcher, percentiles_ms, watch_until

CORES, MEMORY_MB, LAG_MS = 1.0, 300.0, 250.0
GROWTH_MB, GROWTH_DESCRIPTORS = 10.0, 8
ATTACH_S, END_S = 120.0, 120.0
SAMPLE_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Soaked:
    """What a run showed. ``uses`` are the samples of the controller, one a second."""

    attach_s: float
    uses: Sequence[Use]
    lag_ms: Mapping[int, float]
    lines: int
    catch_up_s: float
    end_s: float
    machine_percent: float


async def measure(options: argparse.Namespace) -> list[Check]:
    """Let all workers talk for the seconds asked for, beside one controller."""
    with Sandbox() as sandbox:
        many = f"outposts: [{{name: local, type: local, max_workers: {options.workers}}}]\n"
        sandbox.config.write_text(many)
        async with sandbox.federation() as federation:
            names = await employ(federation, options.workers)
        home = sandbox.home()
        lines = round(options.rate * options.seconds * 1.2) + SPARE_LINES
        board = sandbox.folder / "board"
        puppets = Puppets(home / "outposts" / "local", board, lines=lines, rate=options.rate)
        watcher = Watcher(home / "outpost.db", names, Board(board, options.workers, lines))
        up = Up(sandbox.environment(), home / "up.log")
        try:
            soaked = _soak(puppets, up, watcher, options.seconds)
        finally:
            puppets.leave()
            up.leave()
            watcher.close()
        return [*_checks(soaked, options.most_cores), *_of_store(home)]


def _soak(puppets: Puppets, up: Up, watcher: Watcher, seconds: float) -> Soaked:
    begun_s = time.monotonic()
    up.start()
    first = watcher.written()
    watch_until(watcher, lambda: not watcher.behind(first), ATTACH_S, "they are attached")
    attach_s = time.monotonic() - begun_s
    watcher.forget_lags()
    psutil.cpu_percent()
    puppets.talk()
    uses = _sample(up, watcher, seconds)
    written = watcher.written()
    machine_percent = psutil.cpu_percent()
    catch_up_s = watch_until(watcher, lambda: not watcher.behind(written), END_S, "all is stored")
    lag_ms = percentiles_ms(watcher.lags_s, (50, 95, 99, 100))
    puppets.end()
    end_s = watch_until(
        watcher, lambda: watcher.ended() == len(written), END_S, "all of them are done"
    )
    return Soaked(
        attach_s=attach_s,
        uses=uses,
        lag_ms=lag_ms,
        lines=sum(written) - sum(first),
        catch_up_s=catch_up_s,
        end_s=end_s,
        machine_percent=machine_percent,
    )


def _sample(up: Up, watcher: Watcher, seconds: float) -> list[Use]:
    uses = [use_of(up.pid)]
    while (now_s := time.monotonic()) < uses[0].at_s + seconds:
        watcher.look()
        if now_s >= uses[-1].at_s + SAMPLE_S:
            uses.append(use_of(up.pid))
        time.sleep(LOOK_S)
    return [*uses, use_of(up.pid)]


def _checks(soaked: Soaked, most_cores: float) -> list[Check]:
    uses = soaked.uses
    quarter = max(len(uses) // 4, 1)
    memory = [use.memory_mb for use in uses]
    descriptors = [use.descriptors for use in uses]
    took_s = uses[-1].at_s - uses[0].at_s
    lag = soaked.lag_ms
    cores = (uses[-1].cpu_s - uses[0].cpu_s) / took_s
    return [
        Check(what="controller's CPU", figure=cores, unit="cores", at_most=most_cores),
        Check(what="- in its busiest second", figure=_busiest(uses), unit="cores"),
        Check(what="memory, most", figure=max(memory), unit="MB", at_most=MEMORY_MB),
        Check(what="- median of the first quarter", figure=_median(memory[:quarter]), unit="MB"),
        Check(
            what="- last quarter against the first",
            figure=_median(memory[-quarter:]) - _median(memory[:quarter]),
            unit="MB more",
            at_most=GROWTH_MB,
        ),
        Check(what="descriptors, most", figure=max(descriptors)),
        Check(
            what="- last quarter against the first",
            figure=_median(descriptors[-quarter:]) - _median(descriptors[:quarter]),
            unit="more",
            at_most=GROWTH_DESCRIPTORS,
        ),
        Check(what="threads, most", figure=max(use.threads for use in uses)),
        Check(what="lag, p50", figure=lag[50], unit="ms"),
        Check(what="- p95", figure=lag[95], unit="ms"),
        Check(what="- p99", figure=lag[99], unit="ms", at_most=LAG_MS),
        Check(what="- most", figure=lag[100], unit="ms"),
        Check(what="lines written", figure=soaked.lines),
        Check(what="- a second", figure=soaked.lines / took_s),
        Check(what="all attached, from the controller's start", figure=soaked.attach_s, unit="s"),
        Check(what="all stored, from the last line", figure=soaked.catch_up_s, unit="s"),
        Check(what="all done, from their results", figure=soaked.end_s, unit="s"),
        Check(what="the whole machine", figure=soaked.machine_percent, unit="% busy"),
    ]


def _busiest(uses: Sequence[Use]) -> float:
    whole = [(a, b) for a, b in pairwise(uses) if b.at_s - a.at_s > SAMPLE_S / 2]
    return max((b.cpu_s - a.cpu_s) / (b.at_s - a.at_s) for a, b in whole)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _of_store(home: Path) -> list[Check]:
    files = [home / f"outpost.db{suffix}" for suffix in ("", "-wal")]
    size = sum(file.stat().st_size for file in files if file.exists())
    return [Check(what="size of the store", figure=size / 1e6, unit="MB")]


def arguments() -> argparse.ArgumentParser:
    """Return the options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--rate", type=float, default=10, help="lines a second of each worker")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--most-cores", type=float, default=CORES, help="limit of its CPU")
    return parser


if __name__ == "__main__":
    main(measure, arguments())

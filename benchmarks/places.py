"""Starts at ``fly`` and ``e2b``: what is ours of them, how they keep to rates, three ways to come.

Run as ``python -m benchmarks.places``. The providers are stand-ins in a process of their own, their
machines real processes here. The floor of a start are bare calls of the same libraries to the same
stand-in. Exits 1 where a limit does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from benchmarks.checks import Check, main
from benchmarks.controllers import use_of
from benchmarks.figures import MS, NotMeasured
from benchmarks.places_floor import FLOORS, Floor
from benchmarks.places_site import KINDS, OUTPOST, Pace, Site, pace_of
from benchmarks.sample import Sandbox
from benchmarks.watching import percentiles_ms
from outpost import Federation, OutpostError, SpawnedWorker, SpawnOptions
from outpost.control.environment import worker_environment

OVERHEAD_MS = 50.0
RATE_RATIO = 1.1
STAGGER_S = 0.2
PATIENCE_S = 300.0
QUIET_S = 0.1
"""So that the worker before does not count: it takes its time to leave."""
ISSUE = "text:Say something"
MODES = ("sequential", "staggered", "burst")


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A start: when it was called for (``perf_counter``), and when its first event was read."""

    worker: SpawnedWorker
    began: float
    spoke: float

    @property
    def took_s(self) -> float:
        return self.spoke - self.began


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A federation with one outpost, whose provider is a stand-in."""

    federation: Federation
    site: Site
    sandbox: Sandbox

    async def start(self) -> Started:
        """Start a worker and read its first event. Raises ``OutpostError``."""
        # It fails, so that its workspace stays: deleting slows down what comes next.
        options = SpawnOptions(repo=str(self.sandbox.remote), argv=("false",), on=OUTPOST)
        began = time.perf_counter()
        worker = await self.federation.spawn(ISSUE, options)
        async with contextlib.aclosing(worker.events()) as events:
            await anext(events)
        return Started(worker=worker, began=began, spoke=time.perf_counter())

    def floor(self) -> Floor:
        """Return the same by hand, with the order that a worker of ours has got."""
        order = next((self.sandbox.folder / "provider").glob("**/order.json"))
        environment = worker_environment(self.sandbox.environment(), agent_variables=(), extra=())
        return FLOORS[self.site.kind](self.site, json.loads(order.read_text()), environment)


async def measure(options: argparse.Namespace) -> list[Check]:
    """Measure all there is to measure."""
    checks: list[Check] = []
    paces = {kind: pace_of(kind, options.many, options.plan) for kind in options.kinds}
    for kind, pace in paces.items():
        checks += await _overhead(kind, options.runs)
        checks += await _at_rate(kind, pace, options.many)
        for mode in MODES:
            checks += await _mode(kind, mode, options.many)
    return checks


async def _overhead(kind: str, runs: int) -> list[Check]:
    """Compare alone, in turn."""
    async with _place(kind) as place:
        # The first one loads what is needed, and its order is the floor's.
        await _ended(await place.start())
        floor = place.floor()
        try:
            await floor.run()
            ours_s, floor_s = [], []
            for _ in range(runs):
                await asyncio.sleep(QUIET_S)
                started = await place.start()
                ours_s.append(started.took_s)
                await _ended(started)
                await asyncio.sleep(QUIET_S)
                floor_s.append(await floor.run())
        finally:
            await floor.close()
    ours_ms, floor_ms = statistics.median(ours_s) * MS, statistics.median(floor_s) * MS
    return [
        Check(what=f"{kind}: start to first event", figure=ours_ms, unit="ms"),
        Check(what="- the same by hand", figure=floor_ms, unit="ms"),
        Check(what="- ours of it", figure=ours_ms - floor_ms, unit="ms", at_most=OVERHEAD_MS),
    ]


async def _at_rate(kind: str, pace: Pace, many: int) -> list[Check]:
    """Start all at once where the provider lets in so many a second."""
    async with _place(kind, pace) as place:
        alone = await place.start()
        await _ended(alone)
        await alone.worker.remove(force=True)
        # By then the provider lets in as many as after any other rest.
        await asyncio.sleep(pace.burst / pace.per_s)
        before = place.site.refused()
        began = time.perf_counter()
        started = await asyncio.gather(*(_tried(place) for _ in range(many)))
        refused = place.site.refused() - before
    there = [it for it in started if it]
    took_s = max(it.spoke for it in _some(there, kind)) - began
    # The last of them may begin then, and takes as long as any other.
    allowed_s = max(many - pace.burst, 0) / pace.per_s + alone.took_s
    return [
        Check(what=f"{kind}: {many} starts at {pace.per_s:g} a second", figure=took_s, unit="s"),
        Check(what="- what the rate allows", figure=allowed_s, unit="s"),
        Check(what="- ratio", figure=took_s / allowed_s, at_most=RATE_RATIO),
        Check(what="- requests refused for their rate", figure=refused),
        Check(what="- failed", figure=many - len(there), at_most=0),
    ]


async def _mode(kind: str, mode: str, many: int) -> list[Check]:
    """Start so many, one after the other, one each 200 ms, or all at once, at any rate."""
    async with _place(kind) as place:
        await _ended(await place.start())
        before = use_of(os.getpid())
        started = []
        if mode == "sequential":
            for _ in range(many):
                started.append(await _tried(place, until_ended=True))
        else:
            apart_s = STAGGER_S if mode == "staggered" else 0.0
            coming = (_tried(place, after_s=number * apart_s) for number in range(many))
            started = await asyncio.gather(*coming)
        cpu_s = use_of(os.getpid()).cpu_s - before.cpu_s
    there = [it for it in started if it]
    times_ms = percentiles_ms(array("d", (it.took_s for it in _some(there, kind))), (50, 95, 99))
    return [
        Check(what=f"{kind}, {many} {mode}: p50", figure=times_ms[50], unit="ms"),
        Check(what="- p95", figure=times_ms[95], unit="ms"),
        Check(what="- p99", figure=times_ms[99], unit="ms"),
        Check(what="- CPU of ours, each", figure=cpu_s / many * MS, unit="ms"),
        Check(what="- failed", figure=many - len(there), at_most=0),
    ]


async def _tried(
    place: Place, *, after_s: float = 0.0, until_ended: bool = False
) -> Started | None:
    """Start a worker; ``None`` where that fails, which is said."""
    await asyncio.sleep(after_s)
    try:
        async with asyncio.timeout(PATIENCE_S):
            started = await place.start()
            if until_ended:
                await _ended(started)
    except (OutpostError, TimeoutError, StopAsyncIteration) as exc:
        print(f"failed: {exc!r}", file=sys.stderr)
        return None
    return started


async def _ended(started: Started) -> None:
    await started.worker.result()


def _some(started: Sequence[Started], kind: str) -> Sequence[Started]:
    if not started:
        raise NotMeasured(f"no start at {kind} went well")
    return started


@contextlib.asynccontextmanager
async def _place(kind: str, pace: Pace | None = None) -> AsyncIterator[Place]:
    with Sandbox() as sandbox, Site(kind, sandbox.folder / "provider", pace) as site:
        sandbox.config.write_text(site.entry)
        environment = {**sandbox.environment(), **site.variables, "OUTPOST_CONTROLLER": "off"}
        async with Federation.from_file(
            str(sandbox.config), environment=environment, directory=sandbox.folder
        ) as federation:
            yield Place(federation=federation, site=site, sandbox=sandbox)


def arguments() -> argparse.ArgumentParser:
    """Return the options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--runs", type=int, default=15, help="pairs alone")
    parser.add_argument("--many", type=int, default=20, help="starts of a mode, and at a rate")
    parser.add_argument("--plan", choices=("hobby", "pro"), help="of E2B")
    return parser


if __name__ == "__main__":
    main(measure, arguments())

"""Faults at random while controllers run a federation, and whether all holds that must hold.

Run as ``python -m benchmarks.chaos`` for one controller on SQLite, with ``--postgres`` for three
that share a PostgreSQL server of this benchmark's own. Exits 1 where something does not hold. The
workers are files (``tests.doubles.virtual_outpost``); all else is real: processes, kills, stores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.postgres import cluster, programs

from benchmarks.chaos_audit import (
    CAP_EXCEEDED,
    OPEN_AFTER_END,
    SLOTS_EXCEEDED,
    TWICE_AT_WORK,
    TWICE_DONE,
    UNCHARGED,
    Auditor,
)
from benchmarks.chaos_faults import Trouble
from benchmarks.chaos_world import CAP_USD, ORPHAN_GRACE_S, PAID, SLOTS, ChaosWorld
from benchmarks.checks import Check, main
from benchmarks.figures import NotMeasured
from benchmarks.sample import Sandbox
from outpost.errors import StoreError
from outpost.model import State
from outpost.model.money import MICROUSD

CONTROLLERS = 3
WAITING = 25
"""How many tasks are kept in the queue, so that every slot that is free is fought for."""
LOOK_S, TICK_S = 1.0, 0.05
ORPHANS_S = ORPHAN_GRACE_S + 60.0
QUIET_S = 300.0
MOST_TOLD = 20
_TASKS = "SELECT id, state, reason, agent_argv FROM tasks"
_ASKED = "SELECT DISTINCT task_id FROM attempts WHERE stop_asked != ''"
_BY_COMMAND = ("by outpost cancel", "by outpost stop")
_LATE = """
    SELECT id FROM attempts WHERE state = 'done'
        AND id IN (SELECT attempt_id FROM transitions WHERE before = 'lost')"""
_READ = (
    "SELECT id, outpost, seq FROM attempts WHERE state IN ('done', 'failed', 'stopped') AND seq > 0"
)


@dataclass(slots=True)
class Chaos:
    """One run: a world, what troubles it and what watches it."""

    world: ChaosWorld
    trouble: Trouble
    auditor: Auditor
    chance: random.Random
    added: int = 0
    seen_straying: set[str] = field(default_factory=set)
    strays: set[str] = field(default_factory=set)
    stray_s: float = 0.0

    async def run(self, seconds: float, every_s: float) -> None:
        """Add work, bring faults over it, and look, for so long."""
        for up in self.world.controllers:
            up.start()
        until = time.monotonic() + seconds
        strike_at = look_at = time.monotonic() + 1.0
        while (now := time.monotonic()) < until:
            self.trouble.tick()
            with contextlib.suppress(StoreError):  # one that is paused may hold the store
                if now >= strike_at:
                    strike_at = now + self.chance.expovariate(1 / every_s)
                    await self.trouble.strike()
                if now >= look_at:
                    look_at = now + LOOK_S
                    self.auditor.look()
                    self.seen_straying |= self._strays()
                    await self._fill()
            await asyncio.sleep(TICK_S)

    async def calm_down(self) -> None:
        """Let all faults end, and wait until nothing is left to do."""
        self.world.calm()
        self.trouble.end()
        begun = time.monotonic()
        while self._strays() and time.monotonic() < begun + ORPHANS_S:
            await self._rest()
        self.strays, self.stray_s = self._strays(), time.monotonic() - begun
        while self.auditor.unfinished() and time.monotonic() < begun + QUIET_S:
            await self._rest()

    async def _rest(self) -> None:
        await asyncio.sleep(LOOK_S)
        self.auditor.look()
        for up in self.world.controllers:
            _ = up.pid  # which must go on by itself

    async def _fill(self) -> None:
        for _ in range(await self.world.store.queue_length(), WAITING):
            await self.world.add("chaos", self.added, self.chance)
            self.added += 1

    def _strays(self) -> set[str]:
        """Return the workers that live although the store does not count on them."""
        living = {line["worker_id"] for line in self.world.records.living()}
        return living - self.auditor.at_work()


async def measure(options: argparse.Namespace) -> list[Check]:
    """Trouble one federation for the seconds asked for, then wait for quiet and count."""
    chance = random.Random(options.seed)
    with Sandbox() as sandbox, _store(options.postgres) as url:
        controllers = CONTROLLERS if options.postgres else 1
        world = ChaosWorld(sandbox, url=url, controllers=controllers, long_s=options.long)
        caps = {PAID: round(CAP_USD * MICROUSD)}
        chaos = Chaos(
            world=world,
            trouble=Trouble(world=world, chance=chance),
            auditor=Auditor(url=world.url, slots=SLOTS, caps=caps),
            chance=chance,
        )
        await world.store.federation_id()
        try:
            await chaos.run(options.seconds, options.every)
            await chaos.calm_down()
            return _checks(chaos)
        finally:
            await world.end()
            chaos.auditor.close()


@contextlib.contextmanager
def _store(postgres: bool) -> Iterator[str | None]:
    if not postgres:
        yield None
        return
    folder = programs()
    if folder is None:
        raise NotMeasured("the programs of a PostgreSQL server are not installed")
    with cluster(folder) as server, server.database() as url:
        yield url


def _checks(chaos: Chaos) -> list[Check]:
    happened = chaos.trouble.happened()
    tasks = chaos.auditor.rows(_TASKS)
    states = Counter(str(state) for _, state, _, _ in tasks)
    wrong = _wrong(chaos)
    for line in (it for found in wrong.values() for it in found[:MOST_TOLD]):
        print(line, file=sys.stderr)
    return [
        *(Check(what=f"fault: {kind}", figure=happened[kind]) for kind in sorted(happened)),
        Check(what="faults in all", figure=happened.total()),
        *(Check(what=f"tasks {state}", figure=states[state]) for state in sorted(states)),
        Check(what="workers started", figure=len(chaos.world.records.starts())),
        Check(what="checks of the store", figure=chaos.auditor.looks),
        *(Check(what=f"most {it}", figure=most) for it, most in chaos.auditor.most.items()),
        Check(what="given up, and found done after all", figure=len(chaos.auditor.rows(_LATE))),
        Check(
            what="strays (alive, given up by the store) on the way", figure=len(chaos.seen_straying)
        ),
        Check(what="- gone, once calm, after", figure=chaos.stray_s, unit="s"),
        *(Check(what=what, figure=len(found), at_most=0) for what, found in wrong.items()),
    ]


def _wrong(chaos: Chaos) -> dict[str, list[str]]:
    """Return what must not be and was."""
    auditor = chaos.auditor
    return {
        "tasks lost": _lost(auditor),
        "tasks doubled": auditor.broken(TWICE_AT_WORK, TWICE_DONE),
        "started without an intent": _unintended(chaos),
        "orphans": sorted(chaos.strays),
        "reservations wrong": auditor.broken(OPEN_AFTER_END, UNCHARGED),
        "cap breaches": auditor.broken(CAP_EXCEEDED),
        "slots exceeded": auditor.broken(SLOTS_EXCEEDED),
        "logs not read to their end": _torn(chaos),
        "controllers that gave up": chaos.trouble.given_up,
        "faults of ours in the logs": chaos.world.tracebacks(),
    }


def _lost(auditor: Auditor) -> list[str]:
    """Return the tasks that did not come to the end that was in store for them."""
    asked = {str(row[0]) for row in auditor.rows(_ASKED)}
    lost = []
    for id_, state, reason, argv in auditor.rows(_TASKS):
        fine = {
            State.DONE: True,
            # Nobody tries again what was to stop, whatever became of it before it could.
            State.FAILED: "failed" in json.loads(str(argv)) or id_ in asked,
            State.LOST: id_ in asked,
            State.STOPPED: id_ in asked or reason in _BY_COMMAND,
        }
        if not fine.get(State(str(state)), False):
            history = auditor.history(str(id_))
            lost.append("\n  ".join((f"task {id_} is {state}: {reason}", *history)))
    return lost


def _torn(chaos: Chaos) -> list[str]:
    """Return the workers whose stored position is not behind the last line of their log."""
    torn = []
    for id_, outpost, seq in chaos.auditor.rows(_READ):
        record = chaos.world.records.on(str(outpost), str(id_))
        if record and seq != len(record.told(0)[0]):
            torn.append(f"worker {id_}: {seq} of {len(record.told(0)[0])} lines")
    return torn


def _unintended(chaos: Chaos) -> list[str]:
    known = {str(row[0]) for row in chaos.auditor.rows("SELECT id FROM attempts")}
    starts = chaos.world.records.starts()
    return [str(line) for line in starts if line["worker_id"] not in known]


def arguments() -> argparse.ArgumentParser:
    """Return the options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=1, help="seconds between two faults")
    parser.add_argument("--long", type=float, default=45, help="seconds that long tasks take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="three controllers, one server")
    return parser


if __name__ == "__main__":
    main(measure, arguments())

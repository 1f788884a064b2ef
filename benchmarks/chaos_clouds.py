"""Faults at random while a controller runs tasks on this machine and on stand-ins for providers.

Run as ``python -m benchmarks.chaos_clouds``. The controller is killed again and again, providers
refuse, answers are lost, machines die. Once all is calm each task must be done, once, with its
branch, and nothing may run any more. Runners and agents are real: a few of them fill a machine.
Exits 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.chaos_audit import (
    OPEN_AFTER_END,
    SLOTS_EXCEEDED,
    TWICE_AT_WORK,
    TWICE_DONE,
    UNCHARGED,
    Auditor,
)
from benchmarks.chaos_places import PLACES, SLOTS, Place
from benchmarks.checks import Check, main
from benchmarks.controllers import Up
from benchmarks.sample import Sandbox
from outpost.errors import StoreError
from outpost.model import State

LOOK_S, TICK_S = 1.0, 0.05
AWAY_S = 2.0
QUIET_S = 240.0
STEPS = 6
CONTROLLER = "controller"
_TASKS = "SELECT id, state, reason FROM tasks"
_DONE = "SELECT task_id, branch, outpost FROM attempts WHERE state = 'done'"
_STARTED = "SELECT id FROM attempts WHERE handle IS NOT NULL"
_REST = """\
policy:
  default_preference: [[{names}]]
  burst_after: 0s
  retry: {{max_attempts: 100, initial_backoff: 1s, max_backoff: 3s}}
  circuit_breaker: {{failure_threshold: 4, reset_timeout: 3s}}
budget: {{daily: 1000}}
defaults: {{time_limit: 5m, stop_grace: 2s, token_budget: 0, checkpoint: 1s}}
controller: {{claim_grace: 3s, orphan_grace: 5s, silent_after: 5s, lost_after: 20s}}
"""


@dataclass(slots=True)
class Clouds:
    """One run: the places, a controller, and what is counted meanwhile."""

    sandbox: Sandbox
    places: Sequence[Place]
    up: Up
    auditor: Auditor
    chance: random.Random
    environment: Mapping[str, str]
    happened: Counter[str] = field(default_factory=Counter)
    calm_s: float = 0.0

    def add(self, tasks: int) -> None:
        """Submit tasks; those that find room are started at once."""
        step = 'echo "$i" >> n.txt; echo "step $i"; sleep 0.5'
        script = f"for i in $(seq {STEPS}); do {step}; done"
        issues = [self.sandbox.folder / f"issue-{number}.md" for number in range(tasks)]
        for issue in issues:
            issue.write_text(f"# Chaos, {issue.stem}\n")
        where = ("--repo", str(self.sandbox.remote))
        self.command("spawn", *map(str, issues), *where, "--", "sh", "-c", script)

    def command(self, *arguments: str) -> None:
        """Run an ``outpost`` command to its end; it must succeed."""
        subprocess.run(
            [sys.executable, "-m", "outpost", *arguments],
            env=dict(self.environment),
            cwd=self.sandbox.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    async def trouble(self, seconds: float, every_s: float) -> None:
        """Let things go wrong for so long."""
        self.up.start()
        until = time.monotonic() + seconds
        strike_at = look_at = time.monotonic() + LOOK_S
        start_at = 0.0
        while (now := time.monotonic()) < until:
            if not self.up.lives and now >= start_at:
                self.up.start()
            if now >= strike_at:
                strike_at = now + self.chance.expovariate(1 / every_s)
                start_at = now + self.chance.uniform(0, AWAY_S)
                await asyncio.to_thread(self._strike)
            if now >= look_at:
                look_at = now + LOOK_S
                self._look()
            await asyncio.sleep(TICK_S)

    async def calm_down(self) -> None:
        """Let all end, and wait until nothing is left to do and nothing runs."""
        for place in self.places:
            place.calm()
        if not self.up.lives:
            self.up.start()
        begun = time.monotonic()
        while time.monotonic() < begun + QUIET_S and (self.auditor.unfinished() or self.running()):
            await asyncio.sleep(LOOK_S)
            self._look()
            _ = self.up.pid  # which must go on by itself
        self.calm_s = time.monotonic() - begun

    def running(self) -> list[str]:
        """Return what runs anywhere."""
        return [f"{place.name}: {it}" for place in self.places for it in place.running()]

    def strangers(self) -> list[str]:
        """Return what is anywhere and no attempt's, or is there twice."""
        known = {str(row[0]) for row in self.auditor.rows(_STARTED)}
        return [
            f"{place.name}: {worker}, {count} times"
            for place in self.places
            for worker, count in Counter(place.workers()).items()
            if worker not in known or count > 1
        ]

    def branchless(self) -> list[str]:
        """Return the tasks that are done and whose branch does not hold all of their work."""
        wrong = []
        for task_id, branch, outpost in self.auditor.rows(_DONE):
            text = ""
            with contextlib.suppress(subprocess.CalledProcessError):
                text = self.sandbox.git("show", f"{branch}:n.txt", cwd=self.sandbox.remote)
            if not text.endswith("\n".join(str(it) for it in range(1, STEPS + 1))):
                wrong.append(f"{task_id} on {outpost}: {branch} has {text!r}")
        return wrong

    def _strike(self) -> None:
        if self.chance.random() < 1 / (len(self.places) + 1):
            self.up.kill()
            self.happened[f"{CONTROLLER} killed"] += 1
            return
        place = self.chance.choice(self.places)
        self.happened[f"{place.name}: {place.strike(self.chance)}"] += 1

    def _look(self) -> None:
        with contextlib.suppress(StoreError):
            self.auditor.look()


async def measure(options: argparse.Namespace) -> list[Check]:
    """Trouble some tasks for the seconds asked for, then wait for quiet and count."""
    names = options.outposts.split(",")
    with Sandbox() as sandbox, contextlib.ExitStack() as stack:
        home = sandbox.home()
        folders = {name: sandbox.folder / f"place-{name}" for name in names}
        for folder in folders.values():
            folder.mkdir()
        places = [stack.enter_context(PLACES[it](folders[it], home)) for it in names]
        sandbox.config.write_text(_config(places))
        environment = {**sandbox.environment(), "OUTPOST_CONTROLLER": "off"}
        for place in places:
            environment |= place.variables
        log = sandbox.folder / "controller.log"
        clouds = Clouds(
            sandbox=sandbox,
            places=places,
            up=Up(environment, log),
            auditor=Auditor(
                url=f"sqlite:///{home}/outpost.db", slots=dict.fromkeys(names, SLOTS), caps={}
            ),
            chance=random.Random(options.seed),
            environment=environment,
        )
        try:
            if "cloudrun" in names:
                clouds.command("deploy", "cloudrun", "--yes")
            clouds.add(options.tasks)
            await clouds.trouble(options.seconds, options.every)
            await clouds.calm_down()
            return _checks(clouds, log.read_text())
        finally:
            clouds.up.leave()
            clouds.auditor.close()


def _config(places: Sequence[Place]) -> str:
    outposts = [f"  - {{name: {it.name}, {it.options()}, max_workers: {SLOTS}}}\n" for it in places]
    names = ", ".join(it.name for it in places)
    return "outposts:\n" + "".join(outposts) + _REST.format(names=names)


def _checks(clouds: Clouds, log: str) -> list[Check]:
    auditor = clouds.auditor
    tasks = auditor.rows(_TASKS)
    done = Counter(str(outpost) for _, _, outpost in auditor.rows(_DONE))
    wrong = {
        "tasks not done": [
            "\n  ".join((f"task {id_} is {state}: {why}", *auditor.history(str(id_))))
            for id_, state, why in tasks
            if state != State.DONE
        ],
        "tasks doubled": auditor.broken(TWICE_AT_WORK, TWICE_DONE),
        "branches that lack work": clouds.branchless(),
        "reservations wrong": auditor.broken(OPEN_AFTER_END, UNCHARGED),
        "slots exceeded": auditor.broken(SLOTS_EXCEEDED),
        "left running": clouds.running(),
        "nobody's, or there twice": clouds.strangers(),
        "faults of ours in the log": log.split("Traceback (most recent call last)")[1:],
    }
    for line in (it for found in wrong.values() for it in found):
        print(line, file=sys.stderr)
    return [
        *(
            Check(what=f"fault: {kind}", figure=clouds.happened[kind])
            for kind in sorted(clouds.happened)
        ),
        *(Check(what=f"tasks done on {name}", figure=done[name]) for name in sorted(done)),
        Check(what="calm after", figure=clouds.calm_s, unit="s"),
        *(Check(what=what, figure=len(found), at_most=0) for what, found in wrong.items()),
    ]


def arguments() -> argparse.ArgumentParser:
    """Return the options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outposts", default=",".join(PLACES), help="some of: %(default)s")
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=1.5, help="seconds between two faults")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    main(measure, arguments())

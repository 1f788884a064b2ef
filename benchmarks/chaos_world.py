"""A federation to be troubled: three outposts that fail as told, controllers, a store, and work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.doubles import virtual_outpost
from tests.doubles.virtual_records import Records

from benchmarks.controllers import Up
from benchmarks.sample import Sandbox
from benchmarks.stores import a_task
from outpost.model import AgentSpec
from outpost.store import open_store
from outpost.testing.faults import FaultFile

CHECKOUT = Path(__file__).parents[1]
SLOTS = {"near": 12, "far": 12, "paid": 16}
PAID = "paid"
PRICE_USD, CAP_USD = 3.6, 4.0
LIMIT_S = 300
LONG_SHARE, FAILS_SHARE = 0.03, 0.03
"""Of the tasks: those that are long, and those whose agent fails."""
SHORT_S = (0.5, 5.0)
ORPHAN_GRACE_S = 5.0
_OUTPOST = """\
  - {{name: {name}, type: virtual, folder: {folder}, faults: {folder}/{name}.faults,
     max_workers: {slots}{more}}}
"""
_REST = f"""\
policy:
  default_preference: [[near, far], paid]
  burst_after: 0s
  retry: {{max_attempts: 100, initial_backoff: 1s, max_backoff: 3s}}
  circuit_breaker: {{failure_threshold: 4, reset_timeout: 3s}}
defaults: {{time_limit: {LIMIT_S}s, stop_grace: 2s, token_budget: 0.01}}
controller:
  {{claim_grace: 3s, orphan_grace: {ORPHAN_GRACE_S:g}s, silent_after: 3s, lost_after: 20s}}
"""


class ChaosWorld:
    """Homes with a controller each, on one store: ``url``, or else the file of the only home.

    ``long_s`` is how long the long tasks take.
    """

    def __init__(
        self, sandbox: Sandbox, *, url: str | None, controllers: int, long_s: float
    ) -> None:
        self._long_s = long_s
        self._sandbox = sandbox
        folder = sandbox.folder / "places"
        folder.mkdir()
        self.records = Records(folder)
        self.faults = {name: FaultFile(folder / f"{name}.faults") for name in SLOTS}
        names = [f"home-{number}" for number in range(controllers)]
        home = sandbox.home(names[0])
        home.mkdir()
        self.url = url or f"sqlite:///{home}/outpost.db"
        sandbox.config.write_text(_config(folder, url))
        kinds = sandbox.folder / "kinds"
        given = [path for path in [os.environ.get("PYTHONPATH")] if path]
        path = os.pathsep.join((*given, virtual_outpost.bring(kinds), str(CHECKOUT)))
        self._environments = [
            {**sandbox.environment(name), "PYTHONPATH": path, "OUTPOST_CONTROLLER": "off"}
            for name in names
        ]
        self.logs = [sandbox.folder / f"{name}.log" for name in (*names, "commands")]
        self.controllers = [
            Up(environment, log)
            for environment, log in zip(self._environments, self.logs, strict=False)
        ]
        self.store = open_store(self.url)

    async def add(self, name: str, number: int, chance: random.Random) -> None:
        """Store one more task, as a command would that is gone at once."""
        seconds = self._long_s if chance.random() < LONG_SHARE else chance.uniform(*SHORT_S)
        outcome = "failed" if chance.random() < FAILS_SHARE else "done"
        argv = ("virtual", "--seconds", f"{seconds:.2f}", "--events-per-s", "2")
        task = replace(
            a_task(name, number),
            created_at=datetime.now(UTC),
            agent=AgentSpec(name="command", argv=(*argv, "--outcome", outcome)),
            time_limit_s=LIMIT_S,
        )
        await self.store.add_task(task)

    def command(self, home: int, *arguments: str) -> subprocess.Popen[bytes]:
        """Start an ``outpost`` command in one of the homes."""
        with self.logs[-1].open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "outpost", *arguments],
                env=self._environments[home],
                cwd=self._sandbox.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def spawn_arguments(self, number: int) -> list[str]:
        """Return how the command line is asked for a short piece of work."""
        message = f"Chaos, number {number}"
        argv = ["virtual", "--seconds", "2", "--events-per-s", "2"]
        return ["spawn", "-m", message, "--repo", str(self._sandbox.remote), "--", *argv]

    def calm(self) -> None:
        """Let nothing go wrong any more, and all controllers run."""
        for faults in self.faults.values():
            faults.write()
        for up in self.controllers:
            up.signal(signal.SIGCONT)
            if not up.lives:
                up.start()

    def tracebacks(self) -> list[str]:
        """Return the last lines of what any process said of a fault of ours."""
        text = "\n".join(log.read_text() for log in self.logs if log.exists())
        return [part[-600:] for part in text.split("Traceback (most recent call last)")[1:]]

    async def end(self) -> None:
        """End all that runs."""
        for up in self.controllers:
            up.signal(signal.SIGCONT)
            up.leave()
        await self.store.close()


def _config(folder: Path, url: str | None) -> str:
    price = f", price_hourly: {PRICE_USD}, cost_cap_hourly: {CAP_USD}"
    outposts = [
        _OUTPOST.format(name=name, folder=folder, slots=slots, more=price if name == PAID else "")
        for name, slots in SLOTS.items()
    ]
    store = f'store: {{url: "{url}"}}\n' if url else ""
    return "outposts:\n" + "".join(outposts) + _REST + store

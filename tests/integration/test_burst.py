"""Forty tasks at once on outposts of five kinds, of which one is down, one capped, one slowed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from outpost.model.compute_prices import quote
from outpost.model.money import compute_microusd
from tests.cloudrun_program import CloudRunProgram
from tests.cloudrun_world import KIND, TOKEN, installed
from tests.doubles.e2b.cloud import E2bCloud
from tests.doubles.fly import FlyCloud
from tests.doubles.fly.limits import Limits, Rates
from tests.integration.cli_world import OUTPOST, Cli
from tests.ssh_world import SshWorld
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION, SERVICE
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TASKS = 40
MOST = {"local": 2, "vm": 2, "run": 4, "fly": 4, "box": 4}
FREE = ("local", "vm")
TIME_LIMIT_S = 300
AT_ONCE_UNDER_CAP = 1
TEMPLATE = "outpost-worker"
SEAM_S = 10.0
"""So much longer or shorter than it is counted a worker on Cloud Run may hold its instance."""


@dataclass
class Everywhere:
    """The command line, and what stands in for three providers."""

    cli: Cli
    google: CloudRunProgram
    fly: FlyCloud
    e2b: E2bCloud

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cli("ps", "--all", "-n", "1000", "--json").json()
        return found

    def billed(self) -> dict[str, int]:
        """Return what is billed for compute, in micro-dollars by outpost."""
        lines = self.cli("cost", "--json").json()["lines"]
        return {it["name"]: round(it["compute_usd"] * 1e6) for it in lines}

    def until(self, what: str, look: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until all workers look so; say how things stand if that does not come."""
        try:
            until(lambda: look(self.rows()), what, deadline_s=150)
        except AssertionError as exc:
            said = "\n".join(self.cli(it).out for it in ("list", "ps", "queue"))
            log = (self.cli.world.folder / "up.log").read_text()[-3000:]
            raise AssertionError(f"{exc}\n{said}\n{log}") from exc


def config(world: World, ssh: SshWorld, fly: FlyCloud, e2b: E2bCloud) -> str:
    """Return a configuration: what is free first, then any of three that are paid for."""
    host = ssh.host("vm")
    each_usd = run_microusd(TIME_LIMIT_S) / 1e6
    outposts: list[dict[str, Any]] = [
        {"name": "local", "type": "local"},
        {"name": "vm", "type": "ssh", **ssh.options(host)},
        {
            **{"name": "run", "type": KIND, "project": PROJECT, "region": REGION},
            **{"service": SERVICE, "image": IMAGE, "token": "env://OUTPOST_TOKEN", "lease": "20s"},
            # What a worker may come to is held for it: two never fit.
            "cost_cap_hourly": round(1.9 * each_usd, 6),
        },
        {
            **{"name": "fly", "type": "fly", "app": fly.app, "region": "iad"},
            **{"size": "performance-2x", "idle_exit": "5s", "token": "env://FLY_TOKEN"},
            **{"api_url": fly.api_url, "url": fly.url, "image": "outpost-worker:full"},
        },
        {
            **{"name": "box", "type": "e2b", "template": TEMPLATE, "min_free_mib": 0},
            **{"api_url": e2b.api_url, "sandbox_url": e2b.sandbox_url},
            "api_key": "env://E2B_KEY",
        },
    ]
    for outpost in outposts:
        outpost["max_workers"] = MOST[outpost["name"]]
    whole = {
        "outposts": outposts,
        "policy": {
            "default_preference": ["local", "vm", ["run", "fly", "box"]],
            "retry": {"max_attempts": 5, "initial_backoff": "1s", "max_backoff": "2s"},
            "circuit_breaker": {"failure_threshold": 3, "reset_timeout": "3s"},
        },
        "defaults": {"time_limit": f"{TIME_LIMIT_S}s", "stop_grace": "4s"},
    }
    return json.dumps(whole)


def run_microusd(seconds: float) -> int:
    price = hourly("cloudrun", region=REGION, vcpus=2, memory_gib=4)
    return math.ceil(price * seconds / 3600)


@pytest.fixture
def everywhere(world: World, ssh: SshWorld) -> Iterator[Everywhere]:
    folder = world.folder
    # Fly's own limits: a request a second of each kind, three at once.
    limits = Limits(rates=Rates())
    with contextlib.ExitStack() as stack:
        google = stack.enter_context(CloudRunProgram(folder, operation_s=0.0, serving=True))
        fly = stack.enter_context(FlyCloud(folder / "fly", limits=limits))
        e2b = stack.enter_context(E2bCloud(folder / "e2b"))
        e2b.add_template(TEMPLATE)
        world.environment |= installed(folder / "kinds", google.address)
        world.environment["OUTPOST_TOKEN"] = TOKEN
        world.environment["FLY_TOKEN"] = fly.token
        world.environment["E2B_KEY"] = e2b.api_key
        world.environment["GOOGLE_APPLICATION_CREDENTIALS"] = google.key_file
        world.environment["OUTPOST_HOME"] = str(world.home)
        cli = Cli(world)
        (cli.here / "outposts.yaml").write_text(config(world, ssh, fly, e2b))
        cli("deploy", "run", "--yes")
        stack.enter_context(controller(cli))
        yield Everywhere(cli, google, fly, e2b)


@contextlib.contextmanager
def controller(cli: Cli) -> Iterator[None]:
    with (cli.world.folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*OUTPOST, "up"],
            cwd=cli.here,
            env=cli.world.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(30)


def written(folder: Path) -> list[str]:
    """Write the issues of all tasks; return their files."""
    folder.mkdir()
    for number in range(TASKS):
        (folder / f"task-{number}.md").write_text(f"# Mend part {number}\n")
    return [str(path) for path in sorted(folder.iterdir())]


def busy(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many workers are at work, by outpost."""
    return Counter(row["outpost"] for row in rows if row["state"] == "working")


def done_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["state"] == "done"]


def at_once(rows: list[dict[str, Any]]) -> int:
    """Return how many of these workers had a slot at the same time, at most."""
    moments = []
    for row in rows:
        moments += [(instant(row["created_at"]), 1), (instant(row["ended_at"]), -1)]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_forty_tasks_end_wherever_there_is_room(everywhere: Everywhere) -> None:
    cli, e2b = everywhere.cli, everywhere.e2b
    remote, gate = cli.world.remote, cli.world.folder / "gate"
    e2b.faults.statuses = [503] * 10_000
    script = f"while [ ! -e {gate} ]; do sleep 0.2; done; echo mended > part.txt"
    issues = written(cli.here / "issues")
    submitting = cli.start("spawn", *issues, "--repo", remote.url, "--", "sh", "-c", script)
    _, said = submitting.communicate(timeout=150)
    assert submitting.returncode == 0, said
    room = {"local": 2, "vm": 2, "run": AT_ONCE_UNDER_CAP, "fly": 4}
    everywhere.until("what answers is full", lambda rows: busy(rows) == room)
    e2b.faults.statuses = []
    room["box"] = 4
    everywhere.until("what answers again is full too", lambda rows: busy(rows) == room)
    gate.touch()
    everywhere.until("all are done", lambda rows: len(done_of(rows)) == TASKS)
    rows = everywhere.rows()
    done = done_of(rows)
    assert len({row["task"] for row in done}) == TASKS
    assert {remote.show(row["branch"], "part.txt") for row in done} == {"mended"}
    for name, most in MOST.items():
        assert at_once([row for row in rows if row["outpost"] == name]) <= most
    assert at_once([row for row in rows if row["outpost"] == "run"]) <= AT_ONCE_UNDER_CAP
    _check_choices(everywhere, done)
    _check_bill(everywhere, rows)


def _check_choices(everywhere: Everywhere, done: list[dict[str, Any]]) -> None:
    """Nobody paid while there was room for nothing."""
    for row in done:
        if row["outpost"] not in FREE:
            decision = everywhere.cli("explain", row["task"], "--json").json()["decision"]
            refused = {it["outpost"]: it["code"] for it in decision["refused"]}
            assert {refused.get(name) for name in FREE} == {"full"}, decision


def _check_bill(everywhere: Everywhere, rows: list[dict[str, Any]]) -> None:
    """What providers meter is billed: Fly's to the micro-dollar, E2B's but for a second each.

    Google tells no meter: a worker there is counted from its claim to its result.
    """
    started = Counter(row["outpost"] for row in rows)
    box_second = hourly("e2b", vcpus=2, memory_gib=4) / 3600

    def settled() -> bool:
        if any(it.state == "started" for it in everywhere.fly.machines()):
            return False
        billed = everywhere.billed()
        box_s = [math.ceil(it) for it in everywhere.e2b.metered_s().values()]
        box_off = abs(billed["box"] - box_second * sum(box_s))
        return billed["fly"] == metered_microusd(everywhere.fly) and box_off <= (
            box_second * len(box_s) + 1
        )

    until(settled, "the providers' bills are ours", deadline_s=120)
    billed = everywhere.billed()
    assert billed["local"] == billed["vm"] == 0
    run_each = abs(billed["run"] - everywhere.google.billed_microusd) / started["run"]
    assert run_each <= run_microusd(SEAM_S), (billed, everywhere.google.billed_microusd)


def metered_microusd(fly: FlyCloud) -> int:
    """Return what Fly bills: begun seconds of each machine, from its events."""
    price = hourly("fly", region="iad", size="performance-2x")
    return sum(
        compute_microusd(price, seconds_of(it.events)) for it in fly.machines(destroyed=True)
    )


def seconds_of(events: Sequence[Mapping[str, Any]]) -> float:
    """Return for how long a machine was started, once it has stopped, however often."""
    total_ms, began_ms = 0, None
    for event in sorted(events, key=lambda it: (it["timestamp"], it["id"])):
        if event["status"] == "started":
            began_ms = event["timestamp"]
        elif event["status"] == "stopped" and began_ms is not None:
            total_ms, began_ms = total_ms + event["timestamp"] - began_ms, None
    assert began_ms is None, "it still runs"
    return total_ms / 1000


def hourly(kind: str, **what: Any) -> int:
    found = quote(kind, **what).microusd_per_hour
    assert found is not None
    return found

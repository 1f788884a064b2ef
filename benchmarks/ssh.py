"""Workers on machines reached over SSH: spawn against the raw commands, many at once, at rest.

Run as ``python -m benchmarks.ssh``. The floor are the runner's own git commands and ``tmux``, each
run over one open asyncssh connection. Exits 1 where a limit does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import shlex
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
from tests.ssh_hosts import make_key

from benchmarks.agents import Gate, spawn_until_output
from benchmarks.checks import Check, main
from benchmarks.sample import Sandbox
from benchmarks.sshd import Machine, long_line
from outpost import Federation, SpawnOptions
from outpost.backends.ssh import SshOutpost
from outpost.transports.desk_link import Traffic

LIMIT = 1.5
ROUND_TRIPS = 3
FAR_S = 0.025
HOSTS, WORKERS, FOLLOWED = 5, 50, 100
MS = 1e3


class Floor:
    """The same git and tmux commands, one by one over an open connection."""

    def __init__(self, machine: Machine, gate: Path, connection: asyncssh.SSHClientConnection):
        self._connection = connection
        self._cache = next((machine.home / ".outpost" / "cache").glob("*.git"))
        self._folder = machine.folder
        self._gate = gate
        self._numbers = itertools.count()

    async def run(self) -> float:
        """Go from nothing to the agent's first byte; return the seconds it took."""
        name = f"floor{next(self._numbers)}-{time.monotonic_ns()}"
        tree = self._folder / name
        pipe = f"{tree}.pipe"
        began = time.perf_counter()
        cache = f"cd {self._cache} &&"
        fetch = "git fetch --quiet --no-tags --no-write-fetch-head --filter=blob:none origin"
        await self._do(f"{cache} {fetch} +main:refs/outpost/base/floor")
        commit = await self._do(f"{cache} git rev-parse --verify refs/outpost/base/floor")
        await self._do(f"git init --quiet --template= -bfloor {tree}")
        objects = f"{tree}/.git/objects/info"
        await self._do(f"mkdir -p {objects}; echo {self._cache}/objects > {objects}/alternates")
        await self._do(f"cd {tree} && git reset --quiet --hard {commit}")
        agent = f"exec 3>{pipe}; echo first >&3; read line <{self._gate}"
        session = f"tmux -L floor new-session -d -s {name} -c {tree} sh -c {shlex.quote(agent)}"
        await self._do(f"mkfifo {pipe}; {session}; head -n 1 {pipe}")
        return time.perf_counter() - began

    async def _do(self, command: str) -> str:
        done = await self._connection.run(command, check=True)
        return str(done.stdout).strip()


async def measure(options: argparse.Namespace) -> list[Check]:
    """Measure all of it on machines of our own."""
    checks: list[Check] = []
    with Sandbox() as sandbox, contextlib.ExitStack() as machines:
        key = make_key(sandbox.folder / "key")
        hosts = [Machine(sandbox.folder / f"host{number}", key) for number in range(HOSTS)]
        for host in hosts:
            host.start()
            machines.callback(host.leave)
        checks += await _near_and_far(sandbox, hosts[0], options.runs)
        checks += await _many(sandbox, hosts)
        checks += await _at_rest(sandbox, hosts[0], options.seconds)
    return checks


async def _near_and_far(sandbox: Sandbox, host: Machine, runs: int) -> list[Check]:
    near = await _alone(sandbox, host, host.port, runs)
    async with long_line(host.port, FAR_S) as port:
        far = await _alone(sandbox, host, port, max(runs // 3, 1))
    return [
        Check(what="spawn to first output", figure=near[0], unit="ms"),
        Check(what="- floor", figure=near[1], unit="ms"),
        Check(what="- ratio", figure=near[0] / near[1], at_most=LIMIT),
        Check(what="- round trips", figure=near[2], at_most=ROUND_TRIPS),
        Check(what="- bytes sent", figure=near[3]),
        Check(what="spawn, 50 ms away", figure=far[0], unit="ms"),
        Check(what="- floor", figure=far[1], unit="ms"),
        Check(what="- ratio", figure=far[0] / far[1], at_most=LIMIT),
        Check(what="- round trips", figure=far[2], at_most=ROUND_TRIPS),
    ]


async def _alone(
    sandbox: Sandbox, host: Machine, port: int, runs: int
) -> tuple[float, float, float, float]:
    """Return medians: milliseconds of ours and of the floor, round trips and bytes of a spawn."""
    gate = Gate(sandbox.folder / f"gate{port}")
    options = gate.agent(sandbox.remote)
    async with _federation(sandbox, host.entry("vm", port=port)) as federation:
        traffic = await _traffic(federation, "vm")
        # Two: the first brings the runner there, and fills the cache.
        warm = [await spawn_until_output(federation, options) for _ in range(2)]
        ours, theirs, trips, sent = list[float](), list[float](), list[int](), list[int]()
        async with asyncssh.connect(
            "127.0.0.1", port, known_hosts=None, client_keys=[str(host.key)], config=None
        ) as connection:
            floor = Floor(host, gate.path, connection)
            await floor.run()
            for _ in range(runs):
                before = (traffic.round_trips, traffic.bytes_sent)
                spawned = await spawn_until_output(federation, options)
                trips.append(traffic.round_trips - before[0])
                sent.append(traffic.bytes_sent - before[1])
                ours.append(spawned.first_output_s)
                warm.append(spawned)
                theirs.append(await floor.run())
            gate.let_go(2 * len(warm) + 2)
            await asyncio.gather(*(it.worker.result() for it in warm))
    median = statistics.median
    return median(ours) * MS, median(theirs) * MS, median(trips), median(sent)


async def _many(sandbox: Sandbox, hosts: list[Machine]) -> list[Check]:
    """Start workers on all hosts at once."""
    gate = Gate(sandbox.folder / "gate-many")
    entries = "".join(host.entry(f"vm{number}") for number, host in enumerate(hosts))
    async with _federation(sandbox, entries) as federation:

        def order(number: int) -> SpawnOptions:
            script = f"echo first; read line <{gate.path}; exit 1"
            on = f"vm{number % len(hosts)}"
            return SpawnOptions(repo=str(sandbox.remote), argv=("sh", "-c", script), on=on)

        warm = [await spawn_until_output(federation, order(it)) for it in range(len(hosts))]
        began = time.perf_counter()
        many = await asyncio.gather(
            *(spawn_until_output(federation, order(number)) for number in range(WORKERS))
        )
        took_s = time.perf_counter() - began
        gate.let_go(WORKERS + len(warm))
        await asyncio.gather(*(it.worker.result() for it in (*warm, *many)))
    what = f"{WORKERS} workers on {len(hosts)} machines, all have spoken"
    return [Check(what=what, figure=took_s, unit="s")]


async def _at_rest(sandbox: Sandbox, host: Machine, seconds: float) -> list[Check]:
    """Follow workers of one machine that say one line and rest."""
    gate = Gate(sandbox.folder / "gate-rest")
    entry = host.entry("vm", max_workers=FOLLOWED)
    async with _federation(sandbox, entry) as federation:
        traffic = await _traffic(federation, "vm")
        options = gate.agent(sandbox.remote)
        workers = [await spawn_until_output(federation, options) for _ in range(FOLLOWED)]
        before = (traffic.bytes_sent, traffic.bytes_received)
        followers = [asyncio.create_task(it.worker.result()) for it in workers]
        await asyncio.sleep(seconds)
        sent, received = traffic.bytes_sent - before[0], traffic.bytes_received - before[1]
        began = time.perf_counter()
        gate.let_go(FOLLOWED)
        await asyncio.gather(*followers)
        ended_s = time.perf_counter() - began
    minutes = seconds / 60 * FOLLOWED
    return [
        Check(what=f"{FOLLOWED} followed: connections", figure=traffic.connections, at_most=1),
        Check(what="- a worker at rest, sent a minute", figure=sent / minutes, unit="bytes"),
        Check(what="- received a minute", figure=received / minutes, unit="bytes"),
        Check(what="- all of them seen ended", figure=ended_s, unit="s"),
    ]


@contextlib.asynccontextmanager
async def _federation(sandbox: Sandbox, entries: str) -> AsyncIterator[Federation]:
    sandbox.config.write_text(f"outposts:\n{entries}")
    name = f"outpost{time.monotonic_ns()}"
    environment = sandbox.environment(name) | {"OUTPOST_CONTROLLER": "off"}
    async with Federation.from_file(
        str(sandbox.config), environment=environment, directory=sandbox.folder
    ) as federation:
        yield federation


async def _traffic(federation: Federation, name: str) -> Traffic:
    outpost = (await federation.parts.sites()).backend(name)
    assert isinstance(outpost, SshOutpost)
    return outpost.traffic


def arguments() -> argparse.ArgumentParser:
    """Return the options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="pairs alone")
    parser.add_argument("--seconds", type=float, default=60, help="of rest")
    return parser


if __name__ == "__main__":
    main(measure, arguments())

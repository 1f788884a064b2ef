"""A small world whose workers stand in every state that a screen can show."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from outpost.federation import Federation, SpawnOptions
from outpost.model import State
from outpost.spawned import SpawnedWorker
from tests.integration.cli_world import Cli
from tests.integration.screens_planted import REPOSITORY, plant
from tests.world import DEADLINE_S, World, make_environment, make_remote

AGENT = Path(__file__).with_name("acp_agent.py")
QUESTION = (
    "git push --force-with-lease origin HEAD:refs/heads/release/2026-11 &&"
    " gh release create v2026.11 --notes-file docs/changes/2026-11.md --latest"
)
NOON = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
"""A time zone where it is noon: what is hours old is of the same day, whenever the tests run."""
CONFIG = {
    "outposts": [
        {"name": "local", "type": "local", "max_workers": 2},
        {"name": "vm-1", "type": "ssh", "host": "127.0.0.1", "port": 1, "max_workers": 8},
    ],
    "policy": {"default_preference": ["local", "vm-1"]},
    "agents": {
        "mine": {
            "acp": [sys.executable, str(AGENT)],
            "permissions": {"default": "ask", "allow": ["Edit(./*)"]},
        }
    },
    "defaults": {"stop_grace": "4s"},
    "budget": {"time_zone": NOON},
}
STEPS: list[list[Any]] = [
    ["think", "The clock is compared in local time."],
    ["text", "I compare in UTC instead."],
    ["call", {"title": "make test", "kind": "execute", "rawInput": {"command": "make test"}}],
    ["progress", {"status": "completed", "rawOutput": "97 passed"}],
    ["write", "words.txt", "the words are right\n"],
    ["cost", 0.4321],
    ["text", "\n\nSessions end by UTC now; 97 tests pass."],
]


class Earlier:
    """A clock that is an hour and a half late: what is made by it is as old at once."""

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(minutes=90)


@dataclass
class Screens:
    """The command line in that world, the names of its workers, and what stands for those."""

    cli: Cli
    workers: Mapping[str, str]
    names: Mapping[str, str]
    gate: Path

    def named(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """Return arguments with the ids of the workers that are called by their state."""
        return tuple(self.workers.get(part.lower(), part) for part in arguments)

    def end(self) -> None:
        """Let all workers end, and fail if one leaves something."""
        self.gate.touch()
        self.cli("stop", "--grace", "5s", self.workers["waiting"], self.workers["working"])
        self.cli.world.end()


@contextmanager
def folder_for_screens() -> Iterator[Path]:
    """Make a folder whose path is always as long: what names it is broken at the same place."""
    folder = Path(tempfile.mkdtemp(prefix="screens-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def make_world(folder: Path) -> World:
    """Make a world whose repository is said to be on GitHub, with programs of one version."""
    environment = make_environment(folder)
    remote = make_remote(folder / "origin", environment)
    with Path(environment["GIT_CONFIG_GLOBAL"]).open("a") as file:
        file.write(f'[url "{remote.path}"]\n\tinsteadOf = {REPOSITORY}\n')
    programs = folder / "programs"
    programs.mkdir()
    for name in ("gh", "bd", "claude"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} 3.14\n")
        (programs / name).chmod(0o755)
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    environment["ANTHROPIC_API_KEY"] = "no-key-at-all"
    return World(folder, environment, replace(remote, url=REPOSITORY))


def make_screens(folder: Path) -> Screens:
    """Start real workers and wait until they work, wait, are done; plant those of other days."""
    cli = Cli(make_world(folder))
    (cli.here / "outposts.yaml").write_text(json.dumps(CONFIG))
    return asyncio.run(_people(cli))


async def _people(cli: Cli) -> Screens:
    world, gate = cli.world, cli.world.folder / "gate"
    federation = Federation(
        config_path=str(cli.here / "outposts.yaml"),
        home=world.home,
        directory=cli.here,
        environment=world.environment,
        clock=Earlier(),
    )
    async with federation:
        await plant(federation.store, str(world.home / "outposts" / "local"))
        done = await _agent(federation, "Compare sessions in UTC", STEPS)
        ended = await done.result()
        assert ended.state is State.DONE, ended
        ask = {"title": "Run", "kind": "execute", "rawInput": {"command": QUESTION}}
        waiting = await _agent(federation, "Release November", [["ask", ask]])
        working = await federation.spawn(
            "text:Build the shop",
            SpawnOptions(
                repo=REPOSITORY,
                argv=(
                    "sh",
                    "-c",
                    f"echo compiles 42 of 97; while ! test -e {gate}; do sleep 1; done",
                ),
            ),
        )
        task = await federation.resolve("text:Tidy the cellar", SpawnOptions(repo=REPOSITORY))
        queued = (await federation.submit(task)).task
        await _until(waiting, lambda seen: seen.state is State.WAITING)
        await _until(working, lambda seen: seen.activity.startswith("compiles"))
    found = {"done": done, "waiting": waiting, "working": working}
    workers = {name: worker.id for name, worker in found.items()}
    names = {worker.id: f"w-{name:2<8.8}" for name, worker in found.items()}
    names |= {worker.attempt.task_id: f"t-{name:2<8.8}" for name, worker in found.items()}
    names |= {queued.id: "t-queued22", str(AGENT): "agent", sys.executable: "python", NOON: "UTC"}
    return Screens(cli, {**workers, "queued": queued.id}, {**names, **places(cli)}, gate)


def places(cli: Cli) -> dict[str, str]:
    """Return what stands for the folders of a world."""
    folder = str(cli.world.folder)
    return {f"{folder}/here": "/home/sam/shop", f"{folder}/home": "/home/sam", folder: "/home/sam"}


async def _agent(federation: Federation, title: str, steps: list[list[Any]]) -> SpawnedWorker:
    """Start a scripted agent that asks before it runs a command."""
    text = f"text:{title}\n\n{json.dumps(steps)}"
    return await federation.spawn(text, SpawnOptions(repo=REPOSITORY, agent="mine"))


async def _until(worker: SpawnedWorker, wanted: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not wanted(await worker.status()):
            assert not worker.attempt.state.ended, worker.attempt
            await asyncio.sleep(0.05)

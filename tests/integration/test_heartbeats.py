"""Whatever a worker does, its log never says nothing for long: else contact counts as lost."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from outpost.runner.work import HEARTBEAT_S
from outpost.wire.orders import AgentOrder
from tests.integration.acp_talk import ASK, SCRIPTED
from tests.integration.lone_worker import LoneWorker, Workers
from tests.world import Remote, SlowGit, World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
BUSY = AgentOrder(name="command", argv=["sh", "-c", "echo x > new.txt"], options={})
SILENT = AgentOrder(name="command", argv=["sh", "-c", "echo x > new.txt; sleep 600"], options={})
ASKING = AgentOrder(name="acp", argv=list(SCRIPTED), options={})
ASKED = [["ask", {"kind": "execute", "rawInput": {"command": "git add -A"}}]]


class Held:
    """Workers that are held up, each in one phase of its work."""

    def __init__(self, folder: Path, environment: Mapping[str, str], remote: Remote) -> None:
        self._folder = folder
        self._environment = environment
        self._remote = remote
        self._slow: list[SlowGit] = []
        self._made: list[Workers] = []

    def at(self, command: str, agent: AgentOrder, prompt: str = "Mend.", **more: Any) -> LoneWorker:
        """Start a worker whose git waits in a command, once it comes there; empty: in none."""
        folder = self._next_folder()
        folder.mkdir()
        environment = dict(self._environment)
        slow = SlowGit(World(folder, environment, self._remote))
        slow.wait_in(command)
        self._slow.append(slow)
        workers = Workers(folder, environment, self._remote)
        self._made.append(workers)
        return workers.start(agent, prompt, {}, **more)

    def on_a_screen(self) -> LoneWorker:
        """Start a worker with a full-screen program, in a session that has no terminal."""
        show = shlex.join([sys.executable, "-m", "outpost.runner", "screen"])
        script = f"setsid {show} {self._next_folder()}/site/workers/* </dev/null >/dev/null 2>&1 &"
        view = {"argv": ["sh", "-c", script], "environment": dict(self._environment)}
        return self.at("", SILENT, interactive=True, view=view)

    def end(self) -> None:
        for workers in self._made:
            for worker in workers.made:
                worker.kill()
        for slow in self._slow:
            slow.go_on()
        for workers in self._made:
            workers.end()

    def _next_folder(self) -> Path:
        return self._folder / f"held-{len(self._made)}"


@pytest.fixture
def held(tmp_path: Path, isolated_environment: dict[str, str], remote: Remote) -> Iterator[Held]:
    held = Held(tmp_path, isolated_environment, remote)
    yield held
    held.end()


def beats(worker: LoneWorker) -> str:
    """Return what a worker does, if a heartbeat is the last that it said; else nothing."""
    events = worker.events()
    doing = [it for it in events if it.type in ("status", "question")]
    if not doing or events[-1].type != "heartbeat":
        return ""
    return str(doing[-1].fields.get("state") or doing[-1].type)


def wait_for_beat(worker: LoneWorker, doing: str, when: str) -> None:
    until(lambda: beats(worker) == doing, f"a heartbeat {when}", deadline_s=2 * HEARTBEAT_S)


def test_a_worker_says_that_it_is_there_in_whatever_phase_it_is(held: Held) -> None:
    workers = {
        "while it fetches": (held.at("fetch", BUSY), "preparing"),
        "while its agent is silent": (held.at("", SILENT), "working"),
        "on a screen": (held.on_a_screen(), "working"),
        "while it waits for a human": (
            held.at("", ASKING, json.dumps(ASKED), permissions=ASK),
            "question",
        ),
        "while it pushes": (held.at("push", BUSY), "pushing"),
        "while its work is saved after its death": (held.at("push", SILENT), "pushing"),
    }
    dead, _ = workers["while its work is saved after its death"]
    dead.wait_for("status", 3)
    os.kill(dead.place.pids("runner.pid")[1], signal.SIGKILL)
    for when, (worker, doing) in workers.items():
        wait_for_beat(worker, doing, when)

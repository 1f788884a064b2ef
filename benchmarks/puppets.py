"""Workers that only talk: one process writes the logs of any number of workers at a steady rate.

To a controller they are workers of a ``local`` outpost: stored as a start leaves them, each with
its folder, a work order, a lock that a living process holds, and a log that grows line by line.

Run as ``python -m benchmarks.puppets ROOT BOARD LINES RATE`` by ``Puppets``: for all workers below
ROOT it takes the locks, writes the first lines, prints ``ready`` and does what it is told on its
standard input: ``talk``, ``end`` (write the results), and nothing more once that is closed.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.board import Board
from benchmarks.figures import NotMeasured
from benchmarks.stores import a_charge, a_decision, a_task, an_attempt
from outpost import Federation
from outpost.backends.local import LocalOutpost
from outpost.model import Attempt, State, Task
from outpost.runner.place import Place
from outpost.wire.events import encode, timestamp
from outpost.wire.orders import ORDER_VERSION, WorkOrder

OUTPOST = "local"
TICK_S = 0.005
SPARE_LINES = 64
"""Room on the board for a worker's first lines, its last, and those of a slow stop."""
_BEGINNING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status", {"state": "starting", "pid": 1}),
    ("status", {"state": "preparing"}),
    ("status", {"state": "working"}),
    ("agent", {"kind": "session", "text": "", "session_id": "s-1", "model": "sample"}),
)
_STEP = {"id": "toolu_01", "input": {"command": "make test", "description": "Run it. " * 20}}
_USAGE = {
    "model": "sample",
    "input_tokens": 1_200,
    "output_tokens": 350,
    "cache_read_tokens": 20_000,
    "cache_write_tokens": 800,
    "cost_microusd": 1_750,
}
_TWENTY: tuple[tuple[str, dict[str, Any]], ...] = (
    *[
        ("log", {"stream": "stdout", "text": f"tests/test_{n}.py::test passed" * 3})
        for n in range(9)
    ],
    ("agent", {"kind": "text", "text": "The words are wrong here. " * 8, "raw": {}}),
    *[("log", {"stream": "stderr", "text": f"warning: line {n} is long " * 4}) for n in range(4)],
    ("agent", {"kind": "tool_call", "tool": "Bash", "text": "make test", "raw": _STEP}),
    ("agent", {"kind": "tool_result", "tool": "Bash", "text": "ok " * 60, "raw": _STEP}),
    ("usage", _USAGE),
    ("progress", {"text": "half of it"}),
    ("log", {"stream": "stdout", "text": "collected 214 items"}),
    ("heartbeat", {}),
)
_ASKING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("question", {"question_id": "q-1", "kind": "question", "text": "May I?", "options": []}),
    ("answer", {"question_id": "q-1", "text": "yes", "by": "message"}),
    ("status", {"state": "working"}),
)
TALK = (*_TWENTY * 10, *_ASKING)
"""What each worker says again and again: of 203 lines ten cost money, one asks something."""


async def employ(federation: Federation, count: int) -> list[str]:
    """Store so many attempts as their start would leave them, with their folders; return their ids.

    The configuration has a ``local`` outpost named ``local``.
    """
    federation_id = await federation.store.federation_id()
    outpost = (await federation.parts.sites()).backend(OUTPOST)
    assert isinstance(outpost, LocalOutpost)
    names = []
    for number in range(count):
        task = a_task("puppet", number)
        attempt = replace(an_attempt(task), outpost=OUTPOST)
        charge = replace(a_charge(attempt), microusd_per_hour=0, token_budget_microusd=0)
        await federation.store.add_task(task)
        claimed = await federation.store.claim(
            attempt, a_decision(attempt), max_workers=None, charge=charge
        )
        assert claimed
        handle = outpost.handle_of(attempt.id)
        started = replace(claimed, handle=handle, state=State.STARTING)
        if not await federation.store.apply(started):
            raise NotMeasured(f"the store does not take {attempt.id}")
        _make_folder(Path(handle.data["directory"]), _order(task, attempt, federation_id))
        names.append(attempt.id)
    return names


def _make_folder(folder: Path, order: WorkOrder) -> None:
    folder.mkdir(mode=0o700, parents=True)
    (folder / "order.json").write_text(json.dumps(order))


def _order(task: Task, attempt: Attempt, federation_id: str) -> WorkOrder:
    return {
        "version": ORDER_VERSION,
        "federation_id": federation_id,
        "worker_id": attempt.id,
        "task_id": task.id,
        "issue_id": task.issue_id,
        "repo_url": task.repo_url,
        "base": None,
        "branch": attempt.branch,
        "title": task.title,
        "body": task.body,
        "prompt": task.body,
        "agent": {"name": "command", "argv": list(task.agent.argv), "options": {}},
        "limits": {"time_s": None, "grace_s": 10.0},
        "keep_workspace": False,
        "fence": 1,
    }


class Puppets:
    """The process that plays all workers below ``root``; ``rate`` lines a second each."""

    def __init__(self, root: Path, board: Path, *, lines: int, rate: float) -> None:
        argv = [sys.executable, "-m", __name__, str(root), str(board), str(lines), str(rate)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            raise NotMeasured(f"{' '.join(argv)} exited {self._process.wait()}")

    def talk(self) -> None:
        """Let all of them begin to talk."""
        self._say("talk")

    def end(self) -> None:
        """Let all of them write their result and die."""
        self._say("end")

    def leave(self) -> None:
        """End the process, with or without results. Idempotent."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)

    def _say(self, word: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()


class Puppet:
    """One worker: its lock, its log, and how far it is in its text."""

    def __init__(self, number: int, directory: Path, board: Board, said: list[bytes]) -> None:
        self._number = number
        self._board = board
        self._said = said
        self._place = Place(str(directory))
        if not self._place.take_lock():
            raise NotMeasured(f"somebody cares for {directory} already")
        self._log = os.open(directory / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._seq = 0

    def talk(self, time_text: bytes) -> None:
        """Write its next line; a worker begins at a place of its own in the text."""
        self.write(self._said[(self._seq + self._number * 7) % len(self._said)], time_text)

    def write(self, rest: bytes, time_text: bytes) -> None:
        """Write one line: ``rest`` is what follows number and time."""
        if self._seq == self._board.lines:
            return
        self._seq += 1
        line = b'{"seq":%d,"time":"%b"%b' % (self._seq, time_text, rest)
        self._board.note(self._number, self._seq, time.monotonic())
        os.write(self._log, line)

    def die(self) -> None:
        """Let go of the lock."""
        self._place.drop_lock()
        os.close(self._log)


def main(root: str, board: str, lines: str, rate: str) -> None:
    """Play all workers below ``root`` until standard input is closed."""
    folders = sorted((Path(root) / "workers").iterdir())
    table = Board(Path(board), len(folders), int(lines))
    said = [_rest(*line) for line in TALK]
    puppets = [Puppet(number, folder, table, said) for number, folder in enumerate(folders)]
    for line in _BEGINNING:
        for puppet in puppets:
            puppet.write(_rest(*line), _now())
    print("ready", flush=True)
    for word in _talking(puppets, float(rate)):
        if word == "end":
            for puppet, folder in zip(puppets, folders, strict=True):
                puppet.write(_rest("result", _result(folder)), _now())
                puppet.die()


def _talking(puppets: list[Puppet], rate: float) -> Iterator[str]:
    """Yield what we are told; between ``talk`` and ``end`` all talk in turn, evenly over time."""
    each_s = 1 / (rate * len(puppets))
    begun_s, count = None, 0
    while True:
        if select.select([0], [], [], None if begun_s is None else TICK_S)[0]:
            word = os.read(0, 100).decode().strip()
            if not word:
                return
            begun_s, count = (time.monotonic(), 0) if word == "talk" else (None, 0)
            yield word
        if begun_s is not None:
            now = _now()
            for turn in range(count, round((time.monotonic() - begun_s) / each_s)):
                puppets[turn % len(puppets)].talk(now)
                count = turn + 1


def _rest(type: str, fields: dict[str, Any]) -> bytes:  # noqa: A002 - the wire's own word
    return encode(0, "", type, fields).removeprefix(b'{"seq":0,"time":""')


def _result(folder: Path) -> dict[str, Any]:
    branch = json.loads((folder / "order.json").read_text())["branch"]
    return {
        "outcome": "done",
        "reason": "",
        "branch": branch,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "pr_url": None,
        "summary": "Fixed it.",
        "exit_code": 0,
        "kept": {"how": "remote", "where": branch},
    }


def _now() -> bytes:
    return timestamp().encode()


if __name__ == "__main__":
    main(*sys.argv[1:])

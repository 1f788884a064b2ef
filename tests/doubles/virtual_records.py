"""Workers without a process: files that say what started when, and logs computed from them.

A worker's file says when it started and what it does. Its log is a function of that file, of the
marks beside it, and of the time: it goes on whoever looks, and all processes see the same.

==========================  ======================================================================
``NAME/WORKER.json``        a worker on the outpost ``NAME``; ``run`` is its own, whatever its id
``gone/RUN.json``           one that was destroyed
``marks/RUN.end``           why it comes to an end before its own, unless that was first
``marks/RUN.rescue``        that somebody recovered a dead one
``starts.jsonl``            a line for each start, the same as in the worker's file
==========================  ======================================================================

A mark is a symbolic link: made at once, by the first of several only, and dated by the kernel. Who
reads takes the time before looking for marks, so nothing told is ever different later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from outpost.wire.events import Event, timestamp

HEARTBEAT_S = 15.0
GRAIN_S = 0.02  # coarser than the kernel's dates: no mark holds before it can be seen
HEAD = ("starting", "preparing", "working")
USAGE = {"model": "virtual", "input_tokens": 10, "output_tokens": 5, "cost_microusd": 20}

Mark = Literal["end", "rescue"]
Line = dict[str, Any]


@dataclass(frozen=True)
class End:
    """How a worker ends: done, failed, stopped, or ``dead``, which is without a result.

    ``own`` says that its work came to the end that it had in itself.
    """

    how: str
    at: float
    reason: str = ""
    own: bool = False


class Script:
    """What a worker does, from its agent's argv; seconds count from its start.

    ``virtual --seconds 3 --events-per-s 2 --outcome done``, or ``--dies-after 2``. Of an ``sh -c``
    script ``echo WORDS`` and ``sleep N`` are understood, joined by ``; ``.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._lines: list[tuple[float, str]] = []
        said = dict(zip(argv[1::2], argv[2::2], strict=False))
        if argv[0] == "sh":
            said = {"--seconds": str(self._read_shell(argv[-1]))}
        dies_after = said.get("--dies-after")
        self.end_s = float(dies_after or said.get("--seconds", "0.2"))
        self.how = "dead" if dies_after else said.get("--outcome", "done")
        rate = float(said.get("--events-per-s", "0"))
        self._busy = rate * HEARTBEAT_S > 1
        self._period_s = 1 / rate if self._busy else HEARTBEAT_S

    def count(self, elapsed_s: float) -> int:
        """Return how many events there are by then."""
        if self._lines:
            return len(HEAD) + sum(due_s <= elapsed_s for due_s, _ in self._lines)
        return len(HEAD) + max(0, math.floor(elapsed_s / self._period_s))

    def due_s(self, number: int) -> float:
        """Return when event ``number`` (from 0) comes: never behind the last line of a shell's."""
        number -= len(HEAD)
        if number < 0:
            return 0.0
        if self._lines:
            return self._lines[number][0] if number < len(self._lines) else math.inf
        return (number + 1) * self._period_s

    def event(self, number: int) -> tuple[str, Line]:
        """Return type and fields of event ``number``."""
        if number < len(HEAD):
            return "status", {"state": HEAD[number], "reason": ""}
        number -= len(HEAD)
        if self._lines:
            return "log", {"stream": "stdout", "text": self._lines[number][1]}
        if not self._busy:
            return "heartbeat", {}
        steps: tuple[tuple[str, Line], ...] = (
            ("log", {"stream": "stdout", "text": f"line {number}"}),
            ("agent", {"kind": "text", "text": f"step {number}"}),
            ("usage", USAGE),
        )
        return steps[number % len(steps)]

    def _read_shell(self, script: str) -> float:
        seconds = 0.0
        for word, _, rest in (part.partition(" ") for part in script.split("; ")):
            if word == "echo":
                self._lines.append((seconds, rest))
            seconds += float(rest) if word == "sleep" else 0.0
        return seconds


class Record:
    """A worker as its file says, and what the marks beside it make of its script."""

    def __init__(self, folder: Path, line: Line) -> None:
        self.line = line
        self.run: str = line["run"]
        self.started: float = line["started"]
        self._script = Script(line["argv"])
        self._marks = folder / "marks"

    def mark(self, mark: Mark, **said: str) -> None:
        """Set a mark, unless somebody has."""
        with contextlib.suppress(FileExistsError):
            (self._marks / f"{self.run}.{mark}").symlink_to(json.dumps(said))

    def end(self) -> End:
        """Return its end as far as can be told now; it may be in the future."""
        own_at = self.started + self._script.end_s
        said, at = self._marked("end")
        if at < own_at:
            return End(said["how"], at, said["reason"])
        return End(self._script.how, own_at, own=self._script.how != "dead")

    def ended(self) -> End | None:
        """Return its end, ``None`` while it lives."""
        now = time.time()
        end = self.end()
        return end if end.at <= now else None

    def told(self, after: int) -> tuple[list[Event], float]:
        """Return the events behind number ``after`` up to now, and when the next one is due."""
        now = time.time()
        end = self.end()
        count = self._script.count(min(now, end.at) - self.started)
        events = [self._event(number) for number in range(after, count)]
        if now < end.at:
            return events, min(end.at, self.started + self._script.due_s(count))
        at = self._marked("rescue")[1] if end.how == "dead" else end.at
        if now < at:
            return events, at
        tail = (
            Event(count + 1, timestamp(at), "status", {"state": "pushing", "reason": ""}),
            Event(count + 2, timestamp(at), "result", self._result(end)),
        )
        return events + [event for event in tail if event.seq > after], math.inf

    def _event(self, number: int) -> Event:
        due = timestamp(self.started + self._script.due_s(number))
        return Event(number + 1, due, *self._script.event(number))

    def _result(self, end: End) -> Line:
        dead = end.how == "dead"
        result: Line = {
            "outcome": "failed" if dead else end.how,
            "reason": "its runner died" if dead else end.reason,
            "branch": self.line["branch"],
            "commit": hashlib.sha1(self.run.encode()).hexdigest(),
            "pr_url": None,
            "summary": "",
            "exit_code": 0 if end.how == "done" else None,
            "kept": {"how": "pushed", "where": self.line["branch"]},
        }
        return {**result, "rescued": True} if dead else result

    def _marked(self, mark: Mark) -> tuple[dict[str, str], float]:
        """Return what a mark says and from when it holds: never, if it is not there."""
        path = self._marks / f"{self.run}.{mark}"
        try:
            said = os.readlink(path)  # noqa: PTH115 - a text, which a Path would tidy up
            return json.loads(said), path.lstat().st_ctime + GRAIN_S
        except FileNotFoundError:
            return {}, math.inf


class Records:
    """The folder that all outposts of a test share: what is there, and what ever was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = folder / "starts.jsonl"
        for name in ("gone", "marks"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def on(self, outpost: str, worker_id: str) -> Record | None:
        """Return a worker that is on an outpost now."""
        return self._read(self._path(outpost, worker_id))

    def all_on(self, outpost: str) -> list[Record]:
        """Return all workers that are on an outpost now."""
        return list(self._all(f"{outpost}/*.json"))

    def start(self, outpost: str, line: Line) -> Record:
        """Put a worker there and return it, or the one that is there by that name."""
        path = self._path(outpost, line["worker_id"])
        path.parent.mkdir(exist_ok=True)
        text = json.dumps(line)
        new = path.with_name(f".{line['run']}.new")
        new.write_text(text)
        try:
            path.hardlink_to(new)
        except FileExistsError:
            return self._read(path) or self.start(outpost, line)
        finally:
            new.unlink(missing_ok=True)
        log = os.open(self._starts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(log, "wb", buffering=0) as file:
            file.write(f"{text}\n".encode())
        self._fence(line)
        return Record(self._folder, line)

    def kill(self, outpost: str, worker_id: str) -> None:
        """Make a worker die without a result, as if its machine had gone."""
        if record := self.on(outpost, worker_id):
            record.mark("end", how="dead", reason="killed")

    def destroy(self, outpost: str, worker_id: str) -> None:
        """Take a worker away, dead or alive."""
        if record := self.on(outpost, worker_id):
            self.kill(outpost, worker_id)
            with contextlib.suppress(FileNotFoundError):
                self._path(outpost, worker_id).rename(self._folder / "gone" / f"{record.run}.json")

    def starts(self) -> list[Line]:
        """Return what was ever started, in that order."""
        return sorted((it.line for it in self._all("*/*.json")), key=lambda line: line["started"])

    def finished(self) -> list[Line]:
        """Return the line of every worker whose work came to its own end, as ``starts`` does."""
        ends = ((record.line, record.ended()) for record in self._all("*/*.json"))
        return [line for line, end in ends if end and end.own]

    def doubled(self) -> list[str]:
        """Return the tasks whose work came to its own end more than once."""
        counts = Counter(line["task_id"] for line in self.finished())
        return [task for task, count in counts.items() if count > 1]

    def living(self) -> list[Line]:
        """Return the line of every worker that goes on."""
        return [it.line for it in self._all("*/*.json") if not it.ended()]

    def _fence(self, line: Line) -> None:
        """End whoever has a lower fence for the same task: others, or the new one itself."""
        mark = line["task_id"].encode()
        known = [json.loads(it) for it in self._starts.read_bytes().splitlines() if mark in it]
        same = [it for it in known if it["task_id"] == line["task_id"]]
        newest = max(it["fence"] for it in same)
        for it in same:
            if it["fence"] < newest:
                reason = "another worker has taken the task over"
                Record(self._folder, it).mark("end", how="stopped", reason=reason)

    def _path(self, outpost: str, worker_id: str) -> Path:
        return self._folder / outpost / f"{worker_id}.json"

    def _all(self, pattern: str) -> Iterator[Record]:
        for path in sorted(self._folder.glob(pattern)):
            if record := self._read(path):
                yield record

    def _read(self, path: Path) -> Record | None:
        try:
            return Record(self._folder, json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None

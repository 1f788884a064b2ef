"""Faults on demand: one JSON file says what an outpost's calls do, to any number of processes.

It is read anew at each call, under a lock::

    {"spawn": ["not_dispatched", "ok", "rate_limited:5"], "ping": "down", "delay_s": 0.2}

The keys are ``spawn``, ``find``, ``ping``, ``workers`` (all that looks, ``find`` too) and
``destroy``. A list is used up from its front, one entry a call, and all is well once it is empty;
a text holds for every call. An entry is a fault, and behind a colon what more it takes:

===========================  ======================================================================
``ok``                       nothing goes wrong
``not_dispatched[:SCOPE]``   ``NotDispatched``, nothing is started
``no_capacity[:SCOPE]``      ``NoCapacity``, nothing is started
``rate_limited[:SECONDS]``   ``RateLimited`` with that ``retry_after_s``, nothing is started
``rejected``                 ``Rejected``, nothing is started
``fault``                    ``OutpostFault``: it does not answer; nothing is started
``ambiguous_lost``           ``Ambiguous``, nothing is started
``ambiguous_started``        ``Ambiguous``, the worker was started and runs
``killed_before``            this process is killed with SIGKILL, nothing is started
``killed_after``             this process is killed with SIGKILL, the worker was started and runs
``hang``                     never returns, nothing is started
``down[:WHY]``               for ``ping``: it is not well
``none``                     for ``find``: it says that there is no such worker, whatever is true
``lost``                     for ``destroy``: it says that it is done, and does nothing
===========================  ======================================================================

Other keys hold as long as they stand there:

===========================  ======================================================================
``partition``                a text, why: no call gets through, those that read logs, look, send
                             and stop neither; workers know nothing of it and go on
``partition_until``          the same, until the monotonic clock of the machine shows so much
``delay_s``                  how long each spawn takes before anything happens
``list_lags``                ``workers`` shows nothing that started less than so many seconds ago
``clock_skew_s``             the place's clock, and so the time of each event, is so much ahead
===========================  ======================================================================

Beside the file, ``FILE.calls`` has a line of JSON for each call: ``call``, ``outpost``, ``fault``,
``worker_id`` (empty where there is none), ``pid`` and ``time`` (of the monotonic clock).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from outpost.errors import (
    Ambiguous,
    NoCapacity,
    NotDispatched,
    OutpostFault,
    RateLimited,
    Rejected,
)
from outpost.model import Health
from outpost.wire.events import timestamp

ENTRY_POINT = "[outpost.backends]\n{kind} = {target}\n"


@dataclass(frozen=True)
class Fault:
    """What one call does: a name from the table above, and what stands behind its colon."""

    name: str = "ok"
    more: str = ""


class FaultFile:
    """The file of faults, and the calls beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._calls = path.with_name(f"{path.name}.calls")
        self._lock = path.with_name(f"{path.name}.lock")
        self._read: tuple[tuple[int, int], dict[str, Any]] = ((0, 0), {})

    def write(self, **faults: Any) -> None:
        """Say what goes wrong from now on, and nothing else does."""
        with self._locked():
            self._store(faults)

    def change(self, **faults: Any) -> None:
        """Say of some keys what they are from now on; ``None`` takes a key away."""
        with self._locked():
            merged = {**self._load(), **faults}
            self._store({key: value for key, value in merged.items() if value is not None})

    def calls(self, call: str = "spawn") -> list[dict[str, Any]]:
        """Return all calls of one sort so far, in their order."""
        if not self._calls.exists():
            return []
        lines = [json.loads(line) for line in self._calls.read_text().splitlines()]
        return [line for line in lines if line["call"] == call]

    def seconds(self, key: str) -> float:
        """Return ``delay_s``, ``list_lags`` or ``clock_skew_s``; 0 where it is not said."""
        return float(self._load().get(key, 0.0))

    def partition(self) -> str:
        """Say why no call gets through now; empty if they do."""
        faults = self._load()
        if time.monotonic() < faults.get("partition_until", 0.0):
            return "cut off for a while"
        return str(faults.get("partition", ""))

    def told(self, event_time: str) -> str:
        """Return the instant of an event as the place's own clock shows it."""
        skew_s = self.seconds("clock_skew_s")
        if not skew_s:
            return event_time
        return timestamp(datetime.fromisoformat(event_time).timestamp() + skew_s)

    def next(self, outpost: str, call: str, worker_id: str = "") -> Fault:
        """Return what a call does, use that up, and note the call."""
        with self._locked():
            entry = self._take(call)
            line = {
                "call": call,
                "outpost": outpost,
                "fault": entry,
                "worker_id": worker_id,
                "pid": os.getpid(),
                "time": time.monotonic(),
            }
            with self._calls.open("a") as calls:
                calls.write(json.dumps(line) + "\n")
        name, _, more = entry.partition(":")
        return Fault(name, more)

    def _take(self, call: str) -> str:
        """Return the entry for a call; one that does not get through uses none up."""
        if why := self.partition():
            return f"partition:{why}"
        faults = self._load()
        said = faults.get(call, "ok")
        if not isinstance(said, list):
            return str(said)
        if not said:
            return "ok"
        self._store({**faults, call: said[1:]})
        return str(said[0])

    def _load(self) -> dict[str, Any]:
        """Read the file, unless it is the very one that was read last."""
        try:
            seen = self._path.stat()
        except FileNotFoundError:
            return {}
        state = (seen.st_ino, seen.st_mtime_ns)
        if state != self._read[0]:
            self._read = (state, json.loads(self._path.read_text()))
        return self._read[1]

    def _store(self, faults: dict[str, Any]) -> None:
        # Replaced whole: some read it without the lock, and a process may be killed here.
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(json.dumps(faults))
        new.replace(self._path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def unreachable(outpost: str, why: str) -> OutpostFault:
    """Return what a call raises that does not get through."""
    return OutpostFault(f"{outpost} does not answer: {why}", outpost=outpost)


async def ailing(faults: FaultFile, outpost: str) -> Health | None:
    """Return what a ping says of an outpost that was told not to be well; ``None``: it is."""
    fault = faults.next(outpost, "ping")
    if fault.name == "down":
        return Health(ok=False, detail=fault.more or f"{outpost} is down")
    if fault.name == "partition":
        return Health(ok=False, detail=unreachable(outpost, fault.more).message)
    await go_wrong(fault, outpost)
    return None


async def before_spawn(faults: FaultFile, outpost: str, worker_id: str) -> Fault:
    """Do what goes wrong before a worker is started; return the fault, for what comes after."""
    fault = faults.next(outpost, "spawn", worker_id)
    await asyncio.sleep(faults.seconds("delay_s"))
    if fault.name == "partition":
        # Nothing of the order has left this process.
        raise NotDispatched(unreachable(outpost, fault.more).message, outpost=outpost)
    await go_wrong(fault, outpost)
    return fault


async def go_wrong(fault: Fault, outpost: str) -> None:
    """Do what a fault does before anything has been started."""
    said = f"{fault.name.replace('_', ' ')}, as it was told"
    match fault.name:
        case "not_dispatched":
            raise NotDispatched(said, outpost=outpost, scope=fault.more)
        case "no_capacity":
            raise NoCapacity(said, outpost=outpost, scope=fault.more)
        case "rate_limited":
            seconds = float(fault.more) if fault.more else None
            raise RateLimited(said, outpost=outpost, retry_after_s=seconds)
        case "rejected":
            raise Rejected(said, outpost=outpost, hint="mend the credentials")
        case "fault":
            raise OutpostFault(f"{outpost} does not answer", outpost=outpost)
        case "partition":
            raise unreachable(outpost, fault.more)
        case "ambiguous_lost":
            raise Ambiguous("the answer was lost", outpost=outpost)
        case "killed_before":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            await asyncio.Event().wait()
        case "ok" | "down" | "none" | "lost" | "ambiguous_started" | "killed_after":
            pass
        case _:
            raise ValueError(f"no such fault: {fault.name}")


def go_wrong_after(fault: Fault, outpost: str) -> None:
    """Do what a fault does once a worker has been started."""
    if fault.name == "ambiguous_started":
        raise Ambiguous("the answer was lost", outpost=outpost)
    if fault.name == "killed_after":
        os.kill(os.getpid(), signal.SIGKILL)


def bring_kind(folder: Path, kind: str, target: str) -> None:
    """Write into ``folder`` the entry point of a kind, as an installed package would have it.

    ``target`` is ``module:Class``. Programs that find the folder on their path know the kind.
    """
    package = folder / f"{kind}_outpost-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {kind}-outpost\nVersion: 1.0\n"
    )
    (package / "entry_points.txt").write_text(ENTRY_POINT.format(kind=kind, target=target))

"""Controllers to measure: ``outpost up`` as a process of its own, and what it uses."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.figures import NotMeasured

LEAVE_S = 30.0
PASSED_ON = ("PYTHONPATH",)


class Up:
    """One ``outpost up`` of a home; started, killed and started again as often as asked for."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._environment = {**passed_on, **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs; raises ``NotMeasured`` where it ended unasked."""
        assert self._process
        if not self.lives:
            raise NotMeasured(self.last_words())
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """What it ended with, ``None`` while it runs."""
        return self._process.poll() if self._process else 0

    def last_words(self) -> str:
        """Return how it ended, and what its log said last."""
        said = self._log.read_text()[-2000:] if self._log.exists() else ""
        return f"the controller ended by itself, {self.code}: {said}"

    def start(self) -> None:
        """Start it; does not wait until it is up."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outpost", "up"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        """Send it a signal; one that has ended hears nothing."""
        if self._process:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._process:
            self._process.wait()

    def leave(self) -> float:
        """Ask it to leave; return how many seconds that took. Idempotent."""
        begun_s = time.monotonic()
        if self._process:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LEAVE_S)
            self.kill()
        return time.monotonic() - begun_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """What a process has used up to one moment, its children that ended included."""

    at_s: float
    cpu_s: float
    memory_mb: float
    descriptors: int
    threads: int


def use_of(pid: int) -> Use:
    """Return what a process uses now; raises ``NotMeasured`` where it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Use(
                at_s=time.monotonic(),
                cpu_s=sum(times[:4]),
                memory_mb=process.memory_info().rss / 1e6,
                descriptors=process.num_fds(),
                threads=process.num_threads(),
            )
    except psutil.NoSuchProcess as exc:
        raise NotMeasured(f"process {pid} is gone") from exc

"""A sandbox: its machine, its time, what it costs."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication
from e2b.envd.process.process_connect import ProcessASGIApplication

from tests.doubles.e2b.disk import Disk
from tests.doubles.e2b.filesystem import Files
from tests.doubles.e2b.limits import Limits
from tests.doubles.e2b.machine import Machine
from tests.doubles.e2b.processes import Processes
from tests.doubles.e2b.templates import Template
from tests.doubles.e2b.transfers import Transfers

ENVD_VERSION = "0.6.7"
ID_LENGTH = 20
TIMER_S = timedelta(seconds=0.01)  # a timer may be as much too early

State = Literal["running", "paused", "ended"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a creation asks for, as its request says it."""

    template: Template
    timeout_s: float
    metadata: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    auto_pause: bool = False
    keeps_memory: bool = True
    auto_resume: bool = False
    internet: bool | None = None
    network: Mapping[str, Any] | None = None


class Sandbox:
    """One sandbox. ``began`` and ``ended`` are instants of the metering clock."""

    def __init__(
        self, wanted: Wanted, folder: Path, limits: Limits, variables: Mapping[str, str]
    ) -> None:
        self.id = "i" + "".join(
            secrets.choice(string.ascii_lowercase + string.digits) for _ in range(ID_LENGTH)
        )
        self.wanted = wanted
        self.network = wanted.network
        self.token = secrets.token_hex(32)
        self.state: State = "running"
        self.began = limits.clock()
        self.ended: float | None = None
        self.started_at = self.end_at = datetime.now(UTC)
        self._limits = limits
        self._variables = variables
        self._timer: asyncio.TimerHandle | None = None
        self._ran: list[tuple[float, float]] = []
        self._runs_since = 0.0
        self._changing = asyncio.Lock()
        self.machine = Machine(folder / self.id)
        self.disk = Disk(self.machine.folder, self.machine.home)
        self.processes = Processes(self.machine, self.disk, self._environment, limits.exit_kept_s)
        self.transfers = Transfers(self.disk, self.token)
        self.rpc = {
            "process.Process": ProcessASGIApplication(self.processes),
            "filesystem.Filesystem": FilesystemASGIApplication(Files(self.disk)),
        }

    async def boot(self, on_timeout: Callable[[Sandbox], None]) -> None:
        """Start it; ``on_timeout`` is called once its time is over."""
        self._on_timeout = on_timeout
        await self.machine.boot()
        path = self._variables.get("PATH", "")
        # A login shell begins with the distribution's PATH.
        (self.machine.home / ".profile").write_text(f"export PATH='{path}'\n")
        self._begin_run(self.wanted.timeout_s)

    def set_timeout(self, timeout_s: float, *, may_shorten: bool = True) -> None:
        """Let it end in so many seconds, though not after the longest session."""
        now = datetime.now(UTC)
        left_s = self._limits.session_max_s - (now - self.started_at).total_seconds()
        end_at = now + timedelta(seconds=max(min(timeout_s, left_s), 0))
        if end_at < self.end_at and not may_shorten:
            return
        self.end_at = end_at
        if self._timer:
            self._timer.cancel()
        wait_s = (end_at - now).total_seconds()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(wait_s, self._on_timeout, self)

    async def pause(self, *, keeps_memory: bool = True) -> None:
        """Stop everything in it; without its memory nothing runs any more when it is resumed."""
        async with self._changing:
            if self.state != "running":
                return
            self._end_run("paused")
            self.end_at = datetime.now(UTC)  # what the API says of one that is paused
            if keeps_memory:
                await self.machine.freeze()
            else:
                await self._stop()

    async def resume(self, timeout_s: float) -> None:
        """Let it go on from where it was."""
        async with self._changing:
            if self.state != "paused":
                return
            if self.machine.is_on:
                self.machine.thaw()
            else:
                await self.machine.boot()
            self.state = "running"
            self._begin_run(timeout_s)

    async def end(self) -> None:
        """Kill everything in it and take its disk away."""
        async with self._changing:
            if self.state == "ended":
                return
            self._end_run("ended")
            self.ended = self._limits.clock()
            await self._stop()
            self.machine.remove()

    @property
    def is_in_time(self) -> bool:
        """Whether it was given more time than has gone by."""
        return self.end_at > datetime.now(UTC) + TIMER_S

    def ran_s(self) -> float:
        """Return for how long it has run until now: what is paid for."""
        spans = list(self._ran)
        if self.state == "running":
            spans.append((self._runs_since, self._limits.clock()))
        return sum(end - begin for begin, end in spans)

    def break_off(self) -> None:
        """Break all streams of its processes, as a broken connection to it does."""
        what = f"the connection to sandbox {self.id} ended before the stream completed"
        self.processes.break_off(ConnectError(Code.UNAVAILABLE, what))

    def _begin_run(self, timeout_s: float) -> None:
        self.started_at = self.end_at = datetime.now(UTC)
        self._runs_since = self._limits.clock()
        self.set_timeout(timeout_s)

    def _end_run(self, state: State) -> None:
        if self.state == "running":
            self._ran.append((self._runs_since, self._limits.clock()))
        self.state = state
        if self._timer:
            self._timer.cancel()
        self.break_off()

    async def _stop(self) -> None:
        self.machine.thaw()
        await self.machine.off()
        await self.processes.over()

    def _environment(self) -> Mapping[str, str]:
        """Return what every process finds: envd's own variables and those of the sandbox."""
        return {
            **self._variables,
            "HOME": str(self.machine.home),
            "USER": "user",
            "LOGNAME": "user",
            "TMUX_TMPDIR": str(self.machine.sockets),
            "E2B_SANDBOX": "true",
            "E2B_SANDBOX_ID": self.id,
            "E2B_TEMPLATE_ID": self.wanted.template.id,
            **self.wanted.variables,
        }

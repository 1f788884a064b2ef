"""The controller: a process that goes on when commands have ended, and starts what waits.

One for each home folder holds the lock ``controller.lock`` there, which the system takes back
however that process ends. What it does is in ``control/loops``, and what that did is in the store:
the next controller goes on where this one was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from outpost.control.loops import LoopStanding
from outpost.errors import AlreadyUp, OutpostError, StoreError

if TYPE_CHECKING:
    from outpost.control.loops.running import Running
    from outpost.federation import Federation

LOOK_S = 1.0
"""How often it looks whether to go on, and says how it is."""
IDLE_S = 60.0
"""How long one that was started in the background stays when there is nothing to do."""
SWITCH = "OUTPOST_CONTROLLER"
"""The variable that keeps commands from starting one in the background, set to ``off``."""
START_S = 10.0
LEAVE_S = 6.0
"""How long the rounds that go on may take to end once it was told to leave."""
STORE_S = 5.0
"""How long to wait for a store that could not be used."""
_GIVE_WAY_S = 0.5
"""How long to try for a lock that somebody may hold only to see whether it is held."""
_POLL_S = 0.05
_UP = (sys.executable, "-m", "outpost", "up")
_LOCK, _STANDING, _LOG = "controller.lock", "controller.json", "controller.log"

logger = logging.getLogger("outpost.controller")


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What a running controller says of itself: its process, and how its loops are.

    ``round_at`` is when it last looked at them, ``rounds`` how often the busiest went round;
    ``trouble`` is what is wrong with the configuration's file, or with a store that cannot be used
    at all; empty if nothing.
    """

    pid: int
    started_at: str
    round_at: str = ""
    rounds: int = 0
    trouble: str = ""
    loops: tuple[LoopStanding, ...] = ()
    config: str = ""
    """The configuration's file, empty where there is none."""
    idle: bool = False
    """Whether it leaves by itself."""


class Controller:
    """Looks after one federation until stopped, or until nothing was to do for ``idle_s``."""

    def __init__(self, federation: Federation, *, idle_s: float | None = None) -> None:
        self._federation = federation
        self._idle_s = idle_s
        self._stop = asyncio.Event()
        path = federation.config.path
        self._stamp = _stamp(path)
        self._standing = Standing(
            pid=os.getpid(),
            started_at=self._now(),
            config=str(path or ""),
            idle=idle_s is not None,
        )

    def stop(self) -> None:
        """Let the round that goes on be the last."""
        self._stop.set()

    async def run(self) -> bool:
        """Run the loops; return whether to begin anew, as the configuration has changed.

        Raises ``AlreadyUp`` where another does, ``OutpostError`` where the home cannot be used.
        """
        home = self._federation.home
        with _held(home) as lock:
            logger.info("up, process %d", self._standing.pid)
            _write(home, self._standing)
            loops = await self._loops()
            anew = loops is not None and await self._go_on(loops, lock)
            if _is_of(home, lock):
                (home / _STANDING).unlink(missing_ok=True)
            logger.info("down")
        return anew

    async def _loops(self) -> Running | None:
        """Return the loops; waits for a store that cannot be used yet, ``None`` if stopped."""
        from outpost.control.loops.building import build  # noqa: PLC0415 - here only

        holder = f"{socket.gethostname()}:{self._federation.home}"
        while not self._stop.is_set():
            try:
                return await build(self._federation, holder)
            except StoreError as exc:
                logger.warning("%s", exc.message)
                self._note((), exc.message)
                await self._wait(STORE_S)
        return None

    async def _go_on(self, loops: Running, lock: int) -> bool:
        """Run the loops for as long as there is no reason to end; as ``run`` returns."""
        running = asyncio.create_task(loops.run(), name="loops")
        try:
            anew = await self._look_on(loops, running, lock)
            loops.stop()
            await self._come_to_an_end(running)
        finally:
            running.cancel()
            await asyncio.wait([running])
        return anew

    async def _come_to_an_end(self, running: asyncio.Task[None]) -> None:
        """Wait for the rounds that go on; once it is to leave at all, not for long."""
        told = asyncio.create_task(self._stop.wait())
        await asyncio.wait([running, told], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        await asyncio.wait([running], timeout=LEAVE_S)
        if running.done():
            running.result()
        else:
            logger.warning("leaves in the middle of something; the next one goes on with it")

    async def _look_on(self, loops: Running, running: asyncio.Task[None], lock: int) -> bool:
        """Wait for a reason to end; return whether that is a new configuration."""
        home, busy_at = self._federation.home, time.monotonic()
        while not self._stop.is_set() and not running.done():
            if not _is_of(home, lock):
                logger.warning("its home folder is gone: nothing there is ours any more")
                break
            anew, warning = self._new_configuration()
            if anew:
                logger.info("the configuration has changed")
                return True
            self._note(loops.standings, warning)
            if loops.waiting or await self._busy():
                busy_at = time.monotonic()
            elif self._idle_s is not None and time.monotonic() - busy_at >= self._idle_s:
                logger.info("nothing to do for %g s", self._idle_s)
                break
            await self._wait(LOOK_S)
        return False

    async def _busy(self) -> bool:
        """Whether there is anything that something may come of."""
        store = self._federation.store
        try:
            return bool(
                await store.queue_length()
                or await store.attempts(limit=1)
                or await store.pending_duties()
            )
        except OutpostError:
            return True

    def _note(self, loops: tuple[LoopStanding, ...], trouble: str) -> None:
        """Write down how it is; where that cannot be done the work goes on all the same."""
        self._standing = replace(
            self._standing,
            round_at=self._now(),
            rounds=max((it.rounds for it in loops), default=0),
            trouble=trouble,
            loops=loops,
        )
        try:
            _write(self._federation.home, self._standing)
        except OutpostError as exc:
            logger.warning("%s", exc.message)

    def _new_configuration(self) -> tuple[bool, str]:
        """Return whether the file has another configuration now, and what is wrong with it."""
        from outpost.federation import Federation  # noqa: PLC0415 - here only

        used = self._federation.config
        stamp = _stamp(used.path)
        if used.path is None or stamp == self._stamp:
            return False, ""
        try:
            anew = Federation.from_file(str(used.path)).config != used
        except OutpostError as exc:
            return False, exc.message
        # One that says the same as before is not read again in every round.
        self._stamp = stamp
        return anew, ""

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _now(self) -> str:
        return self._federation.clock.now().isoformat()


def standing(home: Path) -> Standing | None:
    """Return what the controller of a home says of itself, ``None`` where none runs."""
    if not _is_held(home):
        return None
    try:
        said = json.loads((home / _STANDING).read_text())
        loops = tuple(LoopStanding(**loop) for loop in said.pop("loops", ()))
        said.pop("round_s", None)  # of an earlier version
        return Standing(**said, loops=loops)
    except (OSError, ValueError, TypeError):
        # It has only just begun.
        return Standing(pid=0, started_at="")


def start_in_background(federation: Federation) -> bool:
    """Start a controller for a home that has none; return whether one was started.

    It has our environment, and leaves once nothing was to do for ``IDLE_S``. Returns at once: of
    several that are started at the same time one stays.
    """
    home, config = federation.home, federation.config.path
    if federation.environment.get(SWITCH) == "off":
        return False
    running = standing(home)
    if running and (not running.idle or running.config == str(config or "")):
        return False
    options = ["--config", str(config)] if config else []
    with _usable(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (home / _LOG).open("ab") as log:
            subprocess.Popen(
                [*_UP, *options, "--idle", f"{IDLE_S:.0f}s", "--instead"],
                cwd=home,
                env={**federation.environment, "OUTPOST_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    return True


def shut_down(home: Path, *, within_s: float = START_S) -> bool:
    """Ask the controller of a home to leave and wait until it has; ``False`` where none runs.

    Raises ``OutpostError`` if it does not.
    """
    deadline = time.monotonic() + within_s
    asked = 0
    while (running := standing(home)) is not None:
        if running.pid and running.pid != asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGTERM)
            asked = running.pid
        if time.monotonic() > deadline:
            raise OutpostError(
                f"the controller, process {asked}, is still busy after {within_s:g} s",
                hint=f"it leaves after its round; or: kill -9 {asked}, which loses nothing",
            )
        time.sleep(_POLL_S)
    return bool(asked)


@contextlib.contextmanager
def _held(home: Path) -> Iterator[int]:
    """Hold the lock of a home; yields its descriptor. Raises ``AlreadyUp``."""
    with _usable(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    give_way = time.monotonic() + _GIVE_WAY_S
    while True:
        with _lock(home, fcntl.LOCK_EX) as locked:
            if locked is not None:
                yield locked
                return
        if time.monotonic() > give_way:
            running = standing(home)
            process = f", process {running.pid}" if running and running.pid else ""
            raise AlreadyUp(f"a controller is up already{process}", hint="outpost down  ends it")
        time.sleep(_POLL_S)


def _is_held(home: Path) -> bool:
    if not (home / _LOCK).exists():
        return False
    with _lock(home, fcntl.LOCK_SH) as locked:
        return locked is None


def _is_of(home: Path, lock: int) -> bool:
    """Whether the lock that we hold is still that of the home folder."""
    try:
        return os.path.samestat(os.fstat(lock), (home / _LOCK).stat())
    except OSError:
        return False


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        at = path.stat() if path else None
    except OSError:
        at = None
    return at and (at.st_mtime_ns, at.st_size, at.st_ino)


@contextlib.contextmanager
def _lock(home: Path, kind: int) -> Iterator[int | None]:
    """Try to hold the lock; yields its descriptor, ``None`` where another holds it."""
    with _usable(home):
        descriptor = os.open(home / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        locked = True
    except BlockingIOError:
        locked = False
    try:
        yield descriptor if locked else None
    finally:
        os.close(descriptor)


def _write(home: Path, standing: Standing) -> None:
    path = home / _STANDING
    temporary = path.with_suffix(".new")
    with _usable(home):
        temporary.write_text(json.dumps(asdict(standing)))
        temporary.replace(path)


@contextlib.contextmanager
def _usable(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StoreError(f"cannot use {home}: {exc.strerror}", hint=f"ls -la {home}") from exc

"""What starts and ends machines, and takes note of how each ended.

Sources (fly.io/docs, 2026-08-07): "Machine states and lifecycle", "Machine restart policy",
"Machine Suspend and Resume", "Machines" of the API reference; what users report besides: a new
machine is ``created`` until its image is there, and one that has just stopped is "still active".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.cloud_run.container import free_port
from tests.doubles.fly.faults import Faults
from tests.doubles.fly.guest import Guest, Image
from tests.doubles.fly.limits import Limits
from tests.doubles.fly.machine import Machine, moment
from tests.doubles.fly.volumes import Volumes

MAX_RETRIES = 10
STUCK_POLL_S = 0.02
KILLED = 137

Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(kw_only=True)
class Flyd:
    """The platform below the API. ``forget`` is told of a machine that is no longer known.

    ``defects`` are errors of the stand-in itself.
    """

    folder: Path
    limits: Limits
    faults: Faults
    volumes: Volumes
    base: Mapping[str, str]
    images: Mapping[str, Image]
    forget: Callable[[Machine], None]

    def __post_init__(self) -> None:
        self._guests: dict[str, Guest] = {}
        self._work: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[Guest] = set()
        self._asked: set[str] = set()
        self._ports: set[int] = set()
        self.defects: list[str] = []

    def guest(self, machine: Machine) -> Guest | None:
        """Return what runs in a machine."""
        guest = self._guests.get(machine.id)
        return guest if guest and guest.container.alive else None

    def launch(self, machine: Machine, *, skip: bool) -> None:
        """Make a machine that is ``created`` run, or be ready to."""
        self._do(machine, lambda: self._launch(machine, skip=skip))

    def start(self, machine: Machine) -> None:
        """Start one that is stopped, suspended or failed."""
        suspended = machine.state == "suspended"
        machine.move("starting", "start", "user")
        machine.restarts = 0
        go_on = self._resume if suspended else self._boot
        self._do(machine, lambda: go_on(machine))

    def stop(self, machine: Machine, name: str, seconds: float) -> None:
        """Stop one that is started or suspended."""
        if machine.state == "suspended":
            self._drop(machine)
            machine.move("stopped", "stop", "user")
            return
        machine.move("stopping", "stop", "user")
        self._do(machine, lambda: self._stop(machine, name, seconds))

    def suspend(self, machine: Machine) -> None:
        """Suspend one that is started."""
        machine.move("suspending", "suspend", "user")
        self._do(machine, lambda: self._suspend(machine))

    def destroy(self, machine: Machine) -> None:
        """Remove one, whatever it does; its record stays for a while."""
        if not machine.gone:
            machine.move("destroying", "destroy", "user")
            self._do(machine, lambda: self._destroy(machine))

    def replace(self, machine: Machine, *, skip: bool) -> None:
        """Have a machine whose configuration has changed be of that configuration."""
        running = machine.state == "started"
        machine.move("replacing", "update", "user")
        self._do(machine, lambda: self._replace(machine, start=running or not skip))

    def kill(self, machine: Machine, *, oom: bool = False) -> None:
        """Kill what runs in a machine, without a word."""
        if guest := self._guests.get(machine.id):
            guest.oom = oom
            guest.container.kill()

    async def vanish(self, machine: Machine) -> None:
        """Have a machine be gone as if it had never been."""
        if work := self._work.pop(machine.id, None):
            work.cancel()
            await asyncio.wait({work})
        machine.move("destroyed")
        await self._end(machine)
        self.volumes.detach(machine)
        self._removed(machine)

    async def close(self) -> None:
        """End everything at once."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(guest.end() for guest in self._running))

    def _do(self, machine: Machine, work: Work) -> None:
        """Do what comes next for a machine; what was done until now is given up."""
        before = self._work.get(machine.id)
        self._work[machine.id] = self._spawn(self._after(before, work))

    async def _after(self, before: asyncio.Task[None] | None, work: Work) -> None:
        if before:
            before.cancel()
            await asyncio.wait({before})
        await work()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.defects.append("".join(traceback.format_exception(error)))

    async def _launch(self, machine: Machine, *, skip: bool) -> None:
        await asyncio.sleep(self.limits.boot_s)
        await self._pass("created")
        if skip:
            machine.move("stopped")
        else:
            await self._run(machine, keep=False)

    async def _boot(self, machine: Machine, *, keep: bool = False) -> None:
        await asyncio.sleep(self.limits.start_s)
        await self._pass("starting")
        await self._run(machine, keep=keep)

    async def _run(self, machine: Machine, *, keep: bool) -> None:
        await asyncio.sleep(self.faults.boot_delay_s)
        image = machine.config.get("image", "")
        self._asked.discard(machine.id)
        await self._end(machine)
        before = self._guests.get(machine.id)
        guest = self._guests[machine.id] = Guest(
            machine,
            self.images.get(image, Image()),
            self.folder / "machines" / machine.id,
            before.port if before else self._port(),
        )
        self._running.add(guest)
        if image in self.faults.no_launch:
            machine.move("failed", "start")
            return
        try:
            await guest.start(self.base, self.volumes.mounts(machine), keep=keep)
        except OSError:
            machine.move("failed", "start")
            return
        machine.move("started", "start")
        self._spawn(self._watch(machine, guest))

    async def _resume(self, machine: Machine) -> None:
        await asyncio.sleep(self.limits.resume_s)
        await self._pass("starting")
        guest = self.guest(machine)
        if self.faults.lost_snapshots or guest is None:
            self._drop(machine)
            if guest:
                await guest.end()
            await self._boot(machine, keep=True)
            return
        guest.container.thaw()
        machine.move("started", "start")

    async def _suspend(self, machine: Machine) -> None:
        await self._pass("suspending")
        if guest := self.guest(machine):
            guest.container.freeze()
            machine.move("suspended", "suspend")

    async def _stop(self, machine: Machine, name: str, seconds: float) -> None:
        await self._pass("stopping")
        self._asked.add(machine.id)
        guest = self.guest(machine)
        if guest is None:
            return
        guest.signal(name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await guest.container.ended()
        await guest.end()

    async def _replace(self, machine: Machine, *, start: bool) -> None:
        await self._end(machine)
        if start:
            await self._run(machine, keep=False)
        else:
            machine.move("stopped")

    async def _destroy(self, machine: Machine) -> None:
        await self._end(machine)
        await self._pass("destroying")
        machine.move("destroyed", "destroy")
        asyncio.get_running_loop().call_later(self.limits.detach_s, self.volumes.detach, machine)
        await asyncio.sleep(self.limits.remembered_s)
        self._removed(machine)

    async def _watch(self, machine: Machine, guest: Guest) -> None:
        """Take note of the end of what runs in a machine, and do what its policy says."""
        code = await guest.container.ended()
        if code < 0:  # it ended so early that its init was killed itself
            code = KILLED
        self._running.discard(guest)
        if self._guests.get(machine.id) is not guest:
            return
        again = self._again(machine, code)
        machine.tell("exit", "stopped", **self._exit(machine, guest, code, again=again))
        if machine.state in ("destroying", "destroyed", "replacing"):
            return
        if machine.state == "stopping":
            await self._pass("stopping")
        if again:
            machine.restarts += 1
            machine.move("starting", "restart")
            self._do(machine, lambda: self._boot(machine))
        elif machine.config.get("auto_destroy"):
            self.destroy(machine)
        else:
            machine.move("stopped")

    def _again(self, machine: Machine, code: int) -> bool:
        restart = machine.config.get("restart") or {}
        policy = restart.get("policy", "on-failure")
        if policy == "no" or machine.id in self._asked or machine.gone:
            return False
        most = restart.get("max_retries", MAX_RETRIES)
        return policy == "always" or (code != 0 and machine.restarts < most)

    def _exit(self, machine: Machine, guest: Guest, code: int, *, again: bool) -> dict[str, Any]:
        event = {
            "exit_code": KILLED if guest.oom else code,
            "exited_at": moment(machine.now()),
            "guest_exit_code": code if code < 128 else 0,
            "guest_signal": code - 128 if code > 128 else -1,
            "oom_killed": guest.oom,
            "requested_stop": machine.id in self._asked or machine.gone,
            "restarting": again,
            "signal": -1,
        }
        return {"exit_event": event, "restart_count": machine.restarts}

    async def _pass(self, state: str) -> None:
        """Return once no machine is held in a state."""
        while state in self.faults.stuck:
            await asyncio.sleep(STUCK_POLL_S)

    async def _end(self, machine: Machine) -> None:
        if guest := self._guests.get(machine.id):
            await guest.end()

    def _drop(self, machine: Machine) -> None:
        """Forget what is held in memory, without calling that an exit."""
        if guest := self._guests.pop(machine.id, None):
            guest.container.kill()

    def _removed(self, machine: Machine) -> None:
        if guest := self._guests.pop(machine.id, None):
            self._ports.discard(guest.port)
            guest.remove()
        self._work.pop(machine.id, None)
        self.forget(machine)

    def _port(self) -> int:
        while (port := free_port()) in self._ports:
            pass
        self._ports.add(port)
        return port

    def settling(self, machine: Machine) -> bool:
        """Whether a machine has stopped so shortly ago that it cannot be started yet."""
        if machine.state == "suspended":
            return False
        return time.monotonic() < machine.settled_at + self.limits.settle_s

    def signal(self, machine: Machine, name: str) -> None:
        """Send a signal to what runs in a machine."""
        if guest := self.guest(machine):
            guest.signal(name)


def environment(given: Mapping[str, str] | None) -> dict[str, str]:
    """Return what every machine finds besides its configuration."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(given or {})}

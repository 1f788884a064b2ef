"""An outpost of containers whose containers are processes of this machine, each with a folder.

What a provider does is played here; what runs in them is the real ``runner serve``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from outpost.errors import OutpostFault
from outpost.model import Capabilities, Handle, Health, Quote, Task
from outpost.ports import Setup
from outpost.transports.containers import Address, Container
from outpost.transports.http_containers import ContainerOutpost
from outpost.wire.orders import WorkOrder
from tests.world import alive

IDLE_EXIT_S = 3.0
QUIET_LOOKS, LOOK_S = 3, 0.05


class ProcessContainers(ContainerOutpost):
    """Containers live in ``folder``; ``reachable`` says whether the provider answers."""

    kind: ClassVar[str] = "processes"
    capabilities: ClassVar[Capabilities] = Capabilities(send=True, stop=True)

    def __init__(
        self,
        setup: Setup,
        folder: Path,
        *,
        reachable: bool = True,
        idle_exit_s: float = IDLE_EXIT_S,
        flags: Sequence[str] = (),
    ) -> None:
        super().__init__(setup)
        self.folder = folder
        self._reachable = reachable
        self._flags = ("--idle-exit", str(idle_exit_s), *flags)
        self._variables: Mapping[str, str] = setup.environment

    async def ping(self) -> Health:
        return Health(ok=self._reachable, detail="" if self._reachable else "it is switched off")

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="a test")

    async def provide(self, order: WorkOrder) -> None:
        self._ask()
        home = self.folder / order["worker_id"]
        try:
            home.mkdir(parents=True)
        except FileExistsError:
            if _pid(home) is None:
                await self.wake(order["worker_id"])
            return
        (home / "federation").write_text(self.federation_id)
        await self.wake(order["worker_id"])

    async def look(self, worker_id: str | None = None) -> Sequence[Container]:
        self._ask()
        names = [worker_id] if worker_id else sorted(it.name for it in self._homes())
        return [it for name in names if (it := self._container(self.folder / name))]

    async def wake(self, worker_id: str) -> None:
        self._ask()
        home = self.folder / worker_id
        argv = [sys.executable, "-m", "outpost.runner", "serve", "--root", str(home / "root")]
        variables = {**self._variables, "OUTPOST_SERVE_TOKEN": self.token_of(worker_id)}
        said = home / "said"
        said.unlink(missing_ok=True)
        with said.open("wb") as out:
            process = subprocess.Popen(
                [*argv, "--listen", "127.0.0.1:0", *self._flags],
                env=variables,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        (home / "pid").write_text(str(process.pid))
        # A zombie would look alive: somebody has to wait for it.
        asyncio.get_running_loop().run_in_executor(None, process.wait)

    async def remove(self, worker_id: str) -> None:
        self._ask()
        home = self.folder / worker_id
        stop(home)
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)

    def _ask(self) -> None:
        if not self._reachable:
            raise OutpostFault(f"{self.name} does not answer", outpost=self.name)

    def _homes(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return list(self.folder.iterdir())
        return []

    def _container(self, home: Path) -> Container | None:
        try:
            if (home / "federation").read_text() != self.federation_id:
                return None
        except (FileNotFoundError, NotADirectoryError):
            return None
        if _pid(home) is None:
            return Container(worker_id=home.name, state="stopped", detail="its process has ended")
        address = listening(home)
        return Container(
            worker_id=home.name,
            state="running",
            address=Address(url=f"http://{address}") if address else None,
        )


def stop(home: Path) -> None:
    """End a container as a provider does: all that runs in it, at once."""
    pid = _pid(home)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    looks = 0
    # What was about to fork a moment ago has done so by the next look.
    while looks < QUIET_LOOKS:
        looks = 0 if _kill_all(home) else looks + 1
        time.sleep(LOOK_S)


def _kill_all(home: Path) -> bool:
    """Kill what carries a container's folder: the nursery in its argv, workers in theirs."""
    killed = False
    for found in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (found / "environ").read_bytes() + (found / "cmdline").read_bytes()
            links = f"{home}/".encode() in text or str(home) in str((found / "cwd").readlink())
            if links and int(found.name) != os.getpid() and alive(int(found.name)):
                os.kill(int(found.name), signal.SIGKILL)
                killed = True
    return killed


def address_of(outpost: ProcessContainers, handle: Handle) -> str:
    """Return where a worker's server listens."""
    return listening(outpost.folder / handle.worker_id)


def _pid(home: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((home / "pid").read_text())
        return pid if alive(pid) else None
    return None


def listening(home: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        for line in (home / "said").read_text().splitlines():
            if line.startswith("listening on "):
                return line.removeprefix("listening on ")
    return ""

"""What runs in a machine: a real process with the machine's disk, volumes and variables.

Paths that belong to the image or to the configuration (``/work``, ``/cache``, mounts, files) lie
below a folder of the machine; whatever names such a path in the variables or the command is told
where that is, as nothing here has a file system of its own. ``HOST:PORT`` of a service is turned
into a port of this machine's loopback.

The disk is Fly's: the root file system is made anew of the image with every start ("The root file
systems of a Fly Machine are ephemeral": volumes overview), unless ``rootfs.persist`` says
``restart`` or ``always`` (or it was suspended: that keeps it). What is below a mount stays.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.doubles.cloud_run.container import Container, Content
from tests.doubles.fly.machine import Machine

IMAGE_FOLDERS = ("/work", "/cache")
LISTEN = re.compile(r"^(?:[\w.]*|\[[0-9a-f:]*\]):(\d+)$")
RUNNER = (sys.executable, "-m", "outpost.runner")
KEEPS = ("restart", "always")
POLL_S = 0.005
KILL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image brings along: a command, variables, and the folder that it runs in."""

    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ("runner", "serve")
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"HOME": "/work/home", "OUTPOST_SERVE_ROOT": "/work"}
    )
    folder: str = "/work"


class Inside(Container):
    """A container whose command is known to run."""

    async def begin(self) -> None:
        """Start the command, and return once it runs or has ended; raises ``OSError``."""
        await self.start()
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        while self.alive:
            with contextlib.suppress(OSError):
                if children.read_text():
                    return
            await asyncio.sleep(POLL_S)


class Guest:
    """The inside of a machine. ``answers``: its port has taken a connection."""

    def __init__(self, machine: Machine, image: Image, folder: Path, port: int) -> None:
        self.machine = machine
        self.oom = self.answers = False
        self.root = folder / "root"
        self._image = image
        self._config: dict[str, Any] = machine.config
        self._volumes: Mapping[str, Path] = {}
        self.container = Inside(Content(argv=()), self.root, folder / "output.txt")
        self.container.port = self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(
        self, base: Mapping[str, str], volumes: Mapping[str, Path], *, keep: bool
    ) -> None:
        """Make the disk and start the command; raises ``OSError`` where it cannot be."""
        self._volumes = volumes
        if not keep and not self._keeps:
            await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)
        self._make()
        environment = self._environment(base)
        Path(environment.get("HOME", self.root)).mkdir(parents=True, exist_ok=True)
        self.container.folder = Path(self._place(self._image.folder))
        self.container.content = Content(argv=self._argv(), environment=environment, listens=False)
        await self.container.begin()

    async def listens(self) -> bool:
        """Whether its port takes connections."""
        if not self.answers and self.container.alive:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                self.answers = True
        return self.answers and self.container.alive

    async def end(self) -> None:
        """Kill everything in it; returns once nothing of it runs."""
        pause_s = KILL_S
        while self.container.alive:
            # Again and again: what has just begun may miss it once. Less often where many end.
            self.container.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self.container.ended()
            pause_s *= 2

    def signal(self, name: str) -> None:
        """Send a signal to the command."""
        number = signal.Signals[name]
        if number is signal.SIGKILL:
            self.container.kill()
            return
        self.container.thaw()
        if pids := self.container.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[0], number)

    async def execute(
        self, command: Sequence[str], stdin: str, base: Mapping[str, str]
    ) -> dict[str, Any]:
        """Run a command in here and return its ``ExecResponse``; cancelling kills it."""
        process = await asyncio.create_subprocess_exec(
            *(self._inside(word) for word in command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(base),
            cwd=self._place(self._image.folder),
            start_new_session=True,
        )
        try:
            out, err = await process.communicate(stdin.encode())
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        code = process.returncode or 0
        said = {"stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace")}
        return {"exit_code": max(code, 0), "exit_signal": max(-code, 0), **said}

    def remove(self) -> None:
        shutil.rmtree(self.root.parent, ignore_errors=True)

    @property
    def _keeps(self) -> bool:
        persist = (self._config.get("rootfs") or {}).get("persist")
        guest = self._config.get("guest") or {}
        return (persist or guest.get("persist_rootfs")) in KEEPS

    def _make(self) -> None:
        """Have the image's folders, the mounts and the files be there."""
        for path in (*IMAGE_FOLDERS, self._image.folder):
            Path(self._below(path)).mkdir(parents=True, exist_ok=True)
        for path, volume in self._volumes.items():
            link = Path(self._below(path))
            if not link.is_symlink():
                shutil.rmtree(link, ignore_errors=True)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(volume)
        for file in self._config.get("files") or ():
            place = Path(self._place(file["guest_path"]))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(base64.b64decode(file.get("raw_value", "")))
            place.chmod(file.get("mode") or 0o644)

    def _argv(self) -> list[str]:
        init = self._config.get("init") or {}
        entrypoint = init.get("entrypoint") or self._image.entrypoint
        words = init.get("exec") or [*entrypoint, *(init.get("cmd") or self._image.cmd)]
        program, arguments = words[0], [self._inside(word) for word in words[1:]]
        if program == "runner":
            return [*RUNNER, *arguments]
        # A program of this very machine is that, wherever it lies.
        return [program if Path(program).is_file() else self._inside(program), *arguments]

    def _environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return what the command finds: what ``base`` says, what Fly and the image tell of it."""
        machine, guest = self.machine, self._config.get("guest") or {}
        known = {
            "FLY_MACHINE_ID": machine.id,
            "FLY_ALLOC_ID": machine.id,
            "FLY_MACHINE_VERSION": machine.version,
            "FLY_REGION": machine.region,
            "FLY_IMAGE_REF": self._config.get("image", ""),
            "FLY_VM_MEMORY_MB": str(guest.get("memory_mb", "")),
        }
        given = {**self._image.environment, **(self._config.get("env") or {})}
        own = {name: self._inside(value) for name, value in given.items()}
        return {**base, **known, **own, "PORT": str(self.port)}

    def _inside(self, text: str) -> str:
        """Return a text with a path or an address of the machine as it is here."""
        if (listen := LISTEN.match(text)) and int(listen[1]) in self._ports():
            return f"127.0.0.1:{self.port}"
        files = [it["guest_path"] for it in self._config.get("files") or ()]
        own = {*IMAGE_FOLDERS, *self._volumes, *files, *(str(Path(it).parent) for it in files)}
        if any(text == it or text.startswith(f"{it}/") for it in own - {"/"}):
            return self._place(text)
        return text

    def _ports(self) -> set[int]:
        services = self._config.get("services") or ()
        return {8080} | {it["internal_port"] for it in services if "internal_port" in it}

    def _place(self, path: str) -> str:
        """Return where a path of the machine lies: in a volume, or on its own disk."""
        for mount in sorted(self._volumes, key=len, reverse=True):
            if path == mount or path.startswith(f"{mount}/"):
                return f"{self._volumes[mount]}{path[len(mount) :]}"
        return self._below(path)

    def _below(self, path: str) -> str:
        return f"{self.root}/{path.strip('/')}"

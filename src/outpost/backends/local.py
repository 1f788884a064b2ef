"""Workers on this machine, in detached tmux sessions on a tmux server of their own."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

import outpost
from outpost.errors import NotOurs
from outpost.model import Capabilities, Handle, Health, Quote, Task
from outpost.ports import Setup
from outpost.runner.disk import check_room
from outpost.runner.main import probe
from outpost.transports.machine import machine_id
from outpost.transports.place import ShellPlace
from outpost.transports.shell import ShellOutpost, ShellWorker
from outpost.transports.this_machine import ThisMachine

TMUX_VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "TMUX_TMPDIR",
)


RUN_INSTALLED = (
    "import sys; sys.path.insert(0, sys.argv[1]); from outpost.runner.main import main;"
    " sys.exit(main(sys.argv[2:]))"
)


class LocalOptions(BaseModel):
    """What ``type: local`` takes besides what every outpost takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str | None = Field(default=None, description="Folder for caches, workspaces and logs.")
    tmux: str = Field(default="tmux", description="The tmux program.")
    python: str | None = Field(default=None, description="The Python that runs the runner.")
    min_free_mib: int = Field(
        default=1024, ge=0, description="No work is taken with less room on the disk; 0: always."
    )
    cache_max_mib: int | None = Field(
        default=20480, ge=0, description="How large all caches may be; null: as large as they get."
    )


class LocalOutpost(ShellOutpost):
    """Workers on this machine."""

    kind: ClassVar[str] = "local"
    capabilities: ClassVar[Capabilities] = Capabilities(attach=True, send=True, stop=True)
    Options: ClassVar[type[BaseModel]] = LocalOptions

    def __init__(
        self,
        setup: Setup,
        options: LocalOptions,
    ) -> None:
        self.name = setup.name
        default_root = Path(setup.data_folder) / "outposts" / setup.name
        root = Path(options.root).expanduser() if options.root else default_root
        self._tmux = options.tmux
        self._found: dict[str, str] = {}
        self._place = ShellPlace(
            shell=ThisMachine(),
            root=str(root.absolute()),
            python=options.python or sys.executable,
            tmux=options.tmux,
            socket=f"outpost-{setup.federation_id}",
            federation_id=setup.federation_id,
            is_here=True,
            machine=machine_id(),
            cache_max_mib=options.cache_max_mib,
            min_free_mib=options.min_free_mib,
            environment={
                "TERM": "screen-256color",
                "PATH": os.defpath,
                **{key: value for key, value in setup.environment.items() if key in TMUX_VARIABLES},
            },
        )

    def place(self) -> ShellPlace:
        return self._place

    def worker(self, handle: Handle) -> ShellWorker:
        """Raise ``NotOurs`` for a worker on another machine that shares our store."""
        ours = self._place.machine
        if handle.data.get("machine", ours) != ours:
            raise NotOurs(
                f"worker {handle.worker_id} runs on another machine, whose outpost is called"
                f" {self.name} too",
                outpost=self.name,
                hint="give each machine's outpost a name of its own",
            )
        return super().worker(handle)

    async def ping(self) -> Health:
        path = self._place.environment["PATH"]
        for program in (self._tmux, "git", self._place.python):
            if os.access(self._found.get(program, ""), os.X_OK):
                continue
            self._found[program] = shutil.which(program, path=path) or ""
            if not self._found[program]:
                hint = f"install {program}, for example: sudo apt-get install {program}"
                if program == self._place.python:
                    hint = "say another python: for this outpost in the configuration"
                return Health(ok=False, detail=f"{program} is not installed", hint=hint)
        try:
            check_room(self._place.root, self._place.min_free_mib or 0)
        except OSError as exc:
            return Health(ok=False, detail=str(exc), hint="outpost prune")
        return Health(ok=True)

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="this machine")

    async def probe_at(self, root: str, worker_id: str | None = None) -> list[dict[str, str]]:
        """Look without starting a process: the runner's own code does it in this one."""
        federation_id = self._place.federation_id
        return list(await asyncio.to_thread(probe_all, root, federation_id, worker_id))

    def reading_program(self) -> Sequence[str]:
        """Run the installed package: where there is nothing, a look leaves nothing behind."""
        return ("-B", "-c", RUN_INSTALLED, str(Path(outpost.__file__).parent.parent))


def probe_all(root: str, federation_id: str, worker_id: str | None) -> list[dict[str, str]]:
    """Return all that ``probe`` yields."""
    return list(probe(root, federation_id, worker_id))

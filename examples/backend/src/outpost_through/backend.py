"""The backend of kind ``through``: a place, and what may be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from outpost.errors import OutpostFault, Unsupported
from outpost.model import Capabilities, Handle, Health, Quote, Task
from outpost.ports import Setup
from outpost.transports.place import ShellPlace
from outpost.transports.shell import ShellOutpost, ShellWorker
from outpost_through.shell import ThroughShell

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MISSING = """\
for program in "$@"; do
  command -v "$program" >/dev/null || echo "$program"
done
"""


class ThroughOptions(BaseModel):
    """What ``type: through`` takes besides what every outpost takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: list[str] = Field(min_length=1, description="What runs a command at the place.")
    root: str = Field(pattern="^/", description="A folder there for caches, workspaces and logs.")
    python: str = Field(default="python3", description="The Python there, 3.10 or later.")


class ThroughOutpost(ShellOutpost):
    """Workers wherever a command leads to."""

    kind: ClassVar[str] = "through"
    capabilities: ClassVar[Capabilities] = Capabilities(attach=False, send=True, stop=True)
    Options: ClassVar[type[BaseModel]] = ThroughOptions

    def __init__(self, setup: Setup, options: ThroughOptions) -> None:
        self.name = setup.name
        self._options = options
        self._place = ShellPlace(
            shell=ThroughShell(options.command),
            root=options.root,
            python=options.python,
            tmux="false",  # nobody can attach, so there is no session to open
            socket=f"outpost-{setup.federation_id}",
            federation_id=setup.federation_id,
            environment={"PATH": PATH},
        )

    def place(self) -> ShellPlace:
        return self._place

    def worker(self, handle: Handle) -> ShellWorker:
        super().worker(handle)
        return ThroughWorker(self, handle)

    async def ping(self) -> Health:
        try:
            done = await self.run(["sh", "-c", MISSING, "sh", self._options.python, "git"])
        except OutpostFault as exc:
            return Health(ok=False, detail=exc.message)
        if missing := done.stdout.decode().split():
            return Health(ok=False, detail=f"not installed there: {', '.join(missing)}")
        if done.exit_code:
            command = " ".join(self._options.command)
            return Health(ok=False, detail=f"'{command}' exited with {done.exit_code}")
        return Health(ok=True)

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="a place of our own")


class ThroughWorker(ShellWorker):
    """A worker that has no live view."""

    async def attach(self) -> Sequence[str]:
        raise Unsupported(f"nobody can attach to {self.id}", hint=f"outpost logs -f {self.id}")

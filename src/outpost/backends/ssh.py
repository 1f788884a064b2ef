"""Workers on a machine reached over SSH, as if it were this one."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from outpost.errors import OutpostFault
from outpost.model import Capabilities, Handle, Health, Quote, Task
from outpost.ports import Setup
from outpost.transports.desk import DeskShell
from outpost.transports.fitness import LOOK, judge
from outpost.transports.shell import ShellOutpost, ShellPlace
from outpost.transports.ssh import Address, open_pipe
from outpost.wire.orders import Environment, Limits, WorkOrder

LOOK_EVERY_S = 20.0
POLL_S = 0.3


class SshOptions(BaseModel):
    """What ``type: ssh`` takes besides what every outpost takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        pattern=r"^[^\s\-@][^\s@]*$", description="Name or address, or an alias of ~/.ssh/config."
    )
    user: str | None = Field(
        default=None, pattern=r"^[^\s\-][^\s]*$", description="Who to log in as."
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of its sshd.")
    ssh_key: str | None = Field(
        default=None, description="File of the private key; else those of agent and ~/.ssh."
    )
    ssh_config: str | None = Field(
        default=None, description="SSH settings instead of ~/.ssh/config."
    )
    known_hosts: str | None = Field(
        default=None, description="File of known host keys instead of ~/.ssh/known_hosts."
    )
    host_key: str | None = Field(
        default=None, description="The only host key it may have, as in a known_hosts file."
    )
    work_dir: str = Field(
        default="~/.outpost", description="Folder there for caches, workspaces and logs."
    )
    town_path: str | None = Field(default=None, description="The same by an older name.")
    python: str | None = Field(default=None, description="The Python there, 3.10 or newer.")
    tmux: str = Field(default="tmux", description="The tmux program there.")
    env: Mapping[str, str] = Field(
        default_factory=dict, description="Variables of workers there; no secrets."
    )
    min_free_mib: int = Field(
        default=1024, ge=0, description="No work is taken with less room on its disk; 0: always."
    )
    cache_max_mib: int | None = Field(
        default=20480, ge=0, description="How large all caches may be; null: as large as they get."
    )
    push_via: Literal["worker", "controller"] = Field(
        default="worker",
        description="Who pushes; with controller the machine needs no way to the repository.",
    )


class SshOutpost(ShellOutpost):
    """Workers on a machine reached over SSH."""

    kind: ClassVar[str] = "ssh"
    capabilities: ClassVar[Capabilities] = Capabilities(attach=True, send=True, stop=True)
    Options: ClassVar[type[BaseModel]] = SshOptions

    def __init__(self, setup: Setup, options: SshOptions) -> None:
        self.name = setup.name
        self._setup = setup
        self._options = options
        self._address = Address(
            host=options.host,
            user=options.user,
            port=options.port,
            ssh_key=options.ssh_key,
            ssh_config=options.ssh_config,
            known_hosts=options.known_hosts,
            host_key=options.host_key,
            home=setup.environment.get("HOME"),
            agent=setup.environment.get("SSH_AUTH_SOCK"),
        )
        opener = partial(open_pipe, self._address, options.python)
        self._shell = DeskShell(opener, name=self._address.shown())
        self.traffic = self._shell.traffic
        self._facts: Mapping[str, Any] = {}
        self._place: ShellPlace | None = None

    def place(self) -> ShellPlace:
        assert self._place, "not reached yet"
        return self._place

    async def reach(self) -> ShellPlace:
        """Return where workers run there; connects if need be, else asks nothing."""
        try:
            facts = await self._shell.facts()
        except OSError as exc:
            raise self.fault(exc) from exc
        if self._place is None or facts != self._facts:
            self._facts, self._place = facts, self._placed(facts)
        return self._place

    async def close(self) -> None:
        await self._shell.close()

    async def ping(self) -> Health:
        try:
            place = await self.reach()
            argv = ["sh", "-c", LOOK, "sh", place.root, "git", self._options.tmux]
            looked = await self.run(argv)
        except OutpostFault as exc:
            return Health(ok=False, detail=exc.message, hint=exc.hint)
        return judge(looked.stdout.decode("utf-8", "replace"), self._options.min_free_mib)

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        limits: Limits = {**order["limits"], "min_free_mib": self._options.min_free_mib}
        return await super().spawn({**order, "limits": limits}, environment)

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="a machine of your own")

    def on_terminal(self, argv: Sequence[str]) -> Sequence[str]:
        options = self._address.options()
        if key := self._address.host_key:
            path = Path(self._setup.data_folder) / "ssh" / f"{self.name}.known_hosts"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"* {key}\n")
            options += ["-o", f"UserKnownHostsFile={path}"]
        strict = ("-o", "StrictHostKeyChecking=yes", "-o", "ForwardAgent=no")
        return ["ssh", "-t", *strict, *options, self._address.host, shlex.join(argv)]

    def _placed(self, facts: Mapping[str, Any]) -> ShellPlace:
        home, options = str(facts["home"]), self._options
        folder = options.town_path or options.work_dir
        variables = {**facts["variables"], "HOME": home, "TERM": "screen-256color"}
        # Where programs for one user go, and where sshd does not look.
        variables["PATH"] = f"{facts['path']}:{home}/.local/bin"
        return ShellPlace(
            shell=self._shell,
            root=posixpath.join(home, folder.removeprefix("~/")),
            python=str(facts["python"]),
            tmux=options.tmux,
            socket=f"outpost-{self._setup.federation_id}",
            federation_id=self._setup.federation_id,
            environment={**variables, **options.env},
            cache_max_mib=options.cache_max_mib,
            machine=str(facts["machine"]),
            look_every_s=LOOK_EVERY_S,
            poll_s=POLL_S,
        )

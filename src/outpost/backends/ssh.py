"""Workers on a machine reached over SSH, as if it were this one."""

from __future__ import annotations

import asyncio
import os
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from outpost.errors import OutpostFault, Rejected
from outpost.model import Capabilities, Health, Quote, Task
from outpost.ports import Greeting, Setup
from outpost.transports.desk import DeskShell
from outpost.transports.desk_link import Patience
from outpost.transports.desk_outpost import DeskOutpost
from outpost.transports.files import FileHere
from outpost.transports.fitness import LOOK, judge
from outpost.transports.place import ShellPlace
from outpost.transports.relay import RelayedOutpost
from outpost.transports.ssh import FINGERPRINT, Address, SshPipe, meet, open_pipe

if TYPE_CHECKING:
    from outpost.transports.host_keys import HostKey

CONNECT_S = 10.0
LOOK_EVERY_S = 20.0
POLL_S = 0.3
GREET_S = 15.0
# The user's own settings for the machine may want more than a terminal there.
PLAIN = ("ForwardAgent=no", "ClearAllForwardings=yes", "RemoteCommand=none")
KNOWN_TERMINAL = "infocmp >/dev/null 2>&1; [ $? = 1 ] && export TERM=xterm-256color"


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
    ssh_key: FileHere | None = Field(
        default=None, description="File of the private key; else those of agent and ~/.ssh."
    )
    ssh_config: FileHere | None = Field(
        default=None, description="SSH settings instead of ~/.ssh/config."
    )
    known_hosts: FileHere | None = Field(
        default=None, description="File of known host keys instead of ~/.ssh/known_hosts."
    )
    host_key: str | None = Field(
        default=None,
        description="The only host key it may have, as in a known_hosts file; outpost add"
        " takes its SHA256 fingerprint, too.",
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


class SshOutpost(DeskOutpost, RelayedOutpost):
    """Workers on a machine reached over SSH."""

    kind: ClassVar[str] = "ssh"
    capabilities: ClassVar[Capabilities] = Capabilities(attach=True, send=True, stop=True)
    Options: ClassVar[type[BaseModel]] = SshOptions

    def __init__(self, setup: Setup, options: SshOptions) -> None:
        self.mirrors = str(Path(setup.data_folder) / "mirrors")
        self.push_via = options.push_via
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
        patience = Patience(connect_s=CONNECT_S)
        shell = DeskShell(self._open, name=self._address.shown(), patience=patience)
        super().__init__(setup.name, shell, called=setup.name)
        self.traffic = shell.traffic
        self._host_key: HostKey | None = None

    async def greet(self) -> Greeting | None:
        address, agreed = self._address, ""
        if address.host_key and address.host_key.startswith(FINGERPRINT):
            # A machine that files of known hosts know is to have this very key, too.
            agreed = address.host_key
            address = replace(address, host_key=None, known_hosts=os.devnull)
        try:
            key = await asyncio.wait_for(meet(address), GREET_S)
        except TimeoutError as exc:
            fault = self.fault(TimeoutError(f"no connection within {GREET_S:g} s"))
            raise _only_then(fault, agreed) from exc
        except OSError as exc:
            raise _only_then(self.fault(exc), agreed) from exc
        if key is None:
            return None
        if agreed and agreed != key.fingerprint:
            what = f"{address.shown()} has another host key: {key}"
            hint = "it is not the machine whose fingerprint you have, or that was made anew"
            raise Rejected(what, outpost=self.name, hint=hint)
        name = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(key.kind, "ecdsa")
        return Greeting(
            lines=(
                f"the host key of {address.shown()} is {'' if agreed else 'not known: '}{key}",
                f"on the machine this shows it: ssh-keygen -lf /etc/ssh/ssh_host_{name}_key.pub",
            ),
            question="" if agreed else "Is this the machine?",
            options={"host_key": key.line},
            hint=f"if it is the machine: --host-key '{key.line}'",
        )

    async def ping(self) -> Health:
        try:
            place = await self.reach()
            argv = ["sh", "-c", LOOK, "sh", place.root, "git", self._options.tmux]
            looked = await self.run(argv)
        except OutpostFault as exc:
            return Health(ok=False, detail=exc.message, hint=exc.hint)
        health = judge(looked.stdout.decode("utf-8", "replace"), self._options.min_free_mib)
        python = f"Python {self._facts['version']}"
        return replace(health, detail=f"{python}, {health.detail}") if health.ok else health

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="a machine of your own")

    def on_terminal(self, argv: Sequence[str]) -> Sequence[str]:
        environment = self.place().environment
        there = {"LC_CTYPE": "C.UTF-8"}
        there |= {key: environment[key] for key in ("PATH", "TMUX_TMPDIR") if key in environment}
        command = shlex.join(["env", *(f"{key}={value}" for key, value in there.items()), *argv])
        # One word for the user's shell there, whichever that is.
        script = shlex.join(["sh", "-c", f"{KNOWN_TERMINAL}; exec {command}"])
        said = [it for setting in (*self._trusting(), *PLAIN) for it in ("-o", setting)]
        return ["ssh", "-t", *said, *self._address.options(), self._address.host, script]

    def _trusting(self) -> Sequence[str]:
        """Return the settings that make the program ``ssh`` trust the machine we talk to, only."""
        assert self._host_key, "not reached yet"
        path = Path(self._setup.data_folder) / "ssh" / f"{self.name}.known_hosts"
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(f"* {self._host_key.line}\n")
        new.replace(path)
        file = str(path).replace("%", "%%")
        return (f'UserKnownHostsFile="{file}"', "StrictHostKeyChecking=yes")

    async def _open(self) -> SshPipe:
        pipe = await open_pipe(self._address, self._options.python)
        self._host_key = pipe.host_key
        return pipe

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
            min_free_mib=options.min_free_mib,
            machine=str(facts["machine"]),
            look_every_s=LOOK_EVERY_S,
            poll_s=POLL_S,
        )


def _only_then(fault: OutpostFault, agreed: str) -> OutpostFault:
    """Return what it means that the machine cannot be asked, if a fingerprint was ``agreed`` to."""
    if not agreed or isinstance(fault, Rejected):
        return fault
    return Rejected(
        f"{fault.message}: the fingerprint can be compared only when it does",
        outpost=fault.outpost,
        hint="give the whole key to --host-key, or try again once the machine answers",
    )

"""Machines reached over SSH: each a real ``sshd`` with a home, programs and keys of its own.

By default a host listens on a loopback port. With ``line=True`` it is in a network namespace of its
own, at the other end of a line that can be cut and made bad (``tests/ssh_way.py``; it stands in for
``tc netem``, which many kernels lack). All share this machine's files, so what a host has can be
looked at from here, and the remote of a world is reached by its path.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import pwd
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outpost.federation import Federation
from tests.ssh_hosts import SSHD, Client, Host
from tests.ssh_line import LINES, Line, skip
from tests.world import World, end_left, found_in

USER = pwd.getpwuid(os.getuid()).pw_name


class SshWorld:
    """Hosts around a world whose user has keys to them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = Client(Path(world.environment["HOME"]))
        self.hosts: list[Host] = []
        self._lines: list[Line] = []
        self._last_acts: list[Callable[[], object]] = []

    def host(
        self,
        name: str,
        *,
        line: bool = False,
        behind: Host | None = None,
        known: bool = True,
        prepare: Callable[[Host], None] | None = None,
        **options: str,
    ) -> Host:
        """Start a host; ``prepare`` may change it first, ``options`` are of its ``sshd``.

        One that is ``behind`` another can be reached from there only.
        """
        own = Line() if line else None
        if own:
            self._lines.append(own)
        host = Host(
            name=name,
            folder=self.world.folder / "hosts" / name,
            authorized=self.client.key.with_suffix(".pub").read_text().strip(),
            line=own,
            inside=behind.line if behind else None,
            options=options,
        )
        self.hosts.append(host)
        identity = Path(self.world.environment["GIT_CONFIG_GLOBAL"])
        shutil.copyfile(identity, host.home / ".gitconfig")
        if prepare:
            prepare(host)
        host.start()
        if known:
            self.client.trust(host)
        return host

    def options(self, host: Host) -> dict[str, object]:
        """Return what a configuration says of a host besides its name and kind."""
        return {
            "host": host.address,
            "port": host.port,
            "user": USER,
            "ssh_key": str(self.client.key),
            "min_free_mib": 0,
        }

    def config(self, *hosts: Host, more: str = "", **options: object) -> str:
        """Return a configuration that prefers hosts in this order; ``options`` are for each.

        One that is ``None`` is left out.
        """
        lines = ["outposts:"]
        for host in hosts:
            said = {"type": "ssh", "max_workers": 40, **self.options(host), **options}
            lines.append(f"  - name: {host.name}")
            lines += [f"    {key}: {json.dumps(it)}" for key, it in said.items() if it is not None]
        names = ", ".join(host.name for host in hosts)
        lines += ["policy:", f"  default_preference: [{names}]", "defaults: {stop_grace: 4s}"]
        return "\n".join([*lines, more]) + "\n"

    def federation(self, *hosts: Host, more: str = "", **options: object) -> Federation:
        """Return a federation of these hosts; see ``config``."""
        return self.world.federation(config=self.config(*hosts, more=more, **options))

    def at_the_end(self, act: Callable[[], object]) -> None:
        """Do something once all hosts have ended."""
        self._last_acts.append(act)

    def end(self) -> None:
        """End all hosts; fail if a worker that should have ended left something there."""
        ids = {it.name for host in self.hosts for it in found_in("workers", "w-*", host.home)}
        # Each of these is tried, whatever becomes of the others; the last comes first.
        with contextlib.ExitStack() as acts:
            for act in self._last_acts:
                acts.callback(act)
            for line in self._lines:
                acts.callback(line.close)
            acts.callback(end_left, str(self.world.folder / "hosts"), ids)
            for host in self.hosts:
                acts.callback(host.clear)
                acts.callback(host.stop)
            for line in self._lines:
                acts.callback(line.mend)


@contextlib.contextmanager
def ssh_world(world: World) -> Iterator[SshWorld]:
    """Yield hosts that are ended with the block; this process may reach them by their lines."""
    if not Path(SSHD).exists():
        skip("sshd is not installed")
    # Its only folder outside: it will not start without one, and keeps nothing there.
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    made = SshWorld(world)
    shut_in = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_INET and ipaddress.ip_address(address[0]) in LINES:
            super(socket.socket, self).connect(address)
        else:
            shut_in(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setenv("HOME", world.environment["HOME"])
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        try:
            yield made
        finally:
            made.end()

"""The way to a machine over SSH: one connection, one session on it, and a desk in that session.

The user's own ``~/.ssh/config``, agent and ``known_hosts`` hold, as far as asyncssh knows them. The
agent is asked for signatures, never lent to the machine.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outpost.transports.desk_start import bootstrap_argv
from outpost.transports.shell import Refused

if TYPE_CHECKING:
    import asyncssh

READ_BYTES = 1 << 17
LOGIN_S = 25.0
KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a machine is and how it lets us in; what is ``None`` is the user's SSH settings'.

    ``host`` may be an alias of the settings. ``host_key`` (as in a ``known_hosts`` file: type and
    base64) is the only key that the machine may have; without it ``known_hosts`` says. ``home`` is
    the user's home on this machine, ``agent`` the socket of the SSH agent.
    """

    host: str
    user: str | None = None
    port: int | None = None
    ssh_key: str | None = None
    ssh_config: str | None = None
    known_hosts: str | None = None
    host_key: str | None = None
    home: str | None = None
    agent: str | None = None

    def shown(self) -> str:
        """Return it in a form that people know."""
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}{f':{self.port}' if self.port else ''}"

    def config_path(self) -> Path | None:
        """Return the user's SSH settings, if there are any."""
        if self.ssh_config:
            return self.expanded(self.ssh_config)
        usual = self._dot_ssh("config")
        return usual if usual and usual.exists() else None

    def known_hosts_path(self) -> Path | None:
        """Return the file with the keys of known machines, if one is named or there."""
        if self.known_hosts:
            return self.expanded(self.known_hosts)
        usual = self._dot_ssh("known_hosts")
        return usual if usual and usual.exists() else None

    def keys(self) -> list[str]:
        """Return the private keys to try besides those that the settings name."""
        if self.ssh_key:
            return [str(self.expanded(self.ssh_key))]
        usual = [path for name in KEYS if (path := self._dot_ssh(name)) and path.exists()]
        return [str(path) for path in usual]

    def options(self) -> list[str]:
        """Return the options that lead the program ``ssh`` the same way, but for the host key."""
        options = []
        for flag, value in (("-l", self.user), ("-p", self.port)):
            options += [flag, str(value)] if value else []
        if self.ssh_key:
            options += ["-i", self.keys()[0], "-o", "IdentitiesOnly=yes"]
        if self.ssh_config:
            options += ["-F", str(self.expanded(self.ssh_config))]
        if self.known_hosts and not self.host_key:
            options += ["-o", f"UserKnownHostsFile={self.expanded(self.known_hosts)}"]
        return options

    def expanded(self, path: str) -> Path:
        """Return a path of this machine, ``~`` replaced."""
        if path.startswith("~/") and self.home:
            return Path(self.home, path[2:])
        return Path(path).expanduser()

    def _dot_ssh(self, name: str) -> Path | None:
        return Path(self.home, ".ssh", name) if self.home else None


class SshPipe:
    """The session's stdin and stdout; see ``desk_link.Pipe``."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        process: asyncssh.SSHClientProcess[bytes],
    ) -> None:
        self._connection = connection
        self._process = process

    async def read(self) -> bytes:
        with _as_os_errors():
            data: bytes = await self._process.stdout.read(READ_BYTES)
            return data

    async def write(self, data: bytes) -> None:
        with _as_os_errors():
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close(self) -> None:
        with contextlib.suppress(OSError), _as_os_errors():
            self._process.stdin.write_eof()
        self._connection.close()
        await self._connection.wait_closed()


async def open_pipe(address: Address, python: str | None = None) -> SshPipe:
    """Connect, and start what a desk comes to life from.

    Raises ``Refused`` where the machine is not the one we know, or does not know us, and another
    ``OSError`` where it is out of reach.
    """
    import asyncssh  # noqa: PLC0415 - takes a fifth of a second to load

    try:
        with _as_os_errors():
            connection = await asyncssh.connect(**_arguments(address))
            try:
                process = await connection.create_process(
                    shlex.join(bootstrap_argv(python)), encoding=None, stderr=asyncssh.DEVNULL
                )
            except BaseException:
                connection.abort()
                raise
    except asyncssh.HostKeyNotVerifiable as exc:
        raise _not_known(address, exc) from exc
    except asyncssh.PermissionDenied as exc:
        raise _not_let_in(address) from exc
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as exc:
        hint = "check ssh_key; a key with a passphrase goes into the agent: ssh-add"
        keys = ", ".join(address.keys()) or "of the SSH settings"
        what = f"the key {keys} for {address.shown()} cannot be used: {exc}"
        raise Refused(what, hint=hint) from exc
    except asyncssh.ConfigParseError as exc:
        hint = f"look at {address.config_path()}"
        raise Refused(f"the SSH settings cannot be used: {exc}", hint=hint) from exc
    return SshPipe(connection, process)


def _arguments(address: Address) -> Mapping[str, Any]:
    config = address.config_path()
    given: dict[str, Any] = {
        "host": address.host,
        "username": address.user,
        "port": address.port,
        "known_hosts": _known_hosts(address),
        "agent_path": address.agent,
        "login_timeout": LOGIN_S,
    }
    # What is not given the settings may say; "no agent" is something to say, too.
    named = {key: value for key, value in given.items() if value is not None}
    keys = address.keys()
    if address.ssh_key and not Path(keys[0]).exists():
        raise Refused(f"there is no key {keys[0]}", hint="check ssh_key of the outpost")
    if keys and (address.ssh_key or config is None):
        named["client_keys"] = keys
    return {
        "agent_path": None,
        **named,
        "config": [str(config)] if config else None,
        "agent_forwarding": False,
        "compression_algs": ["zlib@openssh.com", "none"],
    }


def _known_hosts(address: Address) -> object:
    """Return what tells known machines from others, as asyncssh takes it."""
    import asyncssh  # noqa: PLC0415 - as above

    if address.host_key:
        try:
            return ([asyncssh.import_public_key(address.host_key)], [], [])
        except asyncssh.KeyImportError as exc:
            hint = "host_key is the key's type and its base64 text, as in a known_hosts file"
            raise Refused(f"the host_key of {address.shown()} is no key: {exc}", hint=hint) from exc
    path = address.known_hosts_path()
    if path is None and address.config_path() is None:
        # Nothing is known: nothing is trusted.
        return ([], [], [])
    if address.known_hosts and path and not path.exists():
        raise Refused(f"there is no file {path}", hint="check known_hosts of the outpost")
    return str(path) if path else None


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn trouble of the connection into ``OSError``; what the user can mend stays as it is."""
    import asyncssh  # noqa: PLC0415 - as above

    try:
        yield
    except (
        asyncssh.HostKeyNotVerifiable,
        asyncssh.PermissionDenied,
        asyncssh.KeyImportError,
        asyncssh.KeyEncryptionError,
        asyncssh.ConfigParseError,
    ):
        raise
    except asyncssh.Error as exc:
        raise ConnectionError(str(exc) or type(exc).__name__) from exc


def _not_known(address: Address, why: Exception) -> Refused:
    name = f"[{address.host}]:{address.port}" if address.port else address.host
    if address.host_key:
        return Refused(
            f"{address.shown()} has another host key than host_key says",
            hint="if the machine was made anew, take its new key: outpost add ssh shows it;"
            " otherwise somebody may stand in between",
        )
    del why
    by_hand = " ".join(["ssh", *address.options(), address.host])
    return Refused(
        f"the host key of {address.shown()} is not known, or another one than is known",
        hint=f"look at it and say yes: {by_hand}\n"
        f"if the machine was made anew, before that: ssh-keygen -R '{name}'",
    )


def _not_let_in(address: Address) -> Refused:
    tried = [*address.keys(), *(["the SSH agent's"] if address.agent else [])]
    return Refused(
        f"{address.shown()} does not let us in with any key: tried"
        f" {', '.join(tried) or 'those of the SSH settings'}",
        hint=f"put your public key there: ssh-copy-id {address.shown()}, or name another ssh_key",
    )

"""The way to a machine over SSH: one connection, one session on it, and a desk in that session.

The user's own ``~/.ssh/config``, agent and ``known_hosts`` hold, as far as asyncssh knows them. The
agent is asked for signatures, never lent to the machine.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outpost.transports.desk_start import bootstrap_argv
from outpost.transports.place import Refused

if TYPE_CHECKING:
    import asyncssh

    from outpost.transports.host_keys import HostKey, Lookup

READ_BYTES = 1 << 17
LOGIN_S = 25.0
KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
FINGERPRINT = "SHA256:"


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
        return f"{self.account()}{f':{self.port}' if self.port else ''}"

    def account(self) -> str:
        """Return whom to be on which machine, as programs for SSH take it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def config_path(self) -> Path | None:
        """Return the user's SSH settings, if there are any."""
        if self.ssh_config:
            return self.expanded(self.ssh_config)
        usual = self.dot_ssh("config")
        return usual if usual and usual.exists() else None

    def keys(self) -> list[str]:
        """Return the private keys to try besides those that the settings name."""
        if self.ssh_key:
            return [str(self.expanded(self.ssh_key))]
        usual = [path for name in KEYS if (path := self.dot_ssh(name)) and path.exists()]
        return [str(path) for path in usual]

    def options(self) -> list[str]:
        """Return the options that lead the program ``ssh`` the same way, but for a pinned key."""
        # It looks in the account's home, whatever HOME says.
        moved = self.home is not None and self.home != _home_of_account()
        config, known = self.config_path(), self.known_hosts
        if moved and not config:
            known = known or str(self.dot_ssh("known_hosts"))
        options = []
        for flag, value in (("-l", self.user), ("-p", self.port)):
            options += [flag, str(value)] if value else []
        if self.ssh_key:
            options += ["-i", self.keys()[0], "-o", "IdentitiesOnly=yes"]
        elif moved and not config:
            options += [it for key in self.keys() for it in ("-i", key)]
        if config and (self.ssh_config or moved):
            options += ["-F", str(config)]
        if known and not self.host_key:
            options += ["-o", f"UserKnownHostsFile={self.expanded(known)}"]
        return options

    def by_hand(self) -> str:
        """Return the command that leads there by the program ``ssh``."""
        return shlex.join(["ssh", *self.options(), self.host])

    def expanded(self, path: str) -> Path:
        """Return a path of this machine, ``~`` replaced."""
        if path.startswith("~/") and self.home:
            return Path(self.home, path[2:])
        return Path(path).expanduser()

    def dot_ssh(self, name: str) -> Path | None:
        """Return where a file of the user's own SSH settings would be."""
        return Path(self.home, ".ssh", name) if self.home else None


class Unreachable(ConnectionError):
    """There is no way to the machine now; ``hint`` is what to try by hand."""

    def __init__(self, address: Address, why: OSError) -> None:
        number = why.errno or 0
        super().__init__(os.strerror(number) if number > 0 else why.strerror or str(why))
        self.hint = f"try it by hand: {address.by_hand()}"


class NotLetIn(Refused):
    """The machine is the one we know, but takes none of our keys."""


class SshPipe:
    """The session's stdin and stdout; see ``desk_link.Pipe``."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        process: asyncssh.SSHClientProcess[bytes],
        host_key: HostKey | None,
    ) -> None:
        self._connection = connection
        self._process = process
        self.host_key = host_key

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


def _home_of_account() -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_dir
    return ""


async def open_pipe(address: Address, python: str | None = None) -> SshPipe:
    """Connect, and start what a desk comes to life from.

    Raises ``Refused`` where the machine is not the one we know, or does not know us, and another
    ``OSError`` where it is out of reach.
    """
    _load()
    import asyncssh  # noqa: PLC0415 - takes a fifth of a second to load

    from outpost.transports.host_keys import host_key_of  # noqa: PLC0415 - as above

    with _in_our_words(address):
        connection = await _connect(address)
        try:
            process = await connection.create_process(
                shlex.join(bootstrap_argv(python)),
                encoding=None,
                stderr=asyncssh.DEVNULL,
                request_pty=False,
            )
        except BaseException:
            connection.abort()
            raise
    shown = connection.get_server_host_key()
    return SshPipe(connection, process, host_key_of(shown) if shown else None)


async def meet(address: Address) -> HostKey | None:
    """Connect only to see the host key: return one that nobody knows, ``None`` for a known one.

    Raises as ``open_pipe`` does for a key that is not the known one, and where there is no way.
    """
    _load()
    from outpost.transports.host_keys import Unproven  # noqa: PLC0415 - loads asyncssh

    try:
        with _in_our_words(address):
            connection = await _connect(address)
    except NotLetIn:
        return None
    except Unproven as exc:
        if exc.key is None:
            raise
        return exc.key
    connection.abort()
    await connection.wait_closed()
    return None


def _load() -> None:
    """Load what speaks SSH, which is an extra; raises ``Refused`` where it is not installed."""
    try:
        import asyncssh  # noqa: F401, PLC0415 - as above
    except ImportError as exc:
        absent = isinstance(exc, ModuleNotFoundError)
        what = "is not installed" if absent else f"cannot be loaded ({exc})"
        # The command stands in the message, as tables show no hints.
        raise Refused(
            f"asyncssh {what}: pip install '.[ssh]' in the checkout of outpost",
            hint="after that, have it tried again: outpost doctor --fix",
        ) from exc


async def _connect(address: Address) -> asyncssh.SSHClientConnection:
    import asyncssh  # noqa: PLC0415 - as above

    from outpost.transports.host_keys import Witness  # noqa: PLC0415 - as above

    arguments = _arguments(address)
    witness = Witness(address, await _known(address))
    try:
        return await asyncssh.connect(
            **arguments, known_hosts=witness.lookup, client_factory=lambda: witness
        )
    except asyncssh.PermissionDenied:
        raise
    except (asyncssh.DisconnectError, ConnectionError) as exc:
        about_a_key = isinstance(exc, asyncssh.HostKeyNotVerifiable)
        if witness.has_seen_none(exc):
            named = {key: arguments[key] for key in ("host", "port", "config") if key in arguments}
            about_a_key = witness.shows(await asyncssh.get_server_host_key(**named))
        if about_a_key:
            raise witness.objection(exc) from exc
        raise


@contextlib.contextmanager
def _in_our_words(address: Address) -> Iterator[None]:
    """Turn whatever goes wrong on the way to a machine into an ``OSError`` with a hint."""
    import asyncssh  # noqa: PLC0415 - as above

    try:
        with _as_os_errors():
            yield
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
    except Refused:
        raise
    except OSError as exc:
        raise Unreachable(address, exc) from exc


def _arguments(address: Address) -> Mapping[str, Any]:
    config = address.config_path()
    given: dict[str, Any] = {
        "host": address.host,
        "username": address.user,
        "port": address.port,
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


async def _known(address: Address) -> Lookup:
    """Return what tells the known machines from others. Nothing that is not said is trusted."""
    import asyncssh  # noqa: PLC0415 - as above

    from outpost.transports.host_keys import OF_ALL_USERS, from_files, only  # noqa: PLC0415

    if address.host_key:
        try:
            return only(address.host_key)
        except asyncssh.KeyImportError as exc:
            hint = "host_key is the key's type and its base64 text, as in a known_hosts file"
            raise Refused(f"the host_key of {address.shown()} is no key: {exc}", hint=hint) from exc
    if address.known_hosts:
        path = address.expanded(address.known_hosts)
        if not path.exists():
            raise Refused(f"there is no file {path}", hint="check known_hosts of the outpost")
        return from_files([path])
    return from_files([*await _usual_known_hosts(address), OF_ALL_USERS])


async def _usual_known_hosts(address: Address) -> list[Path]:
    """Return the user's files of known hosts: those that the SSH settings name, else the usual."""
    import asyncssh  # noqa: PLC0415 - as above

    arguments = {**_arguments(address), "client_keys": None}
    settings = (await asyncssh.SSHClientConnectionOptions.construct(**arguments)).config
    named: Any = settings.get("UserKnownHostsFile", None)
    if named is None:
        return [path for path in [address.dot_ssh("known_hosts")] if path]
    return [address.expanded(path) for path in named]


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn trouble of the connection into ``OSError``; what the user can mend stays as it is."""
    import asyncssh  # noqa: PLC0415 - as above

    try:
        yield
    except (
        asyncssh.PermissionDenied,
        asyncssh.KeyImportError,
        asyncssh.KeyEncryptionError,
        asyncssh.ConfigParseError,
    ):
        raise
    except asyncssh.Error as exc:
        raise ConnectionError(str(exc) or type(exc).__name__) from exc


def _not_let_in(address: Address) -> NotLetIn:
    key = ["-i", *address.keys()] if address.ssh_key else []
    port = ["-p", str(address.port)] if address.port else []
    bring = shlex.join(["ssh-copy-id", *key, *port, address.account()])
    tried = [*address.keys(), *(["the SSH agent's"] if address.agent else [])]
    return NotLetIn(
        f"{address.shown()} does not let us in with any key: tried"
        f" {', '.join(tried) or 'those of the SSH settings'}",
        hint=f"put your public key there: {bring}, or name another ssh_key",
    )

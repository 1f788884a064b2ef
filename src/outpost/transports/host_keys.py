"""Whether the machine at the end of a connection is the one that we mean: its host key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncssh

from outpost.transports.place import Refused

if TYPE_CHECKING:
    from outpost.transports.ssh import Address

Known: TypeAlias = tuple[Sequence[Any], ...]
"""What there is about one machine: keys, authorities, revoked keys, and the like for X.509."""
Lookup: TypeAlias = Callable[[str, str, int | None], Known]
"""Takes name, address and port (``None``: the usual one)."""

OF_ALL_USERS = Path("/etc/ssh/ssh_known_hosts")
REVOKED = "is revoked"  # asyncssh says so in words only
BEWARE = "somebody may stand in between: do not go on unless you know why"


@dataclass(frozen=True, kw_only=True, slots=True)
class HostKey:
    """A machine's key: ``line`` as in a file of known hosts, and its ``fingerprint``."""

    line: str
    fingerprint: str

    @property
    def kind(self) -> str:
        """Its type, such as ``ssh-ed25519``."""
        return self.line.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}"


class Unproven(Refused):
    """The machine does not show a key that we know it by.

    ``key`` is what it shows where nobody knows the machine at all, and ``None`` elsewhere.
    """

    def __init__(self, message: str, *, hint: str, key: HostKey | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


def host_key_of(key: asyncssh.SSHKey) -> HostKey:
    """Return a key in the forms that people and files know."""
    line = " ".join(key.export_public_key().decode().split()[:2])
    return HostKey(line=line, fingerprint=key.get_fingerprint())


def only(line: str) -> Lookup:
    """Return what knows every machine by one key. Raises ``asyncssh.KeyImportError``."""
    key = asyncssh.import_public_key(line)
    return lambda _host, _address, _port: ([key], [], [])


def from_files(paths: Sequence[Path]) -> Lookup:
    """Return what files of known hosts say, as far as they are there. Raises ``Refused``."""
    there = [str(path) for path in paths if path.exists()]
    try:
        known = asyncssh.read_known_hosts(there)
    except (OSError, ValueError) as exc:
        hint = f"look at {' and '.join(there)}"
        raise Refused(f"the keys of known hosts cannot be read: {exc}", hint=hint) from exc
    return known.match


class Witness(asyncssh.SSHClient):
    """Sees what the machine at the end of one connection shows, and what it is known by."""

    def __init__(self, address: Address, lookup: Lookup) -> None:
        self._address = address
        self._lookup = lookup
        self._known_as = ""
        self._known: Known = ()
        self._stranger: asyncssh.SSHKey | None = None

    def lookup(self, host: str, address: str, port: int | None) -> Known:
        """Return what the machine is known by; for ``known_hosts`` of asyncssh."""
        self._known_as = f"[{host}]:{port}" if port else host
        self._known = self._lookup(host, address, port)
        return self._known

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Remember a key that is not among the known ones; asyncssh asks about no other."""
        del host, addr, port
        self._stranger = key
        return False

    def has_seen_none(self, why: Exception) -> bool:
        """Whether the machine has shown no key, though a key may be why there is no connection.

        It showed a certificate of a stranger, or has no key of any type that it is known by, and
        so either side hung up.
        """
        refused = isinstance(why, asyncssh.HostKeyNotVerifiable)
        return bool(self._known_as) and self._stranger is None and any(self._known) is not refused

    def shows(self, key: asyncssh.SSHKey | None) -> bool:
        """Take in what it shows if asked for any key; return whether that is not a known one."""
        self._stranger = None if key is None or key in self._known[0] else key
        return self._stranger is not None

    def objection(self, why: Exception) -> Unproven:
        """Return what is wrong with a key that there is no connection for."""
        if not self._known_as:
            return Unproven(
                f"a host on the way to {self._address.shown()} cannot be trusted: {why}",
                hint=f"look at its key and say yes: {self._address.by_hand()}",
            )
        shown = self._address.shown()
        if REVOKED in str(why):
            return Unproven(f"the host key of {shown} is marked as revoked", hint=BEWARE)
        if self._stranger is None:
            what = f"the certificate of {shown} cannot be trusted: {why}"
            return Unproven(what, hint="it wants another one, from who signs them")
        key = host_key_of(self._stranger)
        return self._changed(key) if any(self._known) else self._unknown(key)

    def _changed(self, key: HostKey) -> Unproven:
        shown = self._address.shown()
        if self._address.host_key:
            return Unproven(
                f"{shown} has another host key than host_key says: {key}",
                hint=f"if the machine was made anew, its new key belongs there\notherwise {BEWARE}",
            )
        file = self._address.known_hosts
        where = f" -f {self._address.expanded(file)}" if file else ""
        return Unproven(
            f"the host key of {shown} is another one than is known: {key}",
            hint="if the machine was made anew, forget the old key:"
            f" ssh-keygen -R '{self._known_as}'{where}\notherwise {BEWARE}",
        )

    def _unknown(self, key: HostKey) -> Unproven:
        return Unproven(
            f"the host key of {self._address.shown()} is not known: {key}",
            hint=f"look at it and say yes: {self._address.by_hand()}\n"
            f"or keep it with the outpost: host_key: {key.line}",
            key=key,
        )

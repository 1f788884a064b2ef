"""Where workers run, as a transport over a shell knows it, and how it does not let us in."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass

from outpost.ports import Shell

_MENDS = {
    errno.ENOSPC: "outpost prune",
    errno.EROFS: "have it work in another folder: root: or work_dir: of this outpost",
}


class Refused(OSError):
    """The place does not let us in, and will not until something is changed; ``hint`` says what."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellPlace:
    """Where and with which programs workers run: ``root`` is absolute, ``socket`` tmux's own.

    ``is_here`` says that it is this machine, ``cache_max_mib`` how large all caches together may
    be, ``min_free_mib`` how much room on the disk every worker begins with (``None``: as its order
    says). ``machine`` is the id of the machine, where it has one. Every ``look_every_s`` seconds a
    silent worker is looked at, every ``poll_s`` one that is to end.
    """

    shell: Shell
    root: str
    python: str
    tmux: str
    socket: str
    federation_id: str
    environment: Mapping[str, str]
    is_here: bool = False
    cache_max_mib: int | None = None
    min_free_mib: int | None = None
    machine: str = ""
    look_every_s: float = 2.0
    poll_s: float = 0.05


def hint_of(why: OSError) -> str:
    """Return what to do about a transport's trouble."""
    return str(getattr(why, "hint", "")) or _MENDS.get(why.errno or 0, "")

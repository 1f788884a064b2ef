"""How a desk comes to life on another machine: one command, and its source over stdin.

Nothing is installed. The command finds a Python that is new enough, says so in a line of its own,
reads the source of ``outpost.runner.desk`` and runs it. Whatever is on stdout before that line is
talk of the machine's start-up files.
"""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path

from outpost.runner import desk

PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 9, -1)))
NOISE_MOST_BYTES = 1 << 16
SHOWN_BYTES = 300
_READY = b"\noutpost-desk ready "
_NONE = b"\noutpost-desk none:"
_TOO_OLD = 93

# The words are put together there, as some start-up files repeat the command. One line, no "!", no
# backslash, no single quote: whatever shell the user has there, it leaves the text alone.
_PYTHON = (
    "import os,sys,zlib;"
    f"sys.version_info<(3,10) and os._exit({_TOO_OLD});"
    'os.write(1,(chr(10)+"outpost-"+"desk ready "+sys.version.split()[0]+chr(10)).encode());'
    'r=lambda n:n and (lambda d:d and d+r(n-len(d)))(os.read(0,n)) or b"";'
    'g={"__name__":"desk"};'
    'exec(compile(zlib.decompress(r(int(r(8)))),"desk","exec"),g);'
    'sys.exit(g["main"]())'
)
# Python's complaints go to stdout too, where somebody reads them. 126 and 127: it cannot be run.
_SHELL = (
    "c=$1; shift; exec 2>&1; "
    'for p in "$@"; do command -v "$p" >/dev/null || continue; '
    f'"$p" -I -S -c "$c"; s=$?; case $s in {_TOO_OLD}|126|127) ;; *) exit $s;; esac; '
    'f="$f, $p is $("$p" -V)"; done; echo; echo "outpost-""desk none:$f"'
)
INSTALL = (
    "install Python 3.10 or newer there, for example:"
    " sudo apt-get install python3 (Debian, Ubuntu), sudo dnf install python3.12 (Fedora, RHEL)"
)


class Unusable(OSError):
    """The machine was reached, but no desk comes up there; ``hint`` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def bootstrap_argv(python: str | None = None) -> list[str]:
    """Return the command that starts a desk; with ``python`` this one, else the first that will do.

    For a shell to split, ``shlex.join`` it.
    """
    return ["sh", "-c", _SHELL, "sh", _PYTHON, *((python,) if python else PYTHONS)]


@cache
def desk_source() -> bytes:
    """Return what the command is to read first: a length in eight digits, and the source."""
    packed = zlib.compress(Path(desk.__file__).read_bytes(), 9)
    return b"%08d" % len(packed) + packed


class Doorstep:
    """Reads past the noise, up to the line that says that the desk comes."""

    def __init__(self) -> None:
        self._heard = bytearray(b"\n")

    def feed(self, data: bytes) -> bytes | None:
        """Return what follows the line, ``None`` while it has not come; raises ``Unusable``."""
        self._heard += data
        noise, ready, rest = self._heard.partition(_READY)
        _version, newline, rest = rest.partition(b"\n")
        if ready and newline:
            return bytes(rest)
        if _NONE in noise and noise.endswith(b"\n"):
            raise _no_python(bytes(noise))
        if len(self._heard) > NOISE_MOST_BYTES:
            raise self.failure("says too much before anything is started")
        return None

    def failure(self, what: str) -> Unusable:
        """Return the error for a machine that does ``what`` instead, with what it said."""
        said = shown(bytes(self._heard))
        return Unusable(f"the machine {what}{said and f'; it said: {said}'}", hint=_LOOK)


_LOOK = "look at what its start-up files (.bashrc, .profile) print or run, and at its login shell"


def shown(said: bytes) -> str:
    """Return the end of what was said, on one line, printable and short."""
    text = said[-SHOWN_BYTES:].decode("utf-8", "replace").strip()
    return "".join(it if it.isprintable() else " " for it in text)


def _no_python(said: bytes) -> Unusable:
    found = shown(said.rpartition(_NONE)[2]).lstrip(", ")
    what = f"no Python 3.10 or newer there: {found}" if found else "no Python there"
    return Unusable(what, hint=INSTALL)

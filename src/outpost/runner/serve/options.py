"""What ``runner serve`` is told when it is started: flags, or variables of the same names."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from outpost.wire.work import HEARTBEAT_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

USAGE = """\
usage: runner serve [--root DIR] [--listen HOST:PORT] [--max-workers N] [--lease S]
                    [--idle-exit S] [--grace S] [--heartbeat S] [--cache DIR]
each also as a variable, OUTPOST_SERVE_MAX_WORKERS for --max-workers; the token as
OUTPOST_SERVE_TOKEN, or in the file that OUTPOST_SERVE_TOKEN_FILE names"""
PREFIX = "OUTPOST_SERVE_"
CACHE = "/cache"
_NAMES = ("root", "listen", "max-workers", "lease", "idle-exit", "grace", "heartbeat", "cache")


class Misuse(Exception):
    """It cannot be started as told; the text says why and what to type."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """``lease_s`` and ``idle_exit_s`` are 0 where nothing is to end for want of anybody.

    ``cache`` is the folder that holds the object caches, empty for the one under ``root``.
    """

    token: str
    root: str
    host: str
    port: int
    max_workers: int
    lease_s: float
    idle_exit_s: float
    grace_s: float
    heartbeat_s: float
    cache: str


def read_options(arguments: Sequence[str], variables: MutableMapping[str, str]) -> Options:
    """Return what arguments and variables say; raises ``Misuse``.

    Takes the variables away: whatever is started from here on sees none of them.
    """
    ours = [name for name in variables if name.startswith(PREFIX)]
    given = {name[len(PREFIX) :].lower().replace("_", "-"): variables.pop(name) for name in ours}
    token = _token(given)
    given.update(_flags(arguments))
    host, port = _address(given.get("listen") or f"0.0.0.0:{variables.get('PORT') or 8080}")
    return Options(
        token=token,
        root=os.path.abspath(os.path.expanduser(given.get("root") or "~/.outpost")),
        host=host,
        port=port,
        max_workers=int(_number(given, "max-workers", 1, least=1)),
        lease_s=_number(given, "lease", 0),
        idle_exit_s=_number(given, "idle-exit", 0),
        grace_s=_number(given, "grace", 9, least=1),
        heartbeat_s=_number(given, "heartbeat", HEARTBEAT_S, least=0.05),
        cache=_cache(given.get("cache", "")),
    )


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    given = {}
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if not flag.startswith("--") or flag[2:] not in _NAMES:
            raise Misuse(f"there is no {flag!r}\n{USAGE}")
        if not equals:
            if not rest:
                raise Misuse(f"{flag} needs a value\n{USAGE}")
            value = rest.pop(0)
        given[flag[2:]] = value
    return given


def _token(given: MutableMapping[str, str]) -> str:
    token, path = given.pop("token", ""), given.pop("token-file", "")
    if not token and path:
        try:
            with open(path) as file:
                token = file.read()
        except (OSError, UnicodeDecodeError) as exc:
            raise Misuse(f"the token's file cannot be read: {exc}") from exc
    token = token.strip()
    if not token:
        raise Misuse(
            "no token, and without one anybody could run programs here\n"
            "set OUTPOST_SERVE_TOKEN, or OUTPOST_SERVE_TOKEN_FILE to a file that holds it"
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise Misuse("the token holds what no HTTP header can: use letters and digits")
    return token


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise Misuse(f"--listen {text}: that is no HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - a container's only address


def _number(given: MutableMapping[str, str], name: str, default: float, least: float = 0) -> float:
    text = given.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number < math.inf:
        raise Misuse(f"--{name} {text}: that is no number from {least:g} on")
    return number


def _cache(given: str) -> str:
    """Return the folder for caches: the one given, or ``CACHE`` if something is mounted there."""
    if given:
        if not (os.path.isdir(given) and os.access(given, os.W_OK)):
            raise Misuse(f"--cache {given}: that is no folder to write to")
        return os.path.abspath(given)
    return CACHE if os.path.ismount(CACHE) and os.access(CACHE, os.W_OK) else ""

"""Names of variables: what belongs to a machine, what leads git from it, and what stays here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from outpost.wire.orders import Environment

if TYPE_CHECKING:
    from outpost.transports.place import ShellPlace

SYSTEM = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "TERM", "XDG_*",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
"""What every program wants to know of its machine. A name that ends in ``*`` is a beginning."""
GIT_WAYS = (
    "SSH_AUTH_SOCK", "SSH_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_SSL_*",
)  # fmt: skip
"""What leads git from a machine to a remote."""
_OF_THIS_MACHINE = (
    *SYSTEM, *GIT_WAYS, "SSL_CERT_*", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
)  # fmt: skip
"""Paths, settings and ways that are no good elsewhere."""


def picked(variables: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """Return the variables that one of the patterns names."""
    names = set()
    beginnings = []
    for pattern in patterns:
        if pattern.endswith("*"):
            beginnings.append(pattern[:-1])
        else:
            names.add(pattern)
    return {
        name: value
        for name, value in variables.items()
        if name in names or name.startswith(tuple(beginnings))
    }


def as_there(environment: Environment, place: ShellPlace) -> Environment:
    """Return the variables that a worker gets at a place; those of the place hold."""
    if place.is_here:
        return environment
    return {
        "agent": _moved(environment["agent"], place),
        "git": _moved(environment["git"], place),
    }


def moving(environment: Environment) -> Environment:
    """Return the variables that go along to a place that adds its own."""
    return {"agent": _away(environment["agent"]), "git": _away(environment["git"])}


def _moved(variables: Mapping[str, str], place: ShellPlace) -> dict[str, str]:
    return {**_away(variables), **place.environment}


def _away(variables: Mapping[str, str]) -> dict[str, str]:
    staying = picked(variables, _OF_THIS_MACHINE)
    return {name: value for name, value in variables.items() if name not in staying}

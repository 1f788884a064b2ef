"""Our variables on another machine: what means this machine stays here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outpost.wire.orders import Environment

if TYPE_CHECKING:
    from outpost.transports.shell import ShellPlace

_OF_THIS_MACHINE = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_", "TZ", "TMPDIR", "TERM", "XDG_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    *("SSH_", "GIT_SSH", "GIT_ASKPASS", "GIT_SSL_"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
)
"""Beginnings of the names of paths, settings and ways that are no good elsewhere."""


def as_there(environment: Environment, place: ShellPlace) -> Environment:
    """Return the variables that a worker gets at a place; those of the place hold."""
    if place.is_here:
        return environment
    return {
        "agent": _moved(environment["agent"], place),
        "git": _moved(environment["git"], place),
    }


def _moved(variables: dict[str, str], place: ShellPlace) -> dict[str, str]:
    ours = {
        name: value for name, value in variables.items() if not name.startswith(_OF_THIS_MACHINE)
    }
    return {**ours, **place.environment}

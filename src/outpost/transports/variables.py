"""Our variables on another machine: what means this machine stays here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outpost.wire.orders import Environment

if TYPE_CHECKING:
    from outpost.transports.place import ShellPlace

_OF_THIS_MACHINE = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "TERM"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("SSH_AUTH_SOCK", "SSH_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS"),
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
    )
)
"""The names of paths, settings and ways that are no good elsewhere."""
_BEGINNINGS = ("LC_", "XDG_", "SSL_CERT_", "GIT_SSL_")


def as_there(environment: Environment, place: ShellPlace) -> Environment:
    """Return the variables that a worker gets at a place; those of the place hold."""
    if place.is_here:
        return environment
    return {
        "agent": _moved(environment["agent"], place),
        "git": _moved(environment["git"], place),
    }


def _moved(variables: dict[str, str], place: ShellPlace) -> dict[str, str]:
    moving = {
        name: value
        for name, value in variables.items()
        if name not in _OF_THIS_MACHINE and not name.startswith(_BEGINNINGS)
    }
    return {**moving, **place.environment}

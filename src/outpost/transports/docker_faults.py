"""What the program ``docker`` complains of, as one of a few kinds of trouble.

Its exit code says only that it failed, so its text decides. What the engine itself says follows
``Error response from daemon:``; all else is the program's own, about the way there. Sources: the
texts of Docker 20.10 and 28.2, as their programs print them, and docker/cli and moby on GitHub.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Trouble(StrEnum):
    """What is the matter, and with it whether anything was done."""

    UNREACHED = "unreached"
    """The engine was not asked."""
    LOST = "lost"
    """It may have been asked; what came of it is not known."""
    ABSENT = "absent"
    """There is no such container."""
    TAKEN = "taken"
    """There is a container of that name already."""
    GOING = "going"
    """The container is being removed by somebody else."""
    NO_IMAGE = "no_image"
    """The image is not there, and cannot be had either."""
    FULL = "full"
    """Disk, memory, ports or addresses are used up."""
    PATIENCE = "patience"
    """A registry asks for patience."""
    REFUSED = "refused"
    """What was asked for cannot be had on that engine."""
    FAILED = "failed"
    """Anything else."""


class EngineFault(Exception):
    """The engine did not do what it was asked; ``printed`` is what the program said of success.

    ``docker run`` prints the id of a container that came to be and could not be started.
    """

    def __init__(
        self, message: str, trouble: Trouble, *, hint: str = "", printed: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.trouble = trouble
        self.hint = hint
        self.printed = printed


_DAEMON = "Error response from daemon:"
_MOST_CHARS = 400
_WAY = (
    (
        Trouble.UNREACHED,
        r"permission denied while trying to connect",
        "sudo usermod -aG docker $USER, and log in again",
    ),
    (
        Trouble.UNREACHED,
        r"Cannot connect to the Docker daemon|failed to connect to the docker API",
        "sudo systemctl start docker, or say where it runs: host or context of this outpost",
    ),
    (
        Trouble.REFUSED,
        r"context not found|unable to (parse|resolve) docker|invalid bind address",
        "docker context ls",
    ),
    (
        Trouble.REFUSED,
        r"Host key verification failed",
        "ssh to that machine once, by hand, and say yes",
    ),
    (
        Trouble.REFUSED,
        r"stderr=.*(Permission denied|command not found)",
        "try it by hand: ssh HOST docker version",
    ),
    (
        Trouble.UNREACHED,
        r"stderr=.*(ssh: |kex_exchange|Connection (closed|reset))",
        "try it by hand: ssh HOST docker version",
    ),
    (
        Trouble.REFUSED,
        r"x509: |tls: |certificate|HTTP response to HTTPS client|could not read CA",
        "look at DOCKER_TLS_VERIFY and at the keys in DOCKER_CERT_PATH",
    ),
    (
        Trouble.UNREACHED,
        r"dial (tcp|unix|udp)",
        "is the engine's machine on, and its port open to you?",
    ),
)
"""What is wrong on the way to the engine, for certain before it was asked, and what to do."""
_ENGINE = (
    (Trouble.ABSENT, r"No such (container|object)"),
    (Trouble.TAKEN, r"Conflict\. The container name|container name .* is already in use"),
    (Trouble.GOING, r"removal of container .* is already in progress|marked for removal"),
    (Trouble.PATIENCE, r"toomanyrequests|rate limit"),
    (
        Trouble.NO_IMAGE,
        r"No such image|pull access denied|manifest unknown|manifest for .* not found|"
        r"no matching manifest|repository .* not found|access to the resource is denied|"
        r"failed to resolve reference",
    ),
    (
        Trouble.FULL,
        r"no space left on device|[Dd]isk quota|cannot allocate memory|out of memory|"
        r"port is already allocated|address already in use|address pools? .*(subnetted|exhausted)|"
        r"no available (IPv4|IPv6|network)|[Rr]esource temporarily unavailable|too many open files",
    ),
    (
        Trouble.REFUSED,
        r"Range of CPUs|[Mm]inimum memory limit|network \S+ not found|invalid mount config|"
        r"unable to find (user|group)|executable file not found|No command specified|"
        r"[Ii]nvalid (reference|argument|IP|volume|user|[Cc]ontainer|tmpfs|port|restart)|"
        r"unknown (flag|shorthand|log opt|or invalid runtime)|[Cc]onflicting options|"
        r"not supported|cannot assign requested address",
    ),
)
"""What the engine says; the first that fits holds."""


def fault_of(stderr: str, printed: str = "") -> EngineFault:
    """Return what a call that failed means."""
    message = _said(stderr)
    if _DAEMON not in stderr:
        for trouble, pattern, hint in _WAY:
            if re.search(pattern, stderr):
                return EngineFault(message, trouble, hint=hint, printed=printed)
        if "error during connect" in stderr or not stderr.strip():
            return EngineFault(message, Trouble.LOST, printed=printed)
    for trouble, pattern in _ENGINE:
        if re.search(pattern, stderr):
            return EngineFault(message, trouble, printed=printed)
    return EngineFault(message, Trouble.FAILED, printed=printed)


def _said(stderr: str) -> str:
    """Return the one line that matters."""
    lines = [it.strip() for it in stderr.splitlines() if it.strip()]
    advice = re.compile(r"^(Run|See) 'docker |^Unable to find image|^Error: failed to ")
    telling = [it for it in lines if not advice.match(it)] or lines or ["it said nothing"]
    line = next((it for it in telling if _DAEMON in it), telling[0])
    line = line.rpartition("stderr=")[2] or line
    line = re.sub(rf"^(docker: )?(({_DAEMON}|Error:|Failed to initialize:) *)?", "", line)
    return re.sub(r"(context not found): open .*", r"\1", line)[:_MOST_CHARS].rstrip(".")

"""A Docker Engine, asked with the program ``docker``: contexts, SSH and TLS as the user has them.

Why the program and no library: docs/decisions/0024-docker.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outpost.transports.docker_faults import EngineFault, Trouble, fault_of
from outpost.transports.this_machine import ThisMachine

CALL_S = 30.0
INFO_S = 15.0
PROGRAM = "docker"
NEVER = "0001-01-01T00:00:00Z"
_WANTED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A container as ``docker container inspect`` shows it.

    ``status`` is created, running, paused, restarting, removing, exited or dead. ``published`` is
    host and port by the port inside, such as ``8080/tcp``. ``memory_bytes`` is its limit, 0: none.
    Instants are the engine's texts, ``NEVER`` for what has not been.
    """

    id: str
    labels: Mapping[str, str]
    status: str
    exit_code: int
    out_of_memory: bool
    error: str
    finished_at: str
    network: str
    memory_bytes: int
    published: Mapping[str, tuple[str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What an engine says of itself and its machine. ``id`` stays the same for its lifetime."""

    id: str
    version: str
    system: str
    cpus: int
    memory_bytes: int


class DockerEngine:
    """One engine. ``where`` are the program's own options that lead there; none: as it is set up.

    Every method raises ``EngineFault``.
    """

    def __init__(self, *, where: Sequence[str], environment: Mapping[str, str]) -> None:
        self._argv = (PROGRAM, *where)
        self._machine = ThisMachine()
        # It needs to know the way, and none of the secrets that are among our variables.
        self._environment = {
            key: value
            for key, value in environment.items()
            if key in _WANTED or key.startswith(("DOCKER_", "LC_", "LANG"))
        }

    async def call(
        self, *argv: str, variables: Mapping[str, str] | None = None, timeout_s: float = CALL_S
    ) -> str:
        """Run a command of ``docker`` and return what it printed.

        ``variables`` are for ``--env NAME``: what no process list and no file may show.
        """
        environment = {**self._environment, **(variables or {})}
        try:
            done = await self._machine.run(
                (*self._argv, *argv), environment=environment, timeout_s=timeout_s
            )
        except TimeoutError as exc:
            what = f"the engine did not answer 'docker {argv[0]}' within {timeout_s:g} s"
            raise EngineFault(what, Trouble.LOST) from exc
        except FileNotFoundError as exc:
            hint = "sudo apt-get install docker.io, or see https://docs.docker.com/engine/install"
            what = "the program 'docker' is not installed here"
            raise EngineFault(what, Trouble.UNREACHED, hint=hint) from exc
        except OSError as exc:
            what = f"the program 'docker' cannot be run: {exc.strerror or exc}"
            raise EngineFault(what, Trouble.UNREACHED) from exc
        printed = done.stdout.decode("utf-8", "replace")
        if done.exit_code:
            raise fault_of(done.stderr.decode("utf-8", "replace"), printed.strip())
        return printed

    async def open(self, *argv: str) -> asyncio.subprocess.Process:
        """Start a command of ``docker`` whose standard streams are pipes; raises ``OSError``.

        It leads a process group of its own, as its way to the engine may be further processes.
        """
        return await asyncio.create_subprocess_exec(
            *(*self._argv, *argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,
        )

    async def info(self) -> EngineInfo:
        """Return what the engine says of itself."""
        said = _parsed(await self.call("info", "--format", "{{json .}}", timeout_s=INFO_S))
        # Some versions of the program fail here without saying so by their exit code.
        if errors := said.get("ServerErrors"):
            raise fault_of(str(errors[0]))
        with _sensible("docker info"):
            return EngineInfo(
                id=str(said["ID"]),
                version=str(said["ServerVersion"]),
                system=str(said["OSType"]),
                cpus=int(said["NCPU"]),
                memory_bytes=int(said["MemTotal"]),
            )

    async def endpoint(self) -> str:
        """Return where the program finds the engine, such as ``unix:///run/docker.sock``.

        Asks nobody; what options, variables and the user's contexts say.
        """
        form = "{{.Endpoints.docker.Host}}"
        named = self._argv[2:] if "--context" in self._argv else ()
        return (await self.call("context", "inspect", "--format", form, *named)).strip()

    async def has_image(self, image: str) -> bool:
        """Whether an image is there."""
        try:
            await self.call("image", "inspect", "--format", "{{.Id}}", image)
        except EngineFault as exc:
            if exc.trouble in (Trouble.NO_IMAGE, Trouble.ABSENT):
                return False
            raise
        return True

    async def container(self, name: str) -> Seen | None:
        """Return a container, ``None`` where there is none of that name or id."""
        return next(iter(await self._inspected([name])), None)

    async def containers(self, labels: Mapping[str, str]) -> list[Seen]:
        """Return the containers that carry all these labels, whatever their state."""
        wanted = [
            it for key, value in labels.items() for it in ("--filter", f"label={key}={value}")
        ]
        printed = await self.call("ps", "--all", "--quiet", "--no-trunc", *wanted)
        return await self._inspected(printed.split())

    async def printed(self, seen: Seen, *, lines: int | None = None) -> str:
        """Return what a container has printed since it was last started: all, or the last lines."""
        ours = [] if seen.finished_at == NEVER else ["--since", seen.finished_at]
        if lines is not None:
            ours = ["--tail", str(lines)]
        return await self.call("logs", *ours, seen.id)

    async def _inspected(self, names: Sequence[str]) -> list[Seen]:
        if not names:
            return []
        try:
            printed = await self.call("container", "inspect", *names)
        except EngineFault as exc:
            if exc.trouble is not Trouble.ABSENT:
                raise
            # Some have gone meanwhile: the others are printed all the same.
            printed = exc.printed or "[]"
        with _sensible("docker container inspect"):
            return [_seen(it) for it in _parsed(printed)]


@contextlib.contextmanager
def _sensible(command: str) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as exc:
        what = f"'{command}' says nothing that we know: {exc!r}"
        raise EngineFault(what, Trouble.FAILED) from exc


def _parsed(printed: str) -> Any:
    try:
        return json.loads(printed)
    except ValueError as exc:
        raise EngineFault(f"docker printed no JSON: {printed[:80]!r}", Trouble.FAILED) from exc


def _seen(said: Any) -> Seen:
    state, host = said["State"], said["HostConfig"]
    ports = said["NetworkSettings"].get("Ports") or {}
    return Seen(
        id=str(said["Id"]),
        labels=said["Config"].get("Labels") or {},
        status=str(state["Status"]),
        exit_code=int(state["ExitCode"]),
        out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        finished_at=str(state.get("FinishedAt") or NEVER),
        network=str(host.get("NetworkMode") or ""),
        memory_bytes=int(host.get("Memory") or 0),
        published={
            port: (str(ways[0]["HostIp"]), int(ways[0]["HostPort"]))
            for port, ways in ports.items()
            if ways
        },
    )

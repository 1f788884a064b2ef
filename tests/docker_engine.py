"""A real Docker Engine with the worker image, for tests: ``.ci/docker COMMAND…`` provides it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pytest

Variant = Literal["slim", "full"]
CALL_S = 60.0


class DockerError(AssertionError):
    """A call of ``docker`` failed; its text is what was printed."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container that runs until the block that started it ends."""

    engine: Engine
    id: str

    def run(self, *argv: str, user: str = "") -> str:
        """Run a program in it that must succeed; return what it printed."""
        options = ["--user", user] if user else []
        return self.engine.docker("exec", *options, self.id, *argv)

    def state(self) -> dict[str, Any]:
        """Return ``State`` of ``docker inspect``: Status, Running, ExitCode, StartedAt, …"""
        return dict(self.engine.inspect(self.id)["State"])

    def output(self) -> str:
        """Return what its main process has printed on both streams."""
        # The Engine hands both streams over apart; only the order within each is kept.
        argv = ["docker", "logs", self.id]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=CALL_S, check=True)
        return done.stdout + done.stderr


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The Docker Engine at ``host``; the variable ``DOCKER_HOST`` of this process names it too."""

    host: str

    def image(self, variant: Variant) -> str:
        """Return the name of the worker image."""
        return f"outpost-worker:{variant}"

    def docker(self, *arguments: str) -> str:
        """Run ``docker ARGUMENTS`` and return what it printed; raises ``DockerError``."""
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=CALL_S, check=False
        )
        if done.returncode:
            raise DockerError(f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the Engine knows of an image or a container."""
        return dict(json.loads(self.docker("inspect", name))[0])

    @contextmanager
    def container(
        self,
        image: str,
        *command: str,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[Container]:
        """Start a container on the host's network; it and its volumes are removed at the end."""
        variables = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        flags = ("run", "--detach", "--network=host", *options, *variables)
        started = Container(engine=self, id=self.docker(*flags, image, *command))
        try:
            yield started
        finally:
            self.docker("rm", "--force", "--volumes", started.id)


@cache
def _found() -> tuple[Engine | None, str]:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    engine = Engine(host=host)
    try:
        engine.docker("version")
        for variant in ("slim", "full"):
            engine.docker("image", "inspect", f"outpost-worker:{variant}")
    except (DockerError, OSError, subprocess.TimeoutExpired) as exc:
        why = str(exc).splitlines()[-1]
        return None, f"no Docker Engine with the worker image (.ci/docker pytest …): {why}"
    return engine, ""


def running_engine() -> Engine:
    """Return the Engine; without one the test is skipped, or fails if all tests must run."""
    engine, reason = _found()
    if engine is not None:
        return engine
    if os.environ.get("OUTPOST_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)

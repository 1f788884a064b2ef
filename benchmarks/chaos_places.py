"""Places that are troubled on demand: this machine, and stand-ins for Cloud Run, Fly and E2B.

In all of them real runners work. Each says what belongs into a configuration, lets one thing go
wrong, and tells what runs there.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from tests.cloudrun_world import KIND, TOKEN, TOKEN_SECRET, installed, serve_argv
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.background import BackgroundCloudRun
from tests.doubles.e2b.cloud import E2bCloud
from tests.doubles.fly import FlyCloud
from tests.doubles.google_identity import GoogleIdentity
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION, SERVICE

from outpost.runner.place import Place as WorkerPlace

SLOTS = 2
STORM_S = 3.0
STATUSES = (429, 500, 502, 503)
E2B_LEASE_S = 60


class Place(Protocol):
    """An outpost and what is behind it; ``variables`` are what leads there."""

    name: str
    variables: Mapping[str, str]

    def options(self) -> str:
        """Return what is written into the configuration besides its name."""
        ...

    def strike(self, chance: random.Random) -> str:
        """Let one thing go wrong; return what."""
        ...

    def calm(self) -> None:
        """Let nothing more go wrong."""
        ...

    def running(self) -> Sequence[str]:
        """Return what runs there that somebody would have to pay for."""
        ...

    def workers(self) -> Sequence[str]:
        """Return the worker of each thing that is there, running or not."""
        ...


class Local:
    """This machine; ``home`` is the controller's."""

    name = "local"
    variables: Mapping[str, str] = {}

    def __init__(self, home: Path) -> None:
        self._home = home

    def options(self) -> str:
        return "type: local, min_free_mib: 0"

    def strike(self, chance: random.Random) -> str:
        workers = sorted(self._home.glob("outposts/local/workers/w-*"))
        pids = [pid for it in workers for pid in WorkerPlace(str(it)).pids("runner.pid")]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
        return "runner killed"

    def calm(self) -> None:
        pass

    def running(self) -> Sequence[str]:
        workers = self._home.glob("outposts/local/workers/w-*")
        return [it.name for it in workers if WorkerPlace(str(it)).cared_for()]

    def workers(self) -> Sequence[str]:
        return [it.name for it in self._home.glob("outposts/local/workers/w-*")]


class Fly:
    """The stand-in for Fly."""

    name = "fly"

    def __init__(self, cloud: FlyCloud) -> None:
        self._cloud = cloud
        self.variables: Mapping[str, str] = {"FLY_API_TOKEN": cloud.token}

    def options(self) -> str:
        cloud = self._cloud
        return (
            f"type: fly, app: {cloud.app}, region: iad, api_url: '{cloud.api_url}',"
            f" url: '{cloud.url}', requests_per_s: 1000, idle_exit: 2s"
        )

    def strike(self, chance: random.Random) -> str:
        faults, started = self._cloud.faults, list(self.running())
        acts: dict[str, Callable[[], object]] = {
            "answer lost": lambda: faults.next(chance.choice(("create", "delete")), "lost"),
            "API refuses": lambda: faults.next("*", *[chance.choice(STATUSES)] * 3),
            "API storm": lambda: faults.storm("*", chance.choice((429, 503)), STORM_S),
            "no capacity": lambda: faults.next("create", "capacity"),
            "requests cut": self._cloud.cut,
        }
        if started:
            machine = chance.choice(started)
            acts["machine killed"] = lambda: self._cloud.kill(machine)
            acts["out of memory"] = lambda: self._cloud.oom(machine)
        return _one_of(acts, chance)

    def calm(self) -> None:
        self._cloud.faults.storm("*", 503, 0.0)

    def running(self) -> Sequence[str]:
        return [it.id for it in self._cloud.machines() if it.state == "started"]

    def workers(self) -> Sequence[str]:
        return [it.metadata["outpost_worker"] for it in self._cloud.machines()]


class E2b:
    """The stand-in for E2B."""

    name = "e2b"

    def __init__(self, cloud: E2bCloud) -> None:
        self._cloud = cloud
        self.variables: Mapping[str, str] = {"E2B_API_KEY": cloud.api_key}
        cloud.add_template("outpost-worker")

    def options(self) -> str:
        cloud = self._cloud
        return (
            f"type: e2b, api_url: '{cloud.api_url}', sandbox_url: '{cloud.sandbox_url}',"
            f" timeout: {E2B_LEASE_S}s, lifecycle: kill, min_free_mib: 0"
        )

    def strike(self, chance: random.Random) -> str:
        faults, running = self._cloud.faults, list(self.running())
        acts: dict[str, Callable[[], object]] = {
            "answer lost": lambda: setattr(faults, "lost_answers", 1),
            "API refuses": lambda: faults.statuses.extend([chance.choice(STATUSES)] * 3),
            "no capacity": lambda: setattr(faults, "no_capacity", 1),
            "connections cut": self._cloud.cut,
        }
        if running:
            acts["sandbox killed"] = lambda: self._cloud.kill(chance.choice(running))
        return _one_of(acts, chance)

    def calm(self) -> None:
        faults = self._cloud.faults
        faults.statuses.clear()
        faults.lost_answers = faults.no_capacity = 0

    def running(self) -> Sequence[str]:
        return [it.id for it in self._cloud.sandboxes() if it.state == "running"]

    def workers(self) -> Sequence[str]:
        return [it.metadata["outpost_worker"] for it in self._cloud.sandboxes()]


class Google:
    """The stand-in for Cloud Run."""

    name = "cloudrun"

    def __init__(self, background: BackgroundCloudRun, variables: Mapping[str, str]) -> None:
        self._background = background
        self.variables = variables

    def options(self) -> str:
        return (
            f"type: {KIND}, project: {PROJECT}, region: {REGION}, service: {SERVICE},"
            f" image: '{IMAGE}', token: 'env://OUTPOST_TOKEN', lease: 5s"
        )

    def strike(self, chance: random.Random) -> str:
        background, cloud = self._background, self._background.cloud
        acts: dict[str, Callable[[], object]] = {
            "requests cut": lambda: background.do(lambda: cloud.cut(SERVICE)),
            "instances evicted": lambda: background.wait(lambda: cloud.evict(SERVICE)),
            "instances killed": lambda: background.do(lambda: cloud.kill(SERVICE)),
            "requests refused": lambda: cloud.faults.statuses.append(chance.choice(STATUSES)),
            "answer lost": lambda: setattr(cloud.faults, "lost_answers", 1),
        }
        return _one_of(acts, chance)

    def calm(self) -> None:
        faults = self._background.cloud.faults
        faults.statuses.clear()
        faults.lost_answers = 0

    def running(self) -> Sequence[str]:
        cloud = self._background.cloud
        return self._background.do(lambda: [it.id for it in cloud.instances(SERVICE) if it.open])

    def workers(self) -> Sequence[str]:
        return ()  # which worker an instance has, only the instance knows


def _one_of(acts: Mapping[str, Callable[[], object]], chance: random.Random) -> str:
    name = chance.choice(sorted(acts))
    acts[name]()
    return name


@contextlib.contextmanager
def _local(_folder: Path, home: Path) -> Iterator[Place]:
    yield Local(home)


@contextlib.contextmanager
def _fly(folder: Path, _home: Path) -> Iterator[Place]:
    with FlyCloud(folder / "fly") as cloud:
        yield Fly(cloud)


@contextlib.contextmanager
def _e2b(folder: Path, _home: Path) -> Iterator[Place]:
    with E2bCloud(folder / "e2b") as cloud:
        yield E2b(cloud)


@contextlib.contextmanager
def _cloudrun(folder: Path, _home: Path) -> Iterator[Place]:
    with BackgroundCloudRun(CloudRun(limits=Limits(queue_s=1.0, grace_s=5.0))) as background:
        background.control.image(IMAGE, *serve_argv())
        background.control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()
        with GoogleIdentity(background.cloud.tokens) as identity:
            variables = {
                **installed(folder / "kinds", background.control.address),
                "OUTPOST_TOKEN": TOKEN,
                "GOOGLE_APPLICATION_CREDENTIALS": str(identity.key_file(folder)),
            }
            yield Google(background, variables)


PLACES: Mapping[str, Callable[[Path, Path], AbstractContextManager[Place]]] = {
    "local": _local,
    "cloudrun": _cloudrun,
    "fly": _fly,
    "e2b": _e2b,
}
"""How each is entered, with a folder of its own and the controller's home."""

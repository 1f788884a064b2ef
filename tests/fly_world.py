"""Fly outposts of this process, on the stand-in for Fly, with a home here."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from outpost.backends.fly import FlyOutpost
from outpost.backends.fly_options import FlyOptions
from outpost.control.environment import worker_environment
from outpost.model import Handle
from outpost.ports import Setup
from outpost.runner.place import Place
from outpost.testing import Bench, BenchOptions
from outpost.testing.contract import NotApplicable
from outpost.wire.orders import Environment
from tests.doubles.fly import FlyCloud, MachineRecord
from tests.world import World, until

FEDERATION = "f-0123456789"
NAME = "burst"
NOWHERE = "http://127.0.0.1:9"
# As many requests as one likes: the stand-in limits them only where a test is about that.
UNLIMITED = 1000.0


@dataclass(frozen=True, kw_only=True)
class FlyWorld:
    """A stand-in, a home here and a remote. ``made`` are the outposts that were asked for."""

    fly: FlyCloud
    world: World
    made: list[FlyOutpost] = field(default_factory=list)

    @property
    def variables(self) -> Mapping[str, str]:
        """Our variables, with the token."""
        return {**self.world.environment, "FLY_API_TOKEN": self.fly.token}

    @property
    def environment(self) -> Environment:
        """The variables of a worker."""
        return worker_environment(self.world.environment, agent_variables=(), extra=())

    def outpost(
        self, federation_id: str = FEDERATION, /, *, home: str = "home", **options: Any
    ) -> FlyOutpost:
        """Return a new instance of the outpost; ``options`` come before the usual ones."""
        setup = Setup(
            name=NAME,
            federation_id=federation_id,
            data_folder=str(self.world.folder / home),
            environment=self.variables,
        )
        usual: dict[str, Any] = {
            "app": self.fly.app,
            "region": "iad",
            "api_url": self.fly.api_url,
            "url": self.fly.url,
            "requests_per_s": UNLIMITED,
            **options,
        }
        self.made.append(FlyOutpost(setup, FlyOptions.model_validate(usual)))
        return self.made[-1]

    def bench(self, outpost: FlyOutpost | None = None, **more: Any) -> Bench:
        """Return what makes orders for an outpost (by default a new one each), and reads logs."""
        given: dict[str, Any] = {"make": self.outpost, "kill": self.kill, **more}
        if outpost is not None:
            given["make"] = lambda _: outpost
        bench = Bench(
            BenchOptions(repo_url=self.world.remote.url, environment=self.environment, **given)
        )
        if outpost is not None:
            bench.federation_id = FEDERATION
        return bench

    def machine(self, worker_id: str) -> MachineRecord:
        """Return the one machine of a worker."""
        found = self.machines(worker_id)
        assert len(found) == 1, f"machines of {worker_id}: {found}"
        return found[0]

    def machines(self, worker_id: str) -> list[MachineRecord]:
        """Return all machines that say that they are a worker's."""
        every = self.fly.machines()
        return [it for it in every if it.metadata.get("outpost_worker") == worker_id]

    def kill(self, handle: Handle) -> None:
        """Kill what looks after a worker in its machine."""
        root = self.fly.root(self.machine(handle.worker_id).id)
        pids = Place(str(root / "work" / "workers" / handle.worker_id)).pids("runner.pid")
        if not pids:
            raise NotApplicable("no runner")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def until_state(self, worker_id: str, state: str) -> MachineRecord:
        """Wait until a worker's machine is in a state."""
        until(lambda: self.machine(worker_id).state == state, f"{worker_id} {state}")
        return self.machine(worker_id)

    def stop(self, worker_id: str) -> None:
        """Stop a worker's machine, as ``fly machine stop`` does."""
        self._ask("POST", f"/machines/{self.machine(worker_id).id}/stop")

    def make_volume(self, name: str) -> None:
        """Make a volume that no machine has."""
        self._ask("POST", "/volumes", {"name": name, "region": "iad", "size_gb": 1})

    def volumes(self) -> list[Mapping[str, Any]]:
        """Return the volumes of the app, as the API tells of them."""
        found: list[Mapping[str, Any]] = self._ask("GET", "/volumes")
        return found

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        url = f"{self.fly.api_url}/v1/apps/{self.fly.app}{path}"
        headers = {"authorization": f"Bearer {self.fly.token}"}
        return httpx2.request(method, url, json=body, headers=headers).raise_for_status().json()

    def asked(self, method: str, ending: str) -> int:
        """Return how often something was asked of the API."""
        paths = [(it, path.partition("?")[0]) for it, path, _ in self.fly.requests()]
        return sum(it == method and path.endswith(ending) for it, path in paths)

    async def close(self) -> None:
        """Let go of all connections of outposts that were made."""
        for outpost in self.made:
            await outpost.close()


@contextlib.contextmanager
def fly_world(world: World, **more: Any) -> Iterator[FlyWorld]:
    """Yield a stand-in for Fly beside a home; ``more`` is what the stand-in takes."""
    with FlyCloud(world.folder / "fly", **more) as fly:
        yield FlyWorld(fly=fly, world=world)


@contextlib.asynccontextmanager
async def closing(made: FlyWorld) -> AsyncIterator[FlyWorld]:
    """Yield a world; its outposts' connections are closed at the end."""
    try:
        yield made
    finally:
        await made.close()

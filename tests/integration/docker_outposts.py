"""Docker outposts of this process, on a real engine, and the remote that their workers reach."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from outpost.backends.docker import DockerOutpost
from outpost.backends.docker_options import DockerOptions
from outpost.control.environment import worker_environment
from outpost.model import Handle
from outpost.ports import Setup
from outpost.testing import Bench, BenchOptions
from outpost.wire.orders import Environment
from tests.docker_engine import Engine
from tests.world import Remote, World

FEDERATION = "dockertests"
KILL = """\
cd /work/workers/$0 && set -- $(cat runner.pid)
while [ $# -gt 1 ]; do kill -9 $1; shift 2; done
"""
# The engine of these tests may have no bridge; and what listens on loopback is reached so.
USUAL = {"network": "host", "cache": False, "min_free_mib": 0}


@dataclass(frozen=True, kw_only=True)
class DockerWorld:
    """An engine, a home here, and a remote for workers in containers."""

    engine: Engine
    world: World
    remote: Remote
    made: list[DockerOutpost] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """Our variables; ``docker`` finds the engine by them."""
        return {**self.world.environment, "DOCKER_HOST": self.engine.host}

    def outpost(
        self, federation_id: str = FEDERATION, /, *, name: str = "box", **options: Any
    ) -> DockerOutpost:
        """Return a new instance of the outpost; ``options`` come before the usual ones."""
        setup = Setup(
            name=name,
            federation_id=federation_id,
            data_folder=str(self.world.home),
            environment=self.variables,
        )
        usual = {"image": self.engine.image("slim"), **USUAL}
        said = {key: value for key, value in {**usual, **options}.items() if value is not None}
        self.made.append(DockerOutpost(setup, DockerOptions.model_validate(said)))
        return self.made[-1]

    def bench_options(self, **more: Any) -> BenchOptions:
        """Return a bench of this engine."""
        given = {"make": self.outpost, "kill": self.kill, **more}
        return BenchOptions(repo_url=self.remote.url, environment=self.environment, **given)

    def bench(self, outpost: DockerOutpost) -> Bench:
        """Return what makes orders for an outpost of the usual federation, and reads logs."""
        bench = Bench(self.bench_options(make=lambda _: outpost))
        bench.federation_id = FEDERATION
        return bench

    @property
    def environment(self) -> Environment:
        """The variables of a worker."""
        return worker_environment(self.variables, agent_variables=(), extra=())

    def kill(self, handle: Handle) -> None:
        """Kill what looks after a worker in its container."""
        self.engine.docker("exec", handle.worker_id, "sh", "-c", KILL, handle.worker_id)

    def names(self) -> set[str]:
        """Return the names of all containers there, ours or not."""
        return set(self.engine.docker("ps", "--all", "--format", "{{.Names}}").split())

    def volumes(self) -> set[str]:
        """Return the names of all volumes there."""
        return set(self.engine.docker("volume", "ls", "--quiet").split())

    def shown(self, name: str) -> dict[str, Any]:
        """Return all that ``docker inspect`` shows of a container."""
        shown: dict[str, Any] = json.loads(self.engine.docker("container", "inspect", name))[0]
        return shown

    @contextlib.asynccontextmanager
    async def using(
        self, federation_id: str = FEDERATION, /, **options: Any
    ) -> AsyncIterator[DockerOutpost]:
        """Yield an outpost; at the end nothing of it is left, here or there."""
        outpost = self.outpost(federation_id, **options)
        try:
            yield outpost
        finally:
            for sighting in [it async for it in outpost.workers()]:
                await outpost.destroy(sighting.handle)
            await self.close()

    async def close(self) -> None:
        """Let go of all connections of outposts that were made."""
        for outpost in self.made:
            await outpost.close()


def clear(engine: Engine, federation_id: str) -> None:
    """Remove whatever is left of a federation on an engine."""
    label = f"label=outpost.federation={federation_id}"
    if names := engine.docker("ps", "--all", "--quiet", "--filter", label).split():
        engine.docker("rm", "--force", "--volumes", *names)
    if names := engine.docker("volume", "ls", "--quiet", "--filter", label).split():
        engine.docker("volume", "rm", *names)

"""A world whose outposts fail as they are told, for this process and for commands it starts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from outpost.federation import Federation, SpawnOptions
from outpost.model import Breaker, Decision, Refused
from outpost.ports import Clock
from outpost.spawned import Submitted
from outpost.testing.faulty import FaultFile
from tests.world import World

PATIENCE = """\
  retry: {max_attempts: 3, initial_backoff: 10s, max_backoff: 1m}
  circuit_breaker: {failure_threshold: 3, reset_timeout: 30s, max_tripped: 0.5}
"""


class SteppedClock:
    """Stands still at the time it was made, until it is told to step on."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def now(self) -> datetime:
        return self._now

    def step(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def step_to(self, instant: datetime | None) -> None:
        assert instant is not None
        assert instant >= self._now
        self._now = instant


class FaultyWorld:
    """Outposts ``a``, ``b``, … tried in that order, each with its file of faults."""

    def __init__(self, world: World, *names: str, policy: str = PATIENCE, **more: object) -> None:
        self.world = world
        self.faults = {name: FaultFile(world.folder / f"{name}.json") for name in names}
        lines = ["outposts:"]
        for name in names:
            lines += [f"  - name: {name}", "    type: faulty", "    min_free_mib: 0"]
            lines += [f"    faults: {world.folder}/{name}.json"]
            lines += [f"    {key}: {value}" for key, value in more.items()]
        lines += ["policy:", f"  default_preference: [{', '.join(names)}]", policy.rstrip()]
        lines += ["defaults: {stop_grace: 4s}"]
        self.config = "\n".join(lines) + "\n"
        world.homes.add(world.home)
        world.environment["OUTPOST_CONFIG"] = world.config(self.config)

    def federation(self, clock: Clock | None = None) -> Federation:
        """Return a federation of its own, as another process would have it."""
        return Federation(
            home=self.world.home,
            directory=self.world.folder,
            environment=self.world.environment,
            clock=clock,
        )

    async def submit(
        self, federation: Federation, script: str = "true", **more: object
    ) -> Submitted:
        """Submit a task whose agent is a shell script."""
        options = SpawnOptions(
            repo=self.world.remote.url,
            argv=("sh", "-c", script),
            **more,  # type: ignore[arg-type]  # checked by SpawnOptions
        )
        return await federation.submit(await federation.resolve("text:Mend the words", options))

    def spawned(self, name: str) -> list[str]:
        """Return the faults of all spawns at an outpost so far, in their order."""
        return [call["fault"] for call in self.faults[name].calls()]


MakeWorld = Callable[..., FaultyWorld]


def refused(decision: Decision, outpost: str) -> Refused:
    """Return why an outpost was not chosen."""
    (found,) = [item for item in decision.refused if item.outpost == outpost]
    return found


async def breaker_of(federation: Federation, outpost: str, scope: str = "") -> Breaker | None:
    """Return the stored breaker of an outpost, if it has one."""
    for breaker in await federation.store.breakers():
        if (breaker.outpost, breaker.scope) == (outpost, scope):
            return breaker
    return None

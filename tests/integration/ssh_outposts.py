"""SSH outposts of this process, on hosts of tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outpost.backends.ssh import SshOptions, SshOutpost
from outpost.control.environment import worker_environment
from outpost.errors import OutpostFault
from outpost.model import Health
from outpost.ports import Setup
from outpost.testing import Bench, BenchOptions
from outpost.transports.desk import DeskShell
from outpost.transports.desk_link import Patience
from outpost.transports.place import ShellPlace
from outpost.wire.orders import Environment
from tests.ssh_hosts import Host
from tests.ssh_world import SshWorld

SECRET = "hush-4711"
FEDERATION = "faults"


HASTY = Patience(
    connect_s=2.0, ping_s=0.5, silent_s=2.0, pause_least_s=0.1, pause_most_s=0.5, short_pause_s=0.5
)


class Hasty(SshOutpost):
    """Waits for nothing as long as it would elsewhere, as tests wait for it."""

    def __init__(self, setup: Setup, options: SshOptions) -> None:
        super().__init__(setup, options)
        self._shell = DeskShell(self._open, name=self._address.shown(), patience=HASTY)

    def _placed(self, facts: Mapping[str, Any]) -> ShellPlace:
        return replace(super()._placed(facts), look_every_s=2.0)


def make_outpost(
    ssh: SshWorld,
    host: Host,
    federation_id: str,
    /,
    *,
    kind: type[SshOutpost] = Hasty,
    **other: Any,
) -> SshOutpost:
    """Return the outpost of a host; ``other`` options come before the usual ones, or end them."""
    options = {**ssh.options(host), **other}
    setup = Setup(
        name=host.name,
        federation_id=federation_id,
        data_folder=str(ssh.world.home),
        environment=ssh.world.environment,
    )
    said = {key: value for key, value in options.items() if value is not None}
    return kind(setup, SshOptions.model_validate(said))


@contextlib.asynccontextmanager
async def outpost_at(
    ssh: SshWorld, host: Host, /, *, kind: type[SshOutpost] = Hasty, **other: Any
) -> AsyncIterator[SshOutpost]:
    """Yield the outpost of a host; at the end nothing of it is left there that can be reached."""
    outpost = make_outpost(ssh, host, FEDERATION, kind=kind, **other)
    try:
        yield outpost
    finally:
        with contextlib.suppress(OutpostFault):
            for sighting in [it async for it in outpost.workers()]:
                await outpost.destroy(sighting.handle)
        await outpost.close()


def environment_of(ssh: SshWorld) -> Environment:
    """Return the variables of a worker, a secret among them."""
    ours = {**ssh.world.environment, "TOKEN": SECRET}
    return worker_environment(ours, agent_variables=("TOKEN",), extra=())


def bench_of(ssh: SshWorld, outpost: SshOutpost) -> Bench:
    """Return what makes orders for an outpost, and reads logs."""
    options = BenchOptions(
        make=lambda _: outpost,
        repo_url=ssh.world.remote.url,
        environment=environment_of(ssh),
        patience_s=20,
    )
    bench = Bench(options)
    bench.federation_id = FEDERATION
    return bench


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What an outpost says of itself, and how a start there ended."""

    health: Health
    fault: OutpostFault


async def trouble_at(ssh: SshWorld, host: Host, /, **other: Any) -> Trouble:
    """Return why a host cannot be used: who asks is told, and who starts; without secrets."""
    async with outpost_at(ssh, host, **other) as outpost:
        health = await outpost.ping()
        order = bench_of(ssh, outpost).order("true")
        try:
            await outpost.spawn(order, environment_of(ssh))
        except OutpostFault as exc:
            fault = exc
        else:
            raise AssertionError("it was started")
    shown = "\n".join((health.detail, health.hint, fault.message, fault.hint))
    key = ssh.client.key.read_text().splitlines()[1]
    assert not [it for it in (SECRET, key, "Traceback", "asyncssh") if it in shown], shown
    return Trouble(health=health, fault=fault)


async def works(ssh: SshWorld, host: Host, /, **other: Any) -> None:
    """Check that a host can be used, and that a worker there comes to its end."""
    async with outpost_at(ssh, host, **other) as outpost:
        health = await outpost.ping()
        assert health.ok, health
        bench = bench_of(ssh, outpost)
        handle = await bench.spawn("echo at work")
        assert (await bench.log(handle))[-1].fields["outcome"] == "done"

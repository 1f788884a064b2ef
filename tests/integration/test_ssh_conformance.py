"""The conformance kit on a real ``sshd``: the SSH outpost passes all of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from outpost.backends.ssh import SshOutpost
from outpost.control.environment import worker_environment
from outpost.testing import CHECKS, Bench, BenchOptions, Check, Outcome, run_check
from outpost.testing.bench import MakeOutpost
from tests.integration.ssh_outposts import make_outpost
from tests.ssh_hosts import Host
from tests.ssh_world import SshWorld
from tests.world import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@contextlib.asynccontextmanager
async def bench_of(ssh: SshWorld, host: Host) -> AsyncIterator[Bench]:
    """Yield a bench of one host; at the end a sound outpost destroys whatever is there."""
    made: list[SshOutpost] = []

    def maker(port: int = host.port) -> MakeOutpost:
        def make(federation_id: str) -> SshOutpost:
            made.append(make_outpost(ssh, host, federation_id, port=port))
            return made[-1]

        return make

    options = BenchOptions(
        make=maker(),
        make_unreachable=maker(free_port()),
        repo_url=ssh.world.remote.url,
        environment=worker_environment(ssh.world.environment, agent_variables=(), extra=()),
    )
    bench = Bench(options)
    try:
        yield bench
    finally:
        for federation_id in (bench.federation_id, bench.stranger_id):
            sound = options.make(federation_id)
            for sighting in [it async for it in sound.workers()]:
                await sound.destroy(sighting.handle)
        for outpost in made:
            await outpost.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_an_ssh_outpost_keeps_the_contract(ssh: SshWorld, check: Check) -> None:
    async with bench_of(ssh, ssh.host("a")) as bench:
        result = await run_check(bench, check, slow=True)
    expected = Outcome.PASSED
    if check.name == "undeclared_abilities_are_refused":
        expected = Outcome.SKIPPED
    assert result.outcome is expected, f"{result.reason}\n{result.detail}"
    assert expected is Outcome.SKIPPED or result.detail == ""

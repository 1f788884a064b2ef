"""The conformance kit on a real Docker Engine: the docker outpost passes all of it."""

from __future__ import annotations

import pytest

from outpost.backends.docker import DockerOutpost
from outpost.testing import CHECKS, Bench, Check, Outcome, run_check
from tests.docker_engine import running_engine
from tests.integration.docker_outposts import DockerWorld
from tests.world import Remote, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture
def docker(world: World, served_remote: Remote) -> DockerWorld:
    """Return the real engine, with a home here and a remote there."""
    return DockerWorld(engine=running_engine(), world=world, remote=served_remote)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_a_docker_outpost_keeps_the_contract(docker: DockerWorld, check: Check) -> None:
    def unreachable(federation_id: str) -> DockerOutpost:
        return docker.outpost(federation_id, host="unix:///nowhere/docker.sock")

    async with Bench(docker.bench_options(make_unreachable=unreachable)) as bench:
        result = await run_check(bench, check, slow=True)
        left = [await bench.stranger().find(name) for name in docker.names()]
    await docker.close()
    assert result.outcome is Outcome.PASSED, f"{result.reason}\n{result.detail}"
    assert result.detail == ""
    assert not [it for it in left if it], "a worker of the other federation is left"

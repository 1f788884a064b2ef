"""A federation with a docker outpost: tasks done in containers, and elsewhere where none can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from outpost.model import State
from tests.docker_engine import running_engine
from tests.integration.docker_outposts import clear
from tests.world import World, git_daemon

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def docked(world: World) -> Iterator[World]:
    """Return a world with an engine, and with a remote that is reached from containers."""
    engine = running_engine()
    world.environment["DOCKER_HOST"] = engine.host
    with git_daemon(world.remote) as served:
        yield replace(world, remote=served)
        for home in world.homes:
            clear(engine, world.federation_id(home.name))


def config(*, host: str | None = None) -> str:
    """Return a configuration that prefers containers to this machine."""
    docker: dict[str, object] = {
        **{"name": "box", "type": "docker", "image": "outpost-worker:slim", "network": "host"},
        **{"min_free_mib": 0, "memory": "512m", "max_workers": 2},
    }
    if host:
        docker["host"] = host
    local = {"name": "local", "type": "local", "max_workers": 2}
    policy = {"default_preference": ["box", "local"]}
    return json.dumps({"outposts": [docker, local], "policy": policy})


async def test_a_task_is_done_in_a_container(docked: World) -> None:
    script = "test -w /cache && id -un > who.txt"
    async with docked.federation(config=config()) as federation:
        worker = await docked.spawn(federation, script)
        result = await worker.result()
    assert (result.outpost, result.state) == ("box", State.DONE)
    assert result.branch
    assert docked.remote.show(result.branch, "who.txt") == "worker"


async def test_without_an_engine_the_next_outpost_has_the_task(docked: World) -> None:
    nowhere = config(host="unix:///nowhere/docker.sock")
    async with docked.federation(config=nowhere) as federation:
        worker = await docked.spawn(federation, "echo words > new.txt")
        result = await worker.result()
    assert (result.outpost, result.state) == ("local", State.DONE)

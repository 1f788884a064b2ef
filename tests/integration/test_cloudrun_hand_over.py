"""Work longer than a request may take, on a stand-in for Cloud Run: one worker an instance."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from outpost.backends.cloudrun import CloudRunOutpost
from outpost.control.environment import worker_environment
from outpost.model import Handle, Liveness
from outpost.testing import Bench, BenchOptions
from outpost.testing.bench import lines
from outpost.wire.events import Event
from tests.cloudrun_world import TOKEN, TOKEN_SECRET, loopback_outpost
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.unit.cloudrun_values import IMAGE, SERVICE, some_options
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

COUNT = "i=0; while [ $i -lt 120 ]; do i=$((i+1)); echo line $i; sleep 0.03; done; ls > seen"
COUNTED = [f"line {number}" for number in range(1, 121)]


@dataclass
class Site:
    world: World
    cloud: CloudRun
    outpost: CloudRunOutpost

    async def spawn(self, script: str) -> Handle:
        environment = worker_environment(self.world.environment, agent_variables=(), extra=())
        options = BenchOptions(
            make=lambda _: self.outpost, repo_url=self.world.remote.url, environment=environment
        )
        order = Bench(options).order(script, federation_id=self.outpost.federation_id)
        return await self.outpost.spawn(order, environment)

    async def log(self, handle: Handle) -> list[Event]:
        async with asyncio.timeout(60):
            return [it async for it in self.outpost.worker(handle).events(follow=True)]


@pytest.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    limits = Limits(grace_s=5, queue_s=0.5)
    async with CloudRun(limits=limits) as cloud, ControlPlane(cloud) as control:
        control.image(IMAGE, sys.executable, "-m", "outpost.runner", "serve")
        control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()
        options = some_options(token="env://OUTPOST_TOKEN", lease="5s")
        outpost = loopback_outpost(control.address, options, tmp_path / "data", cloud.tokens)
        # Requests of an hour would be a long test.
        outpost.terms = replace(outpost.terms, request_s=0.7)
        await outpost.deploy(await outpost.plan(IMAGE), lambda _: None)
        try:
            yield Site(world, cloud, outpost)
        finally:
            await outpost.close()


async def test_it_goes_on_on_the_same_instance(site: Site) -> None:
    handle = await site.spawn(COUNT)
    events = await site.log(handle)
    assert lines(events) == COUNTED
    assert events[-1].fields["outcome"] == "done"
    link = site.outpost.link_of(handle.worker_id)
    assert link is not None
    assert link.requests >= 3
    assert len(site.cloud.instances(SERVICE)) == 1


async def test_a_request_that_leads_elsewhere_is_tried_again(site: Site) -> None:
    handle = await site.spawn(COUNT)
    site.cloud.faults.affinity_misses = 1
    events = await site.log(handle)
    assert lines(events) == COUNTED
    assert events[-1].fields["outcome"] == "done"


async def test_what_is_not_found_again_is_given_up_and_not_before_its_lease(site: Site) -> None:
    handle = await site.spawn("echo begun; sleep 60")
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.3)
    began = loop.time()
    site.cloud.kill(SERVICE)
    events = await site.log(handle)
    assert lines(events) in ([], ["begun"])
    assert loop.time() - began > 4
    status = await site.outpost.worker(handle).status()
    assert status.liveness is Liveness.DEAD
    assert "gone" in status.detail

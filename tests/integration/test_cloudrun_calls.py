"""What Cloud Run's front end answers to a start, and what that means for whoever asked."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outpost.backends.cloudrun import CloudRunOutpost
from outpost.control.environment import worker_environment
from outpost.errors import NoCapacity, OutpostFault, Rejected
from outpost.testing import Bench, BenchOptions
from outpost.wire.orders import WorkOrder
from tests.cloudrun_world import TOKEN, TOKEN_SECRET, loopback_outpost
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION, SERVICE, some_options
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@dataclass
class Calling:
    """A service of the worker image, an outpost that uses it, and orders for that."""

    cloud: CloudRun
    outpost: CloudRunOutpost
    bench: Bench
    made: Callable[..., CloudRunOutpost]

    async def spawn(self) -> WorkOrder:
        order = self.bench.order("true")
        environment = self.bench.options.environment
        handle = await self.outpost.spawn(order, environment)
        assert handle.worker_id == order["worker_id"]
        return order

    async def refused(self, outpost: CloudRunOutpost | None = None) -> OutpostFault:
        """Return why a start is refused; nothing may be left of it."""
        outpost, order = outpost or self.outpost, self.bench.order("true")
        with pytest.raises(OutpostFault) as caught:
            await outpost.spawn(order, self.bench.options.environment)
        assert await outpost.find(order["worker_id"]) is None
        return caught.value


@pytest.fixture
async def calling(world: World, tmp_path: Path) -> AsyncIterator[Calling]:
    async with CloudRun(limits=Limits(grace_s=5)) as cloud, ControlPlane(cloud) as control:
        control.image(IMAGE, sys.executable, "-m", "outpost.runner", "serve")
        control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()

        def made(**setup: Any) -> CloudRunOutpost:
            options = some_options(token="env://OUTPOST_TOKEN")
            return loopback_outpost(control.address, options, tmp_path, cloud.tokens, **setup)

        bench = Bench(
            BenchOptions(
                make=lambda federation_id: made(federation_id=federation_id),
                repo_url=world.remote.url,
                environment=worker_environment(world.environment, agent_variables=(), extra=()),
            )
        )
        outpost = made(federation_id=bench.federation_id)
        await outpost.deploy(await outpost.plan(IMAGE), lambda _: None)
        yield Calling(cloud, outpost, bench, made)
        await outpost.close()


async def test_a_token_that_is_taken_no_more_is_replaced_once(calling: Calling) -> None:
    (header,) = (await calling.outpost.headers()).values()
    calling.cloud.tokens.revoke(header.removeprefix("Bearer "))
    await calling.spawn()
    assert calling.cloud.tokens.minted == 2


async def test_who_may_not_call_is_told_which_role_it_takes(calling: Calling) -> None:
    calling.cloud.tokens.invokers.clear()
    fault = await calling.refused()
    assert isinstance(fault, Rejected)
    assert fault.message == "burst: Cloud Run does not let us call the service"
    assert fault.hint == (
        f"gcloud run services add-iam-policy-binding {SERVICE} --region {REGION}"
        f" --project {PROJECT} --member=serviceAccount:NAME --role=roles/run.invoker"
    )


async def test_another_token_than_the_service_s_own_is_refused(calling: Calling) -> None:
    outpost = calling.made(environment={"OUTPOST_TOKEN": "another"})
    fault = await calling.refused(outpost)
    await outpost.close()
    assert isinstance(fault, Rejected)
    assert "do not take our token" in fault.message
    assert "outpost-token:latest" in fault.hint


async def test_no_free_instance_is_no_capacity_of_that_region(calling: Calling) -> None:
    calling.cloud.faults.statuses = [429]
    fault = await calling.refused()
    assert isinstance(fault, NoCapacity)
    assert (fault.outpost, fault.scope) == ("burst", REGION)
    await calling.spawn()


async def test_a_service_that_is_gone_is_looked_for_anew(calling: Calling) -> None:
    calling.cloud.undeploy(SERVICE)
    fault = await calling.refused()
    assert isinstance(fault, Rejected)
    assert "is not there any more" in fault.message
    assert fault.hint.startswith("outpost deploy cloudrun burst")


async def test_without_its_token_nothing_is_sent(calling: Calling) -> None:
    outpost = loopback_outpost(
        "127.0.0.1:9", some_options(), Path("/nowhere"), calling.cloud.tokens
    )
    order = calling.bench.order("true")
    with pytest.raises(Rejected, match="which token its service asks for"):
        await outpost.spawn(order, calling.bench.options.environment)
    await outpost.close()

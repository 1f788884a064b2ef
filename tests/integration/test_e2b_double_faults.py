"""The stand-in fails as it is asked to, and keeps to the contract otherwise."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from e2b import (
    RateLimitException,
    SandboxException,
)
from e2b.api.client.models import ConnectSandboxV2, NewSandboxV2
from e2b.exceptions import (
    SandboxNotRunningException,
    SandboxUnreachableException,
    ServiceBusyException,
)
from werkzeug.datastructures import Headers

from tests.doubles.e2b import E2bCloud
from tests.doubles.e2b.calls import Call, Reply
from tests.doubles.e2b.contract import Contract, api_document
from tests.doubles.e2b.trying import FAST, create, listed, plain, state, until
from tests.world import alive

pytestmark = pytest.mark.integration


@pytest.fixture
def e2b(tmp_path: Path) -> Iterator[E2bCloud]:
    with E2bCloud(tmp_path / "e2b", limits=FAST) as cloud:
        yield cloud


async def test_a_storm_of_refusals(e2b: E2bCloud) -> None:
    e2b.faults.only = "POST /v2/sandboxes"
    e2b.faults.retry_after_s = 0
    e2b.faults.statuses = [429, 429, 503]
    assert await listed(e2b) == []
    await create(e2b, retries=3)
    assert [it[2] for it in e2b.requests()] == [200, 429, 429, 503, 201]
    e2b.faults.statuses = [429]
    with pytest.raises(RateLimitException):
        await create(e2b)
    e2b.faults.statuses = [503]
    with pytest.raises(ServiceBusyException):
        await create(e2b)


async def test_a_page_of_the_load_balancer_instead_of_json(e2b: E2bCloud) -> None:
    e2b.faults.html = True
    e2b.faults.statuses = [500]
    with pytest.raises(ValueError, match="Expecting value"):
        await create(e2b)
    assert e2b.violations() == []  # it is not the API that says so


async def test_the_answer_to_a_creation_is_lost(e2b: E2bCloud) -> None:
    e2b.faults.only = "POST /v2/sandboxes"
    e2b.faults.lost_answers = 1
    with pytest.raises(httpx.TransportError):
        await create(e2b, idempotency_key="k")
    assert len(e2b.sandboxes()) == 1
    assert (await create(e2b, idempotency_key="k")).sandbox_id == e2b.sandboxes()[0].id


async def test_a_call_that_is_never_answered(e2b: E2bCloud) -> None:
    e2b.faults.black_holes = 1
    with pytest.raises(httpx.TimeoutException):
        await create(e2b, request_timeout=0.3)
    assert e2b.requests() == [("POST", "/v2/sandboxes", 0)]


async def test_no_capacity_and_boots_that_are_slow_or_fail(e2b: E2bCloud) -> None:
    e2b.faults.no_capacity = 1
    with pytest.raises(ServiceBusyException, match="No capacity"):
        await create(e2b)
    e2b.faults.slow_boot_s = 0.3
    began = time.monotonic()
    await create(e2b)
    assert time.monotonic() - began > 0.3


async def test_a_sandbox_is_made_though_its_client_is_gone(e2b: E2bCloud) -> None:
    e2b.faults.slow_boot_s = 3
    with pytest.raises(httpx.TimeoutException):
        await create(e2b, request_timeout=1)
    await until(e2b.sandboxes, "it is there")


async def test_acts_that_fail_for_a_while(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    e2b.faults.failing_deletes = math.inf
    e2b.faults.failing_pauses = e2b.faults.failing_resumes = 1
    for _ in range(2):
        with pytest.raises(SandboxException, match="500"):
            await sandbox.kill()
    with pytest.raises(SandboxException, match="500"):
        await sandbox.pause()
    await sandbox.pause()
    with pytest.raises(SandboxException, match="500"):
        await sandbox.connect()
    await sandbox.connect()
    assert state(e2b, sandbox) == "running"
    e2b.faults.failing_deletes = 0
    assert await sandbox.kill()


async def test_lists_lag_and_its_clock_is_ahead(e2b: E2bCloud) -> None:
    first = await create(e2b)
    e2b.faults.list_lag_s = lag_s = 3.0
    await until(lambda: e2b.metered_s()[first.sandbox_id] > lag_s, "the list knows of it")
    second = await create(e2b)
    await first.kill()
    assert await listed(e2b) == [first.sandbox_id]
    e2b.faults.list_lag_s = 0
    assert await listed(e2b) == [second.sandbox_id]
    before = (await second.get_info()).end_at
    e2b.faults.skew_s = 60
    assert ((await second.get_info()).end_at - before).total_seconds() == 60


async def test_a_sandbox_vanishes(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    handle = await sandbox.commands.run("sleep 300", background=True, timeout=0)
    e2b.kill(sandbox.sandbox_id)
    with pytest.raises(SandboxNotRunningException):
        await handle.wait()
    assert not alive(handle.pid)
    assert (e2b.sandboxes(), [it.state for it in e2b.sandboxes(ended=True)]) == ([], ["ended"])
    assert not await sandbox.is_running()


async def test_envd_cannot_be_reached(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    e2b.faults.unreachable = {sandbox.sandbox_id}
    for act in (sandbox.commands.run("true"), sandbox.files.read("x")):
        with pytest.raises(SandboxUnreachableException, match="port is not open"):
            await act
    e2b.faults.unreachable.clear()
    e2b.faults.envd_statuses = [503]
    with pytest.raises(SandboxUnreachableException):
        await sandbox.commands.run("true")
    e2b.faults.envd_cuts = 1
    with pytest.raises(Exception, match=r"(?i)connection|stream|reset|closed") as cut:
        await sandbox.commands.run("echo done > done")
    assert not isinstance(cut.value, SandboxNotRunningException)
    await until((e2b.sandboxes()[0].home / "done").exists, "it was carried out all the same")


async def test_the_platform_may_be_late_with_ends(e2b: E2bCloud) -> None:
    e2b.faults.overdue = True
    late, renewed = [await create(e2b, timeout=1) for _ in range(2)]
    await until(lambda: e2b.metered_s()[renewed.sandbox_id] > 1.1, "their time is over")
    assert [it.state for it in e2b.sandboxes()] == ["running", "running"]
    await renewed.set_timeout(100)
    e2b.faults.overdue = False
    await until(lambda: state(e2b, late) == "ended", "it ends at last")
    assert state(e2b, renewed) == "running"


async def test_violations_of_the_contract_fail_a_test(tmp_path: Path) -> None:
    cloud = E2bCloud(tmp_path)
    with pytest.raises(AssertionError, match="'soon' is not of type 'integer'"), cloud:
        await _create_wrongly(cloud)


async def _create_wrongly(e2b: E2bCloud) -> None:
    async with plain(e2b) as http:
        wrong = {"templateID": "base", "timeout": "soon"}
        assert (await http.post(f"{e2b.api_url}/v2/sandboxes", json=wrong)).status_code == 400


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply.of(200, [{"sandboxID": 7}]), "'templateID' is a required property"),
        (Reply.of(418, {"code": 418, "message": "teapot"}), "418"),
        (Reply(status=200, body=b"<html>", content_type="text/html"), "text/html"),
    ],
)
def test_answers_are_held_to_the_contract(reply: Reply, why: str) -> None:
    contract = Contract.of_api()
    contract.check_answer(_call("/v2/sandboxes"), Reply.of(200, []))
    assert contract.violations == []
    contract.check_answer(_call("/v2/sandboxes"), reply)
    assert why in contract.violations[0]


def _call(target: str) -> Call:
    return Call(method="GET", target=target, headers=Headers(), body=b"")


@pytest.mark.parametrize("model", [NewSandboxV2, ConnectSandboxV2])
def test_what_is_not_in_the_contract_is_as_the_client_has_it(model: type[Any]) -> None:
    schema = api_document()["components"]["schemas"][model.__name__]
    ours = {name.lower().replace("_", "") for name in schema["properties"]}
    theirs = {it.name.replace("_", "") for it in attrs.fields(model)}
    assert ours == theirs - {"additionalproperties"}

"""What goes wrong with E2B, and that nothing is started twice, lost or left unsaid by it."""

from __future__ import annotations

import asyncio
import math
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outpost.backends import e2b as backend
from outpost.errors import (
    Ambiguous,
    NoCapacity,
    NotDispatched,
    OutpostFault,
    RateLimited,
    Rejected,
)
from outpost.model import Liveness
from outpost.testing.bench import lines
from tests.e2b_world import Site, place_of, site_in, stop_strangers, tended
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

CREATE = "POST /v2/sandboxes"
HOLD = "sleep 60"


@pytest.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_in(world, tmp_path, concurrent=2) as site:
        yield site


async def log_of(site: Site, script: str = "echo over") -> list[str]:
    outpost = site.outpost()
    handle = await site.start(outpost, script)
    return lines([it async for it in outpost.worker(handle).events(follow=True)])


@pytest.mark.parametrize("statuses", [[429, 429], [503], [502, 504], [500], [500, 502]])
@pytest.mark.parametrize("html", [False, True])
async def test_a_few_refusals_are_waited_out(
    site: Site, statuses: list[int], *, html: bool
) -> None:
    faults = site.e2b.faults
    faults.only, faults.html, faults.statuses = CREATE, html, list(statuses)
    assert await log_of(site) == ["begun", "over"]
    assert len(site.e2b.sandboxes()) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, RateLimited), (503, NoCapacity), (403, Rejected), (400, Rejected), (500, Ambiguous)],
)
@pytest.mark.parametrize("html", [False, True])
async def test_a_storm_says_what_it_is(
    site: Site, status: int, error: type[OutpostFault], *, html: bool
) -> None:
    faults = site.e2b.faults
    faults.only, faults.html, faults.statuses = CREATE, html, [status] * 20
    outpost = site.outpost()
    outpost.patience_s = 0.0
    with pytest.raises(OutpostFault) as caught:
        await outpost.spawn(site.order("true"), site.environment)
    # Of a page that is no JSON the SDK tells nothing, not even its status.
    assert type(caught.value) is (Ambiguous if html else error)
    assert str(status) in caught.value.message or html
    assert site.e2b.sandboxes() == []


async def test_starts_that_come_too_quickly_wait_for_their_turn(
    world: World, tmp_path: Path
) -> None:
    async with site_in(world, tmp_path, creations_per_s=5.0, concurrent=100) as site:
        outpost = site.outpost(plan="pro")
        starts = [outpost.spawn(site.order("true"), site.environment) for _ in range(12)]
        assert len({it.worker_id for it in await asyncio.gather(*starts)}) == 12
        assert 429 in [status for _, _, status in site.e2b.requests()]
        assert len(site.e2b.sandboxes()) == 12


async def test_a_lost_answer_is_asked_for_again(site: Site) -> None:
    site.e2b.faults.only, site.e2b.faults.lost_answers = CREATE, 2
    assert await log_of(site) == ["begun", "over"]
    assert len(site.e2b.sandboxes(ended=True)) == 1


async def test_answers_that_stay_lost_leave_what_can_be_found(site: Site) -> None:
    outpost, order = site.outpost(), site.order("echo over")
    site.e2b.faults.only, site.e2b.faults.lost_answers = CREATE, math.inf
    with pytest.raises(Ambiguous):
        await outpost.spawn(order, site.environment)
    site.e2b.faults.lost_answers = 0
    handle = await outpost.find(order["worker_id"])
    assert handle
    assert (await outpost.worker(handle).status()).liveness is Liveness.DEAD
    assert await outpost.spawn(order, site.environment) == handle
    log = [it async for it in outpost.worker(handle).events(follow=True)]
    assert lines(log) == ["over"]
    assert len(site.e2b.sandboxes(ended=True)) == 1


async def test_a_full_plan_is_no_capacity(site: Site) -> None:
    outpost = site.outpost()
    handles = [await site.start(outpost, HOLD) for _ in range(2)]
    with pytest.raises(NoCapacity, match="no sandbox is free"):
        await outpost.spawn(site.order("true"), site.environment)
    await outpost.tend(tended(handles[0], waiting_s=999))
    assert await log_of(site) == ["begun", "over"], "a paused one takes no place"


async def test_a_sandbox_that_vanishes_is_absent_not_unseen(site: Site) -> None:
    outpost = site.outpost()
    handle = await site.start(outpost, HOLD)

    async def follow() -> list[str]:
        return lines([it async for it in outpost.worker(handle).events(follow=True)])

    following = asyncio.create_task(follow())
    await site.until_said(outpost, handle, "begun")
    await asyncio.to_thread(site.e2b.kill, site.sandbox(handle).id)
    assert (await outpost.worker(handle).status()).liveness is Liveness.ABSENT
    assert [it async for it in outpost.workers()] == []
    async with asyncio.timeout(20):
        assert await following == ["begun"]
    await outpost.worker(handle).stop(grace_s=1, reason="by the test")
    await outpost.destroy(handle)


async def test_a_sandbox_out_of_reach_is_unseen_and_comes_back(site: Site) -> None:
    outpost, again = site.outpost(), site.outpost()
    handle = await site.start(outpost, HOLD)
    site.e2b.faults.unreachable = {"*"}
    seen = await again.worker(handle).status()
    assert seen.liveness is Liveness.UNSEEN
    assert "port is not open" in seen.detail
    site.e2b.faults.unreachable = set()
    async with asyncio.timeout(20):
        while (await again.worker(handle).status()).liveness is not Liveness.ALIVE:
            await asyncio.sleep(0.1)


async def test_one_that_cannot_be_entered_is_not_dispatched_and_removed(site: Site) -> None:
    outpost, order = site.outpost(), site.order("true")
    site.e2b.faults.unreachable = {"*"}
    with pytest.raises(NotDispatched):
        await outpost.spawn(order, site.environment)
    assert site.e2b.sandboxes() == []


async def test_one_that_cannot_be_removed_either_rests_until_it_is_stopped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "DELETE_PAUSES_S", ())
    outpost, order = site.outpost(lease_s=8), site.order("true")
    faults = site.e2b.faults
    faults.unreachable, faults.failing_deletes = {"*"}, math.inf
    with pytest.raises(NotDispatched):
        await outpost.spawn(order, site.environment)
    faults.unreachable, faults.failing_deletes = set(), 0
    [sighting] = [it async for it in outpost.workers()]
    assert (sighting.handle.worker_id, sighting.liveness) == (order["worker_id"], Liveness.DEAD)
    async with asyncio.timeout(20):
        while [it.state for it in site.e2b.sandboxes()] != ["paused"]:
            await outpost.tend([])
            await asyncio.sleep(0.2)
    asked = [f"{method} {path}" for method, path, _ in site.e2b.requests()]
    assert [it for it in asked if it.startswith("POST") and it.endswith("/pause")]
    await stop_strangers(outpost)
    assert site.e2b.sandboxes() == [], "there is nothing in it to wake it for again"
    await outpost.destroy(sighting.handle)


async def test_a_runner_that_cannot_be_put_there_starts_nothing(site: Site) -> None:
    outpost, order = site.outpost(), site.order("echo over")
    site.e2b.faults.only, site.e2b.faults.lost_answers = CREATE, math.inf
    with pytest.raises(Ambiguous):
        await outpost.spawn(order, site.environment)
    site.e2b.faults.lost_answers = 0
    [sandbox] = site.e2b.sandboxes()
    runner = sandbox.home / ".outpost" / "runner"
    runner.parent.mkdir()
    runner.write_text("in the way")
    with pytest.raises(NotDispatched, match="cannot write to cloud"):
        await outpost.spawn(order, site.environment)
    runner.unlink()
    # As a start leaves it that is cut off half way: an order, and no runner.
    assert (place_of(sandbox, order["worker_id"]) / "order.json").is_file()
    [sighting] = [it async for it in site.outpost().workers()]
    assert sighting.liveness is Liveness.DEAD
    assert [it.suffix for it in runner.iterdir()] == [".pyz"]
    assert await outpost.spawn(order, site.environment) == sighting.handle
    log = [it async for it in outpost.worker(sighting.handle).events(follow=True)]
    assert lines(log) == ["over"]


async def test_one_whose_order_never_came_is_given_up_with_its_sandbox(site: Site) -> None:
    outpost, order = site.outpost(), site.order("true")
    site.e2b.faults.only, site.e2b.faults.lost_answers = CREATE, math.inf
    with pytest.raises(Ambiguous):
        await outpost.spawn(order, site.environment)
    site.e2b.faults.lost_answers = 0
    handle = await outpost.find(order["worker_id"])
    assert handle
    worker = outpost.worker(handle)
    assert (await worker.status()).liveness is Liveness.DEAD
    assert not await worker.recover(site.environment)
    assert site.e2b.sandboxes() == [], "a start that is still on its way would begin in it"
    assert (await worker.status()).liveness is Liveness.ABSENT


async def test_a_runner_that_is_gone_is_put_there_again(site: Site) -> None:
    outpost, order = site.outpost(), site.order(f"echo begun; {HOLD}")
    handle = await outpost.spawn(order, site.environment)
    await site.until_said(outpost, handle, "begun")
    [runner] = (site.sandbox(handle).home / ".outpost" / "runner").iterdir()
    runner.unlink()
    assert (await outpost.worker(handle).status()).liveness is Liveness.ALIVE
    before = runner.stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    assert await outpost.spawn(order, site.environment) == handle
    assert runner.stat().st_ino == before.st_ino, "one that is there is left alone"
    log = [it async for it in outpost.worker(handle).events()]
    assert lines(log) == ["begun"], "nothing is started twice"


async def test_a_key_that_is_revoked_is_said_and_looked_up_again(site: Site) -> None:
    outpost = site.outpost()
    handle = await site.start(outpost, "sleep 1; echo over")
    site.e2b.faults.key_revoked = True
    health = await outpost.ping()
    assert not health.ok
    assert "does not take the API key" in health.detail
    assert "api_key" in health.hint
    with pytest.raises(Rejected):
        await outpost.spawn(site.order("true"), site.environment)
    assert (await outpost.worker(handle).status()).liveness is Liveness.UNSEEN
    site.e2b.faults.key_revoked = False
    assert (await outpost.ping()).ok
    log = [it async for it in outpost.worker(handle).events(follow=True)]
    assert lines(log) == ["begun", "over"]


async def test_a_key_that_is_not_there_is_said(site: Site) -> None:
    outpost = site.outpost(setup={"environment": {}})
    health = await outpost.ping()
    assert (health.ok, health.hint) == (False, "export E2B_API_KEY=…")
    assert "E2B_API_KEY is not set" in health.detail


async def test_a_template_that_is_not_there_is_said(site: Site) -> None:
    outpost = site.outpost(template="nobody-has-it")
    health = await outpost.ping()
    assert (health.ok, health.hint) == (False, "outpost deploy e2b cloud")
    with pytest.raises(Rejected, match="nobody-has-it"):
        await outpost.spawn(site.order("true"), site.environment)


async def test_a_list_that_lags_hides_no_lease_and_shows_no_dead(site: Site) -> None:
    site.e2b.faults.list_lag_s = 5.0
    outpost = site.outpost(lease_s=20)
    handle = await site.start(outpost, HOLD)
    before = site.sandbox(handle).end_at
    assert await outpost.find(handle.worker_id) is None
    await outpost.tend(tended(handle))
    assert site.sandbox(handle).end_at > before
    assert (await outpost.worker(handle).status()).liveness is Liveness.ALIVE
    site.e2b.faults.list_lag_s = 0.0
    assert [it.handle async for it in outpost.workers()] == [handle]
    site.e2b.faults.list_lag_s = 5.0
    await outpost.destroy(handle)
    assert [it async for it in outpost.workers()] == []


async def test_deletes_that_fail_are_tried_again_and_then_said(site: Site) -> None:
    outpost = site.outpost()
    handle = await site.start(outpost, HOLD)
    site.e2b.faults.failing_deletes = math.inf
    with pytest.raises(OutpostFault, match="cannot be removed"):
        await outpost.destroy(handle)
    assert len(site.e2b.sandboxes()) == 1
    site.e2b.faults.failing_deletes = 2
    await outpost.destroy(handle)
    assert site.e2b.sandboxes() == []
    await outpost.destroy(handle)


async def test_connections_that_break_are_not_noticed(site: Site) -> None:
    outpost = site.outpost()
    handle = await site.start(outpost, "sleep 4; echo over")
    log = []
    async with asyncio.timeout(20):
        async for event in outpost.worker(handle).events(follow=True):
            log.append(event)
            if event.fields.get("text") == "begun":
                assert await asyncio.to_thread(site.e2b.cut)
    assert lines(log) == ["begun", "over"]

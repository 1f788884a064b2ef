"""Sandboxes over time: leases, pauses, the end of a session, and who wakes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outpost.backends import e2b_tending
from outpost.backends.e2b import E2bOutpost
from outpost.model import Handle, Liveness
from outpost.testing.bench import lines
from outpost.transports import e2b_sandbox
from outpost.transports.log_copy import PIECE_BYTES
from tests.e2b_world import Site, site_in, stop_strangers, tended
from tests.world import DEADLINE_S, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

HOLD = "sleep 60"


@pytest.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_in(world, tmp_path) as site:
        yield site


async def until(look: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not look():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


async def paused_at_work(site: Site, outpost: E2bOutpost, script: str = HOLD) -> Handle:
    handle = await site.start(outpost, script)
    await outpost.tend(tended(handle, waiting_s=121))
    assert site.sandbox(handle).state == "paused"
    return handle


async def tended_until_it_ends(outpost: E2bOutpost, handle: Handle) -> None:
    async with asyncio.timeout(DEADLINE_S):
        # In the midst of a pause it may not be seen.
        while (await outpost.worker(handle).status()).liveness is not Liveness.DEAD:
            await outpost.tend(tended(handle))
            await asyncio.sleep(0.2)


async def tended_until_it_rests(site: Site, outpost: E2bOutpost, handle: Handle) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while site.sandbox(handle).state != "paused":
            await outpost.tend([])
            await asyncio.sleep(0.1)


async def test_a_lease_is_renewed(site: Site) -> None:
    outpost = site.outpost(lease_s=20)
    handle = await site.start(outpost, HOLD)
    first = site.sandbox(handle).end_at
    await outpost.tend(tended(handle))
    renewed = site.sandbox(handle).end_at
    assert first < renewed
    await outpost.tend(tended(handle))
    assert site.sandbox(handle).end_at == renewed, "once for each part of it is enough"


async def test_who_waits_for_a_person_is_paused_and_the_answer_resumes_it(site: Site) -> None:
    outpost = site.outpost()
    handle = await site.start(outpost, HOLD)
    await outpost.tend(tended(handle, waiting_s=119))
    assert site.sandbox(handle).state == "running"
    await outpost.tend(tended(handle, waiting_s=121))
    assert site.sandbox(handle).state == "paused"
    await outpost.tend(tended(handle, waiting_s=141))
    assert site.sandbox(handle).state == "paused"
    await outpost.worker(handle).send({"type": "text", "text": "yes", "message_id": "m-1"})
    assert site.sandbox(handle).state == "running"
    following = outpost.worker(handle).events(follow=True)
    async with asyncio.timeout(DEADLINE_S):
        async for event in following:
            if event.type == "message":
                break
    await following.aclose()


async def test_looking_wakes_nothing(site: Site) -> None:
    handle = await paused_at_work(site, site.outpost())
    for outpost in (site.made[0], site.outpost()):
        seen = await outpost.worker(handle).status()
        assert (seen.liveness, seen.paused, seen.detail) == (Liveness.ALIVE, True, "paused")
        assert await outpost.find(handle.worker_id) == handle
        assert [it.liveness async for it in outpost.workers()] == [Liveness.ALIVE]
        assert "begun" in lines([it async for it in outpost.worker(handle).events()])
        assert (await outpost.ping()).ok
    assert site.sandbox(handle).state == "paused"
    assert not [it for it in site.e2b.requests() if it[1].endswith("/connect") and it[2] == 201]


async def test_looking_keeps_nobody_from_being_paused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(e2b_tending, "CAME_S", 5.0)
    outpost = site.outpost()
    handle = await site.start(outpost, HOLD)
    await outpost.tend(tended(handle))
    end_at = site.sandbox(handle).end_at
    for _ in range(2):
        looker = site.outpost()
        assert (await looker.worker(handle).status()).liveness is Liveness.ALIVE
        assert "begun" in lines([it async for it in looker.worker(handle).events()])
        assert site.sandbox(handle).end_at == end_at
    await outpost.tend(tended(handle, waiting_s=121))
    assert site.sandbox(handle).state == "paused"


async def test_who_has_just_sent_something_is_company(site: Site) -> None:
    outpost = site.outpost()
    handle = await site.start(outpost, HOLD)
    await outpost.tend(tended(handle))
    end_at = site.sandbox(handle).end_at
    worker = outpost.worker(handle)
    await worker.send({"type": "text", "text": "yes", "message_id": "m-1"})
    assert site.sandbox(handle).end_at > end_at
    await outpost.tend(tended(handle, waiting_s=121))
    assert site.sandbox(handle).state == "running", "the answer may not be known of yet"


async def test_who_follows_waits_through_a_pause(site: Site) -> None:
    outpost, other = site.outpost(), site.outpost()
    go = site.folder / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.1; done; echo over"
    handle = await site.start(outpost, script)

    async def followed(by: E2bOutpost) -> list[str]:
        return lines([it async for it in by.worker(handle).events(follow=True)])

    async with asyncio.TaskGroup() as group:
        here, there = (group.create_task(followed(it)) for it in (outpost, other))
        await until(lambda: len(site.e2b.sandboxes()) == 1, "it is there")
        await outpost.tend(tended(handle, waiting_s=121))
        site.folder.mkdir(exist_ok=True)
        go.touch()
        await asyncio.sleep(1)
        assert site.sandbox(handle).state == "paused", "nobody who follows wakes it"
        await outpost.tend(tended(handle))
    assert here.result() == there.result() == ["begun", "over"]


async def test_who_follows_a_paused_one_minds_no_trouble_of_the_api(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(e2b_sandbox, "ASLEEP_LOOK_S", 0.05)
    outpost = site.outpost()
    handle = await paused_at_work(site, outpost, "sleep 1; echo over")
    one = f"/sandboxes/{site.sandbox(handle).id}"

    def looks(status: int) -> int:
        return site.e2b.requests().count(("GET", one, status))

    async def follow() -> list[str]:
        return lines([it async for it in outpost.worker(handle).events(follow=True)])

    following, before = asyncio.create_task(follow()), looks(200)
    await until(lambda: looks(200) > before, "it is seen paused")
    site.e2b.faults.only, site.e2b.faults.statuses = f"GET {one}", [500, 503] * 4
    await until(lambda: not site.e2b.faults.statuses, "all of them are seen")
    assert looks(500)
    site.e2b.faults.only = ""
    await outpost.tend(tended(handle))
    async with asyncio.timeout(DEADLINE_S):
        assert await following == ["begun", "over"]


async def test_nothing_is_lost_while_no_controller_is_there(site: Site) -> None:
    away = site.outpost(lease_s=3)
    handle = await site.start(away, "echo words > words.txt; sleep 4; echo went on")
    await away.close()
    await until(lambda: site.sandbox(handle).state == "paused", "its lease ends")
    back = site.outpost(lease_s=20)
    await back.tend(tended(handle))
    assert site.sandbox(handle).state == "running"
    log = [it async for it in back.worker(handle).events(follow=True)]
    assert lines(log) == ["begun", "went on"]
    assert log[-1].fields["outcome"] == "done"


async def test_what_has_ended_rests_and_can_still_be_read(site: Site) -> None:
    outpost = site.outpost()
    handle = await site.start(outpost, "echo words > words.txt")
    log = [it async for it in outpost.worker(handle).events(follow=True)]
    await outpost.tend([])
    assert site.sandbox(handle).state == "paused"
    for again in (outpost, site.outpost()):
        assert (await again.worker(handle).status()).liveness is Liveness.DEAD
        assert [it async for it in again.worker(handle).events(follow=True)] == log
    assert site.sandbox(handle).state == "paused"
    assert await outpost.worker(handle).unsaved() == ""
    assert site.sandbox(handle).state == "running"
    await outpost.tend([])
    assert site.sandbox(handle).state == "running", "somebody has just come to it"


async def test_whoever_takes_over_wakes_what_has_ended_but_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(e2b_tending, "OVER_S", 0.5)
    before = site.outpost()
    handle = await site.start(before, f"head -c {2 * PIECE_BYTES} /dev/zero | tr '\\0' x; echo")
    log = [it async for it in before.worker(handle).events(follow=True)]
    assert log[-1].end > PIECE_BYTES
    await before.tend([])
    site.folder = tmp_path / "elsewhere"  # where nothing is known of its log
    after = site.outpost(lease_s=8)
    for _ in range(2):
        await stop_strangers(after)
        await tended_until_it_rests(site, after, handle)
    assert site.resumed() == 1
    assert (await after.worker(handle).status()).liveness is Liveness.DEAD
    assert [it async for it in after.worker(handle).events()] == log


async def test_what_was_killed_and_has_no_result_rests_too(site: Site) -> None:
    outpost = site.outpost(lease_s=8)
    handle = await site.start(outpost, HOLD)
    await outpost.worker(handle).kill()
    await outpost.entered(site.sandbox(handle).id).pause()
    for _ in range(2):
        await stop_strangers(outpost)
        await tended_until_it_rests(site, outpost, handle)
    assert site.resumed() == 1
    assert (await outpost.worker(handle).status()).liveness is Liveness.DEAD


async def test_the_end_of_a_session_with_pause_loses_nothing(world: World, tmp_path: Path) -> None:
    async with site_in(world, tmp_path, session_max_s=4.0) as site:
        outpost = site.outpost(lease_s=3)
        handle = await site.start(outpost, "sleep 6; echo over")  # longer than a session
        await tended_until_it_ends(outpost, handle)
        log = [it async for it in outpost.worker(handle).events(follow=True)]
        assert lines(log) == ["begun", "over"]


async def test_the_end_of_a_session_with_kill_sends_the_work_elsewhere(
    world: World, tmp_path: Path
) -> None:
    async with site_in(world, tmp_path, session_max_s=5.0) as site:
        outpost = site.outpost(lease_s=4, lifecycle="kill")
        handle = await site.start(outpost, "echo one > one.txt; sleep 60")
        await tended_until_it_ends(outpost, handle)
        result = [it async for it in outpost.worker(handle).events()][-1]
        assert (result.fields["outcome"], result.fields["evicted"]) == ("failed", True)
        assert result.fields["reason"] == e2b_tending.SESSION_ENDS
        assert site.world.remote.show(result.fields["branch"], "one.txt") == "one"
        assert site.sandbox(handle).end_at > datetime.now(UTC)


async def test_the_bill_is_for_what_was_not_paused(site: Site) -> None:
    outpost = site.outpost()
    go = site.folder / "go"
    handle = await site.start(outpost, f"while [ ! -e {go} ]; do sleep 0.1; done")
    so_far = await outpost.metered(handle)
    assert so_far
    assert not so_far.final
    await outpost.tend(tended(handle, waiting_s=121))
    await asyncio.sleep(1)
    await outpost.worker(handle).send({"type": "text", "text": "go", "message_id": "m-1"})
    go.parent.mkdir(exist_ok=True)
    go.touch()
    _ = [it async for it in outpost.worker(handle).events(follow=True)]
    await outpost.entered(site.sandbox(handle).id).pause()
    told = await site.outpost().metered(handle)
    assert told
    assert told.final
    assert told.seconds == pytest.approx(site.e2b.metered_s()[site.sandbox(handle).id], abs=0.01)


async def test_who_did_not_see_every_session_has_no_word_on_the_bill(
    site: Site, tmp_path: Path
) -> None:
    first = site.outpost()
    handle = await paused_at_work(site, first)
    site.folder = tmp_path / "elsewhere"
    taking_over = site.outpost()
    for _ in range(2):
        await first.tend(tended(handle))
        running = await taking_over.metered(handle)
        await first.entered(site.sandbox(handle).id).pause()
        assert (running, await taking_over.metered(handle)) == (None, None)
    told = await first.metered(handle)
    assert told
    assert told.final
    assert told.seconds == pytest.approx(site.e2b.metered_s()[site.sandbox(handle).id], abs=0.01)


async def test_prune_looks_into_each_and_wakes_what_it_must(site: Site) -> None:
    outpost = site.outpost()
    handle = await paused_at_work(site, outpost)
    order = {"kinds": [], "workers": [handle.worker_id], "orphans": [], "grace_s": 0.0}
    whole = {**order, "cache_idle_s": 0.0, "dry_run": False}
    [kept] = await outpost.tidy(whole, [handle])  # type: ignore[arg-type]
    assert kept["kept"] == "it still runs"
    await outpost.worker(handle).stop(grace_s=2, reason="by the test")
    [gone] = await outpost.tidy(whole, [])  # type: ignore[arg-type]
    assert gone["kept"] == ""
    assert site.e2b.sandboxes() == []
    assert (await outpost.worker(handle).status()).liveness is Liveness.ABSENT

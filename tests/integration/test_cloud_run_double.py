"""The stand-in for Cloud Run does what Google's documents say, and the faults that it is asked for.

Every instance is a real process: ``tests.doubles.cloud_run.sample_app``.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.auth.transport.requests import Request
from google.oauth2 import id_token
from pyqwest import HTTPVersion, StreamError

from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.background import BackgroundCloudRun
from tests.doubles.cloud_run.identity import Identity
from tests.doubles.cloud_run.trying import (
    BROKEN,
    LIMITS,
    Held,
    client,
    get,
    key,
    revision,
    said,
    statuses,
    until,
)


async def test_a_request_wakes_an_instance_and_goes_both_ways() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision())
        assert cloud.instances("work") == []
        async with Held().open(cloud) as held:
            for number in range(5):
                held.say(b"piece %d" % number)
                assert await held.hear() == b"piece %d" % number
            assert held.pid in cloud.instances("work")[0].container.pids


async def test_http_1_works_as_well() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision())
        user = client(HTTPVersion.HTTP1)
        for _ in range(2):
            answer = await user.post(cloud.url("work") + "/echo", key(cloud), b"as it was")
            assert (answer.status, answer.text().split("\n")[1]) == (200, "as it was")
        plain = revision(http2=False)
        await cloud.deploy("plain", plain)
        assert (await get(cloud, name="plain")).status == 200


async def test_a_container_has_its_variables_files_and_port() -> None:
    variables = {"TOKEN_FILE": "/secrets/token/latest", "COLOUR": "green"}
    async with CloudRun(limits=LIMITS) as cloud:
        files = {"/secrets/token/latest": b"hush"}
        await cloud.deploy("work", revision(environment=variables, files=files, name="work-7"))
        found = said(await get(cloud))["environment"]
        assert Path(found["TOKEN_FILE"]).read_bytes() == b"hush"
        assert (found["COLOUR"], found["K_SERVICE"], found["K_REVISION"]) == (
            "green",
            "work",
            "work-7",
        )
        assert int(found["PORT"]) == cloud.instances("work")[0].container.port
        folder = Path(found["HOME"])
    assert not folder.exists()


async def test_an_instance_takes_no_more_requests_than_it_may() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(concurrency=2, max_instances=2))
        async with (
            Held().open(cloud) as one,
            Held().open(cloud) as two,
            Held().open(cloud) as three,
        ):
            assert one.pid == two.pid != three.pid
            assert len(cloud.instances("work")) == 2


async def test_full_instances_queue_a_request_and_refuse_it_then() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(max_instances=1))
        async with Held().open(cloud) as held:
            before = time.monotonic()
            refused = await get(cloud)
            assert time.monotonic() - before >= LIMITS.queue_s
            assert (refused.status, refused.text()) == (429, "Rate exceeded.")
            waiting = asyncio.create_task(get(cloud))
            await until(lambda: cloud.fronts["work"].fleet.queued, "it queues")
        assert (await waiting).headers["x-pid"] == str(held.pid)


async def test_scaling_from_nothing_and_back() -> None:
    async with CloudRun(limits=Limits(idle_s=0.1, grace_s=3)) as cloud:
        await cloud.deploy("work", revision())
        async with Held().open(cloud), Held().open(cloud):
            assert len(cloud.instances("work")) == 2
            pids = [pid for one in cloud.instances("work") for pid in one.container.pids]
        ended = cloud.instances("work")
        await until(lambda: not cloud.instances("work"), "scaled to zero")
        assert all({"SIGTERM", "bye"} <= set(one.container.output().split()) for one in ended)
        assert not any(psutil.pid_exists(pid) for pid in pids)
        assert (await get(cloud)).status == 200


async def test_instances_that_are_to_be_kept_are_started_and_kept() -> None:
    async with CloudRun(limits=Limits(idle_s=0.05)) as cloud:
        await cloud.deploy("work", revision(min_instances=1))
        kept = await until(
            lambda: [one for one in cloud.instances("work") if one.state == "ready"], "ready"
        )
        await asyncio.sleep(0.2)
        assert cloud.instances("work") == kept
        cloud.kill("work")
        await until(lambda: kept[0] not in cloud.instances("work"), "gone")
        await until(lambda: len(cloud.instances("work")) == 1, "another one")


async def test_without_a_request_nothing_of_an_instance_gets_cpu() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(cpu_idle=True))
        first = said(await get(cloud, "/ticks"))
        container = cloud.instances("work")[0].container
        await until(lambda: container.frozen, "frozen")
        assert len(container.pids) >= 2
        await until(lambda: statuses(container.pids) == {psutil.STATUS_STOPPED}, "all stopped")
        child = container.folder / "ticks"
        seen = child.stat().st_size
        await asyncio.sleep(0.2)
        assert child.stat().st_size == seen
        second = said(await get(cloud, "/ticks"))
        assert second[0] - first[0] < 20
        async with Held().open(cloud):
            await until(lambda: child.stat().st_size > seen + 3, "its child goes on")


async def test_with_instance_billing_an_instance_goes_on_between_requests() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(cpu_idle=False))
        await get(cloud)
        child = cloud.instances("work")[0].container.folder / "ticks"
        seen = child.stat().st_size
        await until(lambda: child.stat().st_size > seen + 3, "it goes on")


async def test_a_request_ends_at_its_time_limit() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(timeout_s=0.5, min_instances=1))
        await until(lambda: cloud.instances("work")[0].state == "ready", "ready")
        with pytest.raises(BROKEN):
            async with Held().open(cloud) as held:
                await held.hear()
        gone = cloud.instances("work")[0]
        async with Held().open(cloud):
            await until(lambda: "the client has gone" in gone.container.output(), "told")
        cloud.faults.slow_start_s = 1.0
        await cloud.deploy("work", revision(timeout_s=0.2, name="revision-2"))
        late = await get(cloud)
        assert (late.status, late.text()) == (504, "upstream request timeout")


async def test_a_client_that_leaves_ends_its_request() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(cpu_idle=False))
        async with Held().open(cloud, "/hold"):
            instance = cloud.instances("work")[0]
            assert instance.open == 1
        await until(lambda: instance.open == 0, "given back")
        await until(lambda: "the client has gone" in instance.container.output(), "told")


async def test_affinity_is_kept_until_it_is_not() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(session_affinity=True, concurrency=2))
        async with Held().open(cloud) as first, Held().open(cloud), Held().open(cloud) as third:
            assert first.pid != third.pid
            for _ in range(4):
                answer = await get(cloud, headers={"cookie": third.cookie})
                assert answer.headers["x-pid"] == str(third.pid)
            cloud.faults.affinity_misses = 1
            answer = await get(cloud, headers={"cookie": third.cookie})
            assert answer.headers["x-pid"] != str(third.pid)
            assert answer.headers["set-cookie"].startswith("GAESA=")


async def test_an_evicted_instance_may_end_in_its_own_time() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(environment={"GRACE_S": "0.3"}))
        async with Held().open(cloud) as held:
            instance = cloud.instances("work")[0]
            evicting = asyncio.create_task(cloud.evict("work"))
            await until(lambda: "SIGTERM" in instance.container.output(), "told to end")
            held.say(b"still there")
            assert await held.hear() == b"still there"
            assert (await get(cloud)).headers["x-pid"] != str(held.pid)
            await evicting
            assert instance.container.output().split() == ["SIGTERM", "bye"]
            with pytest.raises(BROKEN):
                await held.hear()


async def test_an_instance_is_killed_after_the_grace() -> None:
    async with CloudRun(limits=Limits(grace_s=0.1)) as cloud:
        await cloud.deploy("work", revision(environment={"GRACE_S": "60"}))
        await get(cloud)
        instance = cloud.instances("work")[0]
        pids = instance.container.pids
        await cloud.evict("work")
        assert instance.container.output().split() == ["SIGTERM"]
        assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_drained_instances_and_old_revisions_end_with_their_requests() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision())
        async with Held().open(cloud) as held:
            old = cloud.instances("work")[0]
            await cloud.deploy("work", revision(name="revision-2"))
            assert said(await get(cloud))["environment"]["K_REVISION"] == "revision-2"
            assert old.state == "ready"
        await until(lambda: old.state == "ended", "ended")
        async with Held().open(cloud) as held:
            drained = cloud.instances("work")[0]
            cloud.drain("work")
            held.say(b"goes on")
            assert await held.hear() == b"goes on"
        await until(lambda: drained.state == "ended", "ended")


async def test_a_lower_bound_on_instances_holds_for_what_comes() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision())
        async with Held().open(cloud) as one:
            async with Held().open(cloud):
                cloud.set_max_instances("work", 1)
                assert (await get(cloud)).status == 429
            await until(lambda: len(cloud.instances("work")) == 1, "one is too many")
            one.say(b"stays")
            assert await one.hear() == b"stays"


async def test_starts_that_fail_or_hang_are_said_to_the_client() -> None:
    async with CloudRun(limits=Limits(startup_s=0.3)) as cloud:
        await cloud.deploy("work", revision(environment={"EXIT_CODE": "3"}))
        assert (await get(cloud)).status == 503
        cloud.faults.stuck_starts = 1
        await cloud.deploy("work", revision(name="revision-2"))
        assert (await get(cloud)).status == 503


async def test_only_tokens_for_this_service_are_taken() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        front = await cloud.deploy("work", revision())
        await cloud.deploy("other", revision(), public=True)
        user = client()

        async def status(token: str | None) -> int:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return (await user.get(f"{front.url}/about", headers)).status

        good = cloud.mint("work")
        assert await status(good) == 200
        assert await status(None) == 403
        assert await status(good + "x") == 401
        assert await status(cloud.mint("other")) == 401
        assert await status(cloud.mint("work", life_s=-1)) == 401
        assert await status(cloud.mint("work", email="else@example.org")) == 403
        cloud.tokens.revoke(good)
        assert await status(good) == 401
        assert (await user.get(f"{cloud.url('other')}/about")).status == 200


async def test_the_checked_token_loses_its_signature_and_the_other_passes() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision())
        seen = said(await get(cloud, headers={"authorization": "Bearer mine"}))["headers"]
        assert seen["authorization"] == "Bearer mine"
        assert seen["x-serverless-authorization"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")


async def test_answers_are_refused_lost_swallowed_and_cut_on_demand() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(max_instances=1))
        cloud.faults.statuses = [429, 500, 502, 503]
        assert [(await get(cloud)).status for _ in range(5)] == [429, 500, 502, 503, 200]
        cloud.faults.lost_answers = 1
        before = cloud.usage().requests
        with pytest.raises(BROKEN):
            await get(cloud)
        assert cloud.usage().requests == before + 1
        cloud.faults.black_holes = math.inf
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(get(cloud), 0.1)
        cloud.faults.black_holes = 0
        cloud.faults.cuts, cloud.faults.cut_after_bytes = 1, 12
        with pytest.raises(StreamError):
            await get(cloud)
        cloud.faults.cuts, cloud.faults.cut_by = 1, "connection"
        with pytest.raises(BROKEN):
            await get(cloud)
        cloud.faults.cuts, cloud.faults.cut_after_bytes, cloud.faults.cut_by = 1, 3, "end"
        short = await client().post(f"{cloud.url('work')}/echo", key(cloud), b"more")
        assert len(short.content) == 3


async def test_a_silent_front_end_passes_nothing_on_and_tells_nobody() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision())
        async with Held().open(cloud) as held:
            cloud.faults.silent = True
            held.say(b"late")
            hearing = asyncio.create_task(held.hear())
            assert not (await asyncio.wait({hearing}, timeout=0.1))[0]
            cloud.faults.silent = False
            assert await hearing == b"late"


async def test_connections_break_at_once_and_again_and_again() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(max_instances=1, concurrency=9))
        user = client()
        async with Held().open(cloud, user=user) as held:
            assert cloud.cut("work") == 1
            with pytest.raises(BROKEN):
                await held.hear()
        async with cloud.cutting(0.05):
            for _ in range(3):
                with pytest.raises(BROKEN):
                    async with Held().open(cloud, user=user) as held:
                        await held.hear()


async def test_a_killed_instance_breaks_its_requests_and_the_next_one_gets_another() -> None:
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision())
        async with Held().open(cloud) as held:
            cloud.kill("work")
            with pytest.raises(BROKEN):
                await held.hear()
        await until(lambda: not cloud.instances("work"), "gone")
        assert (await get(cloud)).headers["x-pid"] != str(held.pid)


async def test_requests_are_billed_for_the_time_that_any_of_them_is_open() -> None:
    now = [0.0]
    async with CloudRun(limits=Limits(clock=lambda: now[0], idle_s=60)) as cloud:
        await cloud.deploy("work", revision(vcpus=2, memory_gib=4, concurrency=2))
        async with Held().open(cloud):
            now[0] = 100.0
            async with Held().open(cloud):
                now[0] = 200.0
        now[0] = 300.0
        await until(lambda: cloud.instances("work")[0].open == 0, "both are over")
        now[0] = 900.0
        await get(cloud)
        await cloud.evict("work")
        used = cloud.usage("work")
        assert (used.billable_s, used.requests) == (Fraction(300), 3)
        assert (used.vcpu_s, used.gib_s) == (Fraction(600), Fraction(1200))
        assert used.compute_microusd == 17_400
        assert used.microusd == 17_400 + Fraction(12, 10)


async def test_a_thousand_streams_go_both_ways_at_once() -> None:
    streams = 1000
    async with CloudRun(limits=LIMITS) as cloud:
        await cloud.deploy("work", revision(concurrency=streams, max_instances=1))
        user, headers, url = client(), key(cloud), cloud.url("work") + "/echo"
        await get(cloud)
        everybody = asyncio.Barrier(streams)
        me = psutil.Process()
        before = (me.memory_info().rss, sum(me.cpu_times()[:2]), time.monotonic())

        async def talk(number: int) -> bytes:
            async def content() -> AsyncIterator[bytes]:
                yield b"%d\n" % number
                await everybody.wait()
                yield b"%d again" % number

            async with user.stream("POST", url, headers, content()) as response:
                pieces = [bytes(piece) async for piece in response.content]
            return b"".join(pieces).partition(b"\n")[2]

        heard = await asyncio.gather(*(talk(number) for number in range(streams)))
        assert heard == [b"%d\n%d again" % (number, number) for number in range(streams)]
        rss, cpu_s, at = me.memory_info().rss, sum(me.cpu_times()[:2]), time.monotonic()
        print(
            f"{streams} streams: {(rss - before[0]) >> 20} MiB, {cpu_s - before[1]:.2f} CPU-s, "
            f"{at - before[2]:.2f} s in this process, client and front end together"
        )
        assert rss - before[0] < 400 << 20


async def test_instances_that_are_always_billed_cost_a_minute_at_least() -> None:
    now = [0.0]
    async with CloudRun(limits=Limits(clock=lambda: now[0])) as cloud:
        await cloud.deploy("work", revision(cpu_idle=False, vcpus=2, memory_gib=4))
        await get(cloud)
        now[0] = 30.04
        assert cloud.usage().billable_s == Fraction(60)
        now[0] = 90.04
        await cloud.evict("work")
        used = cloud.usage()
        assert (used.billable_s, used.request_microusd) == (Fraction(901, 10), Fraction(0))
        assert used.compute_microusd == Fraction(901, 10) * (36 + 8)


async def test_an_instance_that_is_kept_costs_less_while_nothing_asks_for_it() -> None:
    now = [0.0]
    async with CloudRun(limits=Limits(clock=lambda: now[0])) as cloud:
        await cloud.deploy("work", revision(min_instances=1, vcpus=2, memory_gib=4))
        await until(lambda: cloud.instances("work")[0].state == "ready", "ready")
        now[0] = 100.0
        used = cloud.usage()
        assert (used.billable_s, used.idle_s) == (Fraction(0), Fraction(100))
        assert used.microusd == 100 * (2 + 4) * Fraction(5, 2)


async def test_fifty_workers_of_five_minutes_cost_what_the_prices_say() -> None:
    now = [0.0]
    async with CloudRun(limits=Limits(clock=lambda: now[0])) as cloud:
        await cloud.deploy("work", revision(vcpus=2, memory_gib=4))
        async with Held().open(cloud):
            now[0] = 300.0
        await until(lambda: cloud.instances("work")[0].open == 0, "over")
        assert 50 * cloud.usage().compute_microusd == 870_000


async def test_googles_own_library_gets_tokens_that_the_front_end_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with CloudRun(limits=LIMITS) as cloud, Identity(cloud.tokens) as identity:
        front = await cloud.deploy("work", revision())

        async def status() -> int:
            fetch: Any = id_token.fetch_id_token
            token = await asyncio.to_thread(fetch, Request(), front.url)
            headers = {"authorization": f"Bearer {token}"}
            return (await client().get(f"{front.url}/about", headers)).status

        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(identity.key_file(tmp_path)))
        assert await status() == 200
        identity.email = "else@example.org"
        assert await status() == 403
        assert identity.asked == [front.url, front.url]


def test_a_test_without_a_loop_has_all_of_it_in_a_thread() -> None:
    with BackgroundCloudRun(CloudRun(limits=LIMITS)) as background:
        cloud = background.cloud
        front = background.wait(lambda: cloud.deploy("work", revision()))
        background.wait(lambda: front.fleet.acquire(None))
        assert background.do(lambda: cloud.instances("work")[0].open) == 1
        pids = background.do(lambda: cloud.instances("work")[0].container.pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)

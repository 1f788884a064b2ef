"""The stand-in makes, lists, pauses and ends sandboxes as E2B does, within a plan's limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from e2b import (
    AsyncSandbox,
    AsyncTemplate,
    AuthenticationException,
    RateLimitException,
    SandboxException,
    SandboxQuery,
    SandboxState,
)
from e2b.exceptions import (
    BuildException,
    SandboxNotFoundException,
    SandboxNotRunningException,
)

from tests.doubles.cloud_run.trying import statuses
from tests.doubles.e2b import E2bCloud, Limits
from tests.doubles.e2b.trying import FAST, create, listed, out, state, until, way
from tests.world import alive

pytestmark = pytest.mark.integration


@pytest.fixture
def e2b(tmp_path: Path) -> Iterator[E2bCloud]:
    with E2bCloud(tmp_path / "e2b", limits=FAST) as cloud:
        yield cloud


async def test_a_key_is_asked_for(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    with pytest.raises(AuthenticationException, match="401"):
        await create(e2b, api_key="e2b_other")
    e2b.faults.key_revoked = True
    with pytest.raises(AuthenticationException, match="401"):
        await sandbox.get_info()
    assert await out(sandbox, "echo still") == "still"  # sandboxes have keys of their own
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{e2b.api_url}/v2/sandboxes")).status_code == 401


async def test_the_same_idempotency_key_makes_one_sandbox(e2b: E2bCloud) -> None:
    made = await asyncio.gather(*(create(e2b, idempotency_key="a-1") for _ in range(3)))
    assert len({it.sandbox_id for it in made}) == 1 == len(e2b.sandboxes())
    with pytest.raises(SandboxException, match="422"):
        await create(e2b, idempotency_key="a-1", metadata={"other": "yes"})
    e2b.faults.failed_boots = 1
    with pytest.raises(SandboxException, match="500"):
        await create(e2b, idempotency_key="a-2")
    await create(e2b, idempotency_key="a-2")
    assert len(e2b.sandboxes()) == 2


async def test_sandboxes_are_listed_by_metadata_state_and_page(e2b: E2bCloud) -> None:
    made = [await create(e2b, metadata={"who": "a & b=ü", "n": str(n)}) for n in range(5)]
    await create(e2b, metadata={"who": "c"})
    await made[1].pause()
    pages = AsyncSandbox.list(query=SandboxQuery(metadata={"who": "a & b=ü"}), limit=2, **way(e2b))
    seen = []
    while pages.has_next:
        page = await pages.next_items()
        assert len(page) <= 2
        seen += [it.sandbox_id for it in page]
    assert seen == [it.sandbox_id for it in reversed(made)]
    assert await listed(e2b, state=[SandboxState.PAUSED]) == [made[1].sandbox_id]
    assert len(await listed(e2b, state=[SandboxState.RUNNING])) == 5
    assert await listed(e2b, metadata={"who": "a & b=ü", "n": "3"}) == [made[3].sandbox_id]
    assert len(await listed(e2b, template="base")) == 6
    assert await listed(e2b, template="other") == []


async def test_what_the_api_says_of_a_sandbox(e2b: E2bCloud) -> None:
    lifecycle: Any = {"on_timeout": "pause", "auto_resume": True}
    network: Any = {"allow_out": ["example.com"], "deny_out": ["0.0.0.0/0"]}
    sandbox = await create(e2b, metadata={"a": "b"}, lifecycle=lifecycle, network=network)
    info = await sandbox.get_info()
    assert (info.metadata, info.state, info.name) == ({"a": "b"}, SandboxState.RUNNING, "base")
    assert info.lifecycle == {"on_timeout": "pause", "auto_resume": True}
    assert (info.end_at - info.started_at).total_seconds() == pytest.approx(600, abs=1)
    assert e2b.sandboxes()[0].network == {"allowOut": ["example.com"], "denyOut": ["0.0.0.0/0"]}
    await sandbox.pause()
    paused = await sandbox.get_info()
    assert paused.state == SandboxState.PAUSED
    assert (paused.end_at - paused.started_at).total_seconds() < 60  # when it was paused
    with pytest.raises(SandboxNotFoundException):
        await AsyncSandbox.get_info("inone", **way(e2b))
    with pytest.raises(SandboxException, match="template 'none' not found"):
        await AsyncSandbox.create("none", **way(e2b))


async def test_a_sandbox_ends_when_its_time_is_over(e2b: E2bCloud) -> None:
    killed = await create(e2b, timeout=4)
    paused = await create(e2b, timeout=4, lifecycle={"on_timeout": "pause"})
    renewed = await create(e2b, timeout=4)
    await renewed.set_timeout(100)
    daemon = int(await out(killed, "setsid sleep 300 >/dev/null 2>&1 & echo $!"))
    await until(lambda: state(e2b, killed) == "ended", "the first one ends")
    await until(lambda: state(e2b, paused) == "paused", "the second one is paused")
    await until(lambda: not alive(daemon), "nothing is left of the first one")
    assert state(e2b, renewed) == "running"
    with pytest.raises(SandboxNotRunningException):
        await killed.commands.run("true")
    with pytest.raises(SandboxNotFoundException):
        await AsyncSandbox.connect(killed.sandbox_id, **way(e2b))
    assert not await killed.kill()
    assert await listed(e2b) == [renewed.sandbox_id, paused.sandbox_id]


async def test_connecting_extends_and_nothing_goes_beyond_the_longest_session(
    tmp_path: Path,
) -> None:
    with E2bCloud(tmp_path, limits=Limits(session_max_s=3600)) as e2b:
        sandbox = await create(e2b, timeout=600)

        async def left_s() -> float:
            info = await sandbox.get_info()
            return (info.end_at - info.started_at).total_seconds()

        await AsyncSandbox.connect(sandbox.sandbox_id, timeout=60, **way(e2b))
        assert await left_s() == pytest.approx(600, abs=2)
        await AsyncSandbox.connect(sandbox.sandbox_id, timeout=900, **way(e2b))
        assert await left_s() == pytest.approx(900, abs=2)
        await sandbox.set_timeout(60)
        assert await left_s() == pytest.approx(60, abs=2)
        await sandbox.set_timeout(7200)
        assert await left_s() == pytest.approx(3600, abs=0.01)
        for act in (create(e2b, timeout=3601), sandbox.connect(timeout=3601)):
            with pytest.raises(SandboxException, match="Timeout cannot be greater than 1 hours"):
                await act


async def test_a_pause_freezes_everything_and_connecting_thaws_it(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    handle = await sandbox.commands.run(
        "setsid sleep 300 & while :; do date +%s%N > beat; sleep 0.02; done",
        background=True,
        timeout=0,
    )
    home = e2b.sandboxes()[0].home
    await until((home / "beat").exists, "it beats")
    assert await sandbox.pause()
    assert not await sandbox.pause()
    with pytest.raises(SandboxNotRunningException):
        await handle.wait()
    pids = e2b.sandboxes()[0].pids
    await until(lambda: statuses(pids) == {psutil.STATUS_STOPPED}, "all are stopped")
    for act in (sandbox.commands.run("true"), sandbox.files.read("beat"), sandbox.files.list(".")):
        with pytest.raises(SandboxNotRunningException, match="The sandbox was not found"):
            await act
    with pytest.raises(SandboxNotFoundException):
        await sandbox.set_timeout(100)
    metered_s = e2b.metered_s()[sandbox.sandbox_id]
    last = (home / "beat").read_text()
    await asyncio.sleep(0.2)
    assert (home / "beat").read_text() == last
    assert e2b.metered_s()[sandbox.sandbox_id] == metered_s
    await sandbox.connect(timeout=60)
    await until(lambda: (home / "beat").read_text() != last, "it beats again")
    again = await sandbox.commands.connect(handle.pid, timeout=0)
    assert await again.kill()
    assert e2b.metered_s()[sandbox.sandbox_id] > metered_s


async def test_a_pause_without_memory_keeps_only_the_disk(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    await sandbox.files.write("kept", "yes")
    handle = await sandbox.commands.run("sleep 300", background=True, timeout=0)
    await sandbox.pause(mode="filesystem")
    assert not alive(handle.pid)
    await sandbox.connect()
    assert await sandbox.commands.list() == []
    assert await out(sandbox, "cat kept") == "yes"
    await sandbox.pause()
    assert await sandbox.kill()
    assert state(e2b, sandbox) == "ended"


async def test_traffic_resumes_a_sandbox_that_may_be(e2b: E2bCloud) -> None:
    sandbox = await create(e2b, lifecycle={"on_timeout": "pause", "auto_resume": True})
    await sandbox.pause()
    assert await out(sandbox, "echo awake") == "awake"
    assert state(e2b, sandbox) == "running"


async def test_no_more_run_than_the_plan_has(tmp_path: Path) -> None:
    with E2bCloud(tmp_path, limits=Limits(concurrent=2)) as e2b:
        first, _ = await create(e2b), await create(e2b)
        with pytest.raises(RateLimitException, match=r"concurrent E2B sandboxes \(2\)"):
            await create(e2b)
        await first.pause()
        third = await create(e2b)
        with pytest.raises(RateLimitException):
            await first.connect()
        await third.kill()
        await first.connect()


async def test_creations_have_a_rate(tmp_path: Path) -> None:
    limits = Limits(creations_per_s=2, creations_burst=3)
    with E2bCloud(tmp_path, limits=limits) as e2b:
        made = await asyncio.gather(*(create(e2b) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(it, RateLimitException) for it in made) == 2
        await create(e2b, retries=3)  # the client comes again after Retry-After
        assert len(e2b.sandboxes()) == 4


async def test_only_running_seconds_are_metered(tmp_path: Path) -> None:
    seconds = [100.0]
    with E2bCloud(tmp_path, limits=Limits(clock=lambda: seconds[0])) as e2b:
        sandbox = await create(e2b)
        seconds[0] += 10
        await sandbox.pause()
        seconds[0] += 1000
        await sandbox.connect()
        seconds[0] += 5
        assert e2b.metered_s() == {sandbox.sandbox_id: 15}
        await sandbox.kill()
        seconds[0] += 7
        assert e2b.metered_s() == {sandbox.sandbox_id: 15}


async def test_a_template_is_built(e2b: E2bCloud, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print(1)\n")
    template = (
        AsyncTemplate(file_context_path=tmp_path)
        .from_image("debian:bookworm")
        .copy("app", "/opt/app")
        .run_cmd("apt-get install -y git", user="root")
        .set_envs({"PLACE": "built"})
        .set_workdir("/home/user")
    )
    assert not await AsyncTemplate.exists("worker", **way(e2b))
    lines: list[str] = []
    made = await AsyncTemplate.build(
        template,
        "worker",
        cpu_count=4,
        memory_mb=4096,
        on_build_logs=lambda entry: lines.append(entry.message),
        **way(e2b),
    )
    (build,) = e2b.builds()
    assert (build.id, build.status) == (made.build_id, "ready")
    assert [name for name in build.files["/opt/app"] if name.endswith("main.py")]
    assert any("apt-get install -y git" in line for line in lines)
    assert await AsyncTemplate.exists("worker", **way(e2b))
    sandbox = await AsyncSandbox.create("worker", **way(e2b))
    assert await out(sandbox, "echo $PLACE") == "built"
    assert ((await sandbox.get_info()).cpu_count, e2b.sandboxes()[0].memory_mib) == (4, 4096)
    e2b.faults.failing_builds = 1
    with pytest.raises(BuildException, match="failed to run command"):
        await AsyncTemplate.build(template, "worker:v2", **way(e2b))
    with pytest.raises(SandboxException, match="with tag 'v2' not found"):
        await AsyncSandbox.create("worker:v2", **way(e2b))
    again = await AsyncTemplate.build(template, "worker:v2", **way(e2b))
    assert again.template_id == made.template_id
    await AsyncSandbox.create("worker:v2", **way(e2b))

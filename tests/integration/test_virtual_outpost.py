"""Workers without a process: their logs only ever grow, and what is counted of them is true."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.errors import OutpostFault
from outpost.federation import Federation, SpawnOptions
from outpost.model import Handle, Liveness, State
from outpost.ports import Outpost, Setup, Worker
from outpost.testing import CHECKS, Bench, BenchOptions, Check, Outcome, run_check
from outpost.testing.faults import FaultFile
from outpost.wire.events import Event
from outpost.wire.orders import AgentOrder, Environment, WorkOrder
from tests.doubles.virtual_outpost import CHECKOUT, VirtualOptions, VirtualOutpost, bring
from tests.doubles.virtual_records import Records
from tests.unit.orders import order_for
from tests.world import Remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

NO_VARIABLES: Environment = {"agent": {}, "git": {}}
# They look at a real repository, at processes, or at what a whole shell prints.
OUT_OF_REACH = {
    "work_is_pushed",
    "large_logs_take_little_memory",
    "very_large_logs_take_little_memory",
    "messages_arrive",
    "the_dead_are_mended",
    "stop_ends_the_whole_tree",
    "destroy_leaves_nothing",
    "secrets_are_shown_to_nobody",
    "cancelled_spawn_hides_nothing",
    "cancelled_ends_may_be_repeated",
}
_STARTS = """\
import asyncio, json, sys
from outpost.ports import Setup
from tests.doubles.virtual_outpost import VirtualOptions, VirtualOutpost
setup = Setup(name="a", federation_id="f-test", data_folder="", environment={{}})
outpost = VirtualOutpost(setup, VirtualOptions(folder={folder!r}))
order = json.loads(sys.stdin.readline())
asyncio.run(outpost.spawn(order, {{"agent": {{}}, "git": {{}}}}))
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Outpost]:
    """Return what makes an outpost of this test's folder."""

    def make(federation_id: str = "f-test", *, name: str = "a", faults: str = "") -> Outpost:
        setup = Setup(
            name=name, federation_id=federation_id, data_folder=str(tmp_path), environment={}
        )
        options = VirtualOptions(
            folder=str(tmp_path), faults=str(tmp_path / faults) if faults else None
        )
        return VirtualOutpost(setup, options)

    return make


def order(worker_id: str, script: str, *, task_id: str = "t-1", fence: int = 1) -> WorkOrder:
    agent: AgentOrder = {"name": "command", "argv": ["virtual", *script.split()], "options": {}}
    return {**order_for(agent), "worker_id": worker_id, "task_id": task_id, "fence": fence}


async def start(outpost: Outpost, worker_id: str, script: str, **more: object) -> Worker:
    wanted = order(worker_id, script, **more)  # type: ignore[arg-type]  # checked by order
    return outpost.worker(await outpost.spawn(wanted, NO_VARIABLES))


async def log(worker: Worker, *, follow: bool = True) -> list[Event]:
    return [event async for event in worker.events(follow=follow)]


@pytest.mark.parametrize(
    "check",
    [check for check in CHECKS if check.name not in OUT_OF_REACH],
    ids=lambda check: check.name,
)
async def test_it_keeps_what_it_can_of_the_contract(
    make: Callable[..., Outpost], tmp_path: Path, check: Check
) -> None:
    FaultFile(tmp_path / "cut.json").write(partition="the cable is cut")
    options = BenchOptions(
        make=make,
        make_unreachable=lambda federation_id: make(federation_id, faults="cut.json"),
        repo_url="/nowhere",
        environment=NO_VARIABLES,
    )
    async with Bench(options) as bench:
        result = await run_check(bench, check)
    assert result.outcome is Outcome.PASSED, result


async def test_a_log_is_the_same_for_all_who_read_it_and_comes_in_time(
    make: Callable[..., Outpost],
) -> None:
    began = time.monotonic()
    worker = await start(make(), "w-1", "--seconds 1 --events-per-s 20")
    followed, again = await asyncio.gather(log(worker), log(make().worker(handle("w-1"))))
    assert 1.0 <= time.monotonic() - began < 8
    assert followed == again == await log(worker, follow=False)
    assert [event.seq for event in followed] == list(range(1, len(followed) + 1))
    types = [event.type for event in followed]
    assert types[:3] == ["status"] * 3
    assert types[-2:] == ["status", "result"]
    assert {"log", "agent", "usage"} <= set(types)
    assert 3 + 18 + 2 <= len(followed) <= 3 + 20 + 2


async def test_a_stop_changes_nothing_that_was_told(make: Callable[..., Outpost]) -> None:
    outpost = make()
    workers = [
        await start(
            outpost, f"w-{number}", "--seconds 60 --events-per-s 100", task_id=f"t-{number}"
        )
        for number in range(20)
    ]
    following = [asyncio.create_task(log(worker)) for worker in workers]
    for worker in workers:
        await asyncio.sleep(0.01)
        await make().worker(handle(worker.id)).stop(grace_s=1, reason="enough")
        assert (await worker.status()).liveness is Liveness.DEAD
    for worker, reading in zip(workers, following, strict=True):
        told = await reading
        assert told == await log(worker, follow=False)
        assert told[-1].fields["outcome"] == "stopped"
        assert told[-1].fields["reason"] == "enough"


@pytest.mark.parametrize("how", ["script", "killed"])
async def test_the_dead_say_nothing_until_they_are_recovered(
    make: Callable[..., Outpost], tmp_path: Path, how: str
) -> None:
    script = "--dies-after 0.3" if how == "script" else "--seconds 60"
    worker = await start(make(), "w-1", f"{script} --events-per-s 10")
    assert not await worker.recover(NO_VARIABLES), "it lives"
    if how == "killed":
        Records(tmp_path).kill("a", "w-1")
    told = await log(worker)
    assert (await worker.status()).liveness is Liveness.DEAD
    assert "result" not in [event.type for event in told]
    assert await worker.recover(NO_VARIABLES)
    whole = await log(worker)
    assert whole[: len(told)] == told
    assert whole[-1].fields["rescued"] is True
    assert await worker.recover(NO_VARIABLES)
    assert await log(worker) == whole
    assert Records(tmp_path).finished() == []


async def test_a_higher_fence_ends_whoever_has_a_lower_one(
    make: Callable[..., Outpost], tmp_path: Path
) -> None:
    stale = await start(make(), "w-1", "--seconds 1")
    newer = await start(make(name="b"), "w-2", "--seconds 0.1", fence=2)
    late = await start(make(), "w-3", "--seconds 0.1", fence=1)
    results = [(await log(worker))[-1].fields for worker in (stale, newer, late)]
    assert [it["outcome"] for it in results] == ["stopped", "done", "stopped"]
    assert "has taken the task over" in results[0]["reason"]
    records = Records(tmp_path)
    assert [it["worker_id"] for it in records.finished()] == ["w-2"]
    assert records.doubled() == []


async def test_work_that_was_done_twice_is_counted(
    make: Callable[..., Outpost], tmp_path: Path
) -> None:
    for number in (1, 2):
        await log(await start(make(), f"w-{number}", "--seconds 0", fence=number))
    await make().destroy(handle("w-1"))
    assert Records(tmp_path).doubled() == ["t-1"], "also of what was destroyed since"


async def test_many_processes_start_a_worker_once(tmp_path: Path) -> None:
    script = _STARTS.format(folder=str(tmp_path))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=CHECKOUT, stdin=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        process.communicate(json.dumps(order("w-1", "--seconds 60")))
    assert [process.returncode for process in processes] == [0] * 4
    (start,) = Records(tmp_path).starts()
    assert start["pid"] in {process.pid for process in processes}
    assert [(it["task_id"], it["fence"]) for it in Records(tmp_path).living()] == [("t-1", 1)]
    assert len((tmp_path / "starts.jsonl").read_text().splitlines()) == 1


async def test_what_was_started_is_there_though_its_starter_was_killed(
    make: Callable[..., Outpost], tmp_path: Path
) -> None:
    FaultFile(tmp_path / "a.faults").write(spawn=["killed_before", "killed_after"])
    for worker_id in ("w-1", "w-2"):
        done = subprocess.run(
            [sys.executable, "-c", _STARTS.format(folder=str(tmp_path))],
            cwd=CHECKOUT,
            input=json.dumps(order(worker_id, "--seconds 60")),
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
    assert await make().find("w-1") is None
    assert await make().find("w-2") == handle("w-2")


async def test_its_faults_are_those_of_the_faulty_outpost(
    make: Callable[..., Outpost], tmp_path: Path
) -> None:
    faults = FaultFile(tmp_path / "a.faults")
    faults.write(destroy=["lost"], list_lags=1.0, clock_skew_s=3600)
    outpost = make()
    worker = await start(outpost, "w-1", "--seconds 60 --events-per-s 20")
    assert [it async for it in outpost.workers()] == []
    ahead = await log(worker, follow=False)
    assert ahead[0].time > time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 3000))
    await outpost.destroy(handle("w-1"))
    assert await outpost.find("w-1") == handle("w-1")
    following = asyncio.create_task(log(worker))
    await asyncio.sleep(0)
    faults.write(partition="cut")
    with pytest.raises(OutpostFault, match="cut"):
        await following
    with pytest.raises(OutpostFault, match="cut"):
        await worker.stop(grace_s=1, reason="")
    faults.write()
    assert (await worker.status()).liveness is Liveness.ALIVE


async def test_a_thousand_are_started_listed_and_followed_soon(
    make: Callable[..., Outpost],
) -> None:
    outpost = make()
    began = time.monotonic()
    workers = [
        await start(outpost, f"w-{number}", "--seconds 2", task_id=f"t-{number}")
        for number in range(1000)
    ]
    started_s = time.monotonic() - began
    assert len([it async for it in outpost.workers()]) == 1000
    logs = await asyncio.gather(*map(log, workers))
    assert {told[-1].type for told in logs} == {"result"}
    assert started_s < 10
    assert time.monotonic() - began < 20


async def test_a_federation_runs_tasks_on_it(
    remote: Remote,
    isolated_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bring(tmp_path / "packages")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    config = tmp_path / "outposts.yaml"
    config.write_text(
        f"outposts:\n  - {{name: a, type: virtual, folder: {tmp_path}/virtual, max_workers: 5}}\n"
    )
    argv = ("virtual", "--seconds", "0.5", "--events-per-s", "10")
    async with Federation(
        config_path=str(config),
        home=tmp_path / "state",
        directory=tmp_path,
        environment=isolated_environment,
    ) as federation:
        options = SpawnOptions(repo=remote.url, argv=argv)
        worker = await federation.spawn("text:Mend the words", options)
        attempt = await worker.result()
    assert attempt.state is State.DONE
    assert attempt.usage.cost_microusd
    assert attempt.branch
    (line,) = Records(tmp_path / "virtual").finished()
    assert (line["worker_id"], line["task_id"]) == (attempt.id, attempt.task_id)
    assert line["pid"] == os.getpid()


def handle(worker_id: str) -> Handle:
    return Handle(outpost="a", kind="virtual", worker_id=worker_id)

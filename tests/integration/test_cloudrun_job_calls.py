"""Starts of jobs that fail, are in doubt or meet, and containers that meet over one order."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outpost.backends.cloudrun_jobs import CloudRunJobOutpost
from outpost.control.environment import worker_environment
from outpost.errors import Ambiguous, NoCapacity, NotDispatched, OutpostFault, Rejected
from outpost.model import Handle, Liveness
from outpost.testing import Bench, BenchOptions
from outpost.testing.bench import lines
from outpost.transports import cloud_job, gcs
from outpost.wire.events import Event
from outpost.wire.orders import Environment, WorkOrder
from outpost.wire.tidying import TidyOrder
from tests.cloudrun_job_world import BUCKET, JOB, JobCloud, job_cloud
from tests.unit.cloudrun_values import REGION
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


class Jobs:
    """A job that is deployed, and orders for it."""

    def __init__(self, world: World, google: JobCloud) -> None:
        self.google = google
        self.remote = world.remote
        self.environment = worker_environment(world.environment, agent_variables=(), extra=())
        self._bench = Bench(
            BenchOptions(
                make=lambda federation_id: self.outpost(),
                repo_url=world.remote.url,
                environment=self.environment,
            )
        )

    def outpost(self) -> CloudRunJobOutpost:
        """Return the outpost as a controller has it that was started anew."""
        return self.google.outpost()

    def order(self, script: str) -> WorkOrder:
        return self._bench.order(script, federation_id="f-0123456789")

    async def spawn(self, order: WorkOrder) -> Handle:
        return await self.outpost().spawn(order, self.environment)

    async def log(self, handle: Handle) -> list[Event]:
        events = self.outpost().worker(handle).events(follow=True)
        async with contextlib.aclosing(events):
            return [event async for event in events]

    @property
    def running(self) -> list[Any]:
        """The executions that have not ended."""
        found = self.google.control.jobs.running.values()
        return [it for it in found if not it.message.completion_time]

    async def all_ended(self) -> None:
        while self.running:
            await asyncio.sleep(0.05)

    def outputs(self) -> list[str]:
        return [it.output() for it in self.google.control.jobs.running.values()]

    @property
    def executions(self) -> int:
        return len(self.google.control.jobs.running)

    def names(self) -> list[str]:
        return self.google.storage.names(BUCKET)

    def folder(self, order: WorkOrder) -> str:
        return f"outpost/f-0123456789/{order['worker_id']}/"

    def record(self, order: WorkOrder) -> dict[str, Any]:
        name = f"{self.folder(order)}worker"
        found: dict[str, Any] = json.loads(self.google.storage.objects[BUCKET][name][1])
        return found


@pytest.fixture
async def jobs(world: World, tmp_path: Path) -> AsyncIterator[Jobs]:
    async with job_cloud(tmp_path / "data") as google:
        await google.deploy()
        yield Jobs(world, google)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("RESOURCE_EXHAUSTED", NoCapacity, f"Cloud Run in {REGION} runs no more at once"),
        ("NOT_FOUND", Rejected, f"the job {JOB} is not in {REGION} any more"),
        ("PERMISSION_DENIED", Rejected, "you may not do that in project"),
        ("UNAUTHENTICATED", Rejected, "does not take the credentials here"),
    ],
)
async def test_a_refused_start_leaves_nothing(
    jobs: Jobs, code: str, kind: type[OutpostFault], words: str
) -> None:
    jobs.google.cloud.faults.calls["RunJob"] = [code]
    with pytest.raises(kind, match=words):
        await jobs.spawn(jobs.order("true"))
    assert jobs.names() == [], "an order that nobody carries out is not left there"


async def test_a_start_whose_answer_was_lost_is_found(jobs: Jobs) -> None:
    jobs.google.cloud.faults.calls["RunJob"] = ["after UNAVAILABLE"]
    order = jobs.order("echo over")
    with pytest.raises(Ambiguous):
        await jobs.spawn(order)
    handle = await jobs.outpost().find(order["worker_id"])
    assert handle is not None
    assert lines(await jobs.log(handle)) == ["over"]
    assert await jobs.spawn(order) == handle
    assert jobs.executions == 1


async def test_a_start_that_never_came_to_be_is_made_up_for(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is asked for the same worker has it run, once the first had time enough."""
    monkeypatch.setattr(cloud_job, "SETTLE_S", 0.5)
    jobs.google.cloud.faults.calls["RunJob"] = ["UNAVAILABLE"]
    order = jobs.order("echo over")
    with pytest.raises(Ambiguous):
        await jobs.spawn(order)
    outpost = jobs.outpost()
    handle = await outpost.find(order["worker_id"])
    assert handle is not None
    seen = await outpost.worker(handle).status()
    assert (seen.liveness, seen.detail) == (Liveness.ALIVE, "its container has yet to start")
    assert await jobs.spawn(order) == handle
    assert lines(await jobs.log(handle)) == ["over"]


async def test_a_container_that_comes_too_late_finds_no_order(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever saw it dead goes on elsewhere: two would do the same work."""
    jobs.google.cloud.faults.calls["RunJob"] = ["UNAVAILABLE"]
    order = jobs.order("echo ran")
    with pytest.raises(Ambiguous):
        await jobs.spawn(order)
    outpost = jobs.outpost()
    worker = outpost.worker(outpost.handle_of(order["worker_id"]))
    monkeypatch.setattr(cloud_job, "START_S", 0.0)
    for _ in range(2):
        seen = await worker.status()
        assert (seen.liveness, seen.detail) == (Liveness.DEAD, "its container never started")
    assert "call" not in jobs.record(order), "nor does what is secret in it stay"
    await outpost.run(REGION, outpost.folder_of(order["worker_id"]).name)
    await jobs.all_ended()
    assert await jobs.log(outpost.handle_of(order["worker_id"])) == []
    assert "there is no order here" in jobs.outputs()[0]


async def test_a_kill_takes_the_order_from_a_container_that_nobody_knows_of(jobs: Jobs) -> None:
    jobs.google.control.operations._operation_s = 1.0  # its container takes so long to start
    order = jobs.order("echo ran")
    handle = await jobs.spawn(order)
    outpost = jobs.outpost()
    await outpost.run(REGION, outpost.folder_of(order["worker_id"]).name)
    await outpost.worker(handle).kill()
    assert "call" not in jobs.record(order)
    await jobs.all_ended()
    assert await jobs.log(handle) == []


async def test_a_start_that_meets_another_and_cannot_look_is_in_doubt(jobs: Jobs) -> None:
    jobs.google.cloud.faults.calls["RunJob"] = ["UNAVAILABLE"]
    order = jobs.order("echo ran")
    with pytest.raises(Ambiguous):
        await jobs.spawn(order)
    calls = jobs.google.storage.calls
    before = len(calls)
    second = asyncio.ensure_future(jobs.spawn(order))
    while "get" not in calls[before:]:  # it has seen that the order is there
        await asyncio.sleep(0.02)
    jobs.google.storage.trouble.down = True
    with pytest.raises(OutpostFault, match="Cloud Storage does not answer") as caught:
        await second
    assert not isinstance(caught.value, NotDispatched), "the first one may have started it"


async def test_a_record_that_is_none_harms_no_container(jobs: Jobs) -> None:
    order = jobs.order("echo ran")
    outpost = jobs.outpost()
    there = outpost.folder_of(order["worker_id"]).name
    for data in (b"[]", b"\xff", b"[" * 100_000):
        jobs.google.storage.objects[BUCKET][f"{there}worker"] = (1, data)
        await outpost.run(REGION, there)
        await jobs.all_ended()
    assert all("there is no order here" in it for it in jobs.outputs())
    assert jobs.executions == 3


async def test_a_bucket_out_of_reach_starts_nothing(jobs: Jobs) -> None:
    jobs.google.storage.trouble.down = True
    with pytest.raises(NotDispatched, match="Cloud Storage does not answer"):
        await jobs.spawn(jobs.order("true"))
    assert jobs.executions == 0


async def test_starts_that_meet_run_one_worker(jobs: Jobs) -> None:
    order = jobs.order("echo ran")
    handles = await asyncio.gather(*(jobs.spawn(order) for _ in range(5)))
    assert all(it == handles[0] for it in handles)
    assert lines(await jobs.log(handles[0])) == ["ran"]
    assert jobs.executions == 1


async def test_of_two_containers_one_takes_the_order(jobs: Jobs) -> None:
    order = jobs.order("echo ran; sleep 1")
    handle = await jobs.spawn(order)
    outpost = jobs.outpost()
    folder = outpost.folder_of(order["worker_id"]).name
    await asyncio.gather(*(outpost.run(REGION, folder) for _ in range(3)))
    assert lines(await jobs.log(handle)) == ["ran"]
    await jobs.all_ended()
    assert sum("there is no order here" in it for it in jobs.outputs()) == 3
    ends = [it.message.failed_count for it in jobs.google.control.jobs.running.values()]
    assert ends == [0] * 4


async def test_what_is_in_an_order_does_not_stay(jobs: Jobs) -> None:
    order = jobs.order("echo begun; sleep 60")
    secret = "hunter2hunter2"
    environment: Environment = {
        "agent": {**jobs.environment["agent"], "GH_TOKEN": secret},
        "git": jobs.environment["git"],
    }
    handle = await jobs.outpost().spawn(order, environment)
    worker = jobs.outpost().worker(handle)
    async for event in worker.events(follow=True):
        if lines([event]) == ["begun"]:
            break
    assert set(jobs.record(order)) == {"region", "asked_at", "execution"}
    held = jobs.google.storage.objects[BUCKET].values()
    assert not [data for _, data in held if secret.encode() in data]
    assert any(secret.encode() in data for _, data in jobs.google.storage.ever), "it was there"
    await jobs.outpost().destroy(handle)
    assert jobs.names() == []
    await jobs.all_ended()


async def test_an_order_that_is_destroyed_before_its_container_starts_is_not_carried_out(
    jobs: Jobs,
) -> None:
    jobs.google.control.operations._operation_s = 1.0  # its container takes so long to start
    order = jobs.order("echo ran > ran.txt")
    handle = await jobs.spawn(order)
    await jobs.outpost().destroy(handle)
    assert jobs.names() == []
    await jobs.all_ended()
    assert jobs.names() == []
    assert await jobs.outpost().find(order["worker_id"]) is None


async def test_a_worker_of_another_bucket_or_mode_is_not_taken_for_lost(jobs: Jobs) -> None:
    outpost = jobs.outpost()
    other = Handle(outpost="burst", kind="cloudrun", worker_id="w-1", data={"bucket": "older"})
    with pytest.raises(Rejected, match="by way of the bucket older"):
        outpost.worker(other)
    held = Handle(outpost="burst", kind="cloudrun", worker_id="w-1", data={"machine": "m"})
    with pytest.raises(Rejected, match="in an instance of a service"):
        outpost.worker(held)


async def test_what_only_the_container_has_is_said_to_be_there(jobs: Jobs) -> None:
    handle = await jobs.spawn(jobs.order("echo begun; sleep 60"))
    worker = jobs.outpost().worker(handle)
    async for event in worker.events(follow=True):
        if lines([event]) == ["begun"]:
            break
    assert await worker.unsaved() == "what it has done since its last checkpoint"
    with pytest.raises(OutpostFault, match="what it has pushed is all there is to see"):
        await worker.diff(())
    assert await worker.transcript("s-1", jobs.environment) is None
    await worker.stop(grace_s=2, reason="enough")
    assert await worker.unsaved() == ""
    assert await worker.diff(()) is None


async def test_an_eviction_is_heard_while_the_bucket_says_nothing(jobs: Jobs) -> None:
    order = jobs.order("echo half > half.txt; echo begun; sleep 60")
    handle = await jobs.spawn(order)
    async for event in jobs.outpost().worker(handle).events(follow=True):
        if lines([event]) == ["begun"]:
            break
    jobs.google.storage.trouble.silent = True
    await asyncio.sleep(1.5)  # so that it has asked, and waits for an answer
    (running,) = jobs.running
    running.containers[-1].terminate()
    while jobs.remote.tip(order["branch"]) is None:
        assert jobs.running, "it has ended, and saved nothing"
        await asyncio.sleep(0.05)
    assert jobs.remote.show(order["branch"], "half.txt") == "half"
    running.cancel()  # it would wait for the bucket


async def test_a_copy_that_was_torn_is_made_anew(jobs: Jobs) -> None:
    order = jobs.order("echo one; sleep 2; echo two")
    handle = await jobs.spawn(order)
    whole = await jobs.log(handle)
    copy = jobs.outpost().copy_of(order["worker_id"])
    path = copy.folder / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert await jobs.log(handle) == whole
    # Torn where a line ends; and what is no piece of a log is no end of it.
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n")
    jobs.google.storage.objects[BUCKET][f"{jobs.folder(order)}log/none"] = (1, b"")
    assert await jobs.log(handle) == whole


async def test_a_copy_that_was_torn_does_not_hold_up_who_follows(jobs: Jobs) -> None:
    """A worker may work for a week: its questions would be seen only then."""
    order = jobs.order("echo one; sleep 60")
    handle = await jobs.spawn(order)
    worker = jobs.outpost().worker(handle)
    async for event in worker.events(follow=True):
        if lines([event]) == ["one"]:
            break
    path = jobs.outpost().copy_of(order["worker_id"]).folder / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    async with asyncio.timeout(20):
        async for event in jobs.outpost().worker(handle).events(follow=True):
            if lines([event]) == ["one"]:
                break
    await jobs.outpost().destroy(handle)


async def test_what_agents_write_to_the_bucket_harms_nobody_here(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They act as the same account as the programs beside them."""
    kept = tmp_path / "data" / "outposts" / "burst" / "kept"
    kept.mkdir(parents=True)
    objects = jobs.google.storage.objects[BUCKET]
    objects["outpost/f-0123456789/../worker"] = (1, b"{}")
    objects["outpost/f-0123456789/w-1/worker"] = (1, b"[]")
    absurd = b'{"region": "r", "asked_at": 1' + b"0" * 400 + b"}"
    objects["outpost/f-0123456789/w-3/worker"] = (1, absurd)
    named = {"region": REGION, "asked_at": 0, "execution": "../other/executions/x"}
    objects["outpost/f-0123456789/w-2/worker"] = (1, json.dumps(named).encode())
    outpost = jobs.outpost()
    seen = {it.handle.worker_id: it.liveness async for it in outpost.workers()}
    assert seen == dict.fromkeys(("w-1", "w-2", "w-3"), Liveness.UNSEEN)
    worker = outpost.worker(outpost.handle_of("w-2"))
    assert "is none of ours" in (await worker.status()).detail
    with pytest.raises(OutpostFault, match="is none of ours"):
        await worker.kill()
    monkeypatch.setattr(gcs, "MOST_BYTES", 1 << 20)
    objects["outpost/f-0123456789/w-2/log/00000000000000000000"] = (1, bytes(2 << 20))
    with pytest.raises(OutpostFault, match="larger than any that we write"):
        await jobs.log(outpost.handle_of("w-2"))
    assert kept.exists()


async def test_what_came_after_the_end_of_a_worker_is_removed(jobs: Jobs) -> None:
    name = "outpost/f-0123456789/w-9/inbox/000000001"
    jobs.google.storage.objects[BUCKET][name] = (1, b"{}")
    outpost = jobs.outpost()
    assert await outpost.find("w-9") is None
    seen = {it.handle.worker_id: it.liveness async for it in outpost.workers()}
    assert seen == {"w-9": Liveness.DEAD}
    order: TidyOrder = {
        "kinds": [],
        "dry_run": False,
        "workers": [],
        "orphans": ["w-9"],
        "grace_s": 0,
        "cache_idle_s": 0,
    }
    (gone,) = await outpost.tidy(order, ())
    assert gone["kept"] == ""
    assert jobs.names() == []


async def test_letters_that_are_none_are_passed_over(jobs: Jobs) -> None:
    order = jobs.order("echo begun; sleep 60")
    objects = jobs.google.storage.objects[BUCKET]
    for number, data in enumerate((b"\xff", b"[1]", b'{"type": 1}'), start=1):
        name = f"outpost/f-0123456789/{order['worker_id']}/inbox/{number:09d}"
        objects[name] = (1, data)
    objects[f"{jobs.folder(order)}inbox/none"] = (1, b"")
    handle = await jobs.spawn(order)
    worker = jobs.outpost().worker(handle)
    await worker.stop(grace_s=2, reason="enough")
    last = (await jobs.log(handle))[-1]
    assert (last.type, last.fields["reason"]) == ("result", "enough")

"""The job of a ``cloudrun`` outpost: planned, made, changed and looked at, by gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2

from outpost.backends.cloudrun_jobs import CloudRunJobOutpost
from outpost.errors import OutpostError, OutpostFault, Rejected, UserError
from tests.cloudrun_job_world import BUCKET, JOB, JobCloud, job_clients_at, job_cloud
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION, SERVICE

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
PATH = f"projects/{PROJECT}/locations/{REGION}/jobs/{JOB}"
OTHER = "us-central1-docker.pkg.dev/example-project/outpost/worker:2"


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[JobCloud]:
    async with job_cloud(tmp_path) as made:
        made.control.shelf.images[OTHER] = made.control.shelf.images[IMAGE]
        yield made


async def the_job(google: JobCloud) -> run_v2.Job:
    clients = await job_clients_at(google.control.address)()
    try:
        return await clients.jobs.get_job(name=PATH)
    finally:
        for client in (clients.jobs, clients.executions):
            transport: Any = client.transport
            await transport.close()


async def change(google: JobCloud, job: run_v2.Job) -> None:
    """Change the job as somebody does by hand."""
    clients = await job_clients_at(google.control.address)()
    try:
        operation: Any = await clients.jobs.update_job(job=job)
        await operation.result()
    finally:
        for client in (clients.jobs, clients.executions):
            transport: Any = client.transport
            await transport.close()


async def deployed(outpost: CloudRunJobOutpost, image: str | None = IMAGE) -> list[str]:
    return list(await outpost.deploy(await outpost.plan(image), lambda _: None))


async def test_from_nothing_to_a_job_that_is_ready(google: JobCloud) -> None:
    reports: list[str] = []
    outpost = google.outpost(service_account="worker@example.com", cpu=4, memory="8Gi")
    before = await outpost.ping()
    assert before.detail == f"there is no job {JOB} in {REGION}, project {PROJECT}"
    assert before.hint == "outpost deploy cloudrun burst --image IMAGE"
    plan = await outpost.plan(IMAGE)
    assert plan.changes == (
        f"+ job {JOB} in {REGION}, project {PROJECT}",
        f"+   image: {IMAGE}",
        "+   command: runner job",
        "+   cpu: 4",
        "+   memory: 8Gi",
        "+   tasks: 1",
        "+   retries: 0",
        "+   task timeout: 86400 s",
        "+   execution environment: gen2",
        "+   service account: worker@example.com",
        "+   label outpost-federation: f-0123456789",
        f"+   env OUTPOST_JOB_BUCKET: {BUCKET}",
        "+   env OUTPOST_JOB_GRACE: 9",
    )
    assert plan.notes[0] == "a worker may take 24 h; the platform ends it"
    assert plan.notes[1].startswith("a worker costs $0.3168 an hour")
    assert "CreateJob" not in google.control.calls, "a plan changes nothing"
    (address,) = await outpost.deploy(plan, reports.append)
    assert f"/run/jobs/details/{REGION}/{JOB}/" in address
    assert reports == [f"{REGION}: making the job {JOB}"]
    task = (await the_job(google)).template.template
    assert (task.max_retries, "max_retries" in task) == (0, True)
    assert task.timeout.total_seconds() == 24 * 3600
    assert list(task.containers[0].args) == ["runner", "job"]
    after = await outpost.ping()
    assert (after.ok, after.detail) == (True, f"job {JOB} in {REGION}")
    assert (await outpost.plan(None)).changes == ()
    assert not [it for it in google.control.calls if "Service" in it], "no service is touched"


async def test_a_change_keeps_what_others_set(google: JobCloud) -> None:
    await deployed(google.outpost(env={"CI": "1"}))
    job = await the_job(google)
    job.labels["team"] = "shop"
    job.template.template.containers[0].env.append(run_v2.EnvVar(name="BY_HAND", value="kept"))
    await change(google, job)
    outpost = google.outpost(task_timeout="48h")
    assert (await outpost.ping()).ok
    assert "not as configured: task timeout, env CI" in (await outpost.ping()).detail
    plan = await outpost.plan(OTHER)
    assert plan.changes == (
        f"~ job {JOB} in {REGION}, project {PROJECT}",
        f"~   image: {IMAGE} → {OTHER}",
        "~   task timeout: 86400 s → 172800 s",
        "-   env CI: 1",
    )
    await outpost.deploy(plan, lambda _: None)
    job = await the_job(google)
    assert job.labels["team"] == "shop"
    names = {it.name for it in job.template.template.containers[0].env}
    assert names == {"BY_HAND", "OUTPOST_JOB_BUCKET", "OUTPOST_JOB_GRACE"}


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [("max_retries", 3, "retries"), ("task_count", 2, "tasks"), ("args", ["sh"], "command")],
)
async def test_what_work_depends_on_is_no_matter_of_taste(
    google: JobCloud, field: str, value: Any, name: str
) -> None:
    await deployed(google.outpost())
    job = await the_job(google)
    parts = {"max_retries": job.template.template, "task_count": job.template}
    setattr(parts.get(field, job.template.template.containers[0]), field, value)
    await change(google, job)
    health = await google.outpost().ping()
    assert not health.ok
    assert health.detail == f"the job in {REGION} is not as configured: {name}"
    assert health.hint.startswith("outpost deploy cloudrun burst")


async def test_secrets_are_in_a_plan_by_reference_only(google: JobCloud) -> None:
    google.control.shelf.secrets.update(anthropic=b"hunter2", key=b"hunter3")
    secrets = {"ANTHROPIC_API_KEY": "anthropic:latest", "/secrets/key": "key:3"}
    outpost = google.outpost(secrets=secrets)
    plan = await outpost.plan(IMAGE)
    assert "+   env ANTHROPIC_API_KEY: secret anthropic:latest" in plan.changes
    assert "+   file /secrets/key: secret key:3" in plan.changes
    assert "hunter" not in "\n".join((*plan.changes, *plan.notes))
    await outpost.deploy(plan, lambda _: None)
    assert (await google.outpost(secrets=secrets).plan()).changes == ()


async def test_what_is_not_ours_is_left_alone(google: JobCloud) -> None:
    await deployed(google.outpost())
    stranger = google.outpost(setup={"federation_id": "f-other"})
    with pytest.raises(Rejected, match=r"the job .* is another federation's") as caught:
        await stranger.plan(OTHER)
    assert "--adopt" in caught.value.hint
    plan = await stranger.plan(OTHER, adopt=True)
    assert f"~   image: {IMAGE} → {OTHER}" in plan.changes


async def test_what_changed_since_the_plan_stays_as_it_is(google: JobCloud) -> None:
    await deployed(google.outpost())
    outpost = google.outpost(cpu=4, memory="8Gi")
    plan = await outpost.plan()
    job = await the_job(google)
    job.template.template.timeout = "77s"
    await change(google, job)
    with pytest.raises(OutpostFault, match="was changed by somebody else meanwhile"):
        await outpost.deploy(plan, lambda _: None)
    assert (await the_job(google)).template.template.timeout.total_seconds() == 77


async def test_which_image_has_to_be_said_once(google: JobCloud) -> None:
    with pytest.raises(OutpostError) as caught:
        await google.outpost().plan()
    assert isinstance(caught.value, UserError)
    assert caught.value.message == f"which image? There is no job {JOB} in {REGION} yet"


async def test_a_bucket_that_is_not_there_or_not_ours_is_said(google: JobCloud) -> None:
    await deployed(google.outpost())
    del google.storage.objects[BUCKET]
    health = await google.outpost().ping()
    assert (health.ok, health.detail) == (False, f"there is no bucket {BUCKET}")
    assert "--soft-delete-duration=0" in health.hint
    google.storage.objects[BUCKET] = {}
    google.storage.denied = True
    health = await google.outpost().ping()
    assert not health.ok
    assert "you may not do that in the bucket" in health.detail


async def test_it_is_beside_the_service_of_that_name(google: JobCloud) -> None:
    assert f"{SERVICE}-job" == JOB
    greeting = await google.outpost().greet()
    assert greeting is not None
    assert greeting.lines[0].startswith("a worker costs $0.1584 an hour")

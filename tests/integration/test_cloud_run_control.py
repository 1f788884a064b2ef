"""The stand-in's control plane, asked by the unmodified official clients of Cloud Run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.jobs.transports import JobsGrpcAsyncIOTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport
from google.cloud.run_v2.services.tasks.transports import TasksGrpcAsyncIOTransport

from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.doubles.cloud_run.trying import LIMITS, ROOT, Held, get, said, until

PARENT = "projects/example-project/locations/us-central1"
WORK = f"{PARENT}/services/work"
JOB = f"{PARENT}/jobs/chore"
IMAGE = "us-docker.pkg.dev/example-project/images/worker:1"
SHELL = "us-docker.pkg.dev/example-project/images/shell:1"


async def done(call: Awaitable[Any]) -> Any:
    """Return what the operation that a call begins ends with."""
    operation = await call
    return await operation.result()


@dataclass(frozen=True)
class Project:
    """A stand-in with its control plane, and the official clients of it."""

    cloud: CloudRun
    control: ControlPlane
    services: run_v2.ServicesAsyncClient
    jobs: run_v2.JobsAsyncClient
    executions: run_v2.ExecutionsAsyncClient
    tasks: run_v2.TasksAsyncClient

    async def create(self, service: run_v2.Service | None = None, **changes: Any) -> Any:
        request: dict[str, Any] = {"parent": PARENT, "service_id": "work", **changes}
        request["service"] = service or declared()
        return await done(self.services.create_service(request))

    async def create_job(self, *argv: str, **changes: Any) -> Any:
        container = run_v2.Container(image=SHELL, args=argv, env=[{"name": "A", "value": "1"}])
        task = run_v2.TaskTemplate(containers=[container], **{"max_retries": 0, **changes})
        job = run_v2.Job(template=run_v2.ExecutionTemplate(template=task))
        request: dict[str, Any] = {"parent": PARENT, "job_id": "chore", "job": job}
        return await done(self.jobs.create_job(request))

    async def run(self, **overrides: Any) -> Any:
        return await self.jobs.run_job({"name": JOB, "overrides": overrides})

    def output(self, execution: str) -> str:
        return self.control.jobs.running[execution].output()


def declared(**changes: Any) -> run_v2.Service:
    """Return a service as a backend declares it; ``template`` and ``container`` are changed."""
    container = {
        "image": IMAGE,
        "ports": [{"name": "h2c", "container_port": 8080}],
        "env": [{"name": "COLOUR", "value": "green"}],
        "resources": {"limits": {"cpu": "2", "memory": "4Gi"}, "cpu_idle": True},
        **changes.pop("container", {}),
    }
    template = {
        "containers": [container],
        "max_instance_request_concurrency": 1,
        "timeout": timedelta(seconds=3600),
        "scaling": {"max_instance_count": 3},
        **changes.pop("template", {}),
    }
    return run_v2.Service({"template": template, **changes})


@contextlib.asynccontextmanager
async def project(limits: Limits = LIMITS) -> AsyncIterator[Project]:
    cloud = CloudRun(limits=limits, environment={"PYTHONPATH": str(ROOT)})
    async with cloud, ControlPlane(cloud) as control, control.channel() as channel:
        control.image(IMAGE, sys.executable, "-m", "tests.doubles.cloud_run.sample_app")
        control.image(SHELL, "sh", "-c")
        yield Project(
            cloud,
            control,
            run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel)),
            run_v2.JobsAsyncClient(transport=JobsGrpcAsyncIOTransport(channel=channel)),
            run_v2.ExecutionsAsyncClient(transport=ExecutionsGrpcAsyncIOTransport(channel=channel)),
            run_v2.TasksAsyncClient(transport=TasksGrpcAsyncIOTransport(channel=channel)),
        )


async def test_a_service_that_is_created_answers_at_its_address() -> None:
    async with project() as ours:
        service = await ours.create()
        assert service.name == WORK
        assert service.uri == ours.cloud.url("work")
        assert (service.generation, service.observed_generation) == (1, 1)
        assert not service.reconciling
        ready = run_v2.Condition.State.CONDITION_SUCCEEDED
        assert service.terminal_condition.state == ready
        assert service.latest_ready_revision.startswith(f"{WORK}/revisions/work-00001-")
        assert said(await get(ours.cloud))["environment"]["COLOUR"] == "green"
        made = ours.cloud.instances("work")[0].revision
        assert (made.vcpus, made.memory_gib, made.cpu_idle) == (2, 4, True)
        assert (made.concurrency, made.timeout_s, made.max_instances) == (1, 3600, 3)
        assert [one.name async for one in await ours.services.list_services(parent=PARENT)] == [
            WORK
        ]


async def test_an_operation_takes_its_time() -> None:
    async with project(replace(LIMITS, operation_s=0.3)) as ours:
        operation: Any = await ours.services.create_service(
            parent=PARENT, service_id="work", service=declared()
        )
        assert not await operation.done()
        assert operation.metadata.name == WORK
        seen = await ours.services.get_service(name=WORK)
        assert (seen.reconciling, seen.uri) == (True, "")
        await until(lambda: "work" in ours.cloud.fronts, "made")
        assert (await operation.result()).uri == ours.cloud.url("work")


async def test_an_update_makes_a_new_revision_and_wants_the_newest_etag() -> None:
    async with project() as ours:
        first = await ours.create()
        changed = declared(container={"env": [{"name": "COLOUR", "value": "red"}]})
        changed.name, changed.etag = WORK, first.etag
        second = await done(ours.services.update_service(service=changed))
        assert (second.generation, second.uri) == (2, first.uri)
        assert second.latest_ready_revision != first.latest_ready_revision
        assert said(await get(ours.cloud))["environment"]["COLOUR"] == "red"
        with pytest.raises(exceptions.Aborted):
            await ours.services.update_service(service=changed)
        masked = run_v2.Service(name=WORK, labels={"owner": "me"})
        request = {"service": masked, "update_mask": {"paths": ["labels"]}}
        third = await done(ours.services.update_service(request))
        assert third.labels == {"owner": "me"}
        assert third.template.containers[0].env[0].value == "red"


async def test_secrets_are_variables_and_files() -> None:
    container = {
        "env": [
            {"name": "TOKEN", "value_source": {"secret_key_ref": {"secret": "token"}}},
            {"name": "TOKEN_FILE", "value": "/secrets/token/value"},
        ],
        "volume_mounts": [{"name": "disk", "mount_path": "/secrets/token"}],
    }
    volume = {"name": "disk", "secret": {"secret": "token", "items": [{"path": "value"}]}}
    async with project() as ours:
        service = declared(container=container, template={})
        service.template.volumes = [run_v2.Volume(volume)]
        with pytest.raises(exceptions.GoogleAPICallError, match="Secret Accessor"):
            await ours.create(service)
        failed = await ours.services.get_service(name=WORK)
        assert failed.terminal_condition.state == run_v2.Condition.State.CONDITION_FAILED
        ours.control.shelf.secrets["token"] = b"hush"
        service.name = WORK
        await done(ours.services.update_service(service=service))
        variables = said(await get(ours.cloud))["environment"]
        assert variables["TOKEN"] == "hush"
        assert Path(variables["TOKEN_FILE"]).read_text() == "hush"


async def test_a_deleted_service_is_gone() -> None:
    async with project() as ours:
        await ours.create()
        await get(ours.cloud)
        await done(ours.services.delete_service(name=WORK))
        with pytest.raises(exceptions.NotFound):
            await ours.services.get_service(name=WORK)
        assert (await get(ours.cloud)).status == 404
        await until(lambda: not ours.cloud.instances("work"), "its instances have ended")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"template": {"timeout": timedelta(seconds=3601)}}, "timeout"),
        ({"template": {"max_instance_request_concurrency": 1001}}, "concurrency"),
        ({"template": {"scaling": {"min_instance_count": 2, "max_instance_count": 1}}}, "scaling"),
        ({"container": {"ports": [{"name": "http2"}]}}, "h2c"),
        ({"container": {"resources": {"limits": {"cpu": "3"}}}}, "cpu"),
        ({"container": {"resources": {"limits": {"cpu": "4", "memory": "1Gi"}}}}, "memory"),
        ({"container": {"resources": {"limits": {"cpu": "1", "memory": "8Gi"}}}}, "CPU"),
        ({"container": {"resources": {"limits": {"cpu": "500m"}}}}, "always allocated"),
        ({"container": {"image": ""}}, "Image"),
    ],
)
async def test_what_the_platform_would_not_run_is_refused(
    changes: dict[str, Any], what: str
) -> None:
    async with project() as ours:
        with pytest.raises(exceptions.InvalidArgument, match=what):
            await ours.create(declared(**changes))


async def test_an_image_that_is_not_there_fails_the_revision() -> None:
    async with project() as ours:
        with pytest.raises(exceptions.GoogleAPICallError, match="Image 'elsewhere' not found"):
            await ours.create(declared(container={"image": "elsewhere"}))
        failed = await ours.services.get_service(name=WORK)
        assert failed.terminal_condition.state == run_v2.Condition.State.CONDITION_FAILED
        assert (failed.latest_ready_revision, failed.reconciling) == ("", False)


async def test_names_that_are_wrong_taken_or_unknown_are_refused() -> None:
    async with project() as ours:
        for name in ("Work", "1work", "work-", "w" * 50):
            with pytest.raises(exceptions.InvalidArgument, match="name"):
                await ours.create(service_id=name)
        await ours.create()
        with pytest.raises(exceptions.AlreadyExists):
            await ours.create()
        with pytest.raises(exceptions.NotFound):
            await ours.services.get_service(name=f"{PARENT}/services/other")
        await ours.create(service_id="other", validate_only=True)
        assert "other" not in ours.cloud.fronts


async def test_calls_fail_on_demand_before_or_after_they_were_carried_out() -> None:
    async with project() as ours:
        ours.cloud.faults.calls = {"CreateService": ["PERMISSION_DENIED", "after UNAVAILABLE"]}
        with pytest.raises(exceptions.PermissionDenied):
            await ours.create()
        with pytest.raises(exceptions.NotFound):
            await ours.services.get_service(name=WORK)
        with pytest.raises(exceptions.ServiceUnavailable):
            await ours.create()
        assert (await ours.services.get_service(name=WORK)).uri


async def test_a_policy_that_lets_anybody_call_needs_no_token() -> None:
    async with project() as ours:
        await ours.create()
        url = ours.cloud.url("work")
        policy = {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}
        ours.cloud.tokens.invokers.clear()
        assert (await get(ours.cloud)).status == 403
        await ours.services.set_iam_policy({"resource": WORK, "policy": policy})
        assert (await get(ours.cloud)).status == 200
        kept = await ours.services.get_iam_policy({"resource": WORK})
        assert kept.bindings[0].members == ["allUsers"]
        assert ours.cloud.url("work") == url


async def test_an_update_lets_open_requests_go_on() -> None:
    async with project() as ours:
        await ours.create()
        async with Held().open(ours.cloud) as held:
            changed = declared(template={"scaling": {"max_instance_count": 1}})
            changed.name = WORK
            await done(ours.services.update_service(service=changed))
            held.say(b"still there")
            assert await held.hear() == b"still there"


async def test_a_job_runs_its_task_to_the_end() -> None:
    async with project() as ours:
        await ours.create_job("echo $A $B $CLOUD_RUN_JOB $CLOUD_RUN_TASK_INDEX $PORT")
        more = {"env": [{"name": "B", "value": "2"}]}
        execution = await done(ours.run(container_overrides=[more]))
        assert (execution.succeeded_count, execution.failed_count) == (1, 0)
        assert execution.conditions[0].state == run_v2.Condition.State.CONDITION_SUCCEEDED
        assert ours.output(execution.name) == "1 2 chore 0\n"
        job = await ours.jobs.get_job(name=JOB)
        assert execution.name.endswith(job.latest_created_execution.name)
        listed = await ours.executions.list_executions(parent=JOB)
        assert [one.name async for one in listed] == [execution.name]


async def test_a_task_that_fails_is_tried_again_as_often_as_it_says() -> None:
    async with project() as ours:
        await ours.create_job("echo try; exit 3", max_retries=2)
        execution = await done(ours.run())
        assert (execution.failed_count, execution.retried_count) == (1, 2)
        assert ours.output(execution.name) == "try\n" * 3
        condition = execution.conditions[0]
        assert condition.execution_reason == run_v2.Condition.ExecutionReason.NON_ZERO_EXIT_CODE
        [task] = [one async for one in await ours.tasks.list_tasks(parent=execution.name)]
        assert task.last_attempt_result.exit_code == 3


async def test_tasks_run_side_by_side_with_other_arguments() -> None:
    async with project() as ours:
        await ours.create_job("exit 1")
        override = {"args": ["echo $CLOUD_RUN_TASK_INDEX of $CLOUD_RUN_TASK_COUNT"]}
        execution = await done(ours.run(container_overrides=[override], task_count=3))
        assert execution.succeeded_count == 3
        lines = ours.output(execution.name).splitlines()
        assert sorted(lines) == ["0 of 3", "1 of 3", "2 of 3"]


async def test_a_task_beyond_its_time_is_ended() -> None:
    async with project(replace(LIMITS, grace_s=0.2)) as ours:
        await ours.create_job(
            "trap 'echo told' TERM; while :; do sleep 0.01; done", timeout=timedelta(seconds=0.3)
        )
        execution = await done(ours.run())
        assert execution.failed_count == 1
        assert ours.output(execution.name).split()[0] == "told"


async def test_a_cancelled_execution_is_told_and_ends() -> None:
    async with project() as ours:
        await ours.create_job(
            "trap 'echo told; exit 0' TERM; echo on; while :; do sleep 0.01; done"
        )
        name = (await ours.run()).metadata.name
        await until(lambda: ours.output(name) == "on\n", "started")
        assert (await ours.executions.get_execution(name=name)).running_count == 1
        await done(ours.executions.cancel_execution(name=name))
        assert ours.output(name) == "on\ntold\n"
        with pytest.raises(exceptions.FailedPrecondition):
            await ours.executions.cancel_execution(name=name)


async def test_a_task_costs_a_minute_at_least() -> None:
    now = [0.0]
    async with project(replace(LIMITS, clock=lambda: now[0])) as ours:
        await ours.create_job("sleep 60")
        name = (await ours.run()).metadata.name
        now[0] = 30.0
        await done(ours.executions.cancel_execution(name=name))
        used = ours.cloud.usage()
        assert used.billable_s == Fraction(60)
        assert used.microusd == 60 * (18 + 1)

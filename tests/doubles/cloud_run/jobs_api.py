"""``google.cloud.run.v2.Jobs``, ``Executions`` and ``Tasks``: jobs declared, run and cancelled."""

from __future__ import annotations

import asyncio
import copy
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from google.cloud import run_v2
from google.longrunning import operations_pb2  # type: ignore[import-untyped]

from tests.doubles.cloud_run import rules
from tests.doubles.cloud_run.cloud import CloudRun
from tests.doubles.cloud_run.declared import Shelf, content_of, variables_of
from tests.doubles.cloud_run.executions import TASK_TIMEOUT_S, Plan, Running
from tests.doubles.cloud_run.operations import Operations
from tests.doubles.cloud_run.resources import check_etag, found, new_etag, paged, parent_of
from tests.doubles.cloud_run.revision import Revision
from tests.doubles.cloud_run.rpc import Code, Method, Refused

State = run_v2.Condition.State
MAX_RETRIES = 3


class Jobs:
    """The jobs of a project and their executions, by their full names."""

    def __init__(self, cloud: CloudRun, shelf: Shelf, operations: Operations) -> None:
        self._cloud = cloud
        self._shelf = shelf
        self._operations = operations
        self._all: dict[str, Any] = {}
        self.running: dict[str, Running] = {}

    def methods(self) -> dict[str, Method]:
        v2, operation = run_v2, operations_pb2.Operation
        rows = (
            ("CreateJob", self._create, v2.CreateJobRequest, operation),
            ("GetJob", self._get, v2.GetJobRequest, v2.Job),
            ("ListJobs", self._list, v2.ListJobsRequest, v2.ListJobsResponse),
            ("UpdateJob", self._update, v2.UpdateJobRequest, operation),
            ("DeleteJob", self._delete, v2.DeleteJobRequest, operation),
            ("RunJob", self._run, v2.RunJobRequest, operation),
        )
        return {name: Method(call=call, takes=t, returns=r) for name, call, t, r in rows}

    def execution_methods(self) -> dict[str, Method]:
        v2, operation = run_v2, operations_pb2.Operation
        listed = v2.ListExecutionsResponse
        rows = (
            ("GetExecution", self._get_execution, v2.GetExecutionRequest, v2.Execution),
            ("ListExecutions", self._list_executions, v2.ListExecutionsRequest, listed),
            ("CancelExecution", self._cancel, v2.CancelExecutionRequest, operation),
            ("DeleteExecution", self._delete_execution, v2.DeleteExecutionRequest, operation),
        )
        return {name: Method(call=call, takes=t, returns=r) for name, call, t, r in rows}

    def task_methods(self) -> dict[str, Method]:
        v2 = run_v2
        rows = (
            ("GetTask", self._get_task, v2.GetTaskRequest, v2.Task),
            ("ListTasks", self._list_tasks, v2.ListTasksRequest, v2.ListTasksResponse),
        )
        return {name: Method(call=call, takes=t, returns=r) for name, call, t, r in rows}

    async def close(self) -> None:
        """Kill what runs, and wait until it is gone."""
        living = [one for one in self.running.values() if not one.message.completion_time]
        for one in living:
            one.kill()
        while any(container.alive for one in living for container in one.containers):
            await asyncio.sleep(0.01)

    async def _create(self, request: Any) -> Any:
        rules.check_id(request.parent, request.job_id)
        name = f"{request.parent}/jobs/{request.job_id}"
        if name in self._all:
            raise Refused(Code.ALREADY_EXISTS, f"Resource '{request.job_id}' already exists.")
        job = copy.deepcopy(request.job)
        job.name, job.uid, job.create_time = name, str(uuid.uuid4()), datetime.now(UTC)
        return await self._apply(job, validate_only=request.validate_only)

    async def _update(self, request: Any) -> Any:
        name = request.job.name
        if name not in self._all and request.allow_missing:
            parent, _, job_id = name.partition("/jobs/")
            made = run_v2.CreateJobRequest(parent=parent, job=request.job, job_id=job_id)
            return await self._create(made)
        stored = found(name, self._all)
        check_etag(stored, request.job.etag)
        changed = copy.deepcopy(stored)
        for part in ("labels", "annotations", "launch_stage", "template"):
            setattr(changed, part, getattr(request.job, part))
        return await self._apply(changed, validate_only=request.validate_only)

    async def _apply(self, job: Any, *, validate_only: bool) -> Any:
        rules.check_job(job)
        job.generation += 1
        job.update_time = datetime.now(UTC)
        job.reconciling = True
        job.etag = new_etag()
        if not validate_only:
            self._all[job.name] = job

        async def make() -> Any:
            content_of(job.template.template, self._shelf)  # what it names has to be there
            job.reconciling = False
            job.observed_generation = job.generation
            job.terminal_condition = run_v2.Condition(
                type_="Ready", state=State.CONDITION_SUCCEEDED
            )
            return job

        return await self._operations.run(parent_of(job.name), lambda: job, make)

    async def _get(self, request: Any) -> Any:
        return found(request.name, self._all)

    async def _list(self, request: Any) -> Any:
        rows = [one for name, one in self._all.items() if parent_of(name) == request.parent]
        page, token = paged(rows, request)
        return run_v2.ListJobsResponse(jobs=page, next_page_token=token)

    async def _delete(self, request: Any) -> Any:
        job = found(request.name, self._all)
        check_etag(job, request.etag)

        async def remove() -> Any:
            self._all.pop(request.name, None)
            for name, running in list(self.running.items()):
                if name.startswith(f"{request.name}/executions/"):
                    running.cancel()
                    del self.running[name]
            return job

        return await self._operations.run(parent_of(request.name), lambda: job, remove)

    async def _run(self, request: Any) -> Any:
        job = found(request.name, self._all)
        check_etag(job, request.etag)
        plan = self._planned(job, request.overrides)
        message = _execution(job, plan)
        execution_id = message.name.rpartition("/")[2]
        environment = {
            **self._cloud.environment,
            "CLOUD_RUN_JOB": message.job,
            "CLOUD_RUN_EXECUTION": execution_id,
            "CLOUD_RUN_TASK_COUNT": str(plan.task_count),
            **plan.environment,
        }
        running = Running(
            message,
            replace(plan, environment=environment),
            folder=self._cloud.folder / "jobs",
            limits=self._cloud.limits,
            meters=self._cloud.task_meters,
        )
        self.running[message.name] = running
        job.execution_count += 1
        job.latest_created_execution = run_v2.ExecutionReference(
            name=execution_id, create_time=message.create_time
        )
        return await self._operations.run(parent_of(job.name), lambda: message, running.run)

    def _planned(self, job: Any, overrides: Any) -> Plan:
        """Return what a run of a job is to run, with what the call says otherwise."""
        template = copy.deepcopy(job.template.template)
        for override in overrides.container_overrides:
            if override.args or override.clear_args:
                template.containers[0].args = override.args
        content = content_of(template, self._shelf)
        environment = dict(content.environment)
        for override in overrides.container_overrides:
            environment.update(variables_of(override.env, self._shelf))
        timeout = overrides.timeout or template.timeout
        resources = template.containers[0].resources
        return Plan(
            revision=Revision(
                content=content,
                vcpus=rules.cpus_of(resources),
                memory_gib=rules.memory_of(resources) / rules.GIB,
            ),
            environment=environment,
            task_count=overrides.task_count or job.template.task_count or 1,
            parallelism=job.template.parallelism,
            max_retries=template.max_retries if "max_retries" in template else MAX_RETRIES,
            timeout_s=timeout.total_seconds() if timeout else TASK_TIMEOUT_S,
        )

    async def _get_execution(self, request: Any) -> Any:
        return self._running(request.name).message

    async def _list_executions(self, request: Any) -> Any:
        prefix = f"{request.parent}/executions/"
        rows = [one.message for name, one in self.running.items() if name.startswith(prefix)]
        page, token = paged(list(reversed(rows)), request)
        return run_v2.ListExecutionsResponse(executions=page, next_page_token=token)

    async def _cancel(self, request: Any) -> Any:
        running = self._running(request.name)
        check_etag(running.message, request.etag)
        if running.message.completion_time:
            raise Refused(Code.FAILED_PRECONDITION, f"Execution '{request.name}' has completed.")
        running.cancel()

        async def ended() -> Any:
            while not running.message.completion_time:
                await asyncio.sleep(0.01)
            return running.message

        return await self._operations.run(parent_of(request.name), lambda: running.message, ended)

    async def _delete_execution(self, request: Any) -> Any:
        running = self._running(request.name)

        async def remove() -> Any:
            running.cancel()
            self.running.pop(request.name, None)
            return running.message

        return await self._operations.run(parent_of(request.name), lambda: running.message, remove)

    async def _get_task(self, request: Any) -> Any:
        tasks = self._running(request.name.partition("/tasks/")[0]).tasks
        return found(request.name, {task.name: task for task in tasks})

    async def _list_tasks(self, request: Any) -> Any:
        page, token = paged(self._running(request.parent).tasks, request)
        return run_v2.ListTasksResponse(tasks=page, next_page_token=token)

    def _running(self, name: str) -> Running:
        running: Running = found(name, self.running)
        return running


def _execution(job: Any, plan: Plan) -> Any:
    """Return a new execution as the API shows it."""
    job_id = job.name.rpartition("/")[2]
    return run_v2.Execution(
        name=f"{job.name}/executions/{job_id}-{uuid.uuid4().hex[:5]}",
        uid=str(uuid.uuid4()),
        generation=1,
        create_time=datetime.now(UTC),
        labels=job.template.labels,
        job=job_id,
        task_count=plan.task_count,
        parallelism=plan.parallelism,
        template=job.template.template,
        reconciling=True,
        etag=new_etag(),
    )

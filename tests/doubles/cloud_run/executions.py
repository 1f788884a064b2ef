"""One execution of a job: its tasks as real processes, tried again, timed, cancelled, logged.

Sources (cloud.google.com/run/docs, in excerpts): "Container runtime contract" (variables of
jobs, exit codes, SIGTERM and 10 seconds), "Set task timeout" (600 s by default), "Set maximum
retries" (3 by default).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.cloud import run_v2

from tests.doubles.cloud_run.container import Container
from tests.doubles.cloud_run.limits import Limits
from tests.doubles.cloud_run.metering import Meter
from tests.doubles.cloud_run.revision import Revision

State = run_v2.Condition.State
Reason = run_v2.Condition.ExecutionReason
TASK_TIMEOUT_S = 600.0
COMMAND_NOT_FOUND = 127


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an execution runs: ``revision`` holds the content and the size of each task."""

    revision: Revision
    environment: Mapping[str, str]
    task_count: int
    parallelism: int
    max_retries: int
    timeout_s: float


class Running:
    """An execution; ``message`` and ``tasks`` are what the API shows of it, always up to date."""

    def __init__(
        self, message: Any, plan: Plan, *, folder: Path, limits: Limits, meters: list[Meter]
    ) -> None:
        self.message = message
        self.plan = plan
        self.meters = meters
        self.containers: list[Container] = []
        self.tasks: list[Any] = [self._task(index) for index in range(plan.task_count)]
        self._cancelled = asyncio.Event()
        self._folder = folder
        self._limits = limits
        self._slots = asyncio.Semaphore(plan.parallelism or plan.task_count)

    async def run(self) -> Any:
        """Run all tasks to their ends; return the message."""
        self.message.start_time = datetime.now(UTC)
        async with asyncio.TaskGroup() as group:
            for task in self.tasks:
                group.create_task(self._run_task(task))
        self._settle()
        return self.message

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask what runs to end, and start nothing more."""
        self._cancelled.set()

    def kill(self) -> None:
        """Kill what runs: the stand-in is about to end."""
        self._cancelled.set()
        for container in self.containers:
            container.kill()

    def output(self) -> str:
        """Return what its tasks printed so far, one attempt after the other."""
        return "".join(container.output() for container in self.containers)

    def _task(self, index: int) -> Any:
        name = self.message.name.rpartition("/")[2]
        return run_v2.Task(
            name=f"{self.message.name}/tasks/{name}-task{index}",
            job=self.message.job,
            execution=self.message.name,
            index=index,
            max_retries=self.plan.max_retries,
            create_time=datetime.now(UTC),
        )

    async def _run_task(self, task: Any) -> None:
        async with self._slots:
            for attempt in range(self.plan.max_retries + 1):
                if self.cancelled:
                    break
                if attempt:
                    self.message.retried_count += 1
                    task.retried = attempt
                task.start_time = datetime.now(UTC)
                self.message.running_count += 1
                code = await self._attempt(task.index, attempt)
                self.message.running_count -= 1
                task.last_attempt_result = run_v2.TaskAttemptResult(exit_code=code)
                if code == 0:
                    break
        self._end_task(task, done=task.last_attempt_result.exit_code == 0 and bool(task.start_time))

    def _end_task(self, task: Any, *, done: bool) -> None:
        task.completion_time = datetime.now(UTC)
        if done:
            self.message.succeeded_count += 1
        elif self.cancelled:
            self.message.cancelled_count += 1
        else:
            self.message.failed_count += 1
        state = State.CONDITION_SUCCEEDED if done else State.CONDITION_FAILED
        text = "" if done else self._why(task)
        task.conditions = [run_v2.Condition(type_="Completed", state=state, message=text)]

    async def _attempt(self, index: int, attempt: int) -> int:
        """Run a task's container once; return its exit code."""
        name = f"{self.message.name.rpartition('/')[2]}-{index}-{attempt}"
        variables = {
            **self.plan.environment,
            "CLOUD_RUN_TASK_INDEX": str(index),
            "CLOUD_RUN_TASK_ATTEMPT": str(attempt),
        }
        revision = self.plan.revision
        content = replace(revision.content, environment=variables, listens=False)
        container = Container(content, self._folder / "disks" / name, self._log(name))
        meter = Meter(
            clock=self._limits.clock,
            billing="instance",
            vcpus=revision.vcpus,
            memory_gib=revision.memory_gib,
        )
        self.meters.append(meter)
        self.containers.append(container)
        try:
            await asyncio.sleep(self._limits.cold_start_s)
            return await self._to_its_end(container)
        except OSError:
            return COMMAND_NOT_FOUND
        finally:
            meter.end()
            container.remove()

    async def _to_its_end(self, container: Container) -> int:
        """Run a container until it ends; tell it to when its time is over, or on a cancel."""
        await container.start()
        ended = asyncio.ensure_future(container.ended())
        told = asyncio.ensure_future(self._cancelled.wait())
        await asyncio.wait(
            {ended, told}, timeout=self.plan.timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        told.cancel()
        if not ended.done():
            container.terminate()
            await asyncio.wait({ended}, timeout=self._limits.grace_s)
            container.kill()
        return await ended

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _settle(self) -> None:
        """Say how the execution ended."""
        message = self.message
        message.completion_time = datetime.now(UTC)
        message.reconciling = False
        message.observed_generation = message.generation
        good = message.succeeded_count == message.task_count
        condition: Any = run_v2.Condition(
            type_="Completed",
            state=State.CONDITION_SUCCEEDED if good else State.CONDITION_FAILED,
            last_transition_time=datetime.now(UTC),
        )
        if self.cancelled and not good:
            condition.execution_reason = Reason.CANCELLED
            condition.message = "Execution was cancelled."
        elif not good:
            condition.execution_reason = Reason.NON_ZERO_EXIT_CODE
            failed = next(task for task in self.tasks if task.conditions[0].message)
            condition.message = failed.conditions[0].message
        message.conditions = [condition]

    def _why(self, task: Any) -> str:
        name = task.name.rpartition("/")[2]
        return f"Task {name} failed with message: The container exited with an error."

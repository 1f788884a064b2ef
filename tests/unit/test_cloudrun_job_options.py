"""``mode: job``: what it takes and refuses, what it costs, and which outpost it is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from outpost.backends.cloudrun import CloudRunOutpost
from outpost.backends.cloudrun_costs import costs, price
from outpost.backends.cloudrun_jobs import CloudRunJobOutpost
from outpost.backends.cloudrun_modes import cloud_run
from outpost.backends.cloudrun_options import OF_JOBS, OF_SERVICES, CloudRunOptions
from outpost.config.kinds import KindRegistry
from outpost.errors import Rejected
from outpost.model import Handle
from outpost.ports import Setup
from tests.unit.cloudrun_values import PROJECT, REGION, SERVICE, some_options

SETUP = Setup(name="burst", federation_id="f-1", data_folder="/nowhere", environment={})


def job(**more: Any) -> CloudRunOptions:
    return some_options(**{"mode": "job", "bucket": "outpost-work", **more})


def test_a_bucket_is_all_that_it_takes_more() -> None:
    options = job()
    assert (options.bucket, options.task_timeout_s) == ("outpost-work", 24 * 3600)
    assert job(task_timeout="168h").task_timeout_s == 168 * 3600
    assert some_options().mode == "service"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bucket": None}, "mode: job takes a bucket"),
        ({"bucket": "Outpost"}, "bucket"),
        ({"task_timeout": "169h"}, "up to 168h"),
        ({"task_timeout": "30s"}, "at least 1m"),
        ({"token": "env://TOKEN"}, "token means nothing with mode: job"),
        ({"keep_alive": "5m"}, "keep_alive means nothing with mode: job"),
        ({"concurrency": 2}, "concurrency means nothing with mode: job"),
        ({"service": "a" * 46}, "at most 45 characters"),
        ({"env": {"OUTPOST_JOB_BUCKET": "other"}}, "are set by us"),
        ({"mode": "task"}, "mode"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        job(**fields)


@pytest.mark.parametrize("fields", [{"bucket": "outpost-work"}, {"task_timeout": "2h"}])
def test_a_service_takes_nothing_of_a_job(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="means nothing with mode: service"):
        some_options(**fields)


def test_each_field_that_is_of_one_mode_is_a_field() -> None:
    assert {*OF_SERVICES, *OF_JOBS} <= set(CloudRunOptions.model_fields)


def test_a_job_costs_what_instances_cost_and_a_minute_at_least() -> None:
    found = price(job())
    assert found.microusd_per_hour == price(some_options(billing="instance")).microusd_per_hour
    assert found.microusd_per_hour == 3600 * (2 * 18 + 4 * 2)
    assert found.source.endswith("us-central1; a run is billed for a minute at least")
    (line,) = costs(job())
    assert line.startswith("a worker costs $0.1584 an hour")
    assert price(job(region="europe-west3")).microusd_per_hour is None


def test_the_mode_says_which_outpost_it_is() -> None:
    held, free = cloud_run(SETUP, some_options()), cloud_run(SETUP, job())
    assert isinstance(held, CloudRunOutpost)
    assert isinstance(free, CloudRunJobOutpost)
    assert (held.kind, free.kind) == ("cloudrun", "cloudrun")
    assert held.capabilities.held
    assert not free.capabilities.held
    assert cloud_run.Options is CloudRunOptions


def test_a_service_takes_no_run_of_a_job_for_one_of_its_workers() -> None:
    handle = Handle(outpost="burst", kind="cloudrun", worker_id="w-1", data={"bucket": "b"})
    with pytest.raises(Rejected, match="worker w-1 is a run of a job") as caught:
        cloud_run(SETUP, some_options()).worker(handle)
    assert caught.value.hint == "set it up with mode: job until that worker has ended"


def test_a_kind_can_be_made_of_it() -> None:
    kinds = KindRegistry({"cloudrun": "outpost.backends.cloudrun_modes:cloud_run"})
    given = {"project": PROJECT, "region": REGION, "service": SERVICE}
    options = kinds.parse_options("cloudrun", {**given, "mode": "job", "bucket": "outpost-work"})
    backend: Any = kinds.backend("cloudrun")
    assert isinstance(backend(SETUP, options), CloudRunJobOutpost)

"""``examples/cloudrun/job.tf`` and what its guide says of jobs: what ``outpost deploy`` makes."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from outpost import config
from outpost.backends.cloudrun_costs import price
from outpost.backends.cloudrun_job import JobWish, applied
from outpost.cli.commands import app
from outpost.runner import job as runner_job
from outpost.transports import cloud_job, cloud_job_worker
from tests.unit.cloudrun_values import FEDERATION, IMAGE, some_options
from tests.unit.terraform_files import loads

ROOT = Path(__file__).parents[2]
TERRAFORM = (ROOT / "examples" / "cloudrun" / "job.tf").read_text()
PAGE = (ROOT / "docs" / "how-to" / "cloud-run.md").read_text()
(SECTION,) = re.findall(r"^## Work of many hours\n(.*?)^## ", PAGE, re.M | re.S)


def resource(kind: str) -> Any:
    """Return the only resource of a kind."""
    found = loads(TERRAFORM)["resource"]
    (body,) = [only(bodies) for block in found for name, bodies in block.items() if name == kind]
    return body


def only(bodies: dict[str, Any]) -> Any:
    (body,) = bodies.values()
    return body


def test_the_job_is_the_one_that_deploy_makes() -> None:
    options = some_options(mode="job", bucket="my-project-outpost-worker")
    wish = JobWish(options=options, federation_id=FEDERATION, max_workers=20, image=IMAGE)
    made = applied(None, wish)
    (template,) = resource("google_cloud_run_v2_job")["template"]
    (task,) = template["template"]
    (container,) = task["containers"]
    wanted = made.template.template
    assert (template["task_count"], template["parallelism"]) == (1, 1)
    assert (made.template.task_count, made.template.parallelism) == (1, 1)
    assert task["max_retries"] == wanted.max_retries == 0
    assert task["execution_environment"] == wanted.execution_environment.name
    assert container["args"] == list(wanted.containers[0].args)
    assert "default     = 24\n" in TERRAFORM
    assert wanted.timeout.total_seconds() == 24 * 3600
    plain = {it.name: it.value for it in wanted.containers[0].env}
    assert plain.keys() == {"OUTPOST_JOB_BUCKET", "OUTPOST_JOB_GRACE"}
    assert f'OUTPOST_JOB_GRACE  = "{plain["OUTPOST_JOB_GRACE"]}"' in TERRAFORM
    assert "OUTPOST_JOB_BUCKET = google_storage_bucket.work.name" in TERRAFORM


def test_nothing_deleted_stays_in_the_bucket_and_nobody_else_gets_in() -> None:
    bucket = resource("google_storage_bucket")
    assert bucket["soft_delete_policy"] == [{"retention_duration_seconds": 0}]
    assert str(bucket["versioning"][0]["enabled"]).lower() == "false"
    assert str(bucket["uniform_bucket_level_access"]).lower() == "true"
    assert bucket["public_access_prevention"] == "enforced"
    roles = set(re.findall(r'role += "([^"]+)"', TERRAFORM))
    assert roles == {"roles/storage.objectUser", "roles/run.developer"}
    assert all(role in SECTION for role in roles)


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```$", SECTION, re.M | re.S))
def test_the_configuration_of_the_page_loads(block: str) -> None:
    (outpost,) = config.parse(block.encode()).outposts
    assert (outpost.type, outpost.options["mode"]) == ("cloudrun", "job")


def commands() -> list[str]:
    lines = re.sub(r"\\\n\s*", "", SECTION).splitlines()
    shown = [line.removeprefix("$ ") for line in lines if line.startswith("$ outpost ")]
    return [*shown, add_command()]


def add_command() -> str:
    (text,) = re.findall(r'output "add_job_command" .*?\[(.*?)^  \]\)', TERRAFORM, re.M | re.S)
    command = " ".join(re.findall(r'"(.*)",', text)).replace("${var.memory}", "4Gi")
    command = command.replace("${var.region}", "us-central1").replace("${var.task_hours}", "24")
    return re.sub(r"\$\{[^}]*\}", "1", command)


@pytest.mark.parametrize("line", commands())
def test_each_command_is_one(line: str) -> None:
    words = shlex.split(line)[1:]
    command: Any = get_command(app)
    context = command.make_context("outpost", list(words), resilient_parsing=True)
    name, found, rest = command.resolve_command(context, list(words))
    if name == "add":
        context = found.make_context(name, rest, parent=context, resilient_parsing=True)
        name, found, rest = found.resolve_command(context, rest)
    found.make_context(name, rest, parent=context)


def test_the_page_s_figures_are_those_that_hold() -> None:
    hourly = price(some_options(mode="job", bucket="b-1")).microusd_per_hour
    assert hourly is not None
    assert f"${hourly / 1e6:.4f} an hour" in SECTION
    assert runner_job.COPY_EVERY_S == runner_job.LOOK_EVERY_S == 1.0
    assert "once a second" in SECTION
    assert cloud_job_worker.PAUSE_MOST_S == 5.0
    assert "within 6 seconds" in SECTION
    assert "what it has done since its last checkpoint" in inspect.getsource(cloud_job_worker)
    assert cloud_job.START_S == 300

"""What ``type: cloudrun`` takes, and what it refuses without asking anybody."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from outpost.backends.cloudrun_options import MEMORY_GIB, CloudRunOptions
from outpost.cli.kind_options import flags
from outpost.secrets import SecretRef
from tests.unit.cloudrun_values import REGION, some_options


def test_three_fields_are_enough() -> None:
    options = some_options()
    assert (options.regions, options.cpu, options.memory_gib) == ((REGION,), 2, 4)
    assert (options.billing, options.min_instances, options.concurrency) == ("request", 0, 1)
    assert (options.keep_alive_s, options.request_timeout_s) == (0, 3600)
    assert options.token is None


def test_durations_regions_and_references_are_read() -> None:
    options = some_options(
        region=["europe-west1", REGION],
        keep_alive="5m",
        request_timeout="30m",
        token="env://TOKEN",
        memory="512Mi",
        secrets={"GH_TOKEN": "gh:latest", "/secrets/key": "projects/other/secrets/key:3"},
    )
    assert options.regions == ("europe-west1", REGION)
    assert (options.keep_alive_s, options.request_timeout_s) == (300, 1800)
    assert options.token == SecretRef("env://TOKEN")
    assert options.memory_gib == 0.5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"project": "Example"}, "project"),
        ({"region": []}, "region"),
        ({"region": "everywhere"}, "region"),
        ({"region": [REGION, REGION]}, "a region stands there twice"),
        ({"service": "-worker"}, "service"),
        ({"cpu": 3}, "cpu"),
        ({"memory": "4GB"}, "memory"),
        ({"memory": "9Gi"}, "with cpu: 2 memory is between 0.5Gi and 8Gi, not 9Gi"),
        ({"cpu": 8}, None),
        ({"cpu": 8, "memory": "2Gi"}, "with cpu: 8 memory is between 4Gi and 32Gi"),
        ({"billing": "yearly"}, "billing"),
        ({"keep_alive": 300}, "write a duration with its unit"),
        ({"request_timeout": "61m"}, "up to 60m"),
        ({"request_timeout": "30s"}, "at least 1m"),
        ({"concurrency": 0}, "concurrency"),
        ({"token": "hunter2hunter2"}, "a secret is never written here itself"),
        ({"secrets": {"KEY": "hunter2 hunter2"}}, "secrets"),
        ({"secrets": {"KEY": "key"}}, "secrets"),
        ({"secrets": {"A-B": "key:1"}}, "is neither a variable nor the path of a file"),
        ({"secrets": {"/key": "key:1"}}, "is neither a variable nor the path of a file"),
        ({"secrets": {"/s/a": "a:1", "/s/b": "b:1"}}, "each file needs a folder of its own"),
        ({"secrets": {"A": "key:1"}, "env": {"A": "b"}}, "A stands both in env and in secrets"),
        ({"env": {"OUTPOST_SERVE_LEASE": "1"}}, "are set by us"),
        ({"env": {"A B": "1"}}, "is no name of a variable"),
        ({"mode": "job"}, "mode"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], words: str | None) -> None:
    if words is None:
        some_options(**fields)
        return
    with pytest.raises(ValidationError, match=words) as caught:
        some_options(**fields)
    said = [str(error["msg"]) for error in caught.value.errors()]
    assert not [text for text in said if "hunter2" in text]


def test_the_table_of_memory_fits_the_cpus() -> None:
    choices = CloudRunOptions.model_json_schema()["properties"]["cpu"]["enum"]
    assert choices == list(MEMORY_GIB)
    for cpu, (least, most) in MEMORY_GIB.items():
        for memory in (least, most):
            assert some_options(cpu=cpu, memory=f"{memory:g}Gi").memory_gib == memory


def test_each_option_is_a_flag_and_three_are_asked_for() -> None:
    found = {flag.option: flag for flag in flags(CloudRunOptions.model_json_schema())}
    assert [name for name, flag in found.items() if flag.required] == [
        "--project",
        "--region",
        "--service",
    ]
    both = ["us-central1", "us-east1"]
    assert found["--region"].value(both[:1]) == "us-central1"
    assert found["--region"].value(both) == both
    assert found["--region"].value(["[us-central1, us-east1]"]) == both
    assert found["--keep-alive"].value("5m") == "5m"
    assert all(flag.help for flag in found.values())

"""What a worker's container is given, what the options of its kind take, and how it is told of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from outpost.backends.docker_container import GIB, Owner, how_it_is, run_argv
from outpost.backends.docker_options import DockerOptions, memory_bytes
from outpost.config.kinds import KindRegistry
from outpost.transports.docker_engine import NEVER, Seen

OWNER = Owner(federation_id="f1", outpost="box")
SEEN = Seen(
    id="c3e1",
    labels={"outpost.federation": "f1", "outpost.outpost": "box", "outpost.worker": "w-1"},
    status="running",
    exit_code=0,
    out_of_memory=False,
    error="",
    finished_at=NEVER,
    network="bridge",
    memory_bytes=4 * GIB,
    published={},
)


def options(**given: Any) -> DockerOptions:
    """Return options as a configuration gives them."""
    kinds = KindRegistry({"docker": "outpost.backends.docker:DockerOutpost"})
    parsed = kinds.parse_options("docker", given)
    assert isinstance(parsed, DockerOptions)
    return parsed


def given(argv: list[str], flag: str) -> list[str]:
    """Return the values of a flag."""
    return [argv[at + 1] for at, it in enumerate(argv) if it == flag]


def test_a_container_is_confined_whatever_the_options_say() -> None:
    argv = run_argv(OWNER, "w-1", options())
    assert argv[0] == "run"
    assert argv[-1] == "outpost-worker:full"
    assert given(argv, "--name") == ["w-1"]
    assert given(argv, "--cap-drop") == ["ALL"]
    assert given(argv, "--security-opt") == ["no-new-privileges"]
    assert given(argv, "--restart") == ["no"]
    assert given(argv, "--pull") == ["never"]
    assert "max-size=4m" in given(argv, "--log-opt")
    assert given(argv, "--label") == [
        *("outpost.federation=f1", "outpost.outpost=box", "outpost.worker=w-1")
    ]


def test_the_token_is_named_and_not_told() -> None:
    assert "OUTPOST_SERVE_TOKEN" in given(run_argv(OWNER, "w-1", options()), "--env")


def test_ports_are_published_where_only_this_machine_gets() -> None:
    argv = run_argv(OWNER, "w-1", options())
    assert given(argv, "--publish") == ["127.0.0.1::8080"]
    assert "OUTPOST_SERVE_LISTEN=0.0.0.0:8080" in given(argv, "--env")
    there = run_argv(OWNER, "w-1", options(address="fd00::7", network="mine"))
    assert given(there, "--publish") == ["[fd00::7]::8080"]
    assert given(there, "--network") == ["mine"]


def test_on_the_network_of_the_host_the_server_takes_any_port() -> None:
    argv = run_argv(OWNER, "w-1", options(network="host"))
    assert given(argv, "--publish") == []
    assert "OUTPOST_SERVE_LISTEN=127.0.0.1:0" in given(argv, "--env")


def test_limits_leave_no_swap() -> None:
    argv = run_argv(OWNER, "w-1", options(memory="1.5g", cpus=2, pids_limit=512))
    assert given(argv, "--memory") == given(argv, "--memory-swap") == ["1.5g"]
    assert given(argv, "--cpus") == ["2"]
    assert given(argv, "--pids-limit") == ["512"]
    unlimited = run_argv(OWNER, "w-1", options())
    assert not given(unlimited, "--memory") + given(unlimited, "--cpus")


def test_files_are_volumes_of_the_federation_and_mounts_of_the_user() -> None:
    argv = run_argv(OWNER, "w-1", options(mounts=["/srv/data:/data:ro", "models:/models"]))
    assert given(argv, "--mount") == [
        "type=volume,dst=/work",
        "type=volume,src=outpost-f1-cache,dst=/cache,volume-label=outpost.federation=f1",
        "type=bind,src=/srv/data,dst=/data,readonly",
        "type=volume,src=models,dst=/models",
    ]
    assert "--read-only" not in argv
    locked = run_argv(OWNER, "w-1", options(read_only=True, cache=False))
    assert "--read-only" in locked
    assert given(locked, "--mount") == ["type=volume,dst=/work"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "unix:///run/docker.sock", "context": "vm"},
        {"host": "/run/docker.sock"},
        {"context": "--config"},
        {"image": "--privileged"},
        {"image": ""},
        {"memory": "4"},
        {"memory": "100m"},
        {"cpus": 0},
        {"network": "none"},
        {"network": "container:other"},
        {"address": "0.0.0.0"},
        {"address": "example.org"},
        {"mounts": ["data"]},
        {"mounts": ["data:/work"]},
        {"mounts": ["data:/"]},
        {"mounts": ["/a,readonly:/data"]},
        {"mounts": ["../data:/data"]},
        {"mounts": ["data:/data:z"]},
        {"env": {"OUTPOST_SERVE_TOKEN": "x"}},
        {"env": {"A=B": "x"}},
        {"idle_exit": "0s"},
        {"idle_exit": 60},
        {"extra_hosts": ["--privileged"]},
        {"privileged": True},
    ],
    ids=str,
)
def test_options_that_would_do_harm_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


def test_sizes_are_read_as_docker_reads_them() -> None:
    assert memory_bytes("4g") == 4 * GIB
    assert memory_bytes("512M") == GIB / 2
    assert memory_bytes("1.5g") == 3 * GIB / 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"status": "exited"}, ""),
        ({"status": "exited", "exit_code": 2}, "it exited with 2"),
        ({"status": "exited", "exit_code": 137}, "it was killed"),
        (
            {"status": "exited", "exit_code": 137, "out_of_memory": True},
            "it ran out of memory (limit 4g)",
        ),
        ({"out_of_memory": True}, "a process in it ran out of memory (limit 4g)"),
        ({"status": "created", "error": "no room"}, "it was not started: no room"),
        ({"status": "created"}, "it was not started yet"),
        ({"status": "paused"}, "it is paused: docker unpause"),
        ({"status": "dead"}, "it is being removed"),
    ],
    ids=str,
)
def test_a_container_is_told_of(change: dict[str, Any], told: str) -> None:
    assert how_it_is(replace(SEEN, **change)) == told


def test_only_what_carries_all_our_labels_is_ours() -> None:
    assert OWNER.owns(SEEN)
    for label in SEEN.labels:
        others = {**SEEN.labels, label: "another"}
        unlabelled = {key: value for key, value in SEEN.labels.items() if key != label}
        assert OWNER.owns(replace(SEEN, labels=others)) is (label == "outpost.worker")
        assert not OWNER.owns(replace(SEEN, labels=unlabelled))

"""What Fly's complaints mean, as users have reported them, and how a machine is told of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outpost.transports.fly_faults import Trouble, fault_of
from outpost.transports.fly_seen import NEVER, how_it_is, read_machine


@pytest.mark.parametrize(
    ("status", "text", "trouble"),
    [
        (
            409,
            "already_exists: unique machine name violation, machine ID 148e already exists",
            Trouble.TAKEN,
        ),
        (409, "aborted: could not reserve resource for machine: insufficient CPUs", Trouble.FULL),
        (409, "machine ID 148e lease currently held by sam@example.org", Trouble.HELD),
        (409, "something else", Trouble.STATE),
        (412, "insufficient resources available to fulfill request", Trouble.FULL),
        (412, "insufficient resources to create new machine with existing volume", Trouble.FULL),
        (
            412,
            "failed_precondition: unable to start machine from current state: 'created'",
            Trouble.STATE,
        ),
        (412, "failed_precondition: machine still active, refusing to start", Trouble.STATE),
        (403, "the organization is over the allowed quota", Trouble.QUOTA),
        (403, "forbidden", Trouble.REFUSED),
        (401, "token validation error", Trouble.REFUSED),
        (404, "app not found", Trouble.NO_APP),
        (404, "machine not found: 148e", Trouble.ABSENT),
        (408, "deadline_exceeded: request timed out", Trouble.LOST),
        (422, "failed to get manifest registry.fly.io/a:b: unknown", Trouble.NO_IMAGE),
        (422, "invalid config.guest", Trouble.INVALID),
        (429, "rate limit exceeded, quota of requests", Trouble.RATE),
        (500, "internal server error", Trouble.LOST),
        (503, "could not find capacity", Trouble.FULL),
        (418, "a teapot", Trouble.FAILED),
    ],
)
def test_status_and_text_decide_together(status: int, text: str, trouble: Trouble) -> None:
    fault = fault_of(status, json.dumps({"error": text}).encode(), asked="do it")
    assert fault.trouble is trouble
    assert text in fault.message


def test_a_question_that_was_not_answered_has_changed_nothing() -> None:
    assert fault_of(502, b"<html>", asked="show it", changes=False).trouble is Trouble.FAILED
    assert fault_of(408, b"{}", asked="wait for it", changes=False).trouble is Trouble.LATE
    assert "it answered 502" in fault_of(502, b"<html>", asked="show it").message


@pytest.mark.parametrize("body", [b"<html>", b"404 page not found", b"", b"{}"])
def test_that_a_machine_is_gone_is_believed_of_fly_alone(body: bytes) -> None:
    fault = fault_of(404, body, asked="show it", changes=False)
    assert fault.trouble is Trouble.FAILED


def test_what_else_a_complaint_says_is_read() -> None:
    body = b'{"error":"already_exists: machine ID 3d8d74 already exists with name"}'
    assert fault_of(409, body, asked="make it").machine_id == "3d8d74"
    assert fault_of(429, b"", asked="make it", retry_after="7").retry_after_s == 7
    assert fault_of(429, b"", asked="make it", retry_after="soon").retry_after_s is None


def machine(**more: Any) -> dict[str, Any]:
    """Return a machine as Fly tells of it."""
    return {
        "id": "148e",
        "name": "w-1",
        "state": "started",
        "region": "iad",
        "created_at": "2026-11-21T10:00:00Z",
        "updated_at": "2026-11-21T10:00:05Z",
        "config": {"guest": {"memory_mb": 2048}, "metadata": {"outpost_worker": "w-1"}},
        **more,
    }


def ended(**event: Any) -> list[dict[str, Any]]:
    """Return events with an end among them, in no order."""
    return [
        {"type": "exit", "timestamp": 5, "request": {"exit_event": {"exit_code": 1}}},
        {"type": "exit", "timestamp": 9, "request": {"exit_event": event}},
        {"type": "start", "timestamp": 2},
    ]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, ""),
        ({"host_status": "unreachable"}, "Fly cannot reach its host"),
        ({"host_status": "unknown"}, ""),
        ({"state": "suspended"}, "it is suspended: fly machine start 148e"),
        ({"state": "starting"}, "it is starting"),
        ({"state": "destroying"}, "it is destroying"),
        ({"state": "stopped"}, ""),
        ({"state": "failed"}, "it failed"),
        ({"state": "launch_failed"}, "it launch failed"),
        (
            {"state": "stopped", "events": ended(exit_code=137, oom_killed=True)},
            "it ran out of memory (limit 2g)",
        ),
        ({"state": "stopped", "events": ended(exit_code=2)}, "it exited with 2"),
        ({"state": "stopped", "events": ended(exit_code=0)}, ""),
        (
            {"state": "stopped", "events": ended(exit_code=0, requested_stop=True)},
            "it was stopped",
        ),
    ],
)
def test_how_a_machine_is(said: dict[str, Any], words: str) -> None:
    assert how_it_is(read_machine(machine(**said), 0.0)) == words


def test_a_machine_whose_host_does_not_answer_is_still_whose_it_was() -> None:
    said = machine(host_status="unreachable")
    said["incomplete_config"] = said.pop("config")
    seen = read_machine(said, 0.0)
    assert (seen.worker_id, seen.reachable) == ("w-1", False)


def test_since_when_a_machine_is_its_workers() -> None:
    seen = read_machine(machine(), 0.0)
    assert seen.since == seen.created_at
    claimed = machine()
    claimed["config"]["metadata"]["outpost_since"] = "1800000000"
    assert read_machine(claimed, 0.0).since.timestamp() == 1_800_000_000
    assert read_machine(machine(created_at="yesterday"), 0.0).created_at == NEVER


@pytest.mark.parametrize("said", [None, [], "machine", {}, {"id": "1"}])
def test_what_is_no_machine_is_said_to_be_none(said: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        read_machine(said, 0.0)

"""The stand-in for Fly fails in the ways that are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.doubles.fly import FlyCloud, Limits
from tests.doubles.fly.trying import ROOT, SLEEPER, Asker, config, get, quick, server
from tests.world import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture
def limits() -> Limits:
    return quick()


@pytest.fixture
def fly(tmp_path: Path, limits: Limits) -> Iterator[FlyCloud]:
    with FlyCloud(tmp_path / "fly", limits=limits, environment={"PYTHONPATH": str(ROOT)}) as fly:
        yield fly


@pytest.fixture
def ask(fly: FlyCloud) -> Iterator[Asker]:
    with Asker(fly) as ask:
        yield ask


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ("capacity", 412, "insufficient resources"),
        ("reserve", 409, "aborted: could not reserve resource"),
        ("quota", 403, "over the allowed quota"),
        ("deadline", 408, "deadline_exceeded"),
        (429, 429, "rate limit exceeded"),
        (503, 503, "unavailable"),
    ],
)
def test_refusals_come_as_they_were_asked_for(
    fly: FlyCloud, ask: Asker, fault: int | str, status: int, text: str
) -> None:
    fly.faults.next("create", fault)
    said = ask("POST", "/machines", {"name": "one", "config": config(*SLEEPER)})
    assert said.status == status
    assert text in said.error
    assert fly.machines() == []
    assert ("retry-after" in said.headers) == (status == 429)
    ask.make("one", config(*SLEEPER))


def test_regions_and_quotas_are_full(limits: Limits, fly: FlyCloud, ask: Asker) -> None:
    fly.faults.no_capacity.add("fra")
    full = ask("POST", "/machines", {"region": "fra", "config": config(*SLEEPER)})
    assert (full.status, full.body["status"]) == (412, "insufficient_capacity")
    machine_id = ask.make("one", config(*SLEEPER), skip_launch=True)
    ask.reach(machine_id, "stopped")
    fly.faults.no_capacity.add("iad")
    assert ask.act(machine_id, "start").error.startswith("aborted: could not reserve resource")
    limits.max_machines = 1
    assert ask("POST", "/machines", {"config": config(*SLEEPER)}).status == 403
    assert ask("POST", "/machines", {"region": "x", "config": config(*SLEEPER)}).status == 422
    codes = httpx2.get(
        f"{fly.api_url}/v1/platform/regions", headers={"authorization": fly.token}
    ).json()
    assert "fra" in {it["code"] for it in codes["regions"]}


def test_an_answer_may_be_lost_after_the_machine_is_made(fly: FlyCloud, ask: Asker) -> None:
    fly.faults.next("create", "cut", "lost", "after 503")
    for there in (0, 1):
        with pytest.raises(httpx2.RemoteProtocolError):
            ask("POST", "/machines", {"name": "one", "config": config(*SLEEPER)})
        assert len(fly.machines()) == there
    assert [it[2] for it in fly.requests()] == [0, 0]
    assert ask("POST", "/machines", {"name": "two", "config": config(*SLEEPER)}).status == 503
    assert {it.name for it in fly.machines()} == {"one", "two"}
    assert ask("POST", "/machines", {"name": "one", "config": config(*SLEEPER)}).status == 409


def test_deletes_fail_for_a_while(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.started("one", config(*SLEEPER))
    fly.faults.storm("delete", 500, 60)
    assert ask("DELETE", f"/machines/{machine_id}", force="true").status == 500
    assert ask.show(machine_id)["state"] == "started"
    fly.faults.storm("delete", 500, 0)
    ask.destroy(machine_id)


def test_storms_pass(fly: FlyCloud, ask: Asker) -> None:
    fly.faults.storm("*", 503, 60)
    fly.faults.storm("get", 500, 60)
    machine = f"/machines/{'0' * 14}"
    assert (ask("GET", "/machines").status, ask("GET", machine).status) == (503, 500)
    fly.faults.storm("*", 503, 0)
    fly.faults.storm("get", 500, 0)
    assert ask("GET", "/machines").status == 200


def test_a_machine_hangs_on_in_a_state(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.started("one", config(*SLEEPER))
    fly.faults.stuck.update(("stopping", "destroying"))
    ask.act(machine_id, "stop", {"timeout": "100ms"})
    assert ask("GET", f"/machines/{machine_id}/wait", state="stopped", timeout=1).status == 408
    assert ask("DELETE", f"/machines/{machine_id}").status == 412
    assert ask("DELETE", f"/machines/{machine_id}", force="true").status == 200
    assert ask.show(machine_id)["state"] == "destroying"
    assert ask("POST", "/machines", {"name": "one", "config": config(*SLEEPER)}).status == 409
    fly.faults.stuck.clear()
    ask.reach(machine_id, "destroyed")


def test_lists_lag_behind(fly: FlyCloud, ask: Asker) -> None:
    fly.faults.list_lag_s = 0.6
    machine_id = ask.started("one", config(*SLEEPER))
    assert ask("GET", "/machines").body == []
    assert ask.show(machine_id)["state"] == "started"

    def listed() -> list[Any]:
        rows: list[Any] = ask("GET", "/machines").body
        return rows

    until(lambda: [it["state"] for it in listed()] == ["started"], "the list knows it")
    ask.destroy(machine_id)
    assert len(listed()) == 1
    until(lambda: listed() == [], "the list knows that it is gone")


def test_a_machine_vanishes(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.started("one", config(*SLEEPER))
    pids = fly.pids(machine_id)
    fly.vanish(machine_id)
    assert ask("GET", f"/machines/{machine_id}").status == 404
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_host_that_does_not_answer(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.make("one", server(metadata={"a": "1"}))
    assert get(fly, machine_id).status_code == 200
    fly.faults.unreachable.add(machine_id)
    shown = ask.show(machine_id)
    assert (shown["host_status"], shown["incomplete_config"]["metadata"]) == (
        "unreachable",
        {"a": "1"},
    )
    assert "config" not in shown
    assert ask.act(machine_id, "stop").status == 503
    assert ask("POST", f"/machines/{machine_id}/metadata/a", {"value": "2"}).status == 503
    assert get(fly, machine_id).status_code == 502
    fly.faults.unreachable.clear()
    assert ask.show(machine_id)["host_status"] == "ok"


def test_clocks_differ(fly: FlyCloud, ask: Asker) -> None:
    fly.faults.clock_skew_s = -3600
    said = ask("POST", "/machines", {"config": config(*SLEEPER)})
    assert abs(said.body["events"][0]["timestamp"] / 1000 + 3600 - time.time()) < 5

"""The proxy of the stand-in for Fly leads to machines, which do real work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from pyqwest import HTTPVersion, SyncClient, SyncHTTPTransport

from outpost.runner.serve.options import PREFIX
from tests.doubles.fly import FlyCloud, Limits
from tests.doubles.fly.proxy import FORCED
from tests.doubles.fly.trying import (
    ROOT,
    SLEEPER,
    Asker,
    config,
    ended,
    get,
    quick,
    server,
    service,
    work,
)
from tests.serve_world import serve_world
from tests.world import Remote, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

TOKEN = "a-token-of-the-tests"


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


def test_the_proxy_leads_to_the_machine_that_is_named(fly: FlyCloud, ask: Asker) -> None:
    first, second = (ask.make(name, server()) for name in ("one", "two"))
    for machine_id in (first, second, first):
        about = get(fly, machine_id).json()
        assert about["environment"]["FLY_MACHINE_ID"] == machine_id
    assert get(fly).status_code == 200
    assert get(fly, "0" * 14).status_code == 503
    ask("POST", f"/machines/{first}/cordon")
    assert get(fly, first).status_code == 503
    ask("POST", f"/machines/{first}/uncordon")
    assert get(fly, first).status_code == 200
    hidden = ask.started("hidden", config(*SLEEPER))
    assert get(fly, hidden).status_code == 503


@pytest.mark.parametrize("version", [HTTPVersion.HTTP1, HTTPVersion.HTTP2])
@pytest.mark.parametrize("http2", [True, False])
def test_the_proxy_speaks_both_versions_on_both_sides(
    fly: FlyCloud, ask: Asker, version: HTTPVersion, http2: bool
) -> None:
    machine_id = ask.make("one", server([service(http2=http2)]))
    client = SyncClient(SyncHTTPTransport(http_version=version, enable_otel=False))
    for _ in range(2):
        answer = client.post(fly.url + "/echo", {FORCED: machine_id}, b"as it was")
        assert (answer.status, answer.text().split("\n")[1]) == (200, "as it was")


def test_a_machine_that_rests_is_not_reached(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.make("one", server())
    assert get(fly, machine_id).status_code == 200
    fly.kill(machine_id)
    ask.reach(machine_id, "stopped")
    assert get(fly, machine_id).status_code == 503
    ask.act(machine_id, "start")
    assert get(fly, machine_id).status_code == 200


def test_the_proxy_starts_and_stops_machines_unless_told_not_to(
    limits: Limits, fly: FlyCloud, ask: Asker
) -> None:
    woken = service(autostop="stop")
    del woken["autostart"]
    machine_id = ask.make("eager", server([woken]), skip_launch=True)
    quiet = ask.make("quiet", server())
    ask.reach(machine_id, "stopped")
    assert get(fly, machine_id).status_code == 200
    assert get(fly, quiet).status_code == 200
    limits.autostop_s = 0.2
    assert ended(ask.reach(machine_id, "stopped"))["requested_stop"] is True
    assert ask.show(quiet)["state"] == "started"


def test_what_a_machine_says_is_cut_off_with_it(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.make("one", server())
    with httpx2.stream(
        "POST", fly.url + "/hold", headers={FORCED: machine_id}, timeout=20
    ) as answer:
        pieces = answer.iter_raw()
        assert next(pieces)
        fly.kill(machine_id)
        with pytest.raises(httpx2.RemoteProtocolError):
            next(pieces)


def test_the_proxy_has_patience_but_not_for_ever(limits: Limits, fly: FlyCloud, ask: Asker) -> None:
    limits.patience_s = 0.2
    deaf = ask.started("one", config(*SLEEPER, services=[service()]))
    assert get(fly, deaf).status_code == 502
    limits.idle_s = 0.2
    talks = ask.make("two", server())
    until(lambda: get(fly, talks).status_code == 200, "it answers")
    with pytest.raises(httpx2.RemoteProtocolError):
        get(fly, talks, "/hold")


def test_a_machine_does_the_work_of_an_order(
    tmp_path: Path, isolated_environment: dict[str, str], remote: Remote
) -> None:
    env = {
        f"{PREFIX}TOKEN": TOKEN,
        f"{PREFIX}LISTEN": "0.0.0.0:8080",
        f"{PREFIX}IDLE_EXIT": "1",
    }
    with (
        FlyCloud(tmp_path / "fly", environment=isolated_environment) as fly,
        Asker(fly) as ask,
        serve_world(tmp_path / "orders", isolated_environment, remote) as orders,
    ):
        machine_id = ask.make("one", config(services=[service()], env=env))
        health = get(fly, machine_id, "/health", TOKEN).json()
        assert health["workers"] == 0
        call = orders.order("echo 'the words are right' > words.txt")
        headers = {FORCED: machine_id, "authorization": f"Bearer {TOKEN}"}
        client = SyncClient(SyncHTTPTransport(http_version=HTTPVersion.HTTP2, enable_otel=False))
        said = client.post(fly.url + "/work", headers, json.dumps(call).encode() + b"\n")
        assert said.status == 200
        branch = call["order"]["branch"]
        assert remote.show(branch, "words.txt") == "the words are right"
        folder = work(fly, machine_id) / "workers" / call["worker_id"]
        assert (folder / "events.jsonl").exists()
        shown = ask.reach(machine_id, "stopped")
        assert (ended(shown)["exit_code"], ended(shown)["requested_stop"]) == (0, False)
        assert fly.metered_s()[machine_id] > 0


def test_the_proxy_fails_on_demand(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.make("one", server())
    fly.faults.next("proxy", 502, "cut")
    fly.faults.storm("*", 500, 60)
    assert get(fly, machine_id).status_code == 502
    with pytest.raises(httpx2.RemoteProtocolError):
        get(fly, machine_id)
    assert get(fly, machine_id).status_code == 200

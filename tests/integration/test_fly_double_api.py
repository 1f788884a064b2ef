"""What may be asked of the stand-in for Fly: lists, metadata, leases, as the contract has it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.doubles.fly import FlyCloud, Limits, Rates
from tests.doubles.fly.call import Call
from tests.doubles.fly.contract import contract
from tests.doubles.fly.trying import ROOT, SLEEPER, Asker, config, ended, quick, work
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


def test_lists_are_of_what_is_asked_for(ask: Asker) -> None:
    mine = config(*SLEEPER, metadata={"owner": "me", "task": "t-1"})
    ask.started("one", mine, region="fra")
    ask.started("two", config(*SLEEPER, metadata={"owner": "me"}))
    ask.started("three", config(*SLEEPER))

    def names(**query: str) -> set[str]:
        return {it["name"] for it in ask("GET", "/machines", **query).body}

    assert names() == {"one", "two", "three"}
    assert names(**{"metadata.owner": "me"}) == {"one", "two"}
    assert names(**{"metadata.owner": "me", "metadata.task": "t-1"}) == {"one"}
    assert names(region="fra") == {"one"}
    assert names(state="stopped,suspended") == set()
    assert names(state="started") == {"one", "two", "three"}
    assert "config" not in ask("GET", "/machines", summary="true").body[0]


def test_metadata_are_written_by_key_or_together(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.make("one", config(*SLEEPER, metadata={"a": "1", "b": "2"}))
    path = f"/machines/{machine_id}/metadata"
    said = ask("POST", f"{path}/c", {"value": "3"})
    assert (said.status, said.body) == (204, None)
    assert ask("PATCH", path, {"metadata": {"a": "", "d": "4"}}).status == 204
    assert ask("DELETE", f"{path}/b").status == 204
    assert ask("GET", path).body == {"c": "3", "d": "4"}
    assert ask("GET", f"{path}/c").body == {"value": "3"}
    assert ask("GET", f"{path}/a").status == 404
    assert ask("PATCH", path, {"metadata": {}, "machine_version": "x" * 26}).status == 412
    assert fly.machines()[0].metadata == {"c": "3", "d": "4"}


def test_who_has_a_lease_alone_may_change_a_machine(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.started("one", config(*SLEEPER))
    path = f"/machines/{machine_id}"
    assert ask("GET", f"{path}/lease").status == 404
    taken = ask("POST", f"{path}/lease", {"ttl": 30, "description": "for a test"})
    nonce = taken.body["data"]["nonce"]
    assert (taken.status, taken.body["status"]) == (201, "success")
    assert ask("GET", f"{path}/lease").body["data"]["description"] == "for a test"
    again = ask("POST", f"{path}/lease", {"ttl": 30})
    assert again.status == 409
    assert f"machine ID {machine_id} lease currently held by" in again.error
    for method, rest in (("POST", "/stop"), ("POST", "/suspend"), ("DELETE", "?force=true")):
        refused = ask(method, path + rest)
        assert refused.status == 409
        assert "lease currently held by" in refused.error
    assert ask("POST", f"{path}/metadata/a", {"value": "1"}).status == 204
    renewed = ask("POST", f"{path}/lease", {"ttl": 60}, nonce=nonce).body["data"]
    assert renewed["nonce"] == nonce
    assert renewed["expires_at"] > taken.body["data"]["expires_at"]
    assert ask("POST", f"{path}/suspend", nonce=nonce).status == 200
    assert ask("DELETE", f"{path}/lease", nonce="wrong").status == 409
    assert ask("DELETE", f"{path}/lease", nonce=nonce).body["data"] == {"ok": True}
    ask.reach(machine_id, "suspended")
    assert ask("POST", f"{path}/start").status == 200


def test_a_lease_ends_by_itself(fly: FlyCloud, ask: Asker) -> None:
    said = ask("POST", "/machines", {"config": config(*SLEEPER), "lease_ttl": 40})
    machine_id = said.body["id"]
    assert said.body["nonce"]
    ask.reach(machine_id, "started")
    assert ask.act(machine_id, "stop").status == 409
    fly.faults.clock_skew_s = 41
    assert ask.act(machine_id, "stop").status == 200


def test_a_lease_goes_to_one_of_many(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.started("one", config(*SLEEPER))

    def take(_: int) -> int:
        with Asker(fly) as other:
            return other("POST", f"/machines/{machine_id}/lease", {"ttl": 30}).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(take, range(8))) == [201] + [409] * 7


def test_a_command_is_run_in_a_machine(limits: Limits, fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.started("one", config(*SLEEPER))
    limits.exec_s = 0.3
    said = ask.act(machine_id, "exec", {"command": ["sh", "-c", "cat; pwd; exit 4"], "stdin": "hi"})
    assert said.body["exit_code"] == 4
    assert said.body["stdout"] == f"hi{work(fly, machine_id)}\n"
    assert ask.act(machine_id, "exec", {"command": ["sleep", "30"]}).status == 408
    assert ask.act(machine_id, "exec", {"command": ["no-such-program"]}).status == 400
    assert ask.act(machine_id, "signal", {"signal": "SIGTERM"}).status == 200
    assert ended(ask.reach(machine_id, "stopped"))["guest_signal"] == 15


def test_no_one_is_let_in_without_the_token(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.make("one", config(*SLEEPER))
    with Asker(fly, token="FlyV1 other") as stranger:
        assert stranger("GET", "/machines").status == 401
    fly.faults.revoked = True
    assert ask("GET", f"/machines/{machine_id}").status == 401
    fly.faults.revoked = False
    assert ask("GET", f"/machines/{machine_id}").status == 200
    assert ask("GET", "/../elsewhere/machines").status == 404


def test_what_the_contract_does_not_have_is_refused_and_noted(tmp_path: Path) -> None:
    fly = FlyCloud(tmp_path / "fly").__enter__()
    with Asker(fly) as ask:
        typo = {"config": config(*SLEEPER), "skip_lunch": True}
        assert ask("POST", "/machines", typo).status == 400
        assert ask("POST", "/machines", {"config": config(), "name": 3}).status == 400
        assert ask("GET", "/machines", regoin="fra").status == 400
        assert fly.machines() == []
        assert ask("GET", f"/machines/{'0' * 14}/ps").status == 404
    found = "\n".join(fly.violations())
    for text in ("skip_lunch", "3 is not of type 'string'", "'regoin'", "does not play that"):
        assert text in found
    with pytest.raises(AssertionError, match="skip_lunch"):
        fly.__exit__(None, None, None)


def test_an_answer_that_the_contract_does_not_have_is_noted() -> None:
    path = "/v1/apps/workers/machines"
    call = Call(method="GET", path=path, query=(), headers={}, body=b"")
    judge = contract()
    assert judge.answer_faults(call, 200, b'[{"id": "a"}]') == []
    assert "3 is not of type" in judge.answer_faults(call, 200, b'[{"id": 3}]')[0]
    assert judge.answer_faults(call, 409, b'{"error": "held"}') == []
    assert judge.answer_faults(call, 409, b"{}") != []
    assert judge.answer_faults(call, 202, b"{}") != []


def test_rates_are_by_action_and_machine(limits: Limits, fly: FlyCloud, ask: Asker) -> None:
    limits.rates = Rates(per_s=1, burst=3, get_per_s=5, get_burst=10)
    fly.faults.retry_after_s = 1
    said = [ask("GET", "/machines") for _ in range(4)]
    assert [it.status for it in said] == [200, 200, 200, 429]
    assert said[3].error == "rate limit exceeded"
    assert said[3].headers["retry-after"] == "1"
    machine_id = ask.make("one", config(*SLEEPER))
    assert [ask("GET", f"/machines/{machine_id}").status for _ in range(11)].count(429) <= 1
    began = time.monotonic()
    until(lambda: ask("GET", "/machines").status == 200, "there is room again")
    assert time.monotonic() - began < 3

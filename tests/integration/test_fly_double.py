"""The stand-in for Fly Machines does what Fly's documents and users say: a machine's life.

Every machine is a real process: a command of a few words, or a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.doubles.cloud_run.trying import statuses
from tests.doubles.fly import FlyCloud, Limits
from tests.doubles.fly.trying import (
    ROOT,
    SLEEPER,
    WORKER,
    Asker,
    config,
    ended,
    get,
    quick,
    server,
    work,
    written,
)
from tests.world import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

TRAP = "trap 'exit 7' TERM; echo up > up; while :; do sleep 0.01; done"
DEAF = "trap '' TERM INT; echo up > up; while :; do sleep 0.01; done"


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


def test_a_machine_is_created_and_then_started(fly: FlyCloud, ask: Asker) -> None:
    fly.faults.stuck.add("created")
    said = ask("POST", "/machines", {"name": "one", "region": "fra", "config": config(*SLEEPER)})
    machine_id = said.body["id"]
    assert (said.status, said.body["state"], said.body["region"]) == (200, "created", "fra")
    assert [it["type"] for it in said.body["events"]] == ["launch"]
    refused = ask.act(machine_id, "start")
    assert refused.status == 412
    assert refused.error.endswith("unable to start machine from current state: 'created'")
    late = ask("GET", f"/machines/{machine_id}/wait", state="started", timeout=1)
    assert late.status == 408
    assert late.error.endswith("failed to reach desired state, started, currently created")
    fly.faults.stuck.clear()
    shown = ask.reach(machine_id, "started")
    assert [it["type"] for it in shown["events"]] == ["start", "launch"]
    assert len(fly.pids(machine_id)) == 1


def test_wait_takes_a_minute_at_most(ask: Asker) -> None:
    machine_id = ask.make("one", config(*SLEEPER))
    for seconds in (0, 61):
        assert ask("GET", f"/machines/{machine_id}/wait", timeout=seconds).status == 400
    assert ask("GET", f"/machines/{machine_id}/wait", timeout=60).status == 200


def test_a_name_is_given_once(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.make("one", config(*SLEEPER))
    twin = ask("POST", "/machines", {"name": "one", "config": config(*SLEEPER)})
    assert twin.status == 409
    assert twin.error == (
        "already_exists: unique machine name violation,"
        f' machine ID {machine_id} already exists with name "one"'
    )
    assert [it.id for it in fly.machines()] == [machine_id]
    ask.destroy(machine_id)
    assert ask.make("one", config(*SLEEPER)) != machine_id


def test_a_destroyed_machine_is_known_for_a_while(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.started("one", config(*SLEEPER))
    pids = fly.pids(machine_id)
    refused = ask("DELETE", f"/machines/{machine_id}")
    assert (refused.status, ask.show(machine_id)["state"]) == (412, "started")
    ask.destroy(machine_id)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert ask.show(machine_id)["state"] == "destroyed"
    assert ask("GET", "/machines").body == []
    deleted = ask("GET", "/machines", include_deleted="true").body
    assert [it["id"] for it in deleted] == [machine_id]
    gone = f"/machines/{machine_id}"
    until(lambda: ask("GET", gone).status == 404, "it is forgotten")
    assert ask("DELETE", gone).status == 404
    assert fly.machines() == []
    assert [it.id for it in fly.machines(destroyed=True)] == [machine_id]
    assert not fly.root(machine_id).exists()


def test_one_that_is_not_to_be_launched_waits_to_be_started(ask: Asker) -> None:
    machine_id = ask.make("one", config(*SLEEPER), skip_launch=True)
    assert ask.reach(machine_id, "stopped")["state"] == "stopped"
    assert ask.act(machine_id, "start").body["previous_state"] == "stopped"
    assert ask.reach(machine_id, "started")["state"] == "started"


def test_a_stop_is_a_signal_and_then_a_kill(fly: FlyCloud, ask: Asker) -> None:
    for name, script, code in (("polite", TRAP, 7), ("deaf", DEAF, 137)):
        stop = {"signal": "SIGTERM", "timeout": "300ms"}
        machine_id = ask.started(name, config("sh", "-c", script, stop_config=stop))
        written(work(fly, machine_id) / "up")
        assert ask.act(machine_id, "stop").status == 200
        refused = ask.act(machine_id, "start")
        if name == "deaf":
            assert refused.status == 412
            assert refused.error.endswith("machine still active, refusing to start")
        exit_event = ended(ask.reach(machine_id, "stopped"))
        assert exit_event["exit_code"] == code
        assert exit_event["requested_stop"] is True
        assert exit_event["oom_killed"] is False
        assert fly.pids(machine_id) == []
        assert ask.act(machine_id, "stop").status == 200


def test_one_that_has_just_stopped_cannot_be_started_yet(
    limits: Limits, fly: FlyCloud, ask: Asker
) -> None:
    limits.settle_s = 0.3
    machine_id = ask.started("one", config(*SLEEPER))
    ask.act(machine_id, "stop")
    ask.reach(machine_id, "stopped")
    assert ask.act(machine_id, "start").status == 412
    until(lambda: ask.act(machine_id, "start").status == 200, "it may be started")


@pytest.mark.parametrize(
    ("policy", "code", "starts"), [("no", 1, 1), ("on-failure", 0, 1), ("on-failure", 1, 3)]
)
def test_what_has_ended_is_started_again_as_its_policy_says(
    fly: FlyCloud, ask: Asker, policy: str, code: int, starts: int
) -> None:
    restart = {"policy": policy, "max_retries": 2}
    keep = {"rootfs": {"persist": "restart"}}
    script = f"echo >> starts; exit {code}"
    machine_id = ask.make("one", config("sh", "-c", script, **keep) | {"restart": restart})
    shown = ask.reach(machine_id, "stopped")
    assert ended(shown)["exit_code"] == code
    assert ended(shown)["requested_stop"] is False
    assert (work(fly, machine_id) / "starts").read_text().count("\n") == starts


def test_without_a_policy_a_failure_is_tried_again(ask: Asker) -> None:
    plain = {key: value for key, value in config("false").items() if key != "restart"}
    machine_id = ask.make("one", plain)

    def restarted() -> bool:
        return any(it["type"] == "restart" for it in ask.show(machine_id)["events"])

    until(restarted, "it is started again")


def test_one_destroys_itself_where_that_is_wished(ask: Asker) -> None:
    machine_id = ask.make("one", config("sh", "-c", "exit 3", auto_destroy=True))
    assert ended(ask.reach(machine_id, "destroyed"))["exit_code"] == 3


def test_out_of_memory_and_crashes_are_told_apart(fly: FlyCloud, ask: Asker) -> None:
    for name, act, oom in (("full", fly.oom, True), ("shot", fly.kill, False)):
        machine_id = ask.started(name, config(*SLEEPER))
        act(machine_id)
        exit_event = ended(ask.reach(machine_id, "stopped"))
        assert (exit_event["exit_code"], exit_event["oom_killed"]) == (137, oom)
        assert exit_event["requested_stop"] is False


def test_what_cannot_run_fails(fly: FlyCloud, ask: Asker) -> None:
    fly.faults.no_launch.add(WORKER)
    machine_id = ask.make("one", config(*SLEEPER))
    assert ask.reach(machine_id, "failed")["state"] == "failed"


def test_a_new_configuration_starts_the_machine_anew(fly: FlyCloud, ask: Asker) -> None:
    machine_id = ask.started("one", config(*SLEEPER))
    before, pids = ask.show(machine_id)["instance_id"], fly.pids(machine_id)
    stale = {"config": config("sleep", "601"), "current_version": "x" * 26}
    assert ask("POST", f"/machines/{machine_id}", stale).status == 409
    said = ask("POST", f"/machines/{machine_id}", {"config": config("sleep", "601")})
    assert said.body["instance_id"] != before
    ask.reach(machine_id, "started")
    assert not set(pids) & set(fly.pids(machine_id))


def test_the_root_file_system_is_made_anew_with_every_start(fly: FlyCloud, ask: Asker) -> None:
    kept: dict[str, bool] = {}
    for persist in ("never", "restart", "always"):
        script = "test -e mark && echo old > seen; echo > mark; echo up > up; sleep 600"
        rootfs = {"persist": persist}
        machine_id = ask.started(persist, config("sh", "-c", script, rootfs=rootfs))
        written(work(fly, machine_id) / "up")
        (work(fly, machine_id) / "up").unlink()
        ask.act(machine_id, "stop", {"signal": "SIGKILL"})
        ask.reach(machine_id, "stopped")
        ask.act(machine_id, "start")
        written(work(fly, machine_id) / "up")
        kept[persist] = (work(fly, machine_id) / "seen").exists()
    assert kept == {"never": False, "restart": True, "always": True}


def test_a_volume_stays_whatever_becomes_of_the_machine(fly: FlyCloud, ask: Asker) -> None:
    made = ask("POST", "/volumes", {"name": "data", "region": "fra", "size_gb": 3}).body
    mounts = [{"volume": made["id"], "path": "/work"}]
    elsewhere = {"name": "far", "region": "iad", "config": config(*SLEEPER, mounts=mounts)}
    assert ask("POST", "/machines", elsewhere).status == 412
    script = 'echo more >> "$OUTPOST_SERVE_ROOT/kept"; cat kept > "$HOME/seen"; sleep 600'
    first = ask.started("one", config("sh", "-c", script, mounts=mounts), region="fra")
    kept = Path(fly.root(first) / "work").resolve() / "kept"
    assert written(kept) == "more\n"
    taken = {"name": "two", "region": "fra", "config": config(*SLEEPER, mounts=mounts)}
    assert ask("POST", "/machines", taken).status == 412
    assert ask("DELETE", f"/volumes/{made['id']}").status == 412
    ask.destroy(first)
    ask.started("three", config("sh", "-c", script, mounts=mounts), region="fra")
    until(lambda: kept.read_text() == "more\nmore\n", "the next one adds to it")
    assert [it["size_gb"] for it in ask("GET", "/volumes").body] == [3]


def test_a_machine_finds_its_variables_and_files(fly: FlyCloud, ask: Asker) -> None:
    files = [{"guest_path": "/run/keys/token", "raw_value": "aHVzaA==", "mode": 0o600}]
    env = {"COLOUR": "green", "TOKEN_FILE": "/run/keys/token", "PLACE": "/work/here", "HOST": "x"}
    machine_id = ask.started(
        "one", config("sh", "-c", "env > all; sleep 600", env=env, files=files)
    )
    all_said = work(fly, machine_id) / "all"
    until(lambda: "COLOUR" in written(all_said), "it has told of its variables")
    found = dict(line.split("=", 1) for line in all_said.read_text().splitlines() if "=" in line)
    assert (found["COLOUR"], found["HOST"]) == ("green", "x")
    assert Path(found["TOKEN_FILE"]).read_text() == "hush"
    assert Path(found["TOKEN_FILE"]).stat().st_mode & 0o777 == 0o600
    assert found["PLACE"] == f"{fly.root(machine_id)}/work/here"
    assert found["HOME"] == f"{fly.root(machine_id)}/work/home"
    assert (found["FLY_MACHINE_ID"], found["FLY_REGION"]) == (machine_id, "iad")
    assert found["FLY_APP_NAME"] == fly.app


def test_suspended_is_frozen_and_goes_on(fly: FlyCloud, ask: Asker) -> None:
    script = "while :; do echo >> ticks; sleep 0.01; done"
    machine_id = ask.started("one", config("sh", "-c", script))
    ticks = work(fly, machine_id) / "ticks"
    written(ticks)
    pids = fly.pids(machine_id)
    assert ask.act(machine_id, "suspend").status == 200
    ask.reach(machine_id, "suspended")
    until(lambda: statuses(fly.pids(machine_id)) == {psutil.STATUS_STOPPED}, "all are stopped")
    before = ticks.stat().st_size
    assert ask.act(machine_id, "start").body["previous_state"] == "suspended"
    ask.reach(machine_id, "started")
    until(lambda: ticks.stat().st_size > before, "it goes on")
    assert pids[0] in fly.pids(machine_id)


def test_a_snapshot_may_be_lost_or_thrown_away(fly: FlyCloud, ask: Asker) -> None:
    script = "test -e mark && echo old > seen; echo > mark; echo up > up; sleep 600"
    machine_id = ask.started("one", config("sh", "-c", script))
    written(work(fly, machine_id) / "up")
    pids = fly.pids(machine_id)
    ask.act(machine_id, "suspend")
    ask.reach(machine_id, "suspended")
    fly.faults.lost_snapshots = True
    ask.act(machine_id, "start")
    ask.reach(machine_id, "started")
    assert written(work(fly, machine_id) / "seen") == "old\n"
    assert not set(pids) & set(fly.pids(machine_id))
    fly.faults.lost_snapshots = False
    ask.act(machine_id, "suspend")
    ask.reach(machine_id, "suspended")
    ask.act(machine_id, "stop")
    ask.reach(machine_id, "stopped")
    assert fly.pids(machine_id) == []
    ask.act(machine_id, "start")
    ask.reach(machine_id, "started")
    written(work(fly, machine_id) / "up")
    assert not (work(fly, machine_id) / "seen").exists()


def test_not_everything_can_be_suspended(ask: Asker) -> None:
    swapping = config(*SLEEPER)
    swapping["init"]["swap_size_mb"] = 512
    assert ask.act(ask.started("swaps", swapping), "suspend").status == 412
    stopped = ask.make("rests", config(*SLEEPER), skip_launch=True)
    ask.reach(stopped, "stopped")
    assert ask.act(stopped, "suspend").status == 412


def test_only_what_runs_costs(fly: FlyCloud, ask: Asker, limits: Limits) -> None:
    ticks = iter(range(0, 10_000, 10))
    limits.clock = lambda: next(ticks)
    machine_id = ask.make("one", config(*SLEEPER), skip_launch=True)
    ask.reach(machine_id, "stopped")
    ask.act(machine_id, "start")
    ask.reach(machine_id, "started")
    ask.act(machine_id, "suspend")
    ask.reach(machine_id, "suspended")
    seconds = fly.metered(machine_id)
    running = sum(seconds[state] for state in ("started", "suspending"))
    assert (running, fly.metered_s()[machine_id]) == (20, 20)
    assert {"created", "stopped", "starting", "suspended"} <= set(seconds)


def test_many_at_once(fly: FlyCloud, ask: Asker) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda it: ask.make(f"m-{it}", server()), range(8)))
        codes = list(pool.map(lambda it: get(fly, it).status_code, made))
    assert codes == [200] * 8
    assert len({fly.pids(it)[0] for it in made}) == 8


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    pids: list[int] = []
    with FlyCloud(tmp_path / "fly") as fly, Asker(fly) as ask:
        script = "setsid sleep 600 & echo up > up; sleep 600"
        for name, act in (("runs", ""), ("rests", "suspend")):
            machine_id = ask.started(name, config("sh", "-c", script))
            written(work(fly, machine_id) / "up")
            pids += fly.pids(machine_id)
            if act:
                ask.act(machine_id, act)
                ask.reach(machine_id, "suspended")
    assert len(pids) >= 4
    assert not any(psutil.pid_exists(pid) for pid in pids)

"""The controller: what is queued starts by itself, and the process that does it can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from outpost.controller import Controller, Standing, standing
from outpost.model import State
from tests.integration.cli_world import Cli
from tests.world import World, alive, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

ONE_SLOT = """\
outposts:
  - {name: local, type: local, max_workers: 1}
"""


@pytest.fixture
def cli(world: World) -> Cli:
    world.environment["OUTPOST_CONFIG"] = world.config(ONE_SLOT)
    return Cli(world)


def gate(world: World) -> str:
    return f"until [ -e '{world.folder}/gate' ]; do sleep 0.05; done"


def open_gate(world: World) -> None:
    (world.folder / "gate").touch()


def queue_up(cli: Cli, *scripts: str, **variables: str) -> list[str]:
    """Spawn a worker for each script; return the tasks' ids."""
    return [
        str(
            cli(
                *("spawn", "-m", f"Number {number}", "--repo", cli.world.remote.url, "--json"),
                *("--", "sh", "-c", script),
                environment=variables,
            ).json()["task"]
        )
        for number, script in enumerate(scripts)
    ]


def states(cli: Cli) -> dict[str, str]:
    # By no file: one with faults would be told, and nothing else.
    ran = cli("ps", "-a", "--json", environment={"OUTPOST_CONFIG": ""})
    return {it["task"]: it["state"] for it in ran.json()}


def is_up(home: Path) -> Standing:
    """Return the controller's standing, once it has gone round."""

    def gone_round() -> Standing | None:
        running = standing(home)
        return running if running and running.rounds else None

    running = until(gone_round, "a controller goes round")
    assert running is not None
    return running


def troubles(home: Path) -> str:
    """Return what keeps the controller's loops from their rounds."""
    running = standing(home)
    return " ".join(loop.trouble for loop in running.loops) if running else ""


def stopped(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    return err


def test_what_is_queued_starts_when_there_is_room(cli: Cli) -> None:
    world = cli.world
    tasks = queue_up(cli, f"{gate(world)}; echo a > a.txt", "echo b > b.txt", "echo c > c.txt")
    assert list(states(cli).values())[1:] == ["queued", "queued"]
    process = cli.start("up")
    is_up(world.home)
    open_gate(world)
    until(lambda: set(states(cli).values()) == {"done"}, "all are done")
    assert sorted(states(cli)) == sorted(tasks)
    assert len(world.remote.refs("refs/heads/outpost/")) == 3
    said = stopped(process)
    assert "INFO started" in said
    assert standing(world.home) is None


def test_a_killed_controller_is_followed_by_another(cli: Cli) -> None:
    """Again and again at any moment; every task is done once, on one branch."""
    world = cli.world
    tasks = queue_up(cli, *(f"echo {number} > {number}.txt" for number in range(6)))
    deadline = 0
    while set(states(cli).values()) != {"done"}:
        process = cli.start("up")
        running = is_up(world.home)
        assert running.pid == process.pid
        process.kill()
        process.communicate()
        deadline += 1
        assert deadline < 40, states(cli)
    assert sorted(states(cli)) == sorted(tasks)
    assert len(world.remote.refs("refs/heads/outpost/")) == 6


def test_only_one_is_up_at_a_time(cli: Cli) -> None:
    process = cli.start("up")
    pid = is_up(cli.world.home).pid
    ran = cli("up", code=2)
    assert f"a controller is up already, process {pid}" in ran.err
    assert "outpost down" in ran.err
    assert cli("down").out == "the controller has ended\n"
    assert process.wait(timeout=10) == 0
    process.communicate()
    assert cli("down").out == "no controller is up\n"


def test_it_leaves_when_there_is_nothing_to_do(cli: Cli) -> None:
    process = cli.start("up", "--idle", "1s")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "nothing to do for 1 s" in err
    assert standing(cli.world.home) is None


def test_spawn_starts_one_in_the_background(cli: Cli) -> None:
    world = cli.world
    tasks = queue_up(cli, gate(world), "echo b > b.txt", OUTPOST_CONTROLLER="on")
    pid = is_up(world.home).pid
    assert os.getsid(pid) == pid
    open_gate(world)
    until(lambda: states(cli).get(tasks[1]) == "done", "the second is done")
    queue_up(cli, "true", OUTPOST_CONTROLLER="on")
    assert is_up(world.home).pid == pid, "a second one was started"
    assert cli("down").out == "the controller has ended\n"
    until(lambda: not alive(pid), "it has ended")


def test_a_round_that_fails_is_said_and_tried_again(cli: Cli) -> None:
    world = cli.world
    broken = world.folder / "broken"
    (world.folder / "own_policy.py").write_text(
        "import pathlib\n"
        "def checked(task, snapshot, decision):\n"
        f"    assert not pathlib.Path({str(broken)!r}).exists()\n"
        "    return decision.candidates\n"
    )
    world.environment["PYTHONPATH"] = str(world.folder)
    world.config(ONE_SLOT + "policy: {kind: python, entry: 'own_policy:checked'}\n")
    tasks = queue_up(cli, gate(world), "true")
    broken.touch()
    open_gate(world)
    process = cli.start("up")
    until(lambda: "own_policy" in troubles(world.home), "it is told")
    broken.unlink()
    until(lambda: states(cli).get(tasks[1]) == "done", "it goes on")
    assert "dispatch: the policy function" in stopped(process)


def test_it_goes_by_the_configuration_as_it_is_now(cli: Cli) -> None:
    world = cli.world
    tasks = queue_up(cli, gate(world), "true")
    process = cli.start("up")
    is_up(world.home)
    world.config(ONE_SLOT.replace("max_workers", "max_worker"))
    until(lambda: (it := standing(world.home)) and "max_worker" in it.trouble, "the fault is told")
    assert states(cli)[tasks[1]] == "queued"
    world.config(ONE_SLOT.replace("max_workers: 1", "max_workers: 2"))
    until(lambda: states(cli).get(tasks[1]) == "done", "the second slot is used")
    open_gate(world)
    assert "the configuration has changed" in stopped(process)


def test_another_configuration_replaces_one_in_the_background(cli: Cli) -> None:
    world = cli.world
    queue_up(cli, gate(world), OUTPOST_CONTROLLER="on")
    first = is_up(world.home)
    other = world.folder / "other.yaml"
    other.write_text(ONE_SLOT.replace("max_workers: 1", "max_workers: 3"))
    variables = {"OUTPOST_CONTROLLER": "on", "OUTPOST_CONFIG": str(other)}
    tasks = queue_up(cli, "true", **variables)
    until(lambda: not alive(first.pid), "the first has left")
    assert is_up(world.home).config == str(other)
    until(lambda: states(cli).get(tasks[0]) == "done", "it is done")
    open_gate(world)
    cli("down")


def test_it_leaves_where_its_home_was_taken_away(cli: Cli) -> None:
    home = cli.world.home
    process = cli.start("up")
    is_up(home)
    moved = home.with_name("moved")
    home.rename(moved)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "its home folder is gone" in err
    assert not home.exists()
    moved.rename(home)


def test_a_home_that_cannot_be_used_is_said(cli: Cli) -> None:
    ran = cli("up", code=1, environment={"OUTPOST_HOME": "/proc/nowhere"})
    assert "cannot use /proc/nowhere" in ran.err


async def test_it_can_be_part_of_a_program(world: World) -> None:
    async with world.federation(config=ONE_SLOT) as federation:
        controller = Controller(federation)
        running = asyncio.create_task(controller.run())
        tasks = [
            await federation.resolve("text:Do it", world.options("true", world.remote))
            for _ in range(3)
        ]
        for task in tasks:
            await federation.submit(task)
        while (await federation.count_by_state()).get(State.DONE) != 3:
            await asyncio.sleep(0.05)
        controller.stop()
        await running

"""Who waits for a task whose worker gets lost is told of its end, whoever comes to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from outpost.testing.faulty import bring
from tests.integration.cli_world import Terminal
from tests.integration.lost_world import ONCE, SLOWLY, LostWorld, lost_world, wake
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MakeWorld = Callable[..., LostWorld]


@pytest.fixture
def make(world: World, tmp_path: Path) -> Iterator[MakeWorld]:
    """Return what makes a world of faulty outposts whose workers get lost."""
    world.environment["PYTHONPATH"] = bring(tmp_path / "packages")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(lost_world(world, **options))


def spawn(lost: LostWorld, script: str, *options: str) -> tuple[str, ...]:
    return ("spawn", "-m", "Mend", "--repo", lost.remote.url, *options, "--", "sh", "-c", script)


def first_worker(lost: LostWorld) -> str:
    """Return the first worker on outpost a once its agent talks."""
    workers = lost.world.home / "outposts" / "a" / "workers"
    until(lambda: workers.exists() and list(workers.iterdir()), "a worker")
    (first,) = workers.iterdir()
    lost.until_written("a", first.name, "working")
    return first.name


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, f"{process.returncode}\n{out}\n{err}"
    return out, err


@pytest.mark.parametrize("option", ["--wait", "--follow"])
def test_a_lost_contact_is_waited_for(make: MakeWorld, option: str) -> None:
    lost = make(patience="silent_after: 2s, lost_after: 60s")
    lost.up()
    process = lost.cli.start(*spawn(lost, lost.talk("echo x > new.txt"), option))
    name = first_worker(lost)
    lost.faults["a"].change(partition="the cable is cut")
    lost.until_state(name, "unknown")
    assert process.stderr
    assert process.stderr.readline().startswith(f"note: {name} is out of contact")
    lost.faults["a"].change(partition=None)
    lost.go.touch()
    out, err = ended(process)
    assert f"✓ done {name}" in out
    assert "out of contact" not in err, "it is said once"
    assert out.count("pushing") == (option == "--follow")


@pytest.mark.parametrize("cut_off", [True, False])
@pytest.mark.parametrize("option", ["--wait", "--follow"])
def test_who_waits_for_one_that_is_given_up_is_told_of_its_successor(
    make: MakeWorld, option: str, *, cut_off: bool
) -> None:
    lost = make()
    lost.up()
    process = lost.cli.start(*spawn(lost, lost.talk("echo x > new.txt"), option))
    name = first_worker(lost)
    paused = lost.pause("a", name)
    lost.faults["a"].change(ping="down")
    if cut_off:
        lost.faults["a"].change(partition="the cable is cut")
    try:
        lost.until_state(name, "lost")
        lost.go.touch()
        out, err = ended(process)
        assert "✓ done w-" in out
        assert name in err
    finally:
        if process.poll() is None:
            process.kill()
        lost.faults["a"].write()
        wake(paused)


@pytest.mark.parametrize("options", [("--wait",), ("--follow",), ("--wait", "--json")])
def test_who_waits_for_one_that_is_killed_is_told_of_its_successor(
    make: MakeWorld, options: tuple[str, ...]
) -> None:
    lost = make()
    process = lost.cli.start(*spawn(lost, lost.talk("echo x >> new.txt"), *options))
    first = first_worker(lost)
    lost.kill_its_carers("a", first)
    workers = lost.world.home / "outposts" / "a" / "workers"
    until(lambda: len(list(workers.iterdir())) == 2, "a successor")
    lost.go.touch()
    out, err = ended(process)
    (second,) = {it.name for it in workers.iterdir()} - {first}
    assert f"note: {first} its runner was killed" in err
    assert f"{second} goes on from there" in err
    if "--json" in options:
        (row,) = [json.loads(line) for line in out.splitlines()]
        assert (row["worker"], row["state"], row["attempt"]) == (second, "done", 2)
    else:
        assert f"✓ done {second}" in out
        assert ("│ working" in out) is ("--follow" in options)


def test_the_exit_code_is_that_of_the_last_try(make: MakeWorld) -> None:
    lost = make(policy=ONCE)
    process = lost.cli.start(*spawn(lost, lost.talk(), "--wait"))
    name = first_worker(lost)
    lost.kill_its_carers("a", name)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"✗ failed {name}" in out


def test_ctrl_c_meanwhile_leaves_it_to_the_controller(make: MakeWorld) -> None:
    lost = make(policy=SLOWLY)
    lost.up()
    with Terminal(lost.cli, 100, spawn(lost, lost.talk(), "--wait")) as terminal:
        name = first_worker(lost)
        lost.kill_its_carers("a", name)
        task = lost.until_state(name, "failed")["task_id"]
        terminal.press(b"\x03")
        terminal.read_to_end()
        assert terminal.process.returncode == 130
    assert lost.task(task)["state"] == "queued"

"""``outpost doctor --conformance``: real workers at a configured outpost, and none left there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from outpost.cli.conformance import summary
from outpost.testing import CHECKS, Outcome, Result
from outpost.testing.faulty import FaultFile, bring
from tests.integration.cli_world import Cli
from tests.world import World, pids_marked, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

DOCTOR = ("doctor", "--conformance")


@pytest.fixture
def cli(world: World) -> Cli:
    world.environment["OUTPOST_CONFIG"] = world.config()
    return Cli(world)


def left(world: World) -> set[str]:
    """Return the workers that are, or have files, at any outpost of a world."""
    return {path.name for path in world.home.glob("outposts/*/*/w-*")}


def test_every_check_is_a_line_and_nothing_stays(cli: Cli) -> None:
    with cli.start(*DOCTOR, "local") as process:
        assert process.stdout
        lines = [line.rstrip("\n") for line in process.stdout]
    assert process.returncode == 0, [line for line in lines if not line.startswith("passed")]
    *checks, blank, summed = lines
    assert blank == ""
    names = [line[9:].split("  ")[0].split(":")[0] for line in checks]
    assert names == [check.name.replace("_", " ") for check in CHECKS]
    assert {line.split()[0] for line in checks} == {"passed", "skipped"}
    assert "skipped  messages arrive" not in checks
    assert summed.startswith(f"{len(CHECKS) - 3} passed, 3 skipped in ")
    assert left(cli.world) == set()
    assert not (cli.world.home / "outpost.db").exists(), "the store was not touched"


def test_interrupted_it_takes_its_workers_away(cli: Cli) -> None:
    process = cli.start(*DOCTOR, "local", "--slow")
    assert process.stdout
    for _ in range(7):
        assert process.stdout.readline()
    workers = until(lambda: left(cli.world), "the next check's worker")
    process.send_signal(signal.SIGINT)
    rest, talk = process.communicate(timeout=40)
    assert process.returncode == 130, rest
    assert "taking its workers away" in talk
    assert left(cli.world) == set()
    until(lambda: not pids_marked(workers), "nothing of the worker runs")


def test_what_fails_is_told_with_what_was_seen(cli: Cli, tmp_path: Path) -> None:
    world = cli.world
    world.environment["PYTHONPATH"] = bring(tmp_path / "packages")
    path = tmp_path / "box.json"
    faults = FaultFile(path)
    faults.write(ping="down:the power is off", workers="fault")
    text = f"outposts:\n  - {{name: box, type: faulty, faults: {path}}}\n"
    world.environment["OUTPOST_CONFIG"] = world.config(text)
    process = cli.start(*DOCTOR, "box")
    assert process.stdout
    first, seen = process.stdout.readline(), process.stdout.readline()
    assert first == "failed   ping says how it is: an outpost must be well to be checked\n"
    assert seen.startswith("         the power is off ; cannot look for what is left: ")
    faults.write()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=40)
    assert left(world) == set()


def test_a_repository_out_of_reach_is_told_at_once(cli: Cli) -> None:
    ran = cli(*DOCTOR, "local", "--repo", "/no/such/repository", code=2)
    assert "workers on local cannot use /no/such/repository" in ran.err
    assert "--repo URL" in ran.err
    assert ran.out == ""
    assert left(cli.world) == set()


def test_what_makes_no_sense_is_refused(cli: Cli) -> None:
    assert "did you mean 'local'?" in cli(*DOCTOR, "loca", code=2).err
    assert "--conformance" in cli("doctor", "--slow", code=2).err
    assert "--fix" in cli(*DOCTOR, "local", "--fix", code=2).err


def test_a_branch_that_a_check_left_is_taken_back(cli: Cli) -> None:
    remote = cli.world.remote
    remote.git("branch", "outpost/conformance-w-1", "main")
    process = cli.start(*DOCTOR, "local", "--repo", remote.url)
    assert process.stdout
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=40)
    assert process.returncode == 130
    assert remote.tip("outpost/conformance-w-1") is None


def test_the_sum_names_what_there_was() -> None:
    def result(outcome: Outcome) -> Result:
        return Result(name="a", contract="It must.", outcome=outcome, seconds=1.4)

    found = [result(it) for it in (Outcome.PASSED, Outcome.FAILED, Outcome.PASSED)]
    assert summary(found) == "2 passed, 1 failed in 4 s."

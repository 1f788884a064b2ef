"""Waiting for workers on an outpost that needs tending: a controller is there meanwhile."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.controller import standing
from tests.doubles.e2b.cloud import E2bCloud, Record
from tests.e2b_world import KEY, TEMPLATE, config_for
from tests.integration.cli_world import Cli
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

LOCAL = "outposts: [{name: local, type: local}]\n"


@pytest.fixture
def e2b(tmp_path: Path) -> Iterator[E2bCloud]:
    with E2bCloud(tmp_path / "e2b") as e2b:
        e2b.add_template(TEMPLATE)
        yield e2b


class Waiting(Cli):
    """The command line, whose commands that wait do not outlive their test."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._begun: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        self._begun.append(super().start(*arguments))
        return self._begun[-1]

    def begin(self, script: str, *more: str) -> subprocess.Popen[str]:
        """Start a command that starts a worker, whose agent is a shell script, and waits for it."""
        repo = ("-m", "Mend the words", "--repo", self.world.remote.url)
        return self.start("spawn", *repo, *more, "--", "sh", "-c", script)

    def end(self) -> None:
        for process in self._begun:
            process.kill()
            process.communicate()
        self("down")


@pytest.fixture
def cli(world: World, e2b: E2bCloud) -> Iterator[Waiting]:
    world.environment |= {KEY: e2b.api_key, "OUTPOST_CONTROLLER": "on"}
    world.environment["OUTPOST_CONFIG"] = world.config(config_for(e2b))
    cli = Waiting(world)
    yield cli
    cli.end()


def begun(e2b: E2bCloud, home: Path, mark: Path) -> Record:
    """Wait until an agent is at work beside a controller that has tended; return its sandbox."""
    until(mark.exists, "the agent is at work")
    until(lambda: tended(home), "a controller tends", deadline_s=30)
    [sandbox] = [it for it in e2b.sandboxes() if it.state == "running"]
    return sandbox


def tended(home: Path) -> bool:
    """Whether a controller is up that has gone round the outposts to tend."""
    running = standing(home)
    return any(it.name == "tend" and it.rounds for it in running.loops) if running else False


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err


def held(world: World, name: str) -> tuple[Path, Path, str]:
    """Return a mark, a gate, and the script that makes the one and waits for the other."""
    mark, gate = world.folder / f"{name}-mark", world.folder / f"{name}-gate"
    return mark, gate, f"touch '{mark}'; until [ -e '{gate}' ]; do sleep 0.05; done; echo over"


def test_who_is_paused_while_it_is_waited_for_goes_on(cli: Waiting, e2b: E2bCloud) -> None:
    mark, gate, script = held(cli.world, "first")
    process = cli.begin(script, "--follow")
    sandbox = begun(e2b, cli.world.home, mark)
    e2b.pause(sandbox.id)  # as at the end of its lease
    gate.touch()
    out, err = ended(process)
    assert "over" in out
    assert "no controller" not in err


def test_resume_waits_beside_a_controller_too(cli: Waiting, e2b: E2bCloud) -> None:
    first = cli.spawn("true", "--wait")["worker"]
    cli("down")
    process = cli.start("resume", first, "--wait")
    until(lambda: tended(cli.world.home), "a controller tends", deadline_s=30)
    ended(process)


def test_where_none_may_be_started_it_is_said_what_is_missing(cli: Waiting) -> None:
    cli.world.environment["OUTPOST_CONTROLLER"] = "off"
    _, err = ended(cli.begin("true", "--wait"))
    notes = [line for line in err.splitlines() if "no controller" in line]
    assert notes == [
        "note: no controller is up here, and cloud needs one while it has workers: outpost up"
    ]


def test_an_outpost_that_needs_no_tending_needs_no_controller(cli: Waiting) -> None:
    cli.world.config(LOCAL)
    mark, gate, script = held(cli.world, "second")
    process = cli.begin(script, "--wait")
    until(mark.exists, "the agent is at work")
    assert standing(cli.world.home) is None
    gate.touch()
    _, err = ended(process)
    assert "controller" not in err
    assert not (cli.world.home / "controller.log").exists()

"""Fly from the command line: a controller looks after what runs there, whatever happens to it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.controlled_world import ControlledWorld
from tests.fly_world import FlyWorld, fly_world
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Site(ControlledWorld):
    """The command line, a stand-in for Fly, and a controller."""

    def __init__(self, made: FlyWorld) -> None:
        super().__init__(made.world)
        self.made = made

    def configure_fly(self, **options: Any) -> None:
        fly = self.made.fly
        entry: dict[str, object] = {
            **{"name": "burst", "type": "fly", "app": fly.app, "region": "iad"},
            **{"api_url": fly.api_url, "url": fly.url, "requests_per_s": 1000.0},
            **{"max_workers": 4, "price_hourly": 0.1, **options},
        }
        retry = {"max_attempts": 9, "initial_backoff": "1s"}
        whole = {
            "outposts": [entry],
            "policy": {"retry": retry},
            "defaults": {"stop_grace": "4s", "checkpoint": "1s"},
        }
        self.configure(json.dumps(whole))

    def workers(self, task: str) -> list[dict[str, Any]]:
        """Return the workers of a task, the oldest first."""
        return [it for it in self.rows() if it["task"] == task]

    def until_said(self, worker_id: str, text: str) -> None:
        look = lambda: text in self.cli("logs", worker_id).out  # noqa: E731
        until(look, f"{worker_id} says {text}", deadline_s=60)


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    with fly_world(world) as made, contextlib.ExitStack() as stack:
        world.environment["FLY_API_TOKEN"] = made.fly.token
        world.environment["OUTPOST_HOME"] = str(world.home)
        site = Site(made)
        stack.callback(site.end)
        yield site


ONCE = "[ -e one.txt ] || { echo one > one.txt; echo begun; sleep 60; }; ls > seen"


def test_a_machine_that_somebody_stops_saves_its_work_and_the_task_goes_on(site: Site) -> None:
    site.configure_fly()
    site.up()
    task = site.spawn(ONCE)
    worker_id = site.until(task, "working")["worker"]
    site.until_said(worker_id, "begun")
    site.made.stop(worker_id)
    site.until(task, "done")
    first, second = site.workers(task)
    assert "one.txt" in site.world.remote.show(second["branch"], "seen")
    assert (first["state"], first["reason"]) == ("failed", "the platform ends this instance")


def test_the_task_of_a_machine_out_of_memory_goes_on_from_its_work(site: Site) -> None:
    site.configure_fly()
    site.up()
    task = site.spawn(ONCE)
    worker_id = site.until(task, "working")["worker"]
    site.until_said(worker_id, "begun")
    site.made.fly.oom(site.made.machine(worker_id).id)
    site.until(task, "done")
    first, second = site.workers(task)
    assert "one.txt" in site.world.remote.show(second["branch"], "seen")
    assert first["state"] == "failed"
    assert first["reason"].startswith("it ran out of memory (limit 2g); ")
    assert "the work was saved afterwards" in first["reason"]


def test_commands_at_once_share_what_waits_and_nothing_twice(site: Site) -> None:
    """Each command is a process of its own; a lease decides who has which machine."""
    site.configure_fly(warm=2)
    site.up()
    fly = site.made.fly
    until(lambda: [it.state for it in fly.machines()] == ["stopped"] * 2, "two wait", deadline_s=60)
    names = {it.name for it in fly.machines()}
    script = "echo words > words.txt"
    repo = site.world.remote.url
    argv = ("spawn", "text:Mend the words", "--repo", repo, "--", "sh", "-c", script)
    spawns = [site.cli.start(*argv) for _ in range(3)]
    for it in spawns:
        _, said = it.communicate(timeout=60)
        assert it.returncode == 0, said
    rows = site.cli("ps", "--all", "--json").json()
    for row in rows:
        site.until(row["task"], "done")
    machines = [site.made.machine(it["worker"]) for it in rows]
    assert len({it.id for it in machines}) == 3
    assert names <= {it.name for it in machines}

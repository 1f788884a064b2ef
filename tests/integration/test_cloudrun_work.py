"""Work on Cloud Run from the command line: a controller holds it, whatever happens to either."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from tests.cloudrun_program import CloudRunProgram
from tests.cloudrun_world import KIND, TOKEN, installed
from tests.controlled_world import ControlledWorld
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION, SERVICE
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CONFIG = f"""\
outposts:
  - name: burst
    type: {KIND}
    project: {PROJECT}
    region: {REGION}
    service: {SERVICE}
    image: {IMAGE}
    token: env://OUTPOST_TOKEN
    max_workers: 20
    lease: 5s
defaults: {{stop_grace: 4s, checkpoint: 1s}}
policy:
  retry: {{max_attempts: 9, initial_backoff: 1s}}
"""


class Site(ControlledWorld):
    """The command line, a stand-in for Google, and controllers."""

    def __init__(self, world: World, google: CloudRunProgram) -> None:
        super().__init__(world)
        self.google = google
        self.configure(CONFIG)


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    with CloudRunProgram(world.folder, operation_s=0.0, serving=True) as google:
        world.environment |= installed(world.folder / "kinds", google.address)
        world.environment["OUTPOST_TOKEN"] = TOKEN
        world.environment["GOOGLE_APPLICATION_CREDENTIALS"] = google.key_file
        world.environment["OUTPOST_HOME"] = str(world.home)
        site = Site(world, google)
        site.cli("deploy", "burst", "--yes")
        with contextlib.ExitStack() as stack:
            stack.callback(site.end)
            yield site


def test_a_task_goes_to_the_cloud_by_way_of_a_controller(site: Site) -> None:
    task = site.spawn("echo mended > words.txt")
    waiting = site.cli("queue", "--json").json()
    assert "a controller starts it there" in str(waiting)
    site.up()
    row = site.until(task, "done")
    assert site.world.remote.show(row["branch"], "words.txt") == "mended"
    assert "mended" not in site.cli("logs", row["worker"]).err
    assert site.google.instances == 1


def test_an_evicted_worker_goes_on_from_its_work(site: Site) -> None:
    site.up()
    task = site.spawn("[ -e one.txt ] || { echo one > one.txt; echo begun; sleep 60; }; ls > seen")
    until(lambda: site.row(task).get("state") == "working", "it works", deadline_s=60)
    until(lambda: _said(site, task, "begun"), "its agent has begun", deadline_s=60)
    site.google.do("evict")
    row = site.until(task, "done")
    assert row["attempt"] == 2
    assert "one.txt" in str(site.world.remote.show(row["branch"], "seen"))
    first = next(it for it in site.rows() if it["task"] == task)
    assert (first["state"], first["reason"]) == ("failed", "the platform ends this instance")


def test_a_controller_that_is_killed_leaves_a_worker_that_the_next_one_holds(site: Site) -> None:
    """Under request billing the instance is frozen meanwhile: nobody pays for it."""
    controller = site.up()
    go = site.world.folder / "go"
    task = site.spawn(f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; echo two > two.txt")
    until(lambda: _said(site, task, "begun"), "its agent has begun", deadline_s=60)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    seen = site.cli("status", site.row(task)["worker"]).out
    assert "no controller" in seen, seen
    go.touch()
    site.up()
    row = site.until(task, "done")
    assert row["attempt"] == 1
    assert site.world.remote.show(row["branch"], "two.txt") == "two"


def test_cuts_are_not_noticed(site: Site) -> None:
    site.up()
    task = site.spawn("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.5; done; echo x > x.txt")
    until(lambda: _said(site, task, "line 1"), "its agent has begun", deadline_s=60)
    for _ in range(3):
        site.google.do("cut")
    row = site.until(task, "done")
    said = site.cli("logs", row["worker"]).out.splitlines()
    assert [it.split("line ")[1] for it in said if "line " in it] == list("123456")
    assert row["attempt"] == 1


def test_an_instance_that_is_killed_costs_what_came_after_the_last_checkpoint(site: Site) -> None:
    site.up()
    task = site.spawn("[ -e one.txt ] || { echo one > one.txt; echo begun; sleep 60; }; ls > seen")
    until(lambda: site.row(task).get("state") == "working", "it works", deadline_s=60)
    wip = f"refs/outpost/wip/{task}"
    until(lambda: wip in site.world.remote.refs(), "a checkpoint", deadline_s=60)
    site.google.do("kill")
    row = site.until(task, "done")
    assert row["attempt"] == 2
    assert "one.txt" in str(site.world.remote.show(row["branch"], "seen"))
    first = next(it for it in site.rows() if it["task"] == task)
    assert first["state"] == "lost"


def test_whatever_happens_each_task_is_done_once(site: Site) -> None:
    """Controllers are killed, connections cut, instances evicted, while six tasks are at work."""
    controller = site.up()
    script = "for i in 1 2 3 4; do echo $i >> n.txt; echo line $i; sleep 0.5; done"
    tasks = [site.spawn(script) for _ in range(6)]
    for happening in ("cut", "evict", "", "cut", "", "evict"):
        if happening:
            site.google.do(happening)
        else:
            controller.kill()
            controller.wait()
            controller = site.up()
    for task in tasks:
        row = site.until(task, "done")
        text = site.world.remote.show(row["branch"], "n.txt")
        assert text is not None
        assert text.endswith("1\n2\n3\n4") or text == "1\n2\n3\n4"
    done = [it["task"] for it in site.rows() if it["state"] == "done"]
    assert sorted(done) == sorted(tasks)


def _said(site: Site, task: str, text: str) -> bool:
    worker = site.row(task).get("worker")
    return bool(worker) and text in site.cli("logs", str(worker)).out


def test_the_bill_is_what_google_meters(site: Site) -> None:
    """But for the moments before the request goes out, and after the worker's last word."""
    site.up()
    tasks = [site.spawn(f"sleep 3; echo {number} > n.txt") for number in range(3)]
    for task in tasks:
        site.until(task, "done")
    ours = site.cli("cost", "--json").json()["total"]["compute_usd"] * 1e6
    until(lambda: site.google.idle, "no request is open", deadline_s=30)
    theirs = site.google.billed_microusd
    per_second = 2 * 24 + 4 * 2.5
    assert theirs >= 3 * 3 * per_second
    assert abs(ours - theirs) < 3 * 2 * per_second, (ours, theirs)

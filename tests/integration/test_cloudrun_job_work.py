"""Work as runs of a Cloud Run job, from the command line: nobody has to hold it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.cloudrun_job_site import Site, opened
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    with opened(world) as site:
        yield site


def test_a_command_starts_it_and_it_works_with_nobody_there(site: Site) -> None:
    """No controller is needed to begin it, nor while it works: its branch comes all the same."""
    task = site.spawn("echo mended > words.txt; echo over")
    site.cli("down")
    until(lambda: site.google.do("?")["living"] == 0, "its container has ended", deadline_s=60)
    branch = next(it for it in site.world.remote.refs() if "outpost" in it and "heads" in it)
    assert site.world.remote.show(branch, "words.txt") == "mended"
    row = site.until(task, "done")
    assert "over" in site.cli("logs", row["worker"]).out
    assert site.google.do("?")["orders"] == [], "no order is left, and no secret with it"
    site.up()

    def pruned() -> bool:
        site.cli("prune", "--before", "0s")
        return site.google.names == []

    until(pruned, "a controller has seen the end, and all is gone")


def test_a_controller_that_is_killed_is_not_missed(site: Site) -> None:
    controller = site.up()
    go = site.world.folder / "go"
    task = site.spawn(f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; echo two > two.txt")
    site.until_said(task, "begun")
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    go.touch()
    until(lambda: site.google.do("?")["living"] == 0, "its container has ended", deadline_s=60)
    site.up()
    row = site.until(task, "done")
    assert row["attempt"] == 1
    assert site.world.remote.show(row["branch"], "two.txt") == "two"
    assert site.google.do("?")["executions"] == 1


def test_a_stop_saves_the_work(site: Site) -> None:
    site.up()
    task = site.spawn("echo half > half.txt; echo begun; sleep 60")
    site.until_said(task, "begun")
    site.cli("stop", str(site.row(task)["worker"]))
    row = site.until(task, "stopped")
    assert site.world.remote.show(row["branch"], "half.txt") == "half"
    until(lambda: site.google.do("?")["living"] == 0, "its container has ended")
    least = 60 * (2 * 18 + 4 * 2) / 1e6

    def billed() -> bool:
        return bool(site.cli("cost", "--json").json()["total"]["compute_usd"] == least)

    until(billed, "the ledger says what Google bills: a minute", deadline_s=60)


def test_a_bucket_that_is_gone_for_a_while_is_not_noticed(site: Site) -> None:
    site.up()
    task = site.spawn("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.5; done; echo x > x.txt")
    site.until_said(task, "line 1")
    site.google.do("down")
    until(lambda: site.row(task).get("state") != "working", "it is out of sight", deadline_s=30)
    site.google.do("up")
    row = site.until(task, "done")
    said = site.cli("logs", row["worker"]).out.splitlines()
    assert [it.split("line ")[1] for it in said if "line " in it] == list("123456")
    assert row["attempt"] == 1

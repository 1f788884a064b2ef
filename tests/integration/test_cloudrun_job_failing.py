"""Containers of a Cloud Run job that end before their work does, seen from the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cloudrun_job_site import Site, opened
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
ONCE = "[ -e one.txt ] || { echo one > one.txt; echo begun; sleep 60; }; ls > seen"


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    with opened(world) as site:
        yield site


def test_an_evicted_worker_goes_on_from_its_work(site: Site) -> None:
    site.up()
    task = site.spawn(ONCE)
    site.until_said(task, "begun")
    site.google.do("evict")
    row = site.until(task, "done")
    assert row["attempt"] == 2
    assert "one.txt" in str(site.world.remote.show(row["branch"], "seen"))
    first = next(it for it in site.rows() if it["task"] == task)
    assert (first["state"], first["reason"]) == ("failed", "the platform ends this instance")


def test_a_container_that_is_killed_costs_what_came_after_the_last_checkpoint(site: Site) -> None:
    site.up()
    task = site.spawn(ONCE)
    site.until_said(task, "begun")
    wip = f"refs/outpost/wip/{task}"
    until(lambda: wip in site.world.remote.refs(), "a checkpoint", deadline_s=60)
    site.google.do("kill")
    row = site.until(task, "done")
    assert row["attempt"] == 2
    assert "one.txt" in str(site.world.remote.show(row["branch"], "seen"))
    assert next(it for it in site.rows() if it["task"] == task)["state"] == "lost"


def test_an_image_that_does_not_start_is_an_attempt_that_was_lost(site: Site) -> None:
    site.google.do("broken")
    site.up()
    task = site.spawn("true")
    until(lambda: "lost" in [it["state"] for it in site.rows()], "its end is seen", deadline_s=60)
    row = next(it for it in site.rows() if it["task"] == task)
    assert row["reason"].startswith("its runner never started")

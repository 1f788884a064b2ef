"""The command line, controllers, and a stand-in for Google's jobs that they work with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.cloudrun_job_program import JobProgram
from tests.cloudrun_job_world import BUCKET, JOB, JOB_KIND, installed_jobs
from tests.controlled_world import ControlledWorld
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION, SERVICE
from tests.world import World, until

CONFIG = f"""\
outposts:
  - name: long
    type: {JOB_KIND}
    mode: job
    project: {PROJECT}
    region: {REGION}
    service: {SERVICE}
    bucket: {BUCKET}
    image: {IMAGE}
    max_workers: 20
defaults: {{stop_grace: 4s, checkpoint: 1s}}
policy:
  retry: {{max_attempts: 9, initial_backoff: 1s}}
"""


class Site(ControlledWorld):
    """The command line, a stand-in for Google, and controllers."""

    def __init__(self, world: World, google: JobProgram) -> None:
        super().__init__(world)
        self.google = google
        self.configure(CONFIG)

    def until_said(self, task: str, text: str) -> None:
        """Wait until our copy of its log holds a line."""

        def look() -> bool:
            logs = self.world.home.glob("outposts/long/workers/*/events.jsonl")
            return any(f'"text":"{text}"' in it.read_text() for it in logs)

        until(look, f"{task} says {text}", deadline_s=60)


@contextlib.contextmanager
def opened(world: World) -> Iterator[Site]:
    """Yield a site whose job is deployed; its controllers end with it."""
    with JobProgram(world.folder) as google:
        kinds = world.folder / "kinds"
        world.environment |= installed_jobs(kinds, google.address, google.storage_url)
        world.environment["GOOGLE_APPLICATION_CREDENTIALS"] = google.key_file
        world.environment["OUTPOST_HOME"] = str(world.home)
        site = Site(world, google)
        said = site.cli("deploy", "long", "--yes")
        assert f"+ job {JOB} in {REGION}" in said.out
        try:
            yield site
        finally:
            site.end()

"""The command line, controllers, and a stand-in for Google's jobs that they work with."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

from tests.cloudrun_job_program import JobProgram
from tests.cloudrun_job_world import BUCKET, JOB, JOB_KIND, installed_jobs
from tests.integration.cli_world import OUTPOST, Cli
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


class Site:
    """The command line, a stand-in for Google, and controllers."""

    def __init__(self, world: World, google: JobProgram) -> None:
        self.world = world
        self.google = google
        self.cli = Cli(world)
        (self.cli.here / "outposts.yaml").write_text(CONFIG)
        self._controllers: list[subprocess.Popen[bytes]] = []

    def up(self) -> subprocess.Popen[bytes]:
        with (self.world.folder / "up.log").open("ab") as log:
            process = subprocess.Popen(
                [*OUTPOST, "up"],
                cwd=self.cli.here,
                env={**self.world.environment, "OUTPOST_HOME": str(self.world.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._controllers.append(process)
        return process

    def end(self) -> None:
        for process in self._controllers:
            process.terminate()
        for process in self._controllers:
            process.wait(30)

    def spawn(self, script: str) -> str:
        """Submit a task; return its id."""
        return str(self.cli.spawn(script)["task"])

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cli("ps", "--all", "--json").json()
        return found

    def row(self, task: str) -> dict[str, Any]:
        """Return the newest worker of a task."""
        return next((it for it in reversed(self.rows()) if it["task"] == task), {})

    def until(self, task: str, state: str) -> dict[str, Any]:
        until(lambda: self.row(task).get("state") == state, f"{task} {state}", deadline_s=60)
        return self.row(task)

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

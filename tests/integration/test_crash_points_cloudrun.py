"""A controller killed at any point while it holds workers on Cloud Run: the next one goes on.

As workers there live by an open request, only a controller starts them. What it was killed at is
left frozen there: nobody pays for it, and after its lease it is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from outpost.federation import Federation
from tests.cloudrun_world import KIND, TOKEN, TOKEN_SECRET, installed, serve_argv
from tests.crash_points import CrashWorld
from tests.crash_stories import NAME, Elsewhere, faults_of
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.background import BackgroundCloudRun
from tests.doubles.google_identity import GoogleIdentity
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION
from tests.world import Remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]

LANES = 5
KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
LIMITS = Limits(queue_s=0.5, grace_s=5.0)
OUTPOSTS = f"""\
  - name: {NAME}
    type: {KIND}
    project: {PROJECT}
    region: {REGION}
    service: LABEL
    image: {IMAGE}
    token: env://OUTPOST_TOKEN
    max_workers: 1
    lease: 5s
"""


class Google:
    """The stand-in, with a service for each home, and the variables that lead there."""

    def __init__(self, background: BackgroundCloudRun, variables: Mapping[str, str]) -> None:
        self._background = background
        self.elsewhere = Elsewhere(
            outposts=OUTPOSTS,
            variables=variables,
            steps=frozenset({"caller.session", "files.make", "files.note_attached"}),
            stop_steps=frozenset({"caller.session", "files.post"}),
            modules=("google.cloud.run_v2", "pyqwest"),
            forgets=True,
            ready=self.deploy,
            unrest=self.unrest,
        )

    def unrest(self, world: CrashWorld) -> str:
        """Say which requests of a home are open still; takes its service down once none is."""
        background = self._background

        def left() -> str:
            living = background.cloud.instances(world.label)
            if (
                not any(it.open for it in living)
                and not background.cloud.fronts[world.label].deleted
            ):
                background.cloud.undeploy(world.label)
            return "; ".join(f"{it.id} {it.state}, {it.open} requests open" for it in living)

        return background.do(left)

    async def deploy(self, _world: CrashWorld, federation: Federation) -> None:
        """Make a home's service."""
        outpost = (await federation.parts.sites()).backend(NAME)
        await outpost.deploy(await outpost.plan(IMAGE), lambda _: None)


@pytest.fixture
def google(
    tmp_path: Path, isolated_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Google]:
    with standing_in(tmp_path) as google:
        variables = google.elsewhere.variables
        isolated_environment["PYTHONPATH"] = variables["PYTHONPATH"]
        monkeypatch.syspath_prepend(variables["PYTHONPATH"].partition(":")[0])
        # Google's library looks there itself, in this process as well.
        monkeypatch.setenv(KEY_FILE, variables[KEY_FILE])
        yield google


@contextmanager
def standing_in(folder: Path) -> Iterator[Google]:
    with BackgroundCloudRun(CloudRun(limits=LIMITS)) as background:
        background.control.image(IMAGE, *serve_argv())
        background.control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()
        with GoogleIdentity(background.cloud.tokens) as identity:
            variables = {
                **installed(folder / "kinds", background.control.address),
                "OUTPOST_TOKEN": TOKEN,
                KEY_FILE: str(identity.key_file(folder)),
            }
            yield Google(background, variables)


async def test_killed_at_a_start_its_task_is_done_once(
    tmp_path: Path, remote: Remote, google: Google
) -> None:
    assert not await faults_of(google.elsewhere.started(), tmp_path, remote, LANES)


async def test_killed_at_a_stop_it_is_finished_once(
    tmp_path: Path, remote: Remote, google: Google
) -> None:
    assert not await faults_of(google.elsewhere.stopped(), tmp_path, remote, LANES)

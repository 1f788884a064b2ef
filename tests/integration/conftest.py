"""Workers run by the runner alone, for all tests that need some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.testing.faulty import bring
from tests.faulty_world import PATIENCE, FaultyWorld, MakeWorld
from tests.integration.lone_worker import Workers
from tests.integration.relayed_world import guarded_by_password, relayed_config
from tests.ssh_world import SshWorld, ssh_world
from tests.world import Remote, World


@pytest.fixture
def workers(
    tmp_path: Path, isolated_environment: dict[str, str], remote: Remote
) -> Iterator[Workers]:
    workers = Workers(tmp_path, isolated_environment, remote)
    yield workers
    workers.end()


@pytest.fixture
def elsewhere(
    tmp_path: Path, isolated_environment: dict[str, str], remote: Remote
) -> Iterator[Workers]:
    """Return workers that share nothing with the others but the remote."""
    workers = Workers(tmp_path / "elsewhere", dict(isolated_environment), remote)
    yield workers
    workers.end()


@pytest.fixture
def faulty(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWorld:
    """Return what makes a world of faulty outposts, known here and to commands started here."""
    packages = tmp_path / "packages"
    world.environment["PYTHONPATH"] = bring(packages)
    monkeypatch.syspath_prepend(str(packages))

    def make(*names: str, policy: str = PATIENCE, **more: object) -> FaultyWorld:
        return FaultyWorld(world, *names, policy=policy, **more)

    return make


@pytest.fixture
def relayed(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a configuration whose outpost, on this machine, holds no way to the remote."""
    return relayed_config(world, monkeypatch)


@pytest.fixture
def guarded(remote: Remote) -> Iterator[Remote]:
    """Return the remote as it is reached with a password alone."""
    with guarded_by_password(remote) as url:
        yield url


@pytest.fixture
def ssh(world: World) -> Iterator[SshWorld]:
    """Return hosts that are reached over SSH, as many as a test starts."""
    with ssh_world(world) as made:
        yield made

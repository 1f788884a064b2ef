"""Workers run by the runner alone, for all tests that need some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lone_worker import Workers
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
def ssh(world: World) -> Iterator[SshWorld]:
    """Return hosts that are reached over SSH, as many as a test starts."""
    with ssh_world(world) as made:
        yield made

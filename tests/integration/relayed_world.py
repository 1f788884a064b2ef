"""A world whose outpost, on this machine, holds no way to the remote: what its tests share."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles.git_http import git_over_http
from tests.doubles.relayed_outpost import bring
from tests.world import Remote, World, run, until

USER, PASSWORD = "sam", "pass%2Fw0rd-1234"
SECRET = "pass/w0rd-1234"
CONFIG = """\
outposts:
  - name: local
    type: relayed
    max_workers: 40
    min_free_mib: 0
    record: {record}
defaults:
  stop_grace: 4s
"""
OFTEN = "  checkpoint: 1s\n"
RETRIES = "policy:\n  retry: {max_attempts: 3, initial_backoff: 0s, max_backoff: 1s}\n"


def relayed_config(world: World, patch: pytest.MonkeyPatch) -> str:
    """Return a configuration with such an outpost, for this process and for commands it starts."""
    packages = world.folder / "packages"
    world.environment["PYTHONPATH"] = bring(packages)
    patch.syspath_prepend(str(packages))
    text = CONFIG.format(record=world.folder / "record")
    world.environment["OUTPOST_CONFIG"] = world.config(text)
    return text


@contextlib.contextmanager
def guarded_by_password(
    remote: Remote, *, first: Callable[[], None] = lambda: None
) -> Iterator[Remote]:
    """Yield the remote as it is reached with a password alone; ``first``: see the server."""
    with git_over_http(remote.path.parent, USER, SECRET, first=first) as address:
        host = address.removeprefix("http://")
        yield replace(remote, url=f"http://{USER}:{PASSWORD}@{host}/{remote.path.name}")


def wait_for(path: Path) -> str:
    """Return a script that waits until a file is there."""
    return f"while [ ! -e {shlex.quote(str(path))} ]; do sleep 0.02; done"


def while_there(path: Path) -> str:
    """Return a script that waits until a file is gone."""
    return f"while [ -e {shlex.quote(str(path))} ]; do sleep 0.02; done"


def push_from(clone: Path, remote: Remote, message: str, branch: str = "main") -> None:
    """Commit all that is in a clone, and push it."""
    for arguments in (
        ("add", "."),
        ("commit", "-qm", message),
        ("push", "-q", str(remote.path), f"HEAD:refs/heads/{branch}"),
    ):
        run("git", *arguments, environment=remote.environment, cwd=clone)


def moved(world: World, verb: str) -> list[int]:
    """Return the sizes of bundles, in pieces, that went through the shell (``put``, ``get``)."""
    rows = [line.split() for line in (world.folder / "record").read_text().splitlines()]
    return [int(size) for did, size, what in rows if did == verb and ".bundle" in what]


async def eventually(look: Callable[[], bool], what: str) -> None:
    """Wait as ``until`` does, while others on this event loop go on."""
    await asyncio.to_thread(until, look, what)

"""A machine reached over SSH that holds no way to the repository."""

from __future__ import annotations

import pytest

from outpost.model import State
from tests.integration.relayed_world import PASSWORD, SECRET, guarded_by_password
from tests.ssh_world import SshWorld
from tests.world import Remote, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_the_controller_pushes_for_a_machine(
    ssh: SshWorld, world: World, remote: Remote
) -> None:
    host = ssh.host("vm")
    with guarded_by_password(remote) as guarded:
        async with ssh.federation(host, push_via="controller") as federation:
            script = "git remote -v; cat .git/config; env; echo mended > words.txt"
            worker = await world.spawn(federation, script, remote=guarded)
            attempt = await worker.result()
    assert attempt.state is State.DONE, attempt.reason
    assert guarded.show(attempt.branch, "words.txt") == "mended"
    for path in host.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content, path
            assert PASSWORD.encode() not in content, path
            ours = "known_hosts" in path.name or path.suffix == ".pyz"
            assert ours or b"127.0.0.1" not in content, path

"""An engine on another machine: asked over SSH, and its workers reached the same way."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from outpost.errors import NotDispatched, Rejected
from outpost.model import Liveness
from outpost.testing import CHECKS, Bench, Outcome, run_check
from outpost.testing.bench import lines
from tests.docker_engine import running_engine
from tests.integration.docker_outposts import DockerWorld
from tests.ssh_hosts import Host
from tests.ssh_world import USER, SshWorld
from tests.world import Remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
CHECKED = ("work_is_pushed", "stop_ends_the_whole_tree", "the_dead_are_mended", "messages_arrive")


@pytest.fixture
def docker(ssh: SshWorld, served_remote: Remote) -> DockerWorld:
    """Return the engine as it is reached over SSH only, from a home whose ``ssh`` knows the way."""
    engine = running_engine()
    host = ssh.host("engine")
    program = shutil.which("docker")
    host.program("docker", f'DOCKER_HOST={engine.host} exec {program} "$@"')
    known, key = ssh.client.known_hosts, ssh.client.key
    ssh.client.config.write_text(
        f"UserKnownHostsFile {known}\nIdentityFile {key}\nIdentitiesOnly yes\nBatchMode yes\n"
    )
    folder = ssh.world.folder / "programs"
    folder.mkdir()
    client = folder / "ssh"
    client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {ssh.client.config} "$@"\n')
    client.chmod(0o755)
    ssh.world.environment["PATH"] = f"{folder}:{ssh.world.environment['PATH']}"
    there = replace(engine, host=f"ssh://{USER}@{host.address}:{host.port}")
    return DockerWorld(engine=there, world=ssh.world, remote=served_remote)


def host_of(ssh: SshWorld) -> Host:
    (host,) = ssh.hosts
    return host


@pytest.mark.parametrize("name", CHECKED)
async def test_workers_are_reached_through_the_engine(docker: DockerWorld, name: str) -> None:
    (check,) = [it for it in CHECKS if it.name == name]
    async with Bench(docker.bench_options()) as bench:
        result = await run_check(bench, check, slow=True)
    await docker.close()
    assert result.outcome is Outcome.PASSED, f"{result.reason}\n{result.detail}"


async def test_a_worker_outlives_the_way_to_its_engine(docker: DockerWorld, ssh: SshWorld) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        handle = await bench.spawn("echo begun; sleep 4; echo over")
        await bench.wait_for_line(handle, "begun")
        host_of(ssh).stop()
        seen = await docker.outpost().worker(handle).status()
        assert seen.liveness is Liveness.UNSEEN
        assert "Connection refused" in seen.detail
        with pytest.raises(NotDispatched, match="Connection refused"):
            await docker.outpost().spawn(bench.order("true"), docker.environment)
        host_of(ssh).start()
        assert lines(await bench.log(handle)) == ["begun", "over"]


async def test_a_machine_that_is_not_known_is_refused(docker: DockerWorld, ssh: SshWorld) -> None:
    ssh.client.forget(host_of(ssh))
    outpost = docker.outpost()
    health = await outpost.ping()
    assert (health.ok, health.detail) == (False, "Host key verification failed")
    assert health.hint == "ssh to that machine once, by hand, and say yes"
    with pytest.raises(Rejected):
        await outpost.spawn(docker.bench(outpost).order("true"), docker.environment)

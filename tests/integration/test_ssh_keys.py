"""Who a host is and who we are: whatever does not fit is refused, with the words that mend it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from outpost.errors import Rejected
from outpost.model import State
from tests.faulty_world import refused
from tests.integration.cli_world import Cli
from tests.integration.ssh_outposts import SECRET, bench_of, outpost_at, trouble_at, works
from tests.ssh_hosts import make_key
from tests.ssh_world import USER, SshWorld
from tests.world import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


async def test_a_host_that_is_not_known_is_refused_with_what_to_type(ssh: SshWorld) -> None:
    host = ssh.host("a", known=False)
    trouble = await trouble_at(ssh, host)
    assert isinstance(trouble.fault, Rejected)
    for said in (trouble.health.detail, trouble.fault.message):
        assert f"the host key of {USER}@127.0.0.1:{host.port} is not known" in said
    for hint in (trouble.health.hint, trouble.fault.hint):
        assert f"ssh -l {USER} -p {host.port}" in hint
        assert "127.0.0.1" in hint
    assert host.logins() == 0, "nobody was told our name"


@pytest.mark.parametrize("settings", [None, "Host *\n  StrictHostKeyChecking no\n"])
async def test_without_a_file_of_known_hosts_nobody_is_known(
    ssh: SshWorld, settings: str | None
) -> None:
    ssh.client.known_hosts.unlink()
    if settings:
        ssh.client.config.write_text(settings)
    host = ssh.host("a", known=False)
    assert isinstance((await trouble_at(ssh, host)).fault, Rejected)
    assert host.logins() == 0


async def test_a_changed_host_key_is_refused_until_the_old_one_is_taken_out(ssh: SshWorld) -> None:
    host = ssh.host("a")
    await works(ssh, host)
    host.change_key()
    before = host.logins()
    trouble = await trouble_at(ssh, host)
    assert isinstance(trouble.fault, Rejected)
    assert f"ssh-keygen -R '{host.known_as}'" in trouble.fault.hint
    assert host.logins() == before
    ssh.client.trust(host)
    await works(ssh, host)


async def test_a_pinned_key_is_the_only_one(ssh: SshWorld) -> None:
    host = ssh.host("a", known=False)
    await works(ssh, host, host_key=host.public_key)
    ssh.client.trust(host)
    other = make_key(host.folder / "other").with_suffix(".pub").read_text()
    trouble = await trouble_at(ssh, host, host_key=other)
    assert isinstance(trouble.fault, Rejected)
    assert "another host key than host_key says" in trouble.fault.message
    assert trouble.fault.hint


async def test_a_key_that_is_not_let_in_is_named(ssh: SshWorld) -> None:
    stranger = make_key(ssh.client.folder / "id_stranger")
    host = ssh.host("a")
    trouble = await trouble_at(ssh, host, ssh_key=str(stranger))
    assert isinstance(trouble.fault, Rejected)
    assert "does not let us in" in trouble.fault.message
    assert str(stranger) in trouble.fault.message
    bring = f"ssh-copy-id -i {stranger} -p {host.port} {USER}@127.0.0.1"
    assert trouble.fault.hint == f"put your public key there: {bring}, or name another ssh_key"


@pytest.mark.parametrize("content", [None, "no key at all\n"])
async def test_a_key_that_cannot_be_read_is_named(ssh: SshWorld, content: str | None) -> None:
    path = ssh.client.folder / "id_broken"
    if content:
        path.write_text(content)
    trouble = await trouble_at(ssh, ssh.host("a"), ssh_key=str(path))
    assert isinstance(trouble.fault, Rejected)
    assert str(path) in trouble.fault.message + trouble.fault.hint


async def test_a_key_with_a_passphrase_is_a_hint_to_the_agent(ssh: SshWorld) -> None:
    host = ssh.host("a")
    argv = ["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", str(ssh.client.key)]
    subprocess.run(argv, check=True, capture_output=True)
    trouble = await trouble_at(ssh, host)
    assert isinstance(trouble.fault, Rejected)
    assert "ssh-add" in trouble.fault.hint


@contextmanager
def agent_with(ssh: SshWorld) -> Iterator[None]:
    """Run an agent that holds the user's key, which lies nowhere else meanwhile."""
    socket = ssh.client.folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        until(socket.exists, "the agent listens")
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        argv = ["ssh-add", "-q", str(ssh.client.key)]
        subprocess.run(argv, env=environment, check=True, capture_output=True)
        ssh.client.key.rename(ssh.client.folder / "elsewhere")
        ssh.world.environment["SSH_AUTH_SOCK"] = str(socket)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def test_the_agents_keys_do_and_the_agent_stays_here(ssh: SshWorld) -> None:
    host = ssh.host("a")
    with agent_with(ssh):
        async with outpost_at(ssh, host, ssh_key=None) as outpost:
            bench = bench_of(ssh, outpost)
            script = 'echo "agent: ${SSH_AUTH_SOCK:-none}"'
            handle = await bench.spawn(script)
            lines = [it.fields.get("text") for it in await bench.log(handle)]
    assert "agent: none" in lines


async def test_the_users_settings_hold_and_what_they_include(ssh: SshWorld) -> None:
    host = ssh.host("a")
    more = ssh.client.folder / "more"
    more.write_text(f"Host box\n  Port {host.port}\n  User {USER}\n")
    ssh.client.config.write_text(
        f"Include {more}\nHost box\n  HostName 127.0.0.1\n  IdentityFile {ssh.client.key}\n"
    )
    await works(ssh, host, host="box", port=None, user=None, ssh_key=None)


async def test_the_file_of_known_hosts_that_the_settings_name_holds(ssh: SshWorld) -> None:
    host = ssh.host("a")
    ssh.client.known_hosts.rename(ssh.client.folder / "others")
    ssh.client.known_hosts.touch()
    ssh.client.config.write_text(f"UserKnownHostsFile {ssh.client.folder}/others\n")
    await works(ssh, host)


async def test_a_host_behind_another_is_reached_through_it(ssh: SshWorld) -> None:
    front = ssh.host("front", line=True)
    back = ssh.host("back", behind=front)
    ssh.client.config.write_text(
        f"Host front\n  HostName {front.address}\n  Port {front.port}\n"
        f"Host back\n  HostName 127.0.0.1\n  Port {back.port}\n  ProxyJump front\n"
        f"Host *\n  User {USER}\n  IdentityFile {ssh.client.key}\n"
    )
    await works(ssh, back, host="back", port=None, user=None, ssh_key=None)
    assert (front.logins(), back.logins()) == (1, 1)
    ssh.client.forget(front)
    trouble = await trouble_at(ssh, back, host="back", port=None, user=None, ssh_key=None)
    assert isinstance(trouble.fault, Rejected)


async def test_work_goes_elsewhere_and_the_decision_says_why(ssh: SshWorld) -> None:
    unknown, sound = ssh.host("a", known=False), ssh.host("b")
    async with ssh.federation(unknown, sound) as federation:
        options = ssh.world.options("true", ssh.world.remote)
        submitted = await federation.submit(await federation.resolve("text:Mend", options))
        assert submitted.worker
        attempt = await submitted.worker.result()
    assert (attempt.outpost, attempt.state) == ("b", State.DONE)
    assert "the host key of" in refused(submitted.decision, "a").detail


def test_a_start_that_waits_for_a_key_says_so_and_goes_on_with_it(ssh: SshWorld) -> None:
    host = ssh.host("a", known=False)
    cli = Cli(ssh.world)
    ssh.world.environment["OUTPOST_CONFIG"] = ssh.world.config(ssh.config(host))
    ssh.world.environment["ANTHROPIC_API_KEY"] = SECRET
    queued = cli("spawn", "-m", "Mend", "--repo", ssh.world.remote.url, "--", "true")
    assert f"the host key of {USER}@127.0.0.1:{host.port} is not known" in queued.out + queued.err
    assert SECRET not in queued.out + queued.err
    ssh.client.trust(host)
    assert cli.spawn("true", "--wait")["state"] == "done"
    states = [row["state"] for row in cli("ps", "--all", "--json").json()]
    assert states == ["done", "done"], "the one that waited was started, too"

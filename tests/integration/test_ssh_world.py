"""The hosts that tests reach over SSH are what those tests take them for."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.ssh_hosts import Host, make_key
from tests.ssh_world import USER, SshWorld

pytestmark = pytest.mark.integration


def said(ssh: SshWorld, host: Host, command: str, *options: str) -> str:
    """Return what a command prints there, or why the usual client could not run it."""
    ssh.client.config.touch()
    argv = [
        *("ssh", "-F", str(ssh.client.config), "-i", str(ssh.client.key)),
        *("-o", f"UserKnownHostsFile={ssh.client.known_hosts}", "-o", "BatchMode=yes"),
        *("-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=1", *options, "-p", str(host.port)),
        *(f"{USER}@{host.address}", command),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("line", [False, True])
def test_a_host_has_a_home_and_programs_of_its_own(ssh: SshWorld, line: bool) -> None:
    host = ssh.host("a", line=line)
    host.program("python3", "echo Python 3.6.9")
    lines = said(ssh, host, "echo $HOME; cd; pwd; python3 -V; echo $TMUX_TMPDIR").splitlines()
    assert lines == [str(host.home), str(host.home), "Python 3.6.9", str(host.sockets)]
    assert host.logins() == 1


def test_programs_can_be_absent(ssh: SshWorld) -> None:
    host = ssh.host("a", prepare=lambda host: host.only(without=["python", "tmux"]))
    lines = said(ssh, host, "command -v git; command -v tmux; command -v python3; echo").split()
    assert lines == [f"{host.programs}/git"]


def test_keys_can_be_wrong(ssh: SshWorld) -> None:
    host = ssh.host("a", known=False)
    assert "Host key verification failed" in said(ssh, host, "true")
    ssh.client.trust(host)
    assert said(ssh, host, "echo in") == "in\n"
    host.change_key()
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in said(ssh, host, "true")
    ssh.client.trust(host)
    host.authorize(make_key(host.folder / "other").with_suffix(".pub").read_text())
    assert "Permission denied (publickey)" in said(ssh, host, "true")


def test_a_line_is_late_lossy_and_cut(ssh: SshWorld) -> None:
    host = ssh.host("a", line=True)
    assert host.line
    host.line.set(delay_s=0.05)
    began = time.monotonic()
    assert said(ssh, host, "echo in") == "in\n"
    assert time.monotonic() - began > 0.5
    host.line.set(delay_s=0, loss=0.1)
    size = 50_000
    assert len(said(ssh, host, f"head -c {size} /dev/zero")) == size
    host.line.cut()
    assert "timed out" in said(ssh, host, "true")
    host.line.mend()
    assert said(ssh, host, "echo in") == "in\n"


def test_a_host_behind_another_is_reached_from_there_only(ssh: SshWorld) -> None:
    front = ssh.host("front", line=True)
    back = ssh.host("back", behind=front)
    assert "Connection refused" in said(ssh, back, "true")
    jump = (
        f"ssh -F {ssh.client.config} -i {ssh.client.key} -p {front.port} -W %h:%p"
        f" -o UserKnownHostsFile={ssh.client.known_hosts} {USER}@{front.address}"
    )
    assert said(ssh, back, "echo in", "-o", f"ProxyCommand={jump}") == "in\n"


def test_a_host_hangs_up_and_comes_back(ssh: SshWorld) -> None:
    host = ssh.host("a")
    ssh.client.config.touch()
    argv = [
        *("ssh", "-F", str(ssh.client.config), "-i", str(ssh.client.key), "-p", str(host.port)),
        *("-o", f"UserKnownHostsFile={ssh.client.known_hosts}", f"{USER}@{host.address}"),
        "echo in; cat",
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"in\n"
        host.hang_up()
        assert client.wait(10) == 255
    host.stop()
    assert "Connection refused" in said(ssh, host, "true")
    host.start()
    assert said(ssh, host, "echo in") == "in\n"

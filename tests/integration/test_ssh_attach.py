"""``outpost attach`` and the other commands about one worker, on a machine reached over SSH."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cli_world import OUTPOST, Cli
from tests.ssh_hosts import Host
from tests.ssh_world import USER, SshWorld
from tests.world import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

SCREEN = "echo ready for you; read line; echo $line > typed.txt"


@pytest.fixture
def cli(ssh: SshWorld) -> Cli:
    return Cli(ssh.world)


class Desktop:
    """A tmux of the user's own on this machine, with one window in which a command runs."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self._cli = cli
        self._folder = folder
        self._number = 0

    def run(self, *command: str, term: str = "") -> None:
        """Run a command in the window; what it exits with is shown behind it."""
        line = shlex.join(command)
        if term:
            line = f"env TERM={term} {line}"
        window = f"cd {self._cli.here}; {line}; echo left with $?; exec sleep 60"
        # The server that was ended may not be gone yet.
        self._number += 1
        self._tmux("new-session", "-d", "-s", "window", "-x", "120", "-y", "30", "sh", "-c", window)

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", "-t", "window:", *keys)

    def shown(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "window:")

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.shown(), f"{text!r} in the window")

    def end(self) -> None:
        self._tmux("kill-server", check=False)

    def _tmux(self, *arguments: str, check: bool = True) -> str:
        socket = str(self._folder / f"desktop-{self._number}")
        argv = ["tmux", "-S", socket, "-f", os.devnull, *arguments]
        done = subprocess.run(
            argv, env=self._cli.world.environment, capture_output=True, text=True, check=check
        )
        return done.stdout


@pytest.fixture
def desktop(cli: Cli, tmp_path: Path) -> Iterator[Desktop]:
    desktop = Desktop(cli, tmp_path)
    yield desktop
    desktop.end()


def configure(cli: Cli, config: str) -> None:
    (cli.here / "outposts.yaml").write_text(config)


def seen_through(cli: Cli, desktop: Desktop, *, term: str = "") -> None:
    """Start a program with a screen, attach to it, and type its end."""
    worker = cli.spawn(SCREEN, "--interactive")["worker"]
    desktop.run(*OUTPOST, "attach", worker, term=term)
    desktop.wait_for("ready for you")
    assert worker in desktop.shown(), "the bar of the view there"
    desktop.press("from a human", "Enter")
    desktop.wait_for("left with 0")
    cli("logs", "-f", worker)
    done = cli("status", worker, "--json").json()
    assert done["state"] == "done"
    assert cli.world.remote.git("show", f"{done['branch']}:typed.txt") == "from a human"


def plain(ssh: SshWorld) -> str:
    return ssh.config(ssh.host("vm"))


def with_a_pinned_key(ssh: SshWorld) -> str:
    host = ssh.host("vm", known=False)
    # To the program ssh, this machine would be another one.
    ssh.client.known_hosts.write_text(
        f"{host.known_as} {ssh.client.key.with_suffix('.pub').read_text()}"
    )
    return ssh.config(host, host_key=host.public_key)


def with_a_file_of_known_hosts(ssh: SshWorld) -> str:
    host = ssh.host("vm", known=False)
    path = ssh.world.folder / "hosts that are known"
    path.write_text(f"{host.known_as} {host.public_key}\n")
    return ssh.config(host, known_hosts=str(path))


def behind_another(ssh: SshWorld) -> str:
    front = ssh.host("front", line=True)
    back = ssh.host("back", behind=front)
    path = ssh.world.folder / "ssh_config"
    path.write_text(
        f"Host front\n  HostName {front.address}\n  Port {front.port}\n"
        f"Host back\n  HostName 127.0.0.1\n  Port {back.port}\n  ProxyJump front\n"
        # What would keep a worker's view from opening.
        f"  RemoteCommand echo no\n  LocalForward {back.port} 127.0.0.1:9\n  RequestTTY force\n"
        f"Host *\n  User {USER}\n  IdentityFile {ssh.client.key}\n"
        f"  UserKnownHostsFile {ssh.client.known_hosts}\n"
    )
    return ssh.config(back, host="back", port=None, user=None, ssh_key=None, ssh_config=str(path))


@pytest.mark.parametrize(
    "way", [plain, with_a_pinned_key, with_a_file_of_known_hosts, behind_another]
)
def test_a_worker_is_looked_at_and_typed_to(
    ssh: SshWorld, cli: Cli, desktop: Desktop, way: Callable[[SshWorld], str]
) -> None:
    configure(cli, way(ssh))
    seen_through(cli, desktop)


def test_leaving_leaves_the_worker_alone(ssh: SshWorld, cli: Cli, desktop: Desktop) -> None:
    configure(cli, ssh.config(ssh.host("vm")))
    worker = cli.spawn("echo ready for you; sleep 60")["worker"]
    for _ in range(2):
        desktop.run(*OUTPOST, "attach", worker)
        desktop.wait_for("ready for you")
        desktop.press("C-b", "d")
        desktop.wait_for("left with 0")
        desktop.end()
    assert cli("status", worker, "--json").json()["state"] == "working"
    cli("stop", worker, "--grace", "1s")


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_whatever_shell_the_user_has_there(
    ssh: SshWorld, cli: Cli, desktop: Desktop, require: Callable[[str], str], shell: str
) -> None:
    command = f'{require(shell)} -c "$SSH_ORIGINAL_COMMAND"'
    configure(cli, ssh.config(ssh.host("vm", ForceCommand=command)))
    seen_through(cli, desktop)


def test_a_terminal_that_the_machine_does_not_know(
    ssh: SshWorld, cli: Cli, desktop: Desktop
) -> None:
    configure(cli, ssh.config(ssh.host("vm")))
    seen_through(cli, desktop, term="xterm-of-tomorrow")


def test_tmux_is_found_where_workers_find_it(ssh: SshWorld, cli: Cli, desktop: Desktop) -> None:
    def prepare(host: Host) -> None:
        host.only(without=["tmux"])
        local = host.home / ".local" / "bin"
        local.mkdir(parents=True)
        (local / "tmux").symlink_to("/usr/bin/tmux")

    configure(cli, ssh.config(ssh.host("vm", prepare=prepare)))
    seen_through(cli, desktop)


def test_a_machine_with_another_key_by_now_is_not_attached_to(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("vm")
    configure(cli, ssh.config(host))
    worker = cli.spawn("sleep 60")["worker"]
    host.change_key()
    ran = cli("attach", worker, code=1)
    assert "is another one than is known" in ran.err
    ssh.client.trust(host)
    cli("stop", worker, "--grace", "1s")


def test_the_other_commands_about_a_worker(ssh: SshWorld, cli: Cli) -> None:
    gate = cli.world.folder / "gate"
    configure(cli, ssh.config(ssh.host("vm")))
    script = (
        "echo early; echo right > words.txt;"
        f" while [ ! -e {gate} ]; do sleep 0.05; done; echo late; sleep 60"
    )
    worker = cli.spawn(script)["worker"]
    assert "needs a terminal" in cli("attach", worker, code=2).err
    with cli.start("logs", "-f", worker) as follower:
        output = follower.stdout
        assert output
        until(lambda: "early" in output.readline(), "the first line")
        assert "+right" in cli("diff", worker).out
        told = cli("send", worker, "hello", code=1)
        assert told.err.startswith(
            f"error: {worker} did not take it: this agent takes no messages\n"
        )
        gate.touch()
        until(lambda: "late" in output.readline(), "the later line")
        stopped = cli("stop", worker, "--grace", "3s", "--json").json()
        assert (stopped["state"], stopped["reason"]) == ("stopped", "by outpost stop")
        assert follower.wait(20) == 0
    assert cli.world.remote.show(stopped["branch"], "words.txt") == "right"

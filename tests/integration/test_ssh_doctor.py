"""``outpost doctor`` and machines reached over SSH: what they lack, and what to type about it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli_world import Cli, Ran
from tests.ssh_hosts import Host, make_key
from tests.ssh_world import SshWorld
from tests.world import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

INSTALL = "there: sudo apt-get install -y"
AGENTS = """\
defaults: {agent: claude}
agents:
  codex: {}
  command: {argv: [no-such-agent, -x]}
"""


@pytest.fixture
def cli(ssh: SshWorld) -> Cli:
    ssh.world.environment["ANTHROPIC_API_KEY"] = "sk-ant-0123456789"
    return Cli(ssh.world)


def configure(cli: Cli, config: str) -> None:
    (cli.here / "outposts.yaml").write_text(config)


def outposts(ran: Ran) -> list[tuple[str, str, str]]:
    """Return level, detail and hint of each check of outposts."""
    checks = [it for it in ran.json()["checks"] if it["part"] == "outposts"]
    return [(it["level"], it["detail"], it["hint"]) for it in checks]


def without(*programs: str) -> Callable[[Host], None]:
    return lambda host: host.only(without=programs)


def old_python(host: Host) -> None:
    host.only(without=["python"])
    host.program("python3", '[ "$1" = -V ] && echo "Python 3.8.10" || exit 93')


def old_git(host: Host) -> None:
    host.program("git", "echo git version 2.25.1")


def sick(ssh: SshWorld, cli: Cli, host: Host, /, **options: object) -> tuple[str, str]:
    """Return what is wrong with a host, and the hint; a sound one beside it stays sound."""
    sound = ssh.host("sound")
    lines = ssh.config(host, more="", **options).splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith("policy:"))
    beside = json.dumps({"name": "sound", "type": "ssh", **ssh.options(sound)})
    configure(cli, "".join([*lines[:at], f"  - {beside}\n"]))
    found = outposts(cli("doctor", "--json", code=1))
    problems = [(detail, hint) for level, detail, hint in found if level == "problem"]
    assert [detail for level, detail, _ in found if detail.startswith("sound can take work")]
    [(detail, hint)] = problems
    assert detail.startswith(f"{host.name}: ")
    shown = cli("doctor", code=1).out
    assert detail.split()[-1] in shown
    for line in hint.splitlines():
        assert f"→ {line}" in shown
    return detail, hint


def test_a_sound_machine_says_what_it_has(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("vm")
    host.program("claude", "echo 2.1.329")
    configure(cli, ssh.config(host))
    [(level, detail, hint)] = outposts(cli("doctor", "--json", code=1))
    assert (level, hint) == ("ok", "")
    assert detail.startswith("vm can take work: Python 3.")
    assert f" MiB free at {host.home}" in detail


def test_agents_that_the_machine_has_not_are_named_with_how_to_get_them(
    ssh: SshWorld, cli: Cli
) -> None:
    host = ssh.host("vm")
    configure(cli, ssh.config(host).replace("defaults: {stop_grace: 4s}\n", AGENTS))
    found = outposts(cli("doctor", "--json", code=1))
    assert [it[0] for it in found] == ["ok", "warning", "warning", "warning"]
    assert dict(it[1:] for it in found[1:]) == {
        "vm: claude is not installed there": (
            "on vm: install it with: npm install -g @anthropic-ai/claude-code"
        ),
        "vm: codex is not installed there": "on vm: install it with: npm install -g @openai/codex",
        "vm: no-such-agent is not installed there": (
            "on vm: install it, or give its path: no-such-agent"
        ),
    }
    host.program("codex", "echo 0.1.2")
    local = host.home / ".local" / "bin"
    local.mkdir(parents=True)
    host.program("claude", "echo 2.1.329").rename(local / "claude")
    found = outposts(cli("doctor", "--json", code=1))
    assert [it[1] for it in found[1:]] == ["vm: no-such-agent is not installed there"]


@pytest.mark.parametrize(
    ("prepare", "told", "typed"),
    [
        (without("python"), "no Python there", "sudo apt-get install python3"),
        (old_python, "python3 is Python 3.8.10", "sudo apt-get install python3"),
        (without("git"), "git is not installed there", f"{INSTALL} git"),
        (old_git, "git 2.25.1 there is too old: 2.29 or newer is needed", "install a newer git"),
        (without("tmux"), "tmux is not installed there", f"{INSTALL} tmux"),
        (without("git", "tmux"), "git and tmux are not installed", f"{INSTALL} git tmux"),
    ],
)
def test_what_is_missing_is_said_with_what_installs_it(
    ssh: SshWorld, cli: Cli, prepare: Callable[[Host], None], told: str, typed: str
) -> None:
    detail, hint = sick(ssh, cli, ssh.host("vm", prepare=prepare))
    assert told in detail
    assert typed in hint


def test_a_full_disk_and_a_closed_home_are_named(
    ssh: SshWorld, cli: Cli, small_disk: Callable[[Path, int], None]
) -> None:
    host = ssh.host("vm")
    small_disk(host.home, 8)
    detail, hint = sick(ssh, cli, host, min_free_mib=16)
    assert f"MiB are free at {host.home} there, less than min_free_mib (16)" in detail
    assert hint == "outpost prune"
    subprocess.run(["mount", "-o", "remount,ro", str(host.home)], check=True)
    found = outposts(cli("doctor", "--json", code=1))
    assert ("problem", f"vm: nothing can be written to {host.home} there") in [
        it[:2] for it in found
    ]


def test_a_machine_out_of_reach_is_told_of_once(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("vm")
    host.stop()
    host.port = free_port()
    detail, hint = sick(ssh, cli, host)
    assert detail == "vm: does not answer: Connection refused"
    assert hint.startswith("try it by hand: ssh ")


def test_a_refused_key_is_named(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("vm")
    host.authorize(make_key(host.folder / "other").with_suffix(".pub").read_text())
    detail, hint = sick(ssh, cli, host)
    assert f"does not let us in with any key: tried {ssh.client.key}" in detail
    assert "ssh-copy-id" in hint


def test_host_keys_that_are_unknown_and_changed_are_two_things(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("vm", known=False)
    detail, hint = sick(ssh, cli, host)
    assert "is not known: ssh-ed25519 SHA256:" in detail
    assert f"host_key: {host.public_key}" in hint.splitlines()[1]
    ssh.client.trust(host)
    host.change_key()
    configure(cli, ssh.config(host))
    [(level, detail, hint)] = outposts(cli("doctor", "--json", code=1))
    assert level == "problem"
    assert "is another one than is known: ssh-ed25519 SHA256:" in detail
    assert f"ssh-keygen -R '{host.known_as}'" in hint
    assert "somebody may stand in between" in hint

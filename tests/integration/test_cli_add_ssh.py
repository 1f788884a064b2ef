"""``outpost add ssh``: no machine is used before somebody has said that it is the one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from outpost.config import parse
from tests.integration.cli_world import Cli, Ran, Terminal
from tests.ssh_hosts import Host, make_key
from tests.ssh_world import USER, SshWorld
from tests.world import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

CONFIG = "outposts:\n  - {name: local, type: local}   # this machine\n"
SHOWS = "on the machine this shows it: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"


@pytest.fixture
def cli(ssh: SshWorld) -> Cli:
    cli = Cli(ssh.world)
    file(cli).write_text(CONFIG)
    return cli


def file(cli: Cli) -> Path:
    return cli.here / "outposts.yaml"


def words(ssh: SshWorld, host: Host, *more: str) -> tuple[str, ...]:
    """Return the command that adds a host as ``vm``."""
    given = {key: str(value) for key, value in ssh.options(host).items()}
    flags = [it for key, value in given.items() for it in (f"--{key.replace('_', '-')}", value)]
    return ("add", "ssh", "--name", "vm", *flags, *more)


def entry(cli: Cli) -> dict[str, object]:
    """Return what the file says of the machine."""
    [_, found] = parse(file(cli).read_bytes()).outposts
    assert (found.name, found.type) == ("vm", "ssh")
    return dict(found.options)


def fingerprint(key: str) -> str:
    """Return a key's fingerprint as OpenSSH says it."""
    done = subprocess.run(
        ["ssh-keygen", "-lf", "-"], input=key, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[1]


def well(ran: Ran) -> None:
    """Check that the machine was asked how it is, and said so."""
    last = ran.out.splitlines()[-1]
    assert last.startswith("vm: ok, workers 0; Python 3."), last
    assert " MiB free at " in last


def test_a_known_machine_is_added_without_a_question(ssh: SshWorld, cli: Cli) -> None:
    ran = cli(*words(ssh, ssh.host("a"), "--yes"))
    well(ran)
    assert ran.err == ""
    assert "host_key" not in entry(cli)


def test_an_unknown_one_is_shown_and_a_yes_pins_its_key(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a", known=False)
    shown = f"ssh-ed25519 {fingerprint(host.public_key)}"
    with Terminal(cli, 200, words(ssh, host)) as terminal:
        terminal.read_until("Is this the machine? [y/N]: ")
        assert terminal.lines()[:2] == [
            f"note: the host key of {USER}@127.0.0.1:{host.port} is not known: {shown}",
            f"note: {SHOWS}",
        ]
        assert host.logins() == 0
        terminal.press(b"y\n")
        terminal.read_until("[Y/n]: ")
        assert f"host_key: {host.public_key}" in "\n".join(terminal.lines())
        assert file(cli).read_text() == CONFIG
        terminal.press(b"y\n")
        terminal.read_to_end()
    assert terminal.process.returncode == 0, terminal.lines()
    assert entry(cli)["host_key"] == host.public_key
    assert "vm: ok, workers 0; Python 3." in terminal.lines()[-1]
    assert not ssh.client.known_hosts.read_text(), "the user's own file stays as it is"
    host.change_key()
    assert "has another host key than host_key says" in cli("status", "vm").out


def test_a_terminal_asks_for_name_and_host_only(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a")
    ssh.client.config.write_text(
        f"Host box\n  HostName 127.0.0.1\n  Port {host.port}\n  User {USER}\n"
        f"  IdentityFile {ssh.client.key}\n"
    )
    with Terminal(cli, 200, ("add", "ssh")) as terminal:
        terminal.read_until("name (what it is called) [ssh]: ")
        terminal.press(b"vm\n")
        terminal.read_until("host (Name or address, or an alias of ~/.ssh/config.): ")
        terminal.press(b"box\n")
        terminal.read_until("[Y/n]: ")
        terminal.press(b"y\n")
        terminal.read_to_end()
    assert terminal.process.returncode == 0, terminal.lines()
    assert "Is this the machine?" not in "\n".join(terminal.lines())
    assert entry(cli) == {"host": "box"}


@pytest.mark.parametrize(("keys", "code"), [(b"\n", 1), (b"n\n", 1), (b"\x03", 130)])
def test_anything_but_a_yes_adds_nothing(ssh: SshWorld, cli: Cli, keys: bytes, code: int) -> None:
    host = ssh.host("a", known=False)
    with Terminal(cli, 200, words(ssh, host)) as terminal:
        terminal.read_until("Is this the machine? [y/N]: ")
        terminal.press(keys)
        terminal.read_to_end()
    assert terminal.process.returncode == code
    assert terminal.lines()[-1] == "note: nothing was written"
    assert file(cli).read_text() == CONFIG
    assert host.logins() == 0


@pytest.mark.parametrize("more", [(), ("--yes",)])
def test_where_nobody_is_asked_the_flag_is_said(
    ssh: SshWorld, cli: Cli, more: tuple[str, ...]
) -> None:
    host = ssh.host("a", known=False)
    ran = cli(*words(ssh, host, *more), code=2)
    told = " ".join(ran.err.split())
    assert f"is not known: ssh-ed25519 {fingerprint(host.public_key)}" in told
    assert f"hint: if it is the machine: --host-key '{host.public_key}'\n" in ran.err
    assert file(cli).read_text() == CONFIG
    well(cli(*words(ssh, host, *more, "--host-key", host.public_key)))
    assert entry(cli)["host_key"] == host.public_key
    assert host.logins() > 0


def test_a_terminal_with_yes_agrees_to_no_key(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a", known=False)
    code, lines = cli.terminal(200, *words(ssh, host, "-y"))
    assert code == 2, lines
    assert file(cli).read_text() == CONFIG


@pytest.mark.parametrize("known", [True, False])
def test_a_fingerprint_agrees_to_the_key_that_has_it(ssh: SshWorld, cli: Cli, known: bool) -> None:
    host = ssh.host("a", known=known)
    well(cli(*words(ssh, host, "--host-key", fingerprint(host.public_key))))
    assert entry(cli)["host_key"] == host.public_key


def test_another_fingerprint_is_refused(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a")
    other = make_key(host.folder / "other").with_suffix(".pub").read_text()
    ran = cli(*words(ssh, host, "--host-key", fingerprint(other)), code=1)
    assert f"has another host key: ssh-ed25519 {fingerprint(host.public_key)}" in ran.err
    ran = cli(*words(ssh, host, "--host-key", other.strip()), code=1)
    assert "has another host key than host_key says" in ran.err
    assert fingerprint(host.public_key) in ran.err
    ran = cli(*words(ssh, host, "--host-key", "ssh-ed25519 AAAA"), code=1)
    assert f"the host_key of {USER}@127.0.0.1:{host.port} is no key" in ran.err
    assert file(cli).read_text() == CONFIG
    assert host.logins() == 0


def test_a_changed_key_is_refused_with_what_to_type(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a")
    host.change_key()
    ran = cli(*words(ssh, host, "--yes"), code=1)
    assert f"the host key of {USER}@127.0.0.1:{host.port} is another one than is known" in ran.err
    assert fingerprint(host.public_key) in ran.err
    assert f"ssh-keygen -R '{host.known_as}'\n" in ran.err
    assert "somebody may stand in between" in ran.err
    assert file(cli).read_text() == CONFIG
    assert host.logins() == 0
    home = cli.world.environment["HOME"]
    argv = ["ssh-keygen", "-f", f"{home}/.ssh/known_hosts", "-R", host.known_as]
    subprocess.run(argv, check=True, capture_output=True)
    assert "is not known" in cli(*words(ssh, host, "--yes"), code=2).err


def test_a_key_of_another_type_than_the_known_one_is_a_changed_one(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a", known=False)
    argv = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(host.folder / "other")]
    subprocess.run(argv, check=True)
    other = (host.folder / "other.pub").read_text()
    ssh.client.known_hosts.write_text(f"{host.known_as} {other}")
    ran = cli(*words(ssh, host, "--yes"), code=1)
    assert "is another one than is known" in ran.err
    assert "ssh-keygen -R" in ran.err
    assert file(cli).read_text() == CONFIG


def test_a_revoked_key_is_no_good(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a", known=False)
    ssh.client.known_hosts.write_text(f"@revoked * {host.public_key}\n")
    ran = cli(*words(ssh, host, "--yes"), code=1)
    assert "is marked as revoked" in ran.err
    assert file(cli).read_text() == CONFIG


def test_a_machine_out_of_reach_is_added_but_not_well(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a", known=False)
    host.stop()
    ran = cli(*words(ssh, host, "--yes"), code=1)
    assert "note: vm does not answer: Connection refused; it can be added" in ran.err
    assert "error: vm is in the file, but not well: does not answer" in ran.err
    assert "hint: try it by hand: ssh " in ran.err
    assert "host_key" not in entry(cli)
    host.start()
    later = cli("doctor", code=1).out
    assert f"host_key: {host.public_key}" in later


def test_a_fingerprint_needs_a_machine_that_answers(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a", known=False)
    host.port = free_port()
    ran = cli(*words(ssh, host, "--host-key", fingerprint(host.public_key)), code=1)
    assert "the fingerprint can be compared only when it does" in ran.err
    assert file(cli).read_text() == CONFIG


def test_one_that_does_not_let_us_in_is_added_but_not_well(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a")
    host.authorize(make_key(host.folder / "other").with_suffix(".pub").read_text())
    ran = cli(*words(ssh, host), code=1)
    assert "vm is in the file, but not well" in ran.err
    assert "does not let us in" in ran.err
    assert "hint: put your public key there: ssh-copy-id" in ran.err
    assert entry(cli)["host"] == "127.0.0.1"


def test_files_are_those_of_the_folder_where_it_is_added(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a")
    keys = cli.here / "keys"
    keys.mkdir()
    shutil.copyfile(ssh.client.key, keys / "id_test")
    (keys / "id_test").chmod(0o600)
    (keys / "known").write_text(ssh.client.known_hosts.read_text())
    (ssh.client.folder / "none").touch()
    own = ("--ssh-key", "keys/id_test", "--known-hosts", "keys/known")
    well(cli(*words(ssh, host, *own, "--ssh-config", "~/.ssh/none", "--yes")))
    said = entry(cli)
    assert said["ssh_key"] == str(keys / "id_test")
    assert said["known_hosts"] == str(keys / "known")
    assert said["ssh_config"] == "~/.ssh/none"
    refused = cli(*words(ssh, host, "--ssh-key", "", "--name", "other"), code=2)
    assert "--ssh-key: expected a whole path, which begins with / or ~/" in refused.err


def test_the_users_settings_lead_to_the_key(ssh: SshWorld, cli: Cli) -> None:
    front = ssh.host("front", line=True)
    back = ssh.host("back", behind=front, known=False)
    ssh.client.config.write_text(
        f"Host front\n  HostName {front.address}\n  Port {front.port}\n"
        f"Host back\n  HostName 127.0.0.1\n  Port {back.port}\n  ProxyJump front\n"
        f"Host *\n  User {USER}\n  IdentityFile {ssh.client.key}\n"
    )
    asked = ("add", "ssh", "--name", "vm", "--host", "back", "--min-free-mib", "0")
    ran = cli(*asked, code=2)
    assert f"the host key of back is not known: ssh-ed25519 {fingerprint(back.public_key)}" in (
        ran.err
    )
    well(cli(*asked, "--host-key", fingerprint(back.public_key)))
    assert entry(cli)["host_key"] == back.public_key
    ssh.client.forget(front)
    file(cli).write_text(CONFIG)
    ran = cli(*asked, code=1)
    assert "a host on the way to back cannot be trusted" in ran.err
    assert "hint: look at its key and say yes: ssh " in ran.err
    assert file(cli).read_text() == CONFIG


@pytest.mark.parametrize("setting", ["none", os.devnull])
def test_settings_that_know_nobody_trust_nobody(ssh: SshWorld, cli: Cli, setting: str) -> None:
    host = ssh.host("a")
    ssh.client.config.write_text(
        f"Host *\n  UserKnownHostsFile {setting}\n  StrictHostKeyChecking no\n"
    )
    assert "is not known" in cli(*words(ssh, host), code=2).err
    assert host.logins() == 0


def test_known_hosts_that_cannot_be_read_are_said_to_be_so(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a")
    ssh.client.known_hosts.write_text("nonsense\n")
    ran = cli(*words(ssh, host), code=1)
    assert "the keys of known hosts cannot be read" in ran.err
    assert str(ssh.client.known_hosts) in ran.err


def test_a_dry_run_asks_no_machine(ssh: SshWorld, cli: Cli) -> None:
    host = ssh.host("a", known=False)
    ran = cli(*words(ssh, host, "--dry-run"))
    assert f"port: {host.port}" in ran.out
    assert "Connection from" not in host.log()
    assert file(cli).read_text() == CONFIG


def test_a_certificate_is_as_good_as_who_signed_it(ssh: SshWorld, cli: Cli) -> None:
    def prepare(host: Host) -> None:
        authority = make_key(host.folder / "authority")
        sign = ["-q", "-s", str(authority), "-I", "host", "-h", "-n", "127.0.0.1"]
        for name, valid in (("expired", "20200101:20210101"), ("host_key", "always:forever")):
            public = host.folder / f"{name}.pub"
            shutil.copy(host.folder / "host_key.pub", host.folder / "copy.pub")
            (host.folder / "copy.pub").replace(public)
            subprocess.run(["ssh-keygen", *sign, "-V", valid, str(public)], check=True)
        host.options["HostCertificate"] = str(host.folder / "host_key-cert.pub")

    host = ssh.host("a", known=False, prepare=prepare)
    # Nobody knows who signed it: then the key itself is what counts.
    assert fingerprint(host.public_key) in cli(*words(ssh, host), code=2).err
    well(cli(*words(ssh, host, "--host-key", fingerprint(host.public_key))))
    assert entry(cli)["host_key"] == host.public_key
    file(cli).write_text(CONFIG)
    authority = (host.folder / "authority.pub").read_text()
    ssh.client.known_hosts.write_text(f"@cert-authority 127.0.0.1 {authority}")
    well(cli(*words(ssh, host)))
    assert "host_key" not in entry(cli)
    worker = cli.spawn("echo seen; sleep 60", "--on", "vm")["worker"]
    with Terminal(cli, 100, ["attach", worker]) as terminal:
        terminal.read_until("seen")
        terminal.press(b"\x02d")
        terminal.read_to_end()
    assert terminal.process.returncode == 0, terminal.lines()
    cli("stop", worker, "--grace", "1s")
    ssh.client.known_hosts.write_text(f"@cert-authority * {authority}")
    shutil.copy(host.folder / "expired-cert.pub", host.folder / "host_key-cert.pub")
    host.restart()
    assert "the certificate of" in cli("status", "vm").out

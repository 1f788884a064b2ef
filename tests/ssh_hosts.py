"""One machine reached over SSH: an ``sshd`` with a home, programs and keys of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.ssh_line import Line
from tests.world import found_in, free_port, until

SSHD = "/usr/sbin/sshd"
LISTENS = "Server listening"


class Client:
    """What a user's ``.ssh`` holds: a key, the hosts that are known, a configuration."""

    def __init__(self, home: Path) -> None:
        self.folder = home / ".ssh"
        self.folder.mkdir(mode=0o700)
        self.key = make_key(self.folder / "id_test")
        self.config = self.folder / "config"
        self.known_hosts = self.folder / "known_hosts"
        self.known_hosts.touch(mode=0o600)

    def trust(self, host: Host) -> None:
        """Know a host by the key that it has now, and by no other."""
        self.forget(host)
        with self.known_hosts.open("a") as file:
            file.write(f"{host.known_as} {host.public_key}\n")

    def forget(self, host: Host) -> None:
        lines = self.known_hosts.read_text().splitlines(keepends=True)
        self.known_hosts.write_text("".join(it for it in lines if it.split()[0] != host.known_as))


def make_key(path: Path) -> Path:
    """Make a key without a passphrase in place of any that is there; return the private one."""
    path.unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    return path


@dataclass
class Host:
    """A machine with an ``sshd``; ``options`` are of sshd_config, from its next start on.

    ``machine_id`` is the id of its installation from then on; empty: this machine's.
    """

    name: str
    folder: Path
    authorized: str
    line: Line | None = None
    inside: Line | None = None
    options: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    machine_id: str = ""
    _server: subprocess.Popen[bytes] | None = None
    _stood: bool = False

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.programs = self.folder / "bin"
        # Not below its folder: the path of a socket must be short.
        self.sockets = Path(tempfile.mkdtemp(prefix="outpost-host-"))
        self.home.mkdir(parents=True)
        self.programs.mkdir()
        self.path = f"{self.programs}:/usr/local/bin:/usr/bin:/bin"
        self.authorize(self.authorized)
        make_key(self.folder / "host_key")

    @property
    def address(self) -> str:
        return self.line.address if self.line else "127.0.0.1"

    @property
    def known_as(self) -> str:
        """What a file of known hosts calls it."""
        return f"[{self.address}]:{self.port}"

    @property
    def public_key(self) -> str:
        """The key it shows, without the comment."""
        text = (self.folder / "host_key.pub").read_text()
        return " ".join(text.split()[:2])

    @property
    def root(self) -> Path:
        """Where workers run unless a configuration says otherwise."""
        return self.home / ".outpost"

    def authorize(self, key: str) -> None:
        """Let one public key in from now on, and no other."""
        (self.folder / "authorized_keys").write_text(key + "\n")

    def change_key(self) -> None:
        """Show another key from the next connection on."""
        make_key(self.folder / "host_key")
        if self._server:
            self.restart()

    def only(self, *, without: Sequence[str]) -> None:
        """Leave no program on its path but its own and this machine's, save those named so."""
        for folder in ("/usr/bin", "/bin"):
            for path in Path(folder).iterdir():
                link = self.programs / path.name
                if not path.name.startswith(tuple(without)) and not link.is_symlink():
                    link.symlink_to(path)
        self.path = str(self.programs)

    def program(self, name: str, text: str) -> Path:
        """Put a shell script before all other programs of that name."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def start(self) -> None:
        """Start its ``sshd`` and wait until that answers, on another port if somebody has it."""
        for _ in range(5):
            if self._launch() or self._stood:
                break
            self.port = free_port()
        assert self._server is not None
        assert self._server.poll() is None, self.log()
        self._stood = True

    def _launch(self) -> bool:
        """Start its ``sshd``; return whether it listens, and has not ended."""
        (self.folder / "sshd_config").write_text(self._config())
        argv = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        heard = self.log().count(LISTENS)
        with (self.folder / "log").open("ab") as log:
            self._server = server = subprocess.Popen(
                [*self._wrapping(), *argv],
                env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(
            lambda: server.poll() is not None or self.log().count(LISTENS) > heard,
            f"the sshd of {self.name} listens",
        )
        return server.poll() is None

    def stop(self) -> None:
        """End its ``sshd`` and every connection to it; workers go on. Idempotent."""
        if self._server is None:
            return
        connections = self._connections() if self._server.poll() is None else []
        self._server.kill()
        _kill(connections)
        self._server.wait()
        self._server = None

    def clear(self) -> None:
        """End what stays on it for workers to come."""
        for address in self.sockets.glob("tmux-*/*"):
            argv = ["tmux", "-S", str(address), "kill-server"]
            subprocess.run(argv, capture_output=True, check=False)
        shutil.rmtree(self.sockets)
        for nursery in found_in("runner", "*.pid", self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(nursery.read_text()), signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start ``sshd`` on the same port."""
        self.stop()
        self.start()

    def hang_up(self) -> None:
        """End every connection there is now, as a machine does that goes down."""
        _kill(self._connections())

    def log(self) -> str:
        """Return what its ``sshd`` has said so far."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logins(self) -> int:
        """Return how often somebody was let in."""
        return self.log().count("Accepted publickey")

    def place(self, worker_id: str) -> Path:
        """Return a worker's private folder, once there is one."""

        def found() -> Path | None:
            return next(self.home.glob(f"**/workers/{worker_id}"), None)

        path = until(found, f"{worker_id} has a folder on {self.name}")
        assert path
        return path

    def events(self, worker_id: str) -> list[dict[str, Any]]:
        """Return the log of a worker as it lies there."""
        log = self.place(worker_id) / "events.jsonl"
        if not log.exists():
            return []
        lines = log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for_line(self, worker_id: str, text: str) -> None:
        """Wait until a worker's log there holds ``text``."""
        until(
            lambda: any(text in str(event.get("text")) for event in self.events(worker_id)),
            f"{text!r} in the log of {worker_id}",
        )

    def wait_for_result(self, worker_id: str) -> dict[str, Any]:
        """Return a worker's result once it lies there."""

        def result() -> dict[str, Any] | None:
            return next((it for it in self.events(worker_id) if it["type"] == "result"), None)

        found = until(result, f"the result of {worker_id}")
        assert found
        return found

    def _wrapping(self) -> list[str]:
        """Return the words that, before a command, run it where this machine is."""
        line = self.line or self.inside
        words = [*line.enter] if line else []
        if self.machine_id:
            upper, work = self.folder / "etc", self.folder / "etc.work"
            upper.mkdir(exist_ok=True)
            work.mkdir(exist_ok=True)
            (upper / "machine-id").write_text(f"{self.machine_id}\n")
            layers = f"lowerdir=/etc,upperdir={upper},workdir={work}"
            script = f'mount -t overlay overlay -o {layers} /etc && exec "$@"'
            words += ["unshare", "--mount", "sh", "-c", script, "sh"]
        return words

    def _connections(self) -> list[psutil.Process]:
        """Return the processes of ``sshd`` that hold connections, and not what they started."""
        assert self._server is not None
        children = psutil.Process(self._server.pid).children(recursive=True)
        return [it for it in children if _name(it) == "sshd"]

    def _config(self) -> str:
        variables = {"HOME": self.home, "PATH": self.path, "TMUX_TMPDIR": self.sockets}
        settings = {
            "ListenAddress": f"{self.address}:{self.port}",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            # They follow the system's own settings of the user, and come before its files.
            "SetEnv": " ".join(f"{name}={value}" for name, value in variables.items()),
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "UseDNS": "no",
            "PermitRootLogin": "prohibit-password",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitUserRC": "no",
            "PrintMotd": "no",
            "PrintLastLog": "no",
            "LogLevel": "VERBOSE",
            **self.options,
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

"""A small world for tests on the real thing: an environment, a remote, and federations in it."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from outpost.federation import Federation, SpawnOptions
from outpost.model import Attempt
from outpost.runner.place import Place
from outpost.spawned import SpawnedWorker
from outpost.wire.events import Event

DEADLINE_S = 60.0  # far beyond what anything takes, also on a busy machine
AUTHOR_NAME = "Sam Example"
AUTHOR_EMAIL = "sam@example.org"
ISSUE = "text:Mend the words"
CONFIG = """\
outposts:
  - name: local
    type: local
    max_workers: 40
defaults:
  stop_grace: 4s
"""
_T = TypeVar("_T")


def until(look: Callable[[], _T], what: str, *, deadline_s: float = DEADLINE_S) -> _T:
    """Return what ``look`` returns once that is true; fail with ``what`` after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)
    return seen


def run(*argv: str, environment: Mapping[str, str], cwd: Path | None = None) -> str:
    """Run a program that must succeed and return its standard output."""
    done = subprocess.run(
        argv, cwd=cwd, env=dict(environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{argv} exited {done.returncode}: {done.stderr}"
    return done.stdout.strip()


def pids_marked(worker_ids: set[str]) -> dict[int, str]:
    """Return the living processes that carry one of these workers' marks, with their argv."""
    marks = {f"OUTPOST_WORKER_ID={worker_id}".encode() for worker_id in worker_ids}
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if marks & set(_variables(entry).split(b"\0")):
                    found[int(entry.name)] = _command_line(entry)
    return found


def pids_naming(text: str) -> dict[int, str]:
    """Return the living processes that name ``text`` in their argv."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = _command_line(entry)
                if text in line:
                    found[int(entry.name)] = line
    return found


def alive(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def found_in(parents: str, pattern: str, folder: Path) -> Iterator[Path]:
    """Yield what fits in all folders of that name below ``folder``.

    Workers end meanwhile, and their workspaces go: what is there no more is passed over.
    """
    for at, folders, files in os.walk(folder):
        if Path(at).name == parents:
            yield from (Path(at, name) for name in fnmatch.filter((*folders, *files), pattern))


def end_left(folder: str, worker_ids: set[str]) -> None:
    """Kill what names a folder or a worker and does not end by itself, and fail then."""
    deadline = time.monotonic() + 10
    while left := {**pids_naming(folder), **pids_marked(worker_ids)}:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"processes left behind: {left}"


def _variables(entry: Path) -> bytes:
    """Return a process's environment; it shows none for an instant while another program begins."""
    for _ in range(10):
        if seen := (entry / "environ").read_bytes():
            return seen
        (entry / "exe").readlink()  # a zombie and what belongs to the kernel have none
        time.sleep(0.002)
    return b""


def _command_line(entry: Path) -> str:
    return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")


@dataclass(frozen=True)
class Remote:
    """A bare repository, reached by its path or whatever ``url`` says."""

    path: Path
    url: str
    environment: Mapping[str, str]

    def git(self, *arguments: str) -> str:
        return run("git", *arguments, environment=self.environment, cwd=self.path)

    def refs(self, pattern: str = "refs/") -> dict[str, str]:
        """Return the refs under ``pattern`` with their objects."""
        rows = self.git("for-each-ref", "--format=%(refname) %(objectname)", pattern).splitlines()
        return {name: value for name, _, value in (row.partition(" ") for row in rows)}

    def tip(self, branch: str) -> str | None:
        return self.refs().get(f"refs/heads/{branch}")

    def show(self, ref: str, path: str) -> str:
        return self.git("show", f"{ref}:{path}")

    def reject_pushes(self, message: str) -> None:
        hook = self.path / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
        hook.chmod(0o755)

    def accept_pushes(self) -> None:
        (self.path / "hooks" / "pre-receive").unlink()


def make_environment(folder: Path) -> dict[str, str]:
    """Make an empty home; return a whole environment with git's identity and nothing of ours."""
    home = folder / "home"
    home.mkdir()
    gitconfig = home / "gitconfig"
    gitconfig.write_text(f"[user]\n\tname = {AUTHOR_NAME}\n\temail = {AUTHOR_EMAIL}\n")
    return {
        "HOME": str(home),
        "OUTPOST_HOME": str(folder / "state"),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": str(gitconfig),
        "GIT_CONFIG_NOSYSTEM": "1",
        "OUTPOST_CONTROLLER": "off",
    }


def make_remote(folder: Path, environment: Mapping[str, str]) -> Remote:
    """Make a sample repository and a bare one beside it that holds its history."""
    clone, bare = folder / "sample", folder / "remote.git"
    clone.mkdir(parents=True)

    def git(*arguments: str) -> str:
        return run("git", *arguments, environment=environment, cwd=clone)

    git("init", "--quiet", "-bmain")
    (clone / "words.txt").write_text("the words are wrong\n")
    (clone / ".gitignore").write_text("*.ignored\n")
    git("add", ".")
    git("commit", "--quiet", "-mFirst words")
    git("tag", "v1")
    (clone / "more.txt").write_text("more\n")
    git("add", ".")
    git("commit", "--quiet", "-mMore words")
    git("branch", "release/1", "v1")
    run(
        *("git", "clone", "--quiet", "--bare", str(clone), str(bare)),
        environment=environment,
    )
    return Remote(bare, str(bare), environment)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def git_daemon(remote: Remote) -> Iterator[Remote]:
    """Serve a remote over the git protocol on loopback, pushes allowed."""
    for _ in range(5):
        port = free_port()
        daemon = subprocess.Popen(
            [
                *("git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"),
                *("--export-all", "--enable=receive-pack", f"--base-path={remote.path.parent}"),
            ],
            env=dict(remote.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _until_listening(daemon, port)
        if daemon.poll() is None:
            break
    try:
        url = f"git://127.0.0.1:{port}/{remote.path.name}"
        yield Remote(remote.path, url, remote.environment)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _until_listening(daemon: subprocess.Popen[bytes], port: int) -> None:
    until(lambda: daemon.poll() is not None or _listens(port), "git daemon listens")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def remove_tmux_socket(federation_id: str) -> None:
    """Remove what an ended tmux server leaves of itself."""
    folder = Path(os.environ.get("TMUX_TMPDIR", "/tmp")) / f"tmux-{os.getuid()}"
    (folder / f"outpost-{federation_id}").unlink(missing_ok=True)


@dataclass
class World:
    """One home with its federation, and a remote to work on."""

    folder: Path
    environment: dict[str, str]
    remote: Remote
    homes: set[Path] = field(default_factory=set)

    @property
    def home(self) -> Path:
        """The folder of the usual federation."""
        return self.folder / "state"

    def config(self, text: str = CONFIG) -> str:
        """Write a configuration and return its path."""
        path = self.folder / "outposts.yaml"
        path.write_text(text)
        return str(path)

    def federation(self, *, config: str = CONFIG, home: str = "state") -> Federation:
        """Return a federation of this world; every home has its own store and tmux server."""
        self.homes.add(self.folder / home)
        return Federation(
            config_path=self.config(config),
            home=self.folder / home,
            directory=self.folder,
            environment=self.environment,
        )

    @staticmethod
    def options(script: str, remote: Remote, **more: Any) -> SpawnOptions:
        return SpawnOptions(repo=remote.url, argv=("sh", "-c", script), **more)

    async def spawn(
        self, federation: Federation, script: str, *, issue: str = ISSUE, **more: Any
    ) -> SpawnedWorker:
        """Start a worker whose agent is a shell script."""
        remote = more.pop("remote", self.remote)
        return await federation.spawn(issue, self.options(script, remote, **more))

    async def outcome(self, script: str, **more: Any) -> Attempt:
        """Run one worker to its end in a federation of its own."""
        async with self.federation(config=more.pop("config", CONFIG)) as federation:
            worker = await self.spawn(federation, script, **more)
            return await worker.result()

    def place(self, worker_id: str, home: str = "state") -> Path:
        """Return a worker's private folder."""
        return self.folder / home / "outposts" / "local" / "workers" / worker_id

    def tree(self, worker_id: str, home: str = "state") -> Path:
        """Return a worker's workspace."""
        return self.folder / home / "outposts" / "local" / "trees" / worker_id

    def pids(self, worker_id: str) -> tuple[int, int]:
        """Return the pids of a worker's understudy and runner, once both are known."""
        path = self.place(worker_id) / "runner.pid"
        text = until(lambda: path.exists() and path.read_text(), "the runner's pids are noted")
        guard, _, runner, _ = str(text).split()
        return int(guard), int(runner)

    def agent_pid(self, worker_id: str) -> int:
        path = self.place(worker_id) / "agent.pid"
        text = until(lambda: path.exists() and path.read_text(), "the agent's pid is noted")
        return int(str(text).split()[0])

    def wait_for_line(self, worker_id: str, text: str) -> None:
        """Wait until the worker's log holds ``text``."""
        log = self.place(worker_id) / "events.jsonl"
        until(lambda: log.exists() and text in log.read_text(), f"{text!r} in the log")

    def wait_for_view(self, worker_id: str, text: str) -> None:
        """Wait until the worker's pane shows ``text``."""
        capture = self.tmux("capture-pane", "-p", "-t", f"={worker_id}:")

        def shown() -> bool:
            done = subprocess.run(capture, env=self.environment, capture_output=True, check=False)
            return text.encode() in done.stdout

        until(shown, f"{text!r} in the pane")

    def worker_ids(self) -> set[str]:
        """Return every worker that has or had files in this world."""
        folders = {self.folder / "shared", *self.homes}
        return {path.name for folder in folders for path in folder.glob("outposts/*/*/w-*")}

    def gone(self, worker_id: str) -> None:
        """Wait until no process of a worker lives: agent, descendants, runner, understudy."""
        until(lambda: not pids_marked({worker_id}), f"no process marked {worker_id}")
        place = Place(str(self.place(worker_id)))
        until(lambda: not place.pids("runner.pid"), f"no runner of {worker_id}")

    def tmux(self, *arguments: str, home: str = "state") -> list[str]:
        """Return a tmux command line for the federation's own server."""
        return ["tmux", "-L", f"outpost-{self.federation_id(home)}", *arguments]

    def federation_id(self, home: str = "state") -> str:
        path = self.folder / home / "outpost.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            return str(database.execute("select id from federation").fetchone()[0])

    def tmux_pid(self, home: str = "state") -> int:
        """Return the pid of the federation's tmux server."""
        argv = self.tmux("display-message", "-p", "#{pid}", home=home)
        return int(run(*argv, environment=self.environment))

    def end(self) -> None:
        """End all that still runs, and fail if a worker that should have ended left something."""
        folder = str(self.folder)
        ids = self.worker_ids()
        for home in self.homes:
            if (home / "outpost.db").exists():
                argv = self.tmux("kill-server", home=home.name)
                subprocess.run(argv, env=self.environment, capture_output=True, check=False)
                remove_tmux_socket(self.federation_id(home.name))
        for nursery in self.folder.glob("*/outposts/*/runner/*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(nursery.read_text()), signal.SIGKILL)
        end_left(folder, ids)


class SlowGit:
    """A git before the real one on the path, that waits in one of its commands when told to."""

    def __init__(self, world: World) -> None:
        folder = world.folder / "bin"
        folder.mkdir()
        self._waits = world.folder / "waits"
        self._pid = world.folder / "waiting.pid"
        real = run("sh", "-c", "command -v git", environment=world.environment)
        git = folder / "git"
        git.write_text(
            f'#!/bin/sh\nif [ -e {self._waits} ] && [ "$1" = "$(cat {self._waits})" ]; then\n'
            f"  echo $$ > {self._pid}; while [ -e {self._waits} ]; do sleep 0.1; done\n"
            f'fi\nexec {real} "$@"\n'
        )
        git.chmod(0o755)
        world.environment["PATH"] = f"{folder}:{world.environment['PATH']}"

    def wait_in(self, command: str) -> None:
        self._waits.write_text(command)

    def pid(self) -> int:
        """Return the pid of the command that waits, once one does."""
        return int(
            until(lambda: self._pid.exists() and self._pid.read_text(), "a git command waits")
        )

    def waiting(self) -> bool:
        return self._pid.exists()

    def go_on(self) -> None:
        self._waits.unlink(missing_ok=True)


async def events_of(worker: SpawnedWorker) -> list[Event]:
    """Return a worker's whole log as it is now."""
    return [event async for event in worker.events(follow=False)]


async def text_of(worker: SpawnedWorker, stream: str = "stdout") -> list[str]:
    """Return the lines that a worker's agent wrote to one stream."""
    return [
        event.fields["text"]
        for event in await events_of(worker)
        if event.type == "log" and event.fields["stream"] == stream
    ]

"""What dead workers and interrupted commands leave lying about, beside workspaces and caches."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess

from outpost.runner import processes
from outpost.runner.borrowing import places
from outpost.runner.caches import alone
from outpost.runner.disk import GOING, remove, rested_s, size_of
from outpost.runner.pane import release
from outpost.runner.place import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from outpost.wire.tidying import Leftover, TidyOrder

ARCHIVE_RESTS_S = 86_400.0
UNFINISHED = ".new"
SECRETS = ("screen.json",)
OTHERS = stat.S_IRWXG | stat.S_IRWXO
TMUX_S = 10.0
PANE = "\x1fpane "  # in front of each: their commands may be several lines long


class Scraps:
    """What lies about at ``root``; ``gone`` are folders of workers that are there no longer."""

    def __init__(self, root: str, order: TidyOrder, gone: Collection[str]) -> None:
        self._root = root
        self._order = order
        self._places = [place for place in places(root) if place.directory not in gone]
        self._gone = gone

    def take(self) -> Iterator[Leftover]:
        """Remove (or mend, for ``mode``) what the order's kinds name, and say what it was."""
        looks: dict[str, Callable[[], Iterator[Leftover]]] = {
            "session": self._sessions,
            "secrets": self._secrets,
            "scrap": self._scrap,
            "mode": self._modes,
            "archive": self._archives,
        }
        for kind, look in looks.items():
            if kind in self._order["kinds"]:
                yield from look()

    def _sessions(self) -> Iterator[Leftover]:
        """Close the views of the dead: what shows a named pipe that nobody will write to."""
        open_names = set(self._open_sessions())
        for place in self._places:
            listed, pipe = place.worker_id in open_names, place.path("pane")
            if (listed or os.path.exists(pipe)) and self._ours(place) and _dead(place):
                yield self._close(place, place.worker_id if listed else "")
        known = {place.worker_id for place in self._places}
        for name in sorted(open_names - known):
            place = Place(os.path.join(self._root, "workers", name))
            if place.directory not in self._gone and _dead(place):
                yield self._close(place, name)

    def _close(self, place: Place, session: str) -> Leftover:
        kept = ""
        if not self._order["dry_run"]:
            # Under the worker's lock: nobody starts it between the look and the end of its view.
            known = os.path.isdir(place.directory)
            if known and not place.take_lock():
                kept = "its worker was started again"
            else:
                release(place.path("pane"))
                if session:
                    self._tmux("kill-session", "-t", f"={session}")
                place.drop_lock()
        return _leftover("session", place.worker_id, place.path("pane"), kept=kept)

    def _open_sessions(self) -> Iterator[str]:
        """Yield the sessions that show a worker of this very root: outposts may share a tmux."""
        listing = self._tmux(
            "list-panes", "-a", "-F", PANE + "#{session_name} #{pane_start_command}"
        )
        for pane in listing.split(PANE):
            name, _, command = pane.partition(" ")
            folder = os.path.join(self._root, "workers", name)
            if name and re.search(re.escape(folder) + r"(?![\w-])", command):
                yield name

    def _tmux(self, *arguments: str) -> str:
        """Run tmux if its server is there; asked otherwise it would make a folder for it."""
        argv = self._order.get("tmux") or ["", "", ""]
        folder = os.environ.get("TMUX_TMPDIR") or "/tmp"  # noqa: S108 - tmux's own default
        if not os.path.exists(os.path.join(folder, f"tmux-{os.getuid()}", argv[2])):
            return ""
        try:
            done = subprocess.run(
                [*argv, *arguments], capture_output=True, text=True, check=False, timeout=TMUX_S
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout

    def _secrets(self) -> Iterator[Leftover]:
        """Remove variables that a worker never read: it died before, or was never started."""
        for place in self._places:
            for name in _names(place.directory):
                if not name.startswith(SECRETS):
                    continue
                path = place.path(name)
                if rested_s(path) < self._order["grace_s"] or place.cared_for():
                    continue
                kept = hint = ""
                if not self._ours(place):
                    if os.path.exists(place.path("order.json")):
                        continue
                    kept = "it has no order: whose it is cannot be told"
                    hint = f"look at it, then: rm -rf {shlex.quote(place.directory)}"
                yield self._drop("secrets", place.worker_id, path, kept, hint)

    def _scrap(self) -> Iterator[Leftover]:
        """Remove what was being written, or removed, when whoever did it died."""
        grace_s = self._order["grace_s"]
        for place in self._places:
            if self._ours(place) and not place.cared_for():
                for name in _names(place.directory):
                    secret = name.startswith(SECRETS)
                    path = place.path(name)
                    if name.endswith(UNFINISHED) and not secret and rested_s(path) >= grace_s:
                        yield self._drop("scrap", name, path)
        for part in ("runner", "trees", "cache"):
            folder = os.path.join(self._root, part)
            for name in _names(folder):
                path = os.path.join(folder, name)
                if not name.endswith((UNFINISHED, GOING)) or rested_s(path) < grace_s:
                    continue
                if self._order["dry_run"] or part != "cache":
                    yield self._drop("scrap", name, path)
                    continue
                with alone(path.removesuffix(UNFINISHED).removesuffix(GOING)) as locked:
                    if locked:
                        yield self._drop("scrap", name, path)

    def _modes(self) -> Iterator[Leftover]:
        """Shut private folders that others can look into."""
        for place in self._places:
            for path in (place.directory, place.tree):
                if os.path.isdir(path) and self._ours(place):
                    mode = stat.S_IMODE(os.stat(path).st_mode)
                    if mode & OTHERS:
                        if not self._order["dry_run"]:
                            os.chmod(path, mode & ~OTHERS)
                        yield _leftover("mode", place.worker_id, path, detail=f"{mode:04o}")

    def _archives(self) -> Iterator[Leftover]:
        """Remove runners of other versions that nobody has used of late and no process runs."""
        folder = os.path.join(self._root, "runner")
        families: dict[str, list[str]] = {}
        for name in _names(folder):
            if name.startswith("runner-") and not name.endswith(UNFINISHED):
                families.setdefault(name.partition(".")[0], []).append(os.path.join(folder, name))
        families.pop(self._order.get("archive", "").partition(".")[0], None)
        running = _command_lines() if families else ""
        for name, paths in families.items():
            rests = rested_s(*paths) >= ARCHIVE_RESTS_S
            if rests and os.path.join(folder, name + ".") not in running:
                size = size_of(*paths)
                if not self._order["dry_run"]:
                    for path in paths:
                        remove(path)
                yield {**_leftover("archive", name, paths[0]), "bytes": size}

    def _drop(self, kind: str, name: str, path: str, kept: str = "", hint: str = "") -> Leftover:
        leftover = _leftover(kind, name, path, kept=kept)
        leftover.update({"bytes": size_of(path), "hint": hint})
        if not kept and not self._order["dry_run"]:
            remove(path)
        return leftover

    def _ours(self, place: Place) -> bool:
        try:
            return place.order()["federation_id"] == self._order.get("federation_id")
        except (OSError, ValueError, KeyError, TypeError):
            return False


def _dead(place: Place) -> bool:
    """Whether nothing of a worker lives, not even an agent that outlived its runner."""
    return not place.cared_for() and not processes.of_worker(place.worker_id, place.agent_pid())


def _leftover(kind: str, name: str, path: str, *, detail: str = "", kept: str = "") -> Leftover:
    return {
        "kind": kind,
        "name": name,
        "path": path,
        "bytes": 0,
        "detail": detail,
        "kept": kept,
        "hint": "",
    }


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _command_lines() -> str:
    """Return the arguments of every process on this machine."""
    lines = []
    for name in _names("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    lines.append(os.fsdecode(file.read()))
            except OSError:
                continue
    if lines:
        return "\n".join(lines)
    argv = ["ps", "-axww", "-o", "args="]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

"""The objects of one repository, fetched once and shared by all its workers on a machine.

Workers borrow them through git's alternates, each with a repository of its own: refs, stash,
configuration and hooks stay apart, and nothing one agent does to git reaches another.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import shutil
import time

from outpost.runner.git import Git, GitError
from outpost.runner.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

BASE_REFS = "refs/outpost/base/"
RELAYS = "relay"  # the folder beside that of the caches, with what the controller empties
REMOTE_HEAD = "HEAD"


class Base:
    """Where work starts: the commit, and the branch it is the tip of (empty: not a branch).

    The commit is empty where the remote has none yet.
    """

    __slots__ = ("branch", "commit")

    def __init__(self, commit: str, branch: str) -> None:
        self.commit = commit
        self.branch = branch


class Cache:
    """The shared object store of one repository URL; ``whole``: with all it ever held.

    Where the remote is a relay beside it, it borrows what that holds, and copies nothing.
    """

    def __init__(self, folder: str, git: Git, loop: Loop, *, whole: bool = False) -> None:
        key = key_of(git.url)
        relays = os.path.join(os.path.dirname(folder), RELAYS)
        self.at_relay = os.path.dirname(git.url) == relays
        self._filter = () if whole or self.at_relay else ("--filter=blob:none",)
        self.path = os.path.join(folder, key + ".git")
        self._lock_path = os.path.join(folder, key + ".lock")
        self._git = git
        self._loop = loop

    @property
    def objects(self) -> str:
        """The folder that workspaces name in ``objects/info/alternates``."""
        return os.path.join(self.path, "objects")

    def fetch(self, base: str | None, asked_at: float) -> Base:
        """Bring the base up to date and return its commit; raises ``GitError``.

        Workers that ask while another fetches the same base wait for that fetch and share it, if
        it began after ``asked_at`` (seconds since the epoch).
        """
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._wait_for(lock)
            name = base or self._default_branch()
            if name and not self._fetched_since(asked_at, name):
                name = self._fetch_mending(name, renamed=not base)
            if not name:
                self.create()
                return Base("", "")
        finally:
            os.close(lock)
        try:
            tip = f"{_ref(name)}^{{commit}}"
            commit = self._git.run("rev-parse", "--quiet", "--verify", tip, cwd=self.path)
        except GitError as exc:
            raise GitError(f"the remote has no branch, tag or commit '{name}'", 1) from exc
        return Base(commit, "" if name == REMOTE_HEAD or _is_commit_id(name) else name)

    def fetch_branch(self, branch: str) -> str:
        """Bring a branch and return its commit, empty where the remote has none of that name."""
        return self.fetch_ref(f"refs/heads/{branch}")

    def fetch_ref(self, ref: str) -> str:
        """Bring a ref, named in full, and return its commit, empty where the remote has none."""
        return self.fetch_refs([ref]).get(ref, "")

    def fetch_refs(self, refs: Sequence[str]) -> dict[str, str]:
        """Bring those of these refs that the remote has; return their commits, in that order."""
        there = self.tips(refs)
        found = {}
        for ref in there:
            try:
                found[ref] = self.fetch(ref, math.inf).commit
            except GitError:
                if self.tips([ref]):
                    raise  # else it went after we looked
        return found

    def tips(self, refs: Sequence[str]) -> dict[str, str]:
        """Return what the remote shows for those of these refs that it has, in that order."""
        answer = self._git.run("ls-remote", "--", self._git.url, *refs, cwd="/")
        rows = (line.partition("\t") for line in answer.splitlines())
        shown = {name: tip for tip, _, name in rows}
        return {ref: shown[ref] for ref in refs if ref in shown}

    def newest(self, commits: Sequence[str]) -> str:
        """Return the newest of the commits that were brought: the first, unless another holds it.

        Of two that went different ways it is the one that was made later.
        """
        newest, *others = commits
        for other in others:
            if self._holds(newest, other):
                continue
            if self._holds(other, newest) or self._made_at(other) > self._made_at(newest):
                newest = other
        return newest

    def _holds(self, commit: str, earlier: str) -> bool:
        ancestor = ("merge-base", "--is-ancestor", earlier, commit)
        return self._git.succeeds(*ancestor, cwd=self.path)

    def _made_at(self, commit: str) -> int:
        show = ("show", "--no-patch", "--format=%ct", commit)
        return int(self._git.run(*show, cwd=self.path))

    def _fetch_mending(self, name: str, *, renamed: bool) -> str:
        """Fetch; if that fails, once more without what a killed git or a rename left behind."""
        try:
            self._fetch(name, _ref(name))
        except GitError:
            locks = _remove_litter(self.path)
            if renamed and os.path.exists(self._default_path):
                os.unlink(self._default_path)
                known, name = name, self._default_branch()
                renamed = known != name
            if not locks and not renamed:
                raise
            if name:
                self._fetch(name, _ref(name))
        return name

    def _wait_for(self, lock: int) -> None:
        pause_s = 0.002
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._loop.pause(pause_s)
                pause_s = min(pause_s * 1.5, 0.05)
            else:
                return

    def _fetch(self, name: str, ref: str) -> None:
        began = time.time()
        self.create()
        self._git.run(
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            *self._filter,
            "origin",
            f"+{name}:{ref}",
            cwd=self.path,
        )
        self._fetch_missing(ref)
        with open(self._stamp(name), "w") as file:
            file.write(f"{began:.6f}")

    def create(self) -> None:
        """Make the store, unless it is there."""
        if os.path.exists(os.path.join(self.path, "HEAD")):
            return
        partial = self.path + ".new"
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(partial)
        self._git.run("init", "--quiet", "--bare", "--template=", ".", cwd=partial)
        with open(os.path.join(partial, "config"), "a") as file:
            file.write(remote_config(self._git.url))
            file.write("[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n")
        if self.at_relay:
            with open(os.path.join(partial, "objects", "info", "alternates"), "w") as file:
                file.write(os.path.join(self._git.url, "objects") + "\n")
        os.rename(partial, self.path)

    def _fetch_missing(self, ref: str) -> None:
        """Fetch the base's files in one go where the server left them out (partial clone)."""
        if not self.is_partial():
            return
        listing = self._git.run(
            "rev-list", "--objects", "--missing=print", "--no-walk", ref, cwd=self.path
        )
        missing = [line[1:] for line in listing.splitlines() if line.startswith("?")]
        if not missing:
            return
        path = os.path.join(self.path, "missing")
        with open(path, "w") as file:
            file.write("\n".join(missing) + "\n")
        self._git.run(
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--filter=blob:none",
            "--stdin",
            "origin",
            cwd=self.path,
            stdin_path=path,
        )
        os.unlink(path)

    def is_partial(self) -> bool:
        """Whether the store holds packs that promise more than they hold."""
        try:
            names = os.listdir(os.path.join(self.path, "objects", "pack"))
        except FileNotFoundError:
            return False
        return any(name.endswith(".promisor") for name in names)

    def _default_branch(self) -> str:
        """Return the branch that the remote's HEAD names, asked once and kept.

        ``HEAD`` where it names a commit, empty where the remote holds nothing yet.
        """
        path = self._default_path
        try:
            with open(path) as file:
                return file.read()
        except FileNotFoundError:
            pass
        answer = self._git.run("ls-remote", "--symref", "--", self._git.url, REMOTE_HEAD, cwd="/")
        first = answer.partition("\n")[0]
        if not first:
            return self._without_head()
        if not first.startswith("ref: refs/heads/"):
            return REMOTE_HEAD
        name = first.split("\t")[0].removeprefix("ref: refs/heads/")
        self.create()
        with open(path + ".new", "w") as file:
            file.write(name)
        os.replace(path + ".new", path)
        return name

    def _without_head(self) -> str:
        """Return an empty name for a remote without branches; raise where one must be chosen."""
        answer = self._git.run("ls-remote", "--heads", "--", self._git.url, cwd="/")
        names = [line.partition("\trefs/heads/")[2] for line in answer.splitlines()]
        if names:
            raise GitError(
                "the remote's default branch is not there; name the one to start from,"
                f" for example: --base {names[0]}",
                1,
            )
        return ""

    @property
    def _default_path(self) -> str:
        return os.path.join(self.path, "default-branch")

    def _stamp(self, name: str) -> str:
        return os.path.join(self.path, "fetched-" + _short(name))

    def _fetched_since(self, asked_at: float, name: str) -> bool:
        try:
            with open(self._stamp(name)) as file:
                return asked_at <= float(file.read() or 0) <= time.time()
        except (FileNotFoundError, ValueError):
            return False


def key_of(url: str) -> str:
    """Return what a repository's files are called, by its URL without a password."""
    return hashlib.sha256(url.encode()).hexdigest()[:20]


def remote_config(url: str) -> str:
    """Return the lines of a git configuration that name ``url`` as the remote ``origin``."""
    quoted = url.replace("\\", "\\\\").replace('"', '\\"')
    return f'[remote "origin"]\n\turl = "{quoted}"\n'


def _ref(name: str) -> str:
    """Return where a base is kept: not under its own name, as ``a`` may become ``a/b`` there."""
    return BASE_REFS + _short(name)


def _short(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _remove_litter(path: str) -> bool:
    """Remove what git commands that were killed left: locks (whether there were any), half packs.

    The caller holds the cache's own lock, under which alone git writes here.
    """
    found = False
    for folder, _, names in os.walk(path):
        for name in names:
            if name.endswith(".lock") or name.startswith("tmp_"):
                os.unlink(os.path.join(folder, name))
                found = found or name.endswith(".lock")
    return found


def _is_commit_id(name: str) -> bool:
    return len(name) in (40, 64) and all(letter in "0123456789abcdef" for letter in name)

"""The controller's own copy of a repository, between its remote and a place without git secrets.

A program of its own, as the runner's git, cache and lease want a process for themselves: ``fetch``,
``known`` and ``push`` read one errand as JSON on standard input, git's variables in it, and print
what came of it. Each may be done again after a death, and by several at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys

from outpost.runner.cache import Base, Cache, key_of
from outpost.runner.delivery import WIP_REFS, Delivery
from outpost.runner.git import Git, GitError
from outpost.runner.lease import Lease, Superseded
from outpost.runner.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from outpost.wire.errands import Errand, Fetched, Fetching, Pushed, Pushing

BRANCHES = "refs/heads/"
BASES = "refs/outpost/base/"
CARRIED = "refs/outpost/carried/"  # in the mirror, behind it the worker: not yet on the remote
THERE = "refs/outpost/there/"  # at the relay: what the remote showed for a ref last
FAR = "refs/outpost/far/"  # at the relay: what the remote shows where the relay has other work
TRIES = 2


def there(ref: str) -> str:
    """Return the relay's note of what the remote shows for a ref."""
    return THERE + ref.removeprefix("refs/")


def path_of(folder: str, url: str) -> str:
    """Return where the mirror of a repository is."""
    return os.path.join(folder, key_of(url) + ".git")


class Mirror:
    """A repository in the folder of mirrors, on one errand."""

    def __init__(self, errand: Errand) -> None:
        self._git = Git(Loop(lambda _number: None), errand["environment"], errand["url"])
        self._cache = Cache(errand["folder"], self._git, self._git.loop, whole=True)
        self._path = self._cache.path
        self._errand = errand
        self._have = errand["have"]
        self._leases = self._path.removesuffix(".git") + ".leases"
        self._lease = self._make_lease()

    def _make_lease(self) -> Lease | None:
        errand = self._errand
        if errand["fence"] is None:
            return None
        os.makedirs(self._leases, mode=0o700, exist_ok=True)
        folder = os.path.join(self._leases, errand["worker_id"])
        return Lease(self._git, folder, errand, errand["fence"])

    def fetch(self, errand: Fetching) -> Fetched:
        """Bring what a worker begins at, and bundle what of it the relay lacks."""
        base = self._fetch_base(errand)
        if self._lease and not self._lease.lazy:
            self._lease.take()
        tips = self._cache.fetch_refs(errand["refs"]) if errand["refs"] else {}
        updates: dict[str, str] = {}
        far = []
        for ref, tip in tips.items():
            if self._may_replace(ref, tip):
                updates |= {ref: tip, there(ref): tip}
            else:
                far.append(FAR + ref.removeprefix("refs/"))
                updates[far[-1]] = tip
        name = errand["base"]
        if base.commit:
            # Whatever somebody there made of the relay's: the base is the remote's.
            name = base.branch or base.commit
            ref = name if name.startswith("refs/") else (BRANCHES if base.branch else BASES) + name
            updates |= {ref: base.commit, there(ref): base.commit}
        if updates:
            self._bundle(sorted(set(updates.values())))
        return {"base": name, "updates": updates, "far": far, "problem": ""}

    def _fetch_base(self, errand: Fetching) -> Base:
        try:
            return self._cache.fetch(errand["base"], errand["asked_at"])
        except GitError:
            if not errand["resume"] or not self._cache.fetch_branch(errand["branch"]):
                raise
            return Base("", "")

    def _may_replace(self, ref: str, tip: str) -> bool:
        """Whether nothing is lost at the relay if its ref becomes what the remote shows."""
        held = self._have.get(ref, "")
        if held in ("", tip, self._have.get(there(ref))):
            return True
        return self._git.succeeds("merge-base", "--is-ancestor", held, tip, cwd=self._path)

    def _bundle(self, tips: Sequence[str]) -> None:
        """Write what the relay lacks of ``tips``; no file where that is nothing."""
        lacks = [f"^{commit}" for commit in self.known(self._have.values())]
        if not self._run("rev-list", "--max-count=1", *tips, *lacks):
            return
        # A bundle holds refs only.
        refs = {f"{CARRIED}{self._errand['worker_id']}/{tip}": tip for tip in tips}
        self._note(refs)
        try:
            self._run("bundle", "create", "--quiet", self._errand["bundle"], *refs, *lacks)
        finally:
            self._note(dict.fromkeys(refs, ""))

    def known(self, commits: Iterable[str]) -> list[str]:
        """Return those of the commits that are here."""
        if not os.path.isdir(self._path):
            return []
        lines = "".join(f"{commit}\n" for commit in sorted(set(commits)))
        said = self._told(lines, "cat-file", "--batch-check=%(objectname)")
        return [line for line in said.splitlines() if " " not in line]

    def push(self, errand: Pushing) -> Pushed:
        """Take in what a worker left, and push it; what is refused stays here."""
        commit, others = errand["commit"], errand["others"]
        if self._lease and not self._lease.taken:
            # Whoever had somebody to fence off took it before the start.
            self._lease.lazy = True
        with self._alone():
            kept = self._take_in({BRANCHES + errand["branch"]: commit, **others})
            try:
                for tries_left in range(TRIES)[::-1]:
                    try:
                        updates = self._publish(commit, others)
                    except Superseded:
                        raise
                    except GitError:
                        # Another process may have pushed the same, or the way was bad.
                        if not tries_left:
                            raise
                    else:
                        break
            except GitError as exc:
                superseded = isinstance(exc, Superseded)
                return {"updates": {}, "problem": str(exc), "superseded": superseded}
            self._note(dict.fromkeys(kept, ""))
            if errand["ended"]:
                shutil.rmtree(os.path.join(self._leases, errand["worker_id"]), ignore_errors=True)
        return {"updates": updates, "problem": "", "superseded": False}

    def _take_in(self, tips: dict[str, str]) -> dict[str, str]:
        """Bring the bundle's commits here, each under a ref of the worker; raises ``GitError``."""
        self._cache.create()
        if os.path.exists(self._errand["bundle"]):
            self._run("bundle", "unbundle", self._errand["bundle"])
        prefix = f"{CARRIED}{self._errand['worker_id']}/"
        kept = {prefix + ref.removeprefix("refs/"): tip for ref, tip in tips.items() if tip}
        for ref, tip in kept.items():
            # Whole, down to what was here before: git looks.
            self._run("rev-list", "--quiet", "--objects", tip, "--not", "--all")
            self._note({ref: tip})
        return kept

    def _publish(self, commit: str, others: dict[str, str]) -> dict[str, str]:
        branch, wip = self._errand["branch"], WIP_REFS + self._errand["task_id"]
        delivery = Delivery(self._git, self._path, self._path, branch)
        delivery.lease = self._lease
        updates = {}
        # An earlier state of the branch is its worker's to replace; without a commit it is let be.
        before = self._have.get(there(BRANCHES + branch), "") if commit else ""
        extra = [f"{tip}:{ref}" for ref, tip in others.items() if ref != wip]
        delivery.publish(commit, before if before != commit else "", extra)
        if commit:
            updates[there(BRANCHES + branch)] = commit
        updates |= {there(ref): tip for ref, tip in others.items()}
        seen = self._have.get(there(wip))
        if tip := others.get(wip):
            delivery.put(wip, tip, seen=delivery.tip(wip), base="")
        elif seen and wip not in self._have:
            # All of the work is on the branch.
            if delivery.tip(wip) == seen:
                delivery.withdraw(wip, seen=seen)
            updates[there(wip)] = ""
        return updates

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Push for nobody else from here meanwhile; gone with the process."""
        os.makedirs(self._errand["folder"], mode=0o700, exist_ok=True)
        with open(self._path.removesuffix(".git") + ".pushing", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _note(self, refs: dict[str, str]) -> None:
        """Set refs here; those without a commit go."""
        lines = (f"update {ref} {tip}" if tip else f"delete {ref}" for ref, tip in refs.items())
        self._told("".join(f"{line}\n" for line in lines), "update-ref", "--stdin")

    def _told(self, text: str, *arguments: str) -> str:
        path = self._errand["bundle"] + ".said"
        with open(path, "w") as file:
            file.write(text)
        try:
            return self._git.run(*arguments, cwd=self._path, stdin_path=path)
        finally:
            os.unlink(path)

    def _run(self, *arguments: str) -> str:
        return self._git.run(*arguments, cwd=self._path)


def main() -> None:
    """Do one errand."""
    verb, errand = sys.argv[-1], json.load(sys.stdin)
    try:
        mirror = Mirror(errand)
        if verb == "fetch":
            try:
                said: object = mirror.fetch(errand)
            except GitError as exc:
                said = {"base": None, "updates": {}, "far": [], "problem": str(exc)}
        elif verb == "known":
            said = mirror.known(errand["have"].values())
        else:
            said = mirror.push(errand)
    except (GitError, OSError) as exc:
        sys.exit(str(exc))
    print(json.dumps(said))

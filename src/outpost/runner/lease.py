"""Fencing in git: of all the attempts at a task, only the one with the highest fence publishes.

A ref on the remote names who holds the task. A worker takes it when it begins, unless somebody with
a higher fence has it, and puts a new commit there with each push, in one transaction of the remote
with what it publishes. So between looking and pushing nobody can slip in, and a worker that was
taken for dead and comes back finds its successor's name.

A task's first worker has nobody to fence off: it takes the lease with its first checkpoint alone,
gives it back with the last, and without any it only looks whether somebody has come after it.
"""

from __future__ import annotations

import contextlib
import os

from outpost.runner.git import Git, GitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.wire.errands import Errand
    from outpost.wire.orders import WorkOrder

LEASE_REFS = "refs/outpost/lease/"
FIRST_FENCE = 1
NOT_ATOMIC = "does not support --atomic"
NO_TRANSACTIONS = "the remote has no atomic pushes: a successor may come in between them"
# Neither hooks nor a user's settings have a say in what is pushed.
PUSH = (
    *("push", "--quiet", "--no-verify", "--no-signed", "--no-follow-tags"),
    "--recurse-submodules=no",
)
_WORKER, _FENCE = "Outpost-Worker: ", "Outpost-Fence: "
_TRIES = 5


class Superseded(GitError):
    """Another worker holds the task by now: nothing of this one may be published."""

    def __init__(self, holder: str) -> None:
        super().__init__(
            f"superseded by {holder}" if holder else "superseded: its lease is gone", 1
        )


class Holder:
    """Whose lease the remote shows: its commit, the worker and the fence; empty for nobody's."""

    __slots__ = ("commit", "fence", "worker_id")

    def __init__(self, commit: str, worker_id: str, fence: int) -> None:
        self.commit = commit
        self.worker_id = worker_id
        self.fence = fence


class Lease:
    """The lease of one task as one worker sees it.

    ``folder`` is a repository for its commits alone, which no agent and no other worker writes to.
    Files in it say what every process of this worker is to know. ``lazy``: nobody came before it
    who could come back, as with the first of a task, or one that is ``alone``.
    """

    def __init__(self, git: Git, folder: str, order: WorkOrder | Errand, fence: int) -> None:
        task_id, worker_id = order["task_id"], order["worker_id"]
        self.ref = LEASE_REFS + task_id
        self.lazy = fence <= FIRST_FENCE or order.get("alone", False)
        self._git = git
        self._folder = folder
        self._worker_id = worker_id
        self._fence = fence

    @property
    def objects(self) -> str:
        """The folder with the objects of ``renewed``'s commits."""
        return os.path.join(self._folder, "objects")

    @property
    def taken(self) -> bool:
        """Whether this worker has taken the lease: where it is gone then, somebody removed it."""
        return os.path.exists(self._path("outpost-taken"))

    @property
    def atomic(self) -> bool:
        """Whether the remote can take several refs in one transaction, as far as is known."""
        return not os.path.exists(self._path("outpost-one-by-one"))

    def take(self) -> None:
        """Make the task this worker's; raises ``Superseded``, or ``GitError`` if it cannot be."""
        for tries_left in reversed(range(_TRIES)):
            holder = self._holder()
            if holder.worker_id != self._worker_id and holder.fence >= self._fence:
                raise Superseded(holder.worker_id)
            lease = f"--force-with-lease={self.ref}:{holder.commit}"
            atomic = ("--atomic",) if self.atomic else ()
            refspec = f"{self.renewed()}:{self.ref}"
            try:
                self._run(*PUSH, *atomic, lease, "--", self._git.url, refspec)
            except GitError as exc:
                if self.atomic and NOT_ATOMIC in str(exc):
                    self.note_not_atomic()
                elif not tries_left or self._tip() == holder.commit:
                    raise GitError(f"cannot take the lease {self.ref}: {exc}", 1) from exc
            else:
                self.note_taken()
                return

    def check(self, seen: str | None = None) -> str:
        """Return the commit that the remote shows if this worker may publish; or ``Superseded``.

        ``seen`` is what it showed just now (empty: no such ref), if the caller has looked. The
        commit is empty where nobody has taken the lease yet.
        """
        holder = self._holder(seen)
        mine = holder.worker_id == self._worker_id
        if not mine and (self.taken or holder.fence >= self._fence):
            raise Superseded(holder.worker_id)
        return holder.commit

    def note_taken(self) -> None:
        """Note that the remote has shown this worker's name."""
        self._touch("outpost-taken")

    def note_not_atomic(self) -> None:
        """Note that the remote takes one ref after the other."""
        self._touch("outpost-one-by-one")

    def give_back(self) -> None:
        """Note that this worker wants the lease no more: that it is gone will say nothing."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path("outpost-taken"))

    def renewed(self) -> str:
        """Make another commit that names this worker, unlike all before it, and return it."""
        self._open()
        # A ref that is pushed to what it is already is not compared by the remote.
        path = self._path("outpost-message")
        with open(path, "w") as file:
            file.write(
                f"Lease of {self.ref.removeprefix(LEASE_REFS)}\n\n"
                f"{_WORKER}{self._worker_id}\n{_FENCE}{self._fence}\n"
                f"Outpost-Nonce: {os.urandom(8).hex()}\n"
            )
        return self._git.run(
            *("commit-tree", "--no-gpg-sign", self._run("mktree")),
            cwd=self._folder,
            stdin_path=path,
        )

    def _holder(self, seen: str | None = None) -> Holder:
        """Look whose it is; raises ``GitError`` where that cannot be told."""
        for _ in range(_TRIES):
            tip = self._tip() if seen is None else seen
            seen = None
            if not tip:
                return Holder("", "", -1)
            self._open()
            if not self._has(tip):
                fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--")
                self._run(*fetch, self._git.url, self.ref)
            if self._has(tip):
                return self._read(tip)
        raise GitError(f"cannot tell who holds {self.ref}: it changes all the time", 1)

    def _read(self, tip: str) -> Holder:
        lines = self._run("cat-file", "commit", tip).splitlines()
        worker_ids = [line.removeprefix(_WORKER) for line in lines if line.startswith(_WORKER)]
        fences = [line.removeprefix(_FENCE) for line in lines if line.startswith(_FENCE)]
        if len(worker_ids) != 1 or len(fences) != 1 or not fences[0].isdecimal():
            raise GitError(f"cannot tell who holds {self.ref}: {tip[:12]} is no lease", 1)
        return Holder(tip, worker_ids[0], int(fences[0]))

    def _has(self, commit: str) -> bool:
        return self._git.succeeds("cat-file", "-e", f"{commit}^{{commit}}", cwd=self._folder)

    def _tip(self) -> str:
        answer = self._git.run("ls-remote", "--", self._git.url, self.ref, cwd="/")
        rows = (line.partition("\t") for line in answer.splitlines())
        return next((tip for tip, _, name in rows if name == self.ref), "")

    def _open(self) -> None:
        """Make the folder, unless it is there."""
        if not os.path.isdir(self.objects):
            init = ("init", "--quiet", "--bare", "--template=", self._folder)
            self._git.run(*init, cwd=os.path.dirname(self._folder))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _touch(self, name: str) -> None:
        with open(self._path(name), "w"):
            pass

    def _run(self, *arguments: str) -> str:
        return self._git.run(*arguments, cwd=self._folder)

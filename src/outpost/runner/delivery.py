"""Bringing the commits of a workspace to the remote, and proving that they arrived."""

from __future__ import annotations

import contextlib
import os

from outpost.runner import lfs
from outpost.runner.git import Git, GitError
from outpost.runner.lease import NOT_ATOMIC, PUSH, Lease, Superseded
from outpost.runner.trust import ShutIn, over_objects

WIP_REFS = "refs/outpost/wip/"
NO_LFS = "new files in Git LFS cannot go by way of the controller; this place would have to push"


class Delivery:
    """Pushes to the URL of the order, whatever the agent has made of the remotes in ``tree``.

    ``outside`` is where no agent had a say in what git does: there runs what needs our ways in.
    Where the order has a fence, ``lease`` must not be another's for anything to be pushed.
    """

    def __init__(
        self, git: Git, outside: str, tree: str, branch: str, *, at_relay: bool = False
    ) -> None:
        self._git = git
        self._outside = outside
        self._inside = ShutIn(git)
        self._tree = tree
        self._branch = branch
        self._at_relay = at_relay
        self.lease: Lease | None = None

    def push(self, commit: str, base: str, extra: list[str]) -> None:
        """Push ``commit`` to the branch, unless it is the ``base``, and ``extra`` beside it.

        Raises as ``publish`` does.
        """
        self.publish(commit, base, [f"{tip}:{self.progress_ref(tip)}" for tip in extra])

    def publish(self, commit: str, base: str, refspecs: list[str]) -> None:
        """Push ``commit`` to the branch, unless it is the ``base``, and ``refspecs`` beside it.

        Raises ``GitError``: refused, not there afterwards, or the branch is somebody else's; and
        ``Superseded``, even where the agent pushed all of it itself.
        """
        ref = f"refs/heads/{self._branch}"
        there, lease = self._look(ref)
        held = self.lease.check(lease) if self.lease else ""
        if commit not in (base, there):
            if there not in ("", base) and not self._ours(there, commit):
                raise GitError(f"the remote already has another branch {self._branch}", 1)
            refspecs = [*refspecs, f"{commit}:{ref}"]
        if not refspecs:
            return
        if lfs.in_use(self._tree):
            self._push_lfs(base, [refspec.partition(":")[0] for refspec in refspecs])
        expected = f"--force-with-lease={ref}:{there}"
        if held:
            self._publish(expected, *refspecs, held=held)
        else:
            self._outward(*PUSH, expected, "--", self._git.url, *refspecs)
        if commit != base:
            self._verify(ref, commit, there, held)

    def _verify(self, ref: str, commit: str, there: str, held: str) -> None:
        """Look whether a push has arrived, and whether it was ours to make."""
        arrived, lease = self._look(ref)
        if arrived != commit:
            raise GitError("the remote took the push but does not show the commit", 1)
        if not self.lease or held:
            return
        # A successor takes the lease before it looks for our branch: so either it has found this,
        # or it is found here.
        try:
            self.lease.check(lease)
        except Superseded:
            if not there:
                with contextlib.suppress(GitError):
                    gone = f"--force-with-lease={ref}:{commit}"
                    self._outward(*PUSH, gone, "--", self._git.url, f":{ref}")
            raise

    def put(self, ref: str, commit: str, *, seen: str, base: str) -> None:
        """Push ``commit`` to a ref that holds ``seen`` (empty: does not exist), else ``GitError``.

        The lease is taken with it, where it was not yet; raises ``Superseded`` as well.
        """
        if lfs.in_use(self._tree):
            self._push_lfs(base, [commit])
        self._publish(f"--force-with-lease={ref}:{seen}", f"{commit}:{ref}")

    def withdraw(self, ref: str, *, seen: str) -> None:
        """Delete a ref of the remote that holds ``seen``, else ``GitError`` or ``Superseded``.

        The lease of a task's first worker goes with it: there is nobody to fence off.
        """
        self._publish(f"--force-with-lease={ref}:{seen}", f":{ref}", last=True)

    def progress_ref(self, tip: str) -> str:
        """Return where a commit that is not on the branch is kept on the remote."""
        return f"{WIP_REFS}{os.path.basename(self._tree)}/{tip[:12]}"

    def tip(self, ref: str) -> str:
        """Return the commit of a ref of the remote, empty if it has none; raises ``GitError``."""
        return self._tips(ref).get(ref, "")

    def _look(self, ref: str) -> tuple[str, str]:
        """Return the commits of a ref and of the lease in one look, empty for what is not there."""
        lease = self.lease.ref if self.lease else ref
        tips = self._tips(*{ref, lease})
        return tips.get(ref, ""), tips.get(lease, "")

    def _tips(self, *refs: str) -> dict[str, str]:
        answer = self._outward("ls-remote", "--", self._git.url, *refs)
        rows = (line.partition("\t") for line in answer.splitlines())
        return {name: tip for tip, _, name in rows}

    def _publish(
        self, expected: str, *refspecs: str, held: str | None = None, last: bool = False
    ) -> None:
        """Push, with the lease renewed in the same transaction where there is one to keep.

        ``held`` is its commit if it was looked at already; ``last``: nothing follows.
        """
        lease = self.lease
        if lease is None:
            self._outward(*PUSH, expected, "--", self._git.url, *refspecs)
            return
        for tries_left in (2, 1, 0):
            held = lease.check() if held is None else held
            ends = last and lease.lazy
            if ends:
                lease.give_back()
            try:
                self._push_with(lease, held, expected, refspecs, ends=ends)
            except GitError as exc:
                # A push of ours that was cut short may have arrived after we looked.
                before, held = held, lease.check()
                no_transactions = lease.atomic and NOT_ATOMIC in str(exc)
                if not tries_left or not (held != before or no_transactions):
                    raise
                if no_transactions:
                    lease.note_not_atomic()
            else:
                if not ends:
                    lease.note_taken()
                return

    def _push_with(
        self, lease: Lease, held: str, expected: str, refspecs: tuple[str, ...], *, ends: bool
    ) -> None:
        """Push once, and renew the lease that the remote shows as ``held``, or end it."""
        if ends and not held:
            self._outward(*PUSH, expected, "--", self._git.url, *refspecs)
            return
        renewal = f":{lease.ref}" if ends else f"{lease.renewed()}:{lease.ref}"
        options = (*PUSH, f"--force-with-lease={lease.ref}:{held}", expected)
        if lease.atomic:
            self._outward(*options, "--atomic", "--", self._git.url, renewal, *refspecs)
        else:
            self._outward(*options, "--", self._git.url, renewal)
            self._outward(*PUSH, expected, "--", self._git.url, *refspecs)

    def _push_lfs(self, base: str, commits: list[str]) -> None:
        """Push what Git LFS keeps first: a branch that names what is not there is broken."""
        objects = lfs.new_objects(self._inside, self._tree, base, commits)
        if not objects:
            return
        if self._at_relay:
            raise GitError(NO_LFS, 1)
        try:
            url = self._outward("config", "--blob", f"{base}:.lfsconfig", "--get", "lfs.url")
        except GitError:
            url = ""
        outside = f"{self._outside}.{os.path.basename(self._tree)}"
        lfs.push(self._git, self._tree, outside, url, objects)

    def _outward(self, *arguments: str) -> str:
        """Run a git command with our ways in, over the objects of the workspace."""
        folders = [os.path.join(self._tree, ".git", "objects")]
        if self.lease:
            folders.append(self.lease.objects)
        environment = over_objects(self._git.environment, *filter(os.path.isdir, folders))
        return self._git.run(*arguments, cwd=self._outside, environment=environment)

    def _ours(self, tip: str, commit: str) -> bool:
        """Whether a remote tip is an earlier state of this work: the agent pushed it itself.

        It may have been amended or rebased since: then it was made here, as the reflog says.
        """
        if self._inside.succeeds("merge-base", "--is-ancestor", tip, commit, cwd=self._tree):
            return True
        try:
            with open(os.path.join(self._tree, ".git", "logs", "HEAD"), errors="replace") as file:
                rows = [line.partition("\t") for line in file]
        except FileNotFoundError:
            return False
        made = {row.split(" ", 2)[1] for row, _, what in rows if what.startswith("commit")}
        return tip in made

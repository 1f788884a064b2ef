"""One worker's git workspace: made from the cache, its work committed, pushed and verified.

Nothing is ever deleted here that the remote does not hold.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from outpost.runner import lfs, snapshot, submodules
from outpost.runner.cache import Base, Cache, remote_config
from outpost.runner.delivery import Delivery
from outpost.runner.git import Git, GitError
from outpost.runner.lease import Superseded
from outpost.runner.loop import Interrupted
from outpost.runner.trust import ShutIn

PUSHED_REFS = "refs/outpost/pushed/"  # only here: what the remote is known to hold
NOTHING_LEFT = "nothing of the earlier work is on the remote: begun at the base"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's own name for it


class Saved:
    """How the work ended up: ``how`` is remote, relay (the controller has yet to push it), bundle,
    workspace or nothing; ``problem`` why not.

    ``commit`` is the tip of the branch, ``None`` where the agent changed nothing. ``disposable``
    tells whether the workspace holds nothing that is not also on the remote; ``note`` what keeps
    it although all of the work was pushed; ``superseded`` that another worker holds the task.
    """

    __slots__ = ("commit", "disposable", "how", "note", "problem", "pushed", "superseded", "where")

    def __init__(
        self, how: str, where: str, commit: str | None = None, *, pushed: bool, problem: str = ""
    ) -> None:
        self.how = how
        self.where = where
        self.commit = commit
        self.pushed = pushed
        self.problem = problem
        self.note = ""
        self.superseded = False
        self.disposable = not problem


class Workspace:
    """The repository at ``tree`` with ``branch`` checked out, borrowing objects from ``cache``.

    ``base_file`` says that the workspace was made whole, and which commit work began at.
    ``warnings`` are what an agent and its user should know of how it was made. ``git`` is for steps
    in it once an agent was there: it knows no way in anywhere.
    """

    def __init__(self, tree: str, branch: str, cache: Cache, git: Git, base_file: str) -> None:
        self.tree = tree
        self.branch = branch
        self.git = ShutIn(git)
        self.warnings: list[str] = []
        self._cache = cache
        self._trusted_git = git
        self.delivery = Delivery(git, cache.path, tree, branch, at_relay=cache.at_relay)
        self.kept = "relay" if cache.at_relay else "remote"
        self._git_folder = os.path.join(tree, ".git")
        self._unfinished = os.path.join(self._git_folder, "outpost-unfinished")
        self._base_file = base_file

    def create(self, base: Base, checkpoint: str = "") -> None:
        """Make the workspace at the base's commit; raises ``GitError``.

        On a remote without commits the first one begins the history. With a ``checkpoint`` it is
        made as that one's agent left it: its commits, and as uncommitted what was so.
        """
        os.makedirs(self.tree, mode=0o700)
        try:
            # Before git can take it for a repository: a death from here on leaves half of one.
            os.mkdir(self._git_folder)
            with open(self._unfinished, "w"):
                pass
            self._create(base, checkpoint or base.commit)
            if checkpoint:
                self._uncommit(checkpoint)
            os.unlink(self._unfinished)
        except (GitError, OSError, Interrupted):
            # Half a workspace is none, and may be what filled the disk.
            self.remove()
            raise
        self._note_base(self._known(base.commit) if checkpoint else base.commit)

    def _create(self, base: Base, start: str) -> None:
        self._trusted_git.run(
            "init", "--quiet", "--template=", f"-b{self.branch}", ".", cwd=self.tree
        )
        information = os.path.join(self._git_folder, "objects", "info")
        os.makedirs(information, exist_ok=True)
        with open(os.path.join(information, "alternates"), "w") as file:
            file.write(self._cache.objects + "\n")
        with open(os.path.join(self._git_folder, "config"), "a") as file:
            file.write(remote_config(self._trusted_git.url))
            file.write("\tfetch = +refs/heads/*:refs/remotes/origin/*\n")
            if self._cache.is_partial():
                file.write(_promisor_config())
        if base.branch:
            self._write_ref(f"refs/remotes/origin/{base.branch}", base.commit)
        if start:
            reset = ("reset", "--quiet", "--hard", start)
            self._trusted_git.run(*lfs.POINTERS_ONLY, *reset, cwd=self.tree)
            self._fill()
        else:
            self.warnings.append("the repository is empty: this is its first branch")

    def _uncommit(self, commit: str) -> None:
        """Take a snapshot's commit off the branch, and leave its files; an agent's own stays."""
        said = self._trusted_git.run("cat-file", "commit", commit, cwd=self.tree).splitlines()
        if not any(line.startswith(snapshot.MARK) for line in said):
            return
        if any(line.startswith("parent ") for line in said[: said.index("")]):
            self._trusted_git.run("reset", "--quiet", f"{commit}^", cwd=self.tree)
        else:
            self._trusted_git.run("update-ref", "-d", "HEAD", cwd=self.tree)
            self._trusted_git.run("read-tree", "--empty", cwd=self.tree)

    def go_on(self, base: Base, checkpoint: str = "") -> None:
        """Go on with the order's branch, in the workspace that an earlier worker left if it can be.

        Where that is gone, begins at the ``checkpoint`` if there is one, else at the tip that the
        remote has, else at ``base``. A workspace that knows no branch of that name gets one where
        its work is, uncommitted changes and all. Raises ``GitError``.
        """
        tip = self._cache.fetch_branch(self.branch)
        if not self.is_there:
            self._set_aside()
            if not tip and not checkpoint:
                self.warnings.append(NOTHING_LEFT)
            self.create(Base(tip, self.branch) if tip else base, checkpoint)
            return
        self._remove_locks()
        if tip:
            self._write_ref(f"refs/remotes/origin/{self.branch}", tip)
            self._catch_up(tip)
        self._have_branch()
        self._note_base(self._known(tip or base.commit))

    def _have_branch(self) -> None:
        """Check the order's branch out where there was none yet, without a change to any file."""
        ref = f"refs/heads/{self.branch}"
        if self.git.succeeds("show-ref", "--verify", "--quiet", ref, cwd=self.tree):
            return
        if head := snapshot.head_of(self.git, self.tree):
            self.git.run("update-ref", ref, head, cwd=self.tree)
        self.git.run("symbolic-ref", "HEAD", ref, cwd=self.tree)

    def _catch_up(self, tip: str) -> None:
        """Take over what others pushed to the branch meanwhile, if nothing stands in the way."""
        if self._holds(tip, "HEAD"):
            return
        if not self.git.succeeds("merge", "--quiet", "--ff-only", tip, cwd=self.tree):
            self.warnings.append(
                f"origin/{self.branch} has commits that this workspace lacks: merge or rebase"
            )

    def _known(self, commit: str) -> str:
        """Return how much of a commit the workspace builds on: the rest may be somebody else's."""
        try:
            return self.git.run("merge-base", commit, "HEAD", cwd=self.tree) if commit else ""
        except GitError:
            return ""

    def _holds(self, commit: str, tip: str) -> bool:
        return self.git.succeeds("merge-base", "--is-ancestor", commit, tip, cwd=self.tree)

    def _set_aside(self) -> None:
        """Make room for the workspace, without deleting what may lie there without its .git."""
        if os.path.exists(self._unfinished):
            self.remove()  # no agent has been there
        elif os.path.isdir(self.tree) and os.listdir(self.tree):
            aside = f"{self.tree}.{os.path.basename(os.path.dirname(self._base_file))}"
            os.rename(self.tree, aside)
            self.warnings.append(f"the earlier workspace had lost its .git folder: see {aside}")
        else:
            shutil.rmtree(self.tree, ignore_errors=True)

    def _fill(self) -> None:
        """Bring what the commit only refers to; what cannot be had is a warning, no failure."""
        problems = [submodules.fill(self._trusted_git, self.tree)]
        if lfs.in_use(self.tree):
            problems.append(lfs.fill(self._trusted_git, self.tree))
        self.warnings += filter(None, problems)

    def _note_base(self, commit: str) -> None:
        with open(self._base_file + ".new", "w") as file:
            file.write(commit)
        os.replace(self._base_file + ".new", self._base_file)

    @property
    def is_there(self) -> bool:
        """Whether there is a workspace, this worker's or an earlier one's, and all of it."""
        return os.path.isdir(self._git_folder) and not os.path.exists(self._unfinished)

    @property
    def exists(self) -> bool:
        """Whether the workspace was made whole: before that there is no work to lose."""
        return os.path.exists(self._base_file)

    @property
    def base(self) -> str:
        """The commit that work began at, empty where there was none."""
        with open(self._base_file) as file:
            return file.read()

    def save(self, message: str, bundle_path: str) -> Saved:
        """Commit what is left, push it, verify it; what cannot be pushed is bundled and stays."""
        if not os.path.isdir(self.tree):
            gone = f"its workspace {self.tree} was removed while it worked"
            return Saved("nothing", "", pushed=False, problem=gone)
        if not os.path.isdir(self._git_folder):
            return Saved("workspace", self.tree, pushed=False, problem="its .git folder is gone")
        base = self.base
        try:
            self._remove_locks()
            commit = self._commit_all(message)
            extra = self.other_tips(commit)
        except (GitError, OSError) as exc:
            return Saved("workspace", self.tree, pushed=False, problem=f"cannot commit: {exc}")
        saved = Saved("nothing", "", pushed=False)
        if commit != base or extra:
            try:
                self.delivery.push(commit, base, extra)
            except (GitError, OSError) as exc:
                kept = self._bundle(commit, bundle_path, str(exc))
                kept.superseded = isinstance(exc, Superseded)
                return kept
            self._note_pushed(commit, *extra)
            saved = Saved(self.kept, self.branch, commit, pushed=True)
            if commit == base:
                where = self.delivery.progress_ref(extra[0])
                saved = Saved(self.kept, where, pushed=True)
        return self._look_inside(saved)

    def _look_inside(self, saved: Saved) -> Saved:
        """Say what the push cannot have carried: then the workspace stays."""
        if inside := submodules.unpushed(self.git, self.tree):
            saved.how, saved.where, saved.problem = "workspace", self.tree, inside
        saved.note = self._strays()
        saved.disposable = not saved.problem and not saved.note
        return saved

    def oddities(self) -> str:
        """Say what is here that no commit of this repository can hold."""
        return " and ".join(
            filter(None, (submodules.unpushed(self.git, self.tree), self._strays()))
        )

    def _strays(self) -> str:
        found = []
        worktrees = os.path.join(self._git_folder, "worktrees")
        if os.path.isdir(worktrees) and os.listdir(worktrees):
            found.append("a worktree")
        try:
            raw = ("diff", "--raw", "--no-renames", "--ignore-submodules=none")
            changes = self.git.run(*raw, self.base or EMPTY_TREE, cwd=self.tree).splitlines()
        except GitError:
            found.append("a history that does not hold the base")
        else:
            # ":100644 160000 … A⇥name": the second mode is that of a repository.
            names = [line.partition("\t")[2] for line in changes if line[8:14] == "160000"]
            if any(not self._is_submodule(name) for name in names):
                found.append("a repository inside the repository")
        return " and ".join(found)

    def _is_submodule(self, name: str) -> bool:
        """Whether a repository in the tree is a submodule: its objects lie in ``.git/modules``."""
        return os.path.isfile(os.path.join(self.tree, name, ".git"))

    def remove(self) -> None:
        """Delete the workspace; the caller knows that nothing in it is needed."""
        shutil.rmtree(self.tree, ignore_errors=True)

    def other_tips(self, commit: str) -> list[str]:
        """Return the commits of other branches and of stashes that ``commit`` lacks."""
        refs = self.git.run("for-each-ref", "--format=%(objectname)", "refs/heads", cwd=self.tree)
        tips = set(refs.split())
        if os.path.exists(os.path.join(self._git_folder, "logs", "refs", "stash")):
            tips.update(self.git.run("stash", "list", "--format=%H", cwd=self.tree).split())
        return [
            tip
            for tip in sorted(tips - {commit, self.base})
            if not commit or not self._holds(tip, commit)
        ]

    def _remove_locks(self) -> None:
        """Remove what a git process killed in mid-step left: by now nobody holds it."""
        for folder, folders, names in os.walk(self._git_folder):
            if "objects" in folders:
                folders.remove("objects")
            for name in names:
                if name.endswith(".lock"):
                    os.unlink(os.path.join(folder, name))

    def _commit_all(self, message: str) -> str:
        """Commit everything that is not ignored; return the commit that holds all the work."""
        if self.git.run("status", "--porcelain", "-unormal", cwd=self.tree):
            self.git.run("add", "--all", cwd=self.tree)
            if not self.git.succeeds("diff", "--cached", "--quiet", cwd=self.tree):
                path = os.path.join(self._git_folder, "outpost-message")
                with open(path, "wb") as file:
                    # Git takes no NUL in a message, nor the system a long one as an argument.
                    file.write(message.encode("utf-8", "replace").replace(b"\0", b""))
                commit = ("commit", "--quiet", "--no-gpg-sign", "--cleanup=whitespace", "--file=-")
                self.git.run(*commit, cwd=self.tree, stdin_path=path)
                os.unlink(path)
        try:
            return self.git.run("rev-parse", "--verify", "--quiet", "HEAD", cwd=self.tree)
        except GitError:
            if self.base:
                raise
            return ""

    def _note_pushed(self, *commits: str) -> None:
        """Remember what the remote holds; without that a removal only asks once more."""
        with contextlib.suppress(OSError):
            for commit in filter(None, commits):
                self._write_ref(PUSHED_REFS + commit, commit)

    def _bundle(self, commit: str, path: str, problem: str) -> Saved:
        """Keep the commits in a file beside the log, for when the remote takes them again."""
        known = (f"^{self.base}",) if self.base else ()
        try:
            self.git.run(
                "bundle", "create", "--quiet", path, "HEAD", "--all", *known, cwd=self.tree
            )
        except GitError:
            return Saved("workspace", self.tree, commit, pushed=False, problem=problem)
        return Saved("bundle", path, commit, pushed=False, problem=problem)

    def _write_ref(self, ref: str, commit: str) -> None:
        path = os.path.join(self._git_folder, ref)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".lock", "w") as file:
            file.write(commit + "\n")
        os.replace(path + ".lock", path)


def _promisor_config() -> str:
    return (
        "\tpromisor = true\n\tpartialclonefilter = blob:none\n"
        "[extensions]\n\tpartialClone = origin\n[core]\n\trepositoryformatversion = 1\n"
    )

"""What an ended worker holds that exists nowhere else, and the commands that would save it."""

from __future__ import annotations

import os
import shlex

from outpost.runner import lfs
from outpost.runner.borrowing import places
from outpost.runner.cache import Cache
from outpost.runner.git import Git, GitError
from outpost.runner.loop import Loop
from outpost.runner.mirror import there
from outpost.runner.place import Place
from outpost.runner.workspace import PUSHED_REFS, Workspace


def unsaved(place: Place) -> str:
    """Say it in a few words, and on the lines behind what to type; empty if there is nothing."""
    if not os.path.exists(place.path("order.json")):
        # Somebody removed the private folder: what is in the workspace cannot be told.
        copy = f"cp -a {shlex.quote(place.tree)} {place.worker_id}"
        return f"a workspace without its records\n{copy}" if os.path.isdir(place.tree) else ""
    if not os.path.exists(place.path("base")):
        return ""
    found = _in_files(place) or _at_relay(place)
    return "" if found and os.path.isdir(place.tree) and _successor(place) else found


def _in_files(place: Place) -> str:
    tree, bundle = shlex.quote(place.tree), place.path("work.bundle")
    if os.path.isdir(os.path.join(place.tree, ".git")):
        try:
            return _in_repository(place)
        except GitError as exc:
            return f"a workspace that git cannot look into ({exc})\ncp -a {tree} {place.worker_id}"
    if os.path.isdir(place.tree) and os.listdir(place.tree):
        return f"files without their .git folder\ncp -a {tree} {place.worker_id}"
    if os.path.exists(bundle):
        branch = shlex.quote(f"HEAD:refs/heads/{_free_branch(place)}")
        return f"commits that could not be pushed\ngit fetch {shlex.quote(bundle)} {branch}"
    return ""


def _at_relay(place: Place) -> str:
    """Say what was pushed to a relay beside us, and from there not yet to the remote."""
    order = place.order()
    relay, branch = order["repo_url"], f"refs/heads/{order['branch']}"
    loop = Loop(lambda _signal: None)
    git = Git(loop, os.environ, relay)
    if not Cache(place.cache, git, loop).at_relay or not os.path.isdir(relay):
        return ""
    show = ("for-each-ref", "--format=%(refname) %(objectname)", branch, there(branch))
    tips = dict(line.split(" ") for line in git.run(*show, cwd=relay).splitlines())
    if tips.get(branch) == tips.get(there(branch)):
        return ""
    fetch = shlex.join(("git", "fetch", relay, f"{branch}:{branch}"))
    return f"commits that were not pushed from {relay}\n{fetch}"


def _successor(place: Place) -> bool:
    """Whether another worker goes on in this one's workspace: it answers for what is there."""
    return any(_goes_on(other, place) for other in places(place.root))


def _goes_on(place: Place, earlier: Place) -> bool:
    """Whether a worker goes on from an earlier one, and has got as far as its workspace."""
    try:
        resume = place.order().get("resume")
    except (OSError, ValueError):
        return False
    follows = resume is not None and resume["worker_id"] == earlier.worker_id
    return follows and place.tree == earlier.tree and os.path.exists(place.path("base"))


def _in_repository(place: Place) -> str:
    workspace = _workspace(place)
    git, tree = workspace.git, shlex.quote(place.tree)
    changes = git.run("status", "--porcelain", "-unormal", cwd=place.tree).splitlines()
    parts, commands, refspecs = [], [], []
    if changes:
        parts.append(f"{len(changes)} uncommitted file{'s' * (len(changes) > 1)}")
        message = shlex.quote(f"Keep what {place.worker_id} left")
        commands.append(f"git -C {tree} add --all && git -C {tree} commit -m {message}")
    head = _head(workspace)
    others = [tip for tip in workspace.other_tips(head) if _commits(workspace, tip)]
    commits = _commits(workspace, head, *others)
    if commits:
        parts.append(f"{commits} unpushed commit{'s' * (commits > 1)}")
    if changes or _commits(workspace, head):
        refspecs.append(f"HEAD:refs/heads/{_free_branch(place)}")
    refspecs += [f"{tip}:refs/heads/kept/{place.worker_id}/{tip[:12]}" for tip in others]
    if refspecs and lfs.in_use(place.tree):
        commands.append(f"git -C {tree} lfs push origin HEAD")
    if refspecs:
        commands.append(f"git -C {tree} push origin {shlex.join(refspecs)}")
    if oddities := workspace.oddities():
        parts.append(oddities)
        commands.append(f"cp -a {tree} {place.worker_id}")
    return "\n".join([" and ".join(parts), *commands])


def _workspace(place: Place) -> Workspace:
    order = place.order()
    loop = Loop(lambda _signal: None)
    git = Git(loop, os.environ, order["repo_url"])
    cache = Cache(place.cache, git, loop)
    return Workspace(place.tree, order["branch"], cache, git, place.path("base"))


def _head(workspace: Workspace) -> str:
    try:
        return workspace.git.run("rev-parse", "--verify", "--quiet", "HEAD", cwd=workspace.tree)
    except GitError:
        return workspace.base


def _commits(workspace: Workspace, *tips: str) -> int:
    """Count the commits of ``tips`` that neither the base nor the remote is known to hold."""
    commits = [tip for tip in tips if tip]
    if not commits:
        return 0
    base = [workspace.base] if workspace.base else []
    known = ("--not", *base, "--remotes", f"--glob={PUSHED_REFS}*")
    count = ("rev-list", "--count", "--ignore-missing", *commits, *known)
    return int(workspace.git.run(*count, cwd=workspace.tree))


def _free_branch(place: Place) -> str:
    """Return the attempt's branch, made its own where the name may be another's."""
    branch = place.order()["branch"]
    return branch if place.worker_id in branch else f"{branch}-{place.worker_id}"

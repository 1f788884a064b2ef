"""Going on with an earlier worker's branch: in its workspace, or in a new one from the remote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.runner.beginning import Beginning
from outpost.runner.cache import Cache
from outpost.runner.git import Git
from outpost.runner.loop import Loop
from outpost.runner.place import Place
from outpost.runner.removal import remove
from outpost.runner.unsaved import unsaved
from outpost.runner.workspace import NOTHING_LEFT, Workspace
from tests.unit.orders import order_for
from tests.world import Remote, run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

BRANCH = "outpost/words-w-1"


class Site:
    """The root of an outpost in this very process, and a remote."""

    def __init__(self, root: Path, remote: Remote, loop: Loop) -> None:
        self.root = root
        self.remote = remote
        self._loop = loop
        self._git = Git(loop, remote.environment, remote.url)

    def place(self, name: str, goes_on_from: str = "", tree: str = "") -> Place:
        """Make the private folder of a worker, with its order."""
        place = Place(str(self.root / "workers" / name))
        Path(place.directory).mkdir(parents=True)
        order = order_for({"name": "command", "argv": ["true"], "options": {}})
        order["worker_id"] = name
        order["branch"] = BRANCH
        order["repo_url"] = self.remote.url
        if goes_on_from:
            order["resume"] = {
                "worker_id": goes_on_from,
                "session_id": None,
                "cost_microusd": None,
                "tree": tree or goes_on_from,
            }
        Path(place.path("order.json")).write_text(json.dumps(order))
        return place

    def cache(self, place: Place) -> Cache:
        return Cache(place.cache, self._git, self._loop)

    def workspace(self, place: Place) -> Workspace:
        return Workspace(place.tree, BRANCH, self.cache(place), self._git, place.path("base"))

    def beginning(self, place: Place) -> Beginning:
        workspace = self.workspace(place)
        return Beginning(place, place.order(), self.cache(place), workspace, self._loop)

    def begin(self, name: str = "w-1") -> tuple[Place, Workspace]:
        place = self.place(name)
        workspace = self.workspace(place)
        workspace.create(self.cache(place).fetch(None, 0))
        return place, workspace

    def go_on(self, name: str, earlier: str, tree: str = "") -> tuple[Place, Workspace]:
        place = self.place(name, earlier, tree)
        workspace = self.workspace(place)
        workspace.go_on(self.cache(place).fetch(None, 0))
        return place, workspace

    def git(self, place: Place, *arguments: str) -> str:
        return run("git", *arguments, environment=self.remote.environment, cwd=Path(place.tree))

    def commit(self, place: Place, name: str) -> str:
        (Path(place.tree) / name).write_text(f"{name}\n")
        self.git(place, "add", ".")
        self.git(place, "commit", "-qm", name)
        return self.git(place, "rev-parse", "HEAD")

    def push_as_another(self, *arguments: str, name: str = "theirs") -> str:
        """Commit on top of the branch elsewhere and push; return the commit."""
        clone = self.root / "elsewhere"
        run(
            *("git", "clone", "-q", "-b", BRANCH, str(self.remote.path), str(clone)),
            environment=self.remote.environment,
        )

        def git(*words: str) -> str:
            return run("git", *words, environment=self.remote.environment, cwd=clone)

        (clone / name).write_text("theirs\n")
        git("add", ".")
        git("commit", "-q", *arguments, f"-m{name}")
        git("push", "-qf", "origin", BRANCH)
        return git("rev-parse", "HEAD")

    def subjects(self) -> list[str]:
        return self.remote.git("log", "--format=%s", f"main..{BRANCH}").splitlines()


@pytest.fixture
def site(tmp_path: Path, remote: Remote, runner_loop: Loop, require: Callable[[str], str]) -> Site:
    require("git")
    return Site(tmp_path / "root", remote, runner_loop)


def test_the_earlier_workspace_is_gone_on_in(site: Site) -> None:
    place, workspace = site.begin()
    site.commit(place, "one")
    assert workspace.save("x", place.path("work.bundle")).pushed
    (Path(place.tree) / "cache.ignored").write_text("built")
    later, workspace = site.go_on("w-2", "w-1")
    assert later.tree == place.tree
    assert (Path(later.tree) / "cache.ignored").exists()
    assert workspace.warnings == []
    site.commit(later, "two")
    saved = workspace.save("x", later.path("work.bundle"))
    assert (saved.how, saved.problem) == ("remote", "")
    assert site.subjects() == ["two", "one"]


def test_without_the_workspace_the_branch_is_fetched(site: Site) -> None:
    place, workspace = site.begin()
    site.commit(place, "one")
    workspace.save("x", place.path("work.bundle"))
    workspace.remove()
    later, workspace = site.go_on("w-2", "w-1")
    assert later.tree == place.tree
    assert (Path(later.tree) / "one").exists()
    assert site.git(later, "branch", "--show-current") == BRANCH
    site.commit(later, "two")
    assert workspace.save("x", later.path("work.bundle")).pushed
    assert site.subjects() == ["two", "one"]


def test_a_branch_that_is_nowhere_is_begun_anew(site: Site) -> None:
    _place, workspace = site.begin()
    workspace.remove()
    later, workspace = site.go_on("w-2", "w-1")
    assert workspace.warnings == [NOTHING_LEFT]
    site.commit(later, "two")
    assert workspace.save("x", later.path("work.bundle")).pushed
    assert site.subjects() == ["two"]


def test_what_others_pushed_meanwhile_is_taken_over(site: Site) -> None:
    place, workspace = site.begin()
    site.commit(place, "one")
    workspace.save("x", place.path("work.bundle"))
    site.push_as_another()
    later, workspace = site.go_on("w-2", "w-1")
    assert (Path(later.tree) / "theirs").exists()
    site.commit(later, "two")
    assert workspace.save("x", later.path("work.bundle")).pushed
    assert site.subjects() == ["two", "theirs", "one"]


def test_what_others_rewrote_meanwhile_is_never_overwritten(site: Site) -> None:
    place, workspace = site.begin()
    site.commit(place, "one")
    workspace.save("x", place.path("work.bundle"))
    theirs = site.push_as_another("--amend")
    later, workspace = site.go_on("w-2", "w-1")
    assert "merge or rebase" in workspace.warnings[0]
    site.commit(later, "two")
    saved = workspace.save("x", later.path("work.bundle"))
    assert (saved.how, saved.pushed) == ("bundle", False)
    assert "already has another branch" in saved.problem
    assert site.remote.tip(BRANCH) == theirs


def test_a_worker_that_goes_on_may_rebase(site: Site) -> None:
    place, workspace = site.begin()
    site.commit(place, "one")
    workspace.save("x", place.path("work.bundle"))
    clone = site.remote.path.parent / "sample"
    (clone / "main.txt").write_text("newer\n")
    for words in (("add", "."), ("commit", "-qmNewer"), ("push", "-q", site.remote.url, "main")):
        run("git", *words, environment=site.remote.environment, cwd=clone)
    later, workspace = site.go_on("w-2", "w-1")
    site.git(later, "fetch", "-q", "origin", "main")
    site.git(later, "rebase", "-q", "FETCH_HEAD")
    saved = workspace.save("x", later.path("work.bundle"))
    assert (saved.how, saved.problem) == ("remote", "")
    assert site.subjects() == ["one"]
    assert site.remote.show(BRANCH, "main.txt") == "newer"


def test_commits_the_earlier_worker_could_not_push_are_pushed(site: Site) -> None:
    place, workspace = site.begin()
    site.remote.reject_pushes("closed")
    site.commit(place, "one")
    assert workspace.save("x", place.path("work.bundle")).how == "bundle"
    assert "1 unpushed commit" in unsaved(place)
    site.remote.accept_pushes()
    later, workspace = site.go_on("w-2", "w-1")
    assert unsaved(place) == ""
    assert "1 unpushed commit" in unsaved(later)
    assert workspace.save("x", later.path("work.bundle")).pushed
    assert site.subjects() == ["one"]
    assert unsaved(later) == ""


def test_a_workspace_without_its_git_folder_is_put_aside(site: Site) -> None:
    place, workspace = site.begin()
    site.commit(place, "one")
    workspace.save("x", place.path("work.bundle"))
    (Path(place.tree) / "by hand").write_text("not yet saved\n")
    run("rm", "-rf", f"{place.tree}/.git", environment=site.remote.environment)
    later, workspace = site.go_on("w-2", "w-1")
    aside = Path(f"{place.tree}.w-2")
    assert str(aside) in workspace.warnings[0]
    assert (aside / "by hand").exists()
    assert (Path(later.tree) / "one").exists()
    assert not (Path(later.tree) / "by hand").exists()


@pytest.mark.parametrize("first", ["w-1", "w-2"])
def test_a_workspace_goes_with_the_last_of_its_workers(site: Site, first: str) -> None:
    place, _ = site.begin("w-1")
    later, _ = site.go_on("w-2", "w-1")
    older, newer = (place, later) if first == "w-1" else (later, place)
    remove(older)
    assert Path(place.tree).exists()
    assert not Path(older.directory).exists()
    assert Path(newer.directory).exists()
    remove(newer)
    assert not Path(place.tree).exists()
    remove(newer)


def test_many_generations_share_one_workspace(site: Site) -> None:
    first, _ = site.begin("w-1")
    second, _ = site.go_on("w-2", "w-1")
    third, workspace = site.go_on("w-3", "w-2", tree="w-1")
    assert first.tree == second.tree == third.tree
    site.commit(third, "three")
    assert unsaved(first) == unsaved(second) == ""
    assert "1 unpushed commit" in unsaved(third)
    remove(second)
    remove(first)
    assert (Path(third.tree) / "three").exists()
    assert workspace.save("x", third.path("work.bundle")).pushed


def test_a_workspace_is_gone_on_in_once_the_earlier_worker_has_left_it(
    site: Site, runner_loop: Loop
) -> None:
    earlier, _ = site.begin()
    later = site.place("w-2", "w-1")
    assert Place(earlier.directory).cared_for() is False
    assert earlier.take_lock()
    looks = 0

    def leave() -> None:
        nonlocal looks
        looks += 1
        assert not Path(later.path("base")).exists()
        if looks == 3:
            earlier.drop_lock()

    runner_loop.tick = leave
    runner_loop.tick_s = 0.0
    site.beginning(later).make(site.cache(later).fetch(None, 0))
    assert looks >= 3
    assert later.tree == earlier.tree
    assert Path(later.path("base")).exists()


def test_an_order_names_no_folder_outside(site: Site) -> None:
    place = site.place("w-9", "w-1", tree="../../../etc")
    assert place.tree == str(site.root / "trees" / "etc")

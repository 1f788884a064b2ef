"""``outpost prune`` on real workers: what goes, what stays, and that no work is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_world import Cli, tree
from tests.world import World, run, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

NOW = ("prune", "--before", "0s")
DAY_S = 86_400


@pytest.fixture
def cli(world: World) -> Cli:
    return Cli(world)


def prune(cli: Cli, *more: str) -> Any:
    return cli(*NOW, "--json", *more).json()


def names(rows: list[dict[str, Any]], kind: str = "worker") -> set[str]:
    return {row["name"] for row in rows if row["kind"] == kind}


def ended(cli: Cli, script: str, code: int = 1) -> str:
    """Run a worker to its end, and until nothing of it lives."""
    arguments = ("--repo", cli.world.remote.url, "--json", "--wait", "--", "sh", "-c", script)
    worker = str(cli("spawn", "-m", "Mend the words", *arguments, code=code).json()["worker"])
    cli.world.gone(worker)
    return worker


def age(path: Path, days: float) -> None:
    """Make everything below ``path`` look as old."""
    then = time.time() - days * DAY_S
    for each in (path, *path.rglob("*")):
        if not each.is_symlink():
            os.utime(each, (then, then))


def forget(world: World, worker: str) -> None:
    """Take a worker out of the store behind everybody's back."""
    with contextlib.closing(sqlite3.connect(world.home / "outpost.db")) as database, database:
        database.execute("pragma foreign_keys=off")
        database.execute("delete from attempts where id = ?", [worker])


def root(world: World) -> Path:
    return world.home / "outposts" / "local"


def caches(world: World) -> list[Path]:
    return sorted(root(world).glob("cache/*.git"))


def test_what_ended_goes_and_the_dry_run_says_exactly_that(cli: Cli) -> None:
    done, failed = ended(cli, "echo x > new", 0), ended(cli, "echo x > new; exit 1")
    assert cli.world.tree(failed).is_dir()
    before = tree(cli.world.home)
    assert cli("prune").out == "Nothing to remove.\n"
    planned = cli(*NOW, "--dry-run").out
    # SQLite keeps files beside an open database, so that folder itself has changed.
    assert {**tree(cli.world.home), ".": before["."]} == before
    real = cli(*NOW).out
    words = [(" ago", ""), ("would remove", "removed"), ("Would free", "Freed")]
    for old, new in words:
        planned, real = planned.replace(old, new), real.replace(old, new)
    assert [line.split()[:4] for line in planned.splitlines()] == [
        line.split()[:4] for line in real.splitlines()
    ]
    assert done in real
    assert failed in real
    for worker in (done, failed):
        assert not cli.world.place(worker).exists()
        assert not cli.world.tree(worker).exists()
    assert cli("ps", "-a", "--json").json() == []
    assert prune(cli)["removed"] == []


def test_only_what_ended_long_enough_ago_goes(cli: Cli) -> None:
    worker = ended(cli, "true", 0)
    assert names(prune(cli, "--before", "1m")["removed"]) == set()
    then = "2020-01-01T00:00:00.000000+00:00"
    with contextlib.closing(sqlite3.connect(cli.world.home / "outpost.db")) as database, database:
        stored = database.execute("select ended_at from attempts").fetchone()[0]
        database.execute("update attempts set ended_at = ?", [_like(stored, then)])
    assert names(cli("prune", "--json").json()["removed"]) == {worker}


def _like(stored: object, then: str) -> object:
    return then if isinstance(stored, str) else 1_577_836_800_000_000


def test_an_empty_home_stays_empty(cli: Cli) -> None:
    before = tree(cli.world.folder)
    assert cli("prune", "--dry-run").out == "Nothing to remove.\n"
    assert cli("prune", "--json").json()["removed"] == []
    assert tree(cli.world.folder) == before


def test_unsaved_work_stays_until_the_way_out_was_taken(cli: Cli) -> None:
    cli.world.remote.reject_pushes("not today")
    worker = ended(cli, "echo right > words.txt")
    kept = prune(cli)["kept"]
    assert names(kept) == {worker}
    assert "here and nowhere else" in kept[0]["kept"]
    shown = cli(*NOW, "--dry-run").out
    assert kept[0]["hint"] in shown.replace("\n  ", "\n")
    assert cli.world.tree(worker).is_dir()
    cli.world.remote.accept_pushes()
    for command in kept[0]["hint"].splitlines():
        run("sh", "-c", command, environment=cli.world.environment, cwd=cli.here)
    assert names(prune(cli)["removed"]) == {worker}


def test_uncommitted_work_stays(cli: Cli) -> None:
    worker = ended(cli, "echo right > words.txt; exit 1")
    (cli.world.tree(worker) / "later.txt").write_text("written by hand\n")
    assert names(prune(cli)["kept"]) == {worker}
    assert (cli.world.tree(worker) / "later.txt").exists()


def test_a_squash_merged_branch_is_no_reason_to_keep_a_worker(cli: Cli) -> None:
    worker = ended(cli, "echo right > words.txt; git commit -qam one; echo x > y; exit 1")
    branch = f"outpost/mend-the-words-{worker}"
    clone = cli.world.folder / "merged"
    environment = cli.world.environment
    run("git", "clone", "-q", cli.world.remote.url, str(clone), environment=environment)
    for command in (
        f"git merge --squash -q origin/{branch}",
        "git commit -qm squashed",
        f"git push -q origin HEAD:main :{branch}",
    ):
        run("sh", "-c", command, environment=environment, cwd=clone)
    assert cli.world.remote.tip(branch) is None
    run("git", "reflog", "expire", "--expire=now", "--all", environment=environment, cwd=clone)
    assert names(prune(cli)["removed"]) == {worker}
    assert not cli.world.tree(worker).exists()


def test_the_living_stay(cli: Cli) -> None:
    worker = cli.spawn("echo busy; sleep 300")["worker"]
    cli.world.wait_for_line(worker, '"busy"')
    age(cli.world.place(worker), 90)
    pruned = prune(cli)
    assert (pruned["removed"], pruned["kept"]) == ([], [])
    forget(cli.world, worker)
    age(cli.world.place(worker), 90)
    kept = prune(cli)["kept"]
    assert [(row["kind"], row["name"], row["kept"]) for row in kept] == [
        ("orphan", worker, "it still runs")
    ]
    os.kill(cli.world.agent_pid(worker), signal.SIGKILL)
    cli.world.gone(worker)


def test_workers_that_nobody_knows_go_after_a_while_but_not_with_unsaved_work(cli: Cli) -> None:
    saved = ended(cli, "echo x > new; exit 1")
    unsaved = ended(cli, "echo x > new; exit 1")
    (cli.world.tree(unsaved) / "more.txt").write_text("work\n")
    for worker in (saved, unsaved):
        forget(cli.world, worker)
    kept = prune(cli)["kept"]
    assert names(kept, "orphan") == {saved, unsaved}
    assert all("a moment ago" in row["kept"] for row in kept)
    for worker in (saved, unsaved):
        age(cli.world.place(worker), 1)
    pruned = prune(cli)
    assert names(pruned["removed"], "orphan") == {saved}
    assert names(pruned["kept"], "orphan") == {unsaved}
    assert (cli.world.tree(unsaved) / "more.txt").exists()
    assert not cli.world.place(saved).exists()


def test_what_belongs_to_another_federation_is_not_touched(world: World) -> None:
    shared = world.folder / "shared"
    config = world.config(f"outposts:\n  - {{name: local, type: local, root: {shared}}}\n")
    cli = Cli(world)
    cli("spawn", "-m", "x", "--repo", world.remote.url, "--config", config, "--wait", "--", "true")
    other = {"OUTPOST_HOME": str(world.folder / "other")}
    world.homes.add(world.folder / "other")
    spawn = ("spawn", "-m", "y", "--repo", world.remote.url, "--config", config, "--wait")
    cli(*spawn, "--json", "--", "true", environment=other)
    age(shared / "workers", 90)
    pruned = prune(cli, "--config", config)
    assert len(names(pruned["removed"])) == 1
    assert len(list((shared / "workers").iterdir())) == 1
    assert (
        len(names(cli(*NOW, "--json", "--config", config, environment=other).json()["removed"]))
        == 1
    )
    assert not list((shared / "workers").iterdir())
    for nursery in shared.glob("runner/*.pid"):
        os.kill(int(nursery.read_text()), signal.SIGKILL)


def test_an_outpost_moved_or_gone_keeps_its_workers(cli: Cli) -> None:
    worker = ended(cli, "true", 0)
    moved = cli.world.folder / "moved.yaml"
    moved.write_text(f"outposts:\n  - {{name: local, type: local, root: {cli.here}}}\n")
    kept = prune(cli, "--config", str(moved))["kept"]
    assert "the outpost's folder is another one now" in kept[0]["kept"]
    gone = cli.world.folder / "gone.yaml"
    gone.write_text("outposts:\n  - {name: elsewhere, type: local}\n")
    kept = prune(cli, "--config", str(gone))["kept"]
    assert "'local' is no longer configured" in kept[0]["kept"]
    assert names(prune(cli)["removed"]) == {worker}


def test_an_outpost_that_cannot_be_asked_is_a_failure_and_hides_no_other(cli: Cli) -> None:
    worker = ended(cli, "true", 0)
    config = cli.world.config(
        "outposts:\n"
        "  - {name: broken, type: local, python: /no/such/python}\n"
        "  - {name: local, type: local}\n"
    )
    ran = cli(*NOW, "--config", config, code=1)
    assert f"removed  worker  {worker}" in ran.out
    assert "error: broken does not answer" in ran.err
    assert "Traceback" not in ran.err


def test_a_workspace_goes_with_the_last_who_worked_in_it(cli: Cli) -> None:
    world = cli.world
    first = ended(cli, "echo x > new; exit 1")
    second = cli("resume", first, "--json", "--wait", code=1).json()["worker"]
    world.gone(second)
    assert not world.tree(second).exists(), "it went on in the first one's workspace"
    (world.tree(first) / "unsaved.txt").write_text("work\n")
    kept = {row["name"]: row["kept"] for row in prune(cli)["kept"]}
    assert "uncommitted file" in kept[second]
    assert kept[first] == f"{second} goes on from it"
    (world.tree(first) / "unsaved.txt").unlink()
    assert names(prune(cli, "--dry-run")["removed"]) == {first, second}
    assert names(prune(cli)["removed"]) == {first, second}
    assert not world.tree(first).exists()


def test_views_of_the_dead_are_closed_and_no_others(cli: Cli) -> None:
    world = cli.world
    worker = ended(cli, "true", 0)
    pipe = world.place(worker) / "pane"
    os.mkfifo(pipe, 0o600)
    for session, shown in ((worker, pipe), ("mine", world.folder / "mine")):
        argv = world.tmux(
            "new-session", "-d", "-s", session, "sh", "-c", "cat; sleep 300", str(shown)
        )
        run(*argv, environment=world.environment)
    alive = cli.spawn("echo busy; sleep 300")["worker"]
    world.wait_for_view(alive, "busy")
    sessions = world.tmux("list-sessions", "-F", "#{session_name}")
    before = set(run(*sessions, environment=world.environment).split())
    assert before == {worker, "mine", alive}
    planned = cli("prune", "--json", "--dry-run").json()
    assert names(planned["removed"], "session") == {worker}
    assert set(run(*sessions, environment=world.environment).split()) == before
    assert names(cli("prune", "--json").json()["removed"], "session") == {worker}
    assert not pipe.exists()
    until(
        lambda: set(run(*sessions, environment=world.environment).split()) == {"mine", alive},
        "the dead worker's view is gone",
    )
    cli("stop", alive)


def test_old_runners_go_unless_a_process_runs_one(cli: Cli) -> None:
    ended(cli, "true", 0)
    folder = root(cli.world) / "runner"
    current = set(folder.iterdir())
    for name in ("runner-aaaa", "runner-bbbb", "runner-cccc"):
        for suffix in (".pyz", ".sock", ".sock.lock"):
            (folder / (name + suffix)).write_bytes(b"x" * 5000)
    age(folder, 3)
    (folder / "runner-cccc.sock.lock").touch()
    # A worker started by the second version, two days ago.
    sleeper = subprocess.Popen(
        ["python3", "-c", "import sys; sys.stdin.read()", str(folder / "runner-bbbb.pyz")],
        stdin=subprocess.PIPE,
    )
    try:
        removed = cli("prune", "--json").json()["removed"]
        assert names(removed, "archive") == {"runner-aaaa"}
        assert removed[0]["bytes"] >= 15_000
    finally:
        sleeper.communicate()
    assert names(cli("prune", "--json").json()["removed"], "archive") == {"runner-bbbb"}
    assert current <= set(folder.iterdir())
    assert cli.spawn("true", "--wait")["state"] == "done"


def test_caches_unused_for_long_go(cli: Cli) -> None:
    ended(cli, "true", 0)
    assert names(prune(cli)["removed"], "cache") == set()
    [cache] = caches(cli.world)
    age(cache, 31)
    pruned = prune(cli)
    assert names(pruned["removed"], "cache") == {cli.world.remote.url}
    assert pruned["bytes"] > 0
    assert not list(root(cli.world).glob("cache/*.git*"))
    assert cli.spawn("true", "--wait")["state"] == "done"


def test_json_on_a_broken_configuration_is_an_error_object(cli: Cli) -> None:
    config = cli.world.config("outposts: 4\n")
    failed = cli("prune", "--json", "--config", config, code=2)
    assert json.loads(failed.out)["error"]["code"] == "config"


def test_each_outpost_that_cannot_be_asked_is_named(cli: Cli) -> None:
    config = cli.world.config(
        "outposts:\n"
        "  - {name: local, type: local}\n"
        "  - {name: near, type: fly, app: a, region: iad}\n"
        "  - {name: far, type: fly, app: b, region: syd}\n"
    )
    for command in ("prune", "reconcile"):
        ran = cli(command, "--config", config, code=1)
        told = [line for line in ran.err.splitlines() if line.startswith("error: ")]
        assert [line.split(": ")[1] for line in told] == ["near", "far"]
        assert "FLY_API_TOKEN" in told[0]
        document = cli(command, "--json", "--config", config, code=1).json()
        if command == "prune":
            assert [it["outpost"] for it in document["problems"]] == ["near", "far"]

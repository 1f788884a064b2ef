"""``outpost doctor``: what it finds, what it mends, and that one broken thing hides no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_world import Cli, Ran, tree
from tests.world import World, pids_marked, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

KEY = "sk-ant-0123456789-abcdefghijklmnopqrstuvwxyz-9876"


@pytest.fixture
def cli(world: World) -> Cli:
    """Return a command line on a machine where Claude Code is installed and has its key."""
    cli = Cli(world)
    program(cli, "claude", "echo 2.1.329 '(Claude Code)'")
    world.environment["ANTHROPIC_API_KEY"] = KEY
    return cli


def program(cli: Cli, name: str, script: str) -> Path:
    """Put a program on the path, in front of all others."""
    folder = cli.world.folder / "programs"
    if not folder.exists():
        folder.mkdir()
        cli.world.environment["PATH"] = f"{folder}:{cli.world.environment['PATH']}"
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def found(ran: Ran, about: str) -> list[tuple[str, str]]:
    """Return the level and the detail of what was found about something."""
    checks = ran.json()["checks"]
    return [(it["level"], it["detail"]) for it in checks if it["about"] == about]


def ended(cli: Cli) -> str:
    """Run a worker to its end whose workspace stays, and until nothing of it lives."""
    arguments = ("--repo", cli.world.remote.url, "--json", "--wait", "--", "sh", "-c")
    ran = cli("spawn", "-m", "Mend the words", *arguments, "echo x > new; exit 1", code=1)
    worker = str(ran.json()["worker"])
    cli.world.gone(worker)
    return worker


def level(ran: Ran, about: str) -> str:
    [(level, _)] = found(ran, about)
    return level


def test_where_all_is_well_it_says_so(cli: Cli) -> None:
    ran = cli("doctor")
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert lines[-1] == "All is well."
    for line in ("Configuration", "Programs", "Agents", "Files", "Outposts"):
        assert line in lines
    assert "  ok       claude 2.1.329" in lines
    assert "  ok       local can take work" in lines
    document = cli("doctor", "--json").json()
    assert document["ok"] is True
    assert {it["level"] for it in document["checks"]} == {"ok"}
    assert all(it["detail"] and it["part"] and it["about"] for it in document["checks"])


def test_a_key_is_counted_and_never_shown(cli: Cli) -> None:
    cli.world.environment["GITHUB_TOKEN"] = f" {KEY[::-1]}"
    for arguments in (("doctor",), ("doctor", "--json"), ("doctor", "--fix")):
        shown = cli(*arguments, code=1).out
        assert f"ANTHROPIC_API_KEY is set: {len(KEY)} characters" in shown
        assert "GITHUB_TOKEN is set, with blank space" in shown
        for secret in (KEY, KEY[::-1]):
            pieces = {secret[start : start + 6] for start in range(len(secret) - 5)}
            assert not [piece for piece in pieces if piece in shown]


def test_programs_asked_for_their_version_get_no_key_and_no_home(cli: Cli) -> None:
    seen = cli.world.folder / "seen"
    program(cli, "claude", f"env > {seen}; touch $HOME/written; echo 2.1.329")
    before = tree(cli.world.folder / "home")
    cli("doctor")
    assert "ANTHROPIC" not in seen.read_text()
    assert KEY not in seen.read_text()
    assert tree(cli.world.folder / "home") == before


def test_looking_writes_nothing(cli: Cli) -> None:
    before = tree(cli.world.folder)
    cli("doctor")
    cli("doctor", "--json")
    assert tree(cli.world.folder) == before
    worker = cli.spawn("true", "--wait")["worker"]
    cli.world.gone(worker)
    (cli.world.place(worker) / "task.md.new").write_text("half")
    cli.world.place(worker).chmod(0o755)
    before = tree(cli.world.home)
    cli("doctor")
    assert {**tree(cli.world.home), ".": before["."]} == before


def test_a_missing_program_says_what_to_type(cli: Cli) -> None:
    (cli.world.folder / "programs" / "claude").unlink()
    environment = {"ANTHROPIC_API_KEY": ""}
    ran = cli("doctor", code=1, environment=environment)
    assert "  problem  claude is not installed\n" in ran.out
    assert "→ install it with: npm install -g @anthropic-ai/claude-code" in ran.out
    assert "ANTHROPIC_API_KEY is set, but empty" in ran.out
    assert ran.out.splitlines()[-1] == "1 problem, 2 warnings."
    document = cli("doctor", "--json", code=1, environment=environment).json()
    assert document["ok"] is False


@pytest.mark.parametrize(
    ("script", "expected", "words"),
    [
        ("sleep 300", "warning", "it did not answer within 6 s"),
        ("echo no idea >&2; exit 3", "warning", "no idea"),
        ("exec /no/such/node", "problem", "cannot be run"),
    ],
)
def test_a_program_that_does_not_run(cli: Cli, script: str, expected: str, words: str) -> None:
    program(cli, "claude", script)
    began = time.monotonic()
    ran = cli("doctor", "--json", code=int(expected == "problem"))
    assert time.monotonic() - began < 20
    [(level, detail)] = found(ran, "claude")
    assert level == expected
    assert words in detail


def test_git_must_be_new_enough(cli: Cli) -> None:
    program(cli, "git", "echo git version 2.25.1")
    [(level, detail)] = found(cli("doctor", "--json", code=1), "git")
    assert (level, detail) == ("problem", "git 2.25.1 is too old: 2.29 or newer is needed")


def test_agents_of_the_configuration_and_beads_are_looked_at(cli: Cli) -> None:
    config = cli.world.config(
        "outposts:\n  - {name: local, type: local}\n"
        "  - {name: off, type: local, enabled: false}\n"
        "agents:\n"
        "  command: {argv: [no-such-program, -x]}\n"
        "  claude: {executable: /no/claude}\n"
        "sources:\n  github: {token: 'env://NO_SUCH_TOKEN'}\n"
    )
    (cli.here / ".beads").mkdir()
    program(cli, "bd", "echo bd version 1.2.3")
    ran = cli("doctor", "--json", "--config", config, code=1)
    assert found(ran, "bd") == [("ok", "bd 1.2.3")]
    assert found(ran, "no-such-program") == [("problem", "no-such-program is not installed")]
    assert found(ran, "/no/claude") == [("problem", "/no/claude is not installed")]
    assert level(ran, "token") == "problem"
    assert found(ran, "off") == [("ok", "off is disabled")]


def test_a_broken_configuration_does_not_hide_the_rest(cli: Cli) -> None:
    config = cli.world.config("outposts: 4\nunknown: true\n")
    ran = cli("doctor", "--config", config, code=1)
    assert "expected a list, got a number" in ran.out
    assert "unknown: unknown field" in ran.out
    for line in ("  ok       claude 2.1.329", "  ok       local can take work"):
        assert line in ran.out.splitlines()
    assert level(cli("doctor", "--json", "--config", "/no/file", code=1), "configuration") == (
        "problem"
    )


@pytest.mark.parametrize("damage", ["garbage", "newer", "pages", "folder"])
def test_a_broken_store_does_not_hide_the_rest(cli: Cli, damage: str) -> None:
    cli.spawn("true", "--wait")
    path = cli.world.home / "outpost.db"
    whole = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"no database at all" * 1000)
    elif damage == "pages":
        path.write_bytes(whole[:12288] + b"\xff" * (len(whole) - 12288))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("update alembic_version set version_num = '9999'")
    before = None if damage == "folder" else path.read_bytes()
    try:
        ran = cli("doctor", "--json", code=1)
        assert level(ran, "store") == "problem"
        assert level(ran, "claude") == "ok"
        assert level(ran, "local") == "ok"
        assert before is None or path.read_bytes() == before
    finally:
        if damage == "folder":
            path.rmdir()
        path.write_bytes(whole)


def test_an_older_store_is_left_for_the_next_command_to_upgrade(cli: Cli) -> None:
    cli.spawn("true", "--wait")
    path = cli.world.home / "outpost.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        [[current]] = database.execute("select version_num from alembic_version").fetchall()
        database.execute("update alembic_version set version_num = '0000'")
    assert level(cli("doctor", "--json"), "store") == "warning"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("update alembic_version set version_num = ?", [current])
    assert level(cli("doctor", "--json"), "store") == "ok"


def test_no_home_is_a_problem_and_no_crash(cli: Cli) -> None:
    environment = cli.world.environment
    for name in ("HOME", "OUTPOST_HOME"):
        environment.pop(name)
    ran = cli("doctor", code=1)
    assert "HOME is not set" in ran.out
    assert "  ok       claude 2.1.329" in ran.out.splitlines()


def test_a_lost_worker_is_found_and_its_work_saved(cli: Cli) -> None:
    world = cli.world
    worker = cli.spawn("echo right > words.txt; echo busy; sleep 300")["worker"]
    world.wait_for_line(worker, '"busy"')
    for pid in world.pids(worker):
        os.kill(pid, signal.SIGKILL)
    until(lambda: level(cli("doctor", "--json", code=1), worker) == "problem", "it is lost")
    [(_, detail)] = found(cli("doctor", "--json", code=1), worker)
    assert "its runner died without a result" in detail
    assert pids_marked({worker}), "looking must not mend"
    ran = cli("doctor", "--fix", "--json")
    [(level_, detail)] = found(ran, worker)
    assert level_ == "fixed"
    assert "it is failed now" in detail
    assert world.remote.show(f"outpost/mend-the-words-{worker}", "words.txt") == "right"
    world.gone(worker)
    assert level(cli("doctor", "--json"), "workers") == "ok"


def test_what_the_dead_left_behind_is_found_and_removed(cli: Cli) -> None:
    worker = ended(cli)
    place, workspace = cli.world.place(worker), cli.world.tree(worker)
    secrets = place / "screen.json"
    secrets.write_text(json.dumps({"agent": {"KEY": KEY}, "git": {}}))
    half, making = place / "task.md.new", place.parents[1] / "cache" / "abc.git.new"
    half.write_text("half")
    making.mkdir()
    stranger = place.parent / "w-stranger"
    stranger.mkdir(mode=0o700)
    (stranger / "screen.json").write_text("{}")
    database = cli.world.home / "outpost.db"
    for path, mode in ((place, 0o755), (workspace, 0o750), (database, 0o644)):
        path.chmod(mode)
    for path in (secrets, half, making, stranger / "screen.json"):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    fresh = place / "order.json.new"
    fresh.write_text("just being written")

    looked = cli("doctor").out
    wrong = (secrets, half, making, workspace, database, place)
    for path in wrong:
        assert f"  warning  {path} " in looked
    assert secrets.exists()
    assert KEY not in looked
    mended = cli("doctor", "--fix").out
    for path in wrong:
        assert str(path) in mended
    assert not secrets.exists()
    assert not half.exists()
    assert not making.exists()
    assert fresh.exists()
    assert [oct(path.stat().st_mode & 0o777) for path in (place, workspace, database)] == [
        "0o700",
        "0o700",
        "0o600",
    ]
    # Whose this is cannot be told: it is shown, and left alone.
    assert (stranger / "screen.json").exists()
    assert mended.splitlines()[-1] == "1 warning, 6 fixed."
    assert "whose it is cannot be told" in mended


def test_a_clock_set_back_is_noticed(cli: Cli) -> None:
    cli.spawn("true", "--wait")
    with contextlib.closing(sqlite3.connect(cli.world.home / "outpost.db")) as database, database:
        seen: Any = database.execute("select seen_at from attempts").fetchone()[0]
        later = seen.replace("2026", "2099").replace("2027", "2099") if isinstance(seen, str) else 0
        later = later or 4_070_908_800_000_000
        database.execute("update attempts set seen_at = ?", [later])
    ran = cli("doctor", "--json")
    [(level, detail)] = found(ran, "clock")
    assert level == "warning"
    assert "was the clock set back?" in detail


def test_words_and_not_colour_alone_on_a_terminal(cli: Cli) -> None:
    code, lines = cli.terminal(100, "doctor")
    assert code == 0
    assert "  ok       claude 2.1.329" in lines

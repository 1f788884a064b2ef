"""Commands that only look: in an empty home, on pipes, on terminals, with names that are wrong."""

from __future__ import annotations

import json
import subprocess

import pytest

from outpost.cli.commands import MODULES
from tests.integration.cli_world import OUTPOST, Cli, Terminal, tree
from tests.world import World

pytestmark = pytest.mark.integration

EMPTY = "No workers. Start one: outpost spawn ISSUE\n"


@pytest.fixture
def cli(world: World) -> Cli:
    return Cli(world)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("ps",), 0),
        (("ps", "-a", "--json"), 0),
        (("list",), 0),
        (("list", "--json"), 0),
        (("status",), 0),
        (("status", "--json"), 0),
        (("status", "local"), 0),
        (("status", "w-none"), 2),
        (("logs", "w-none"), 2),
        (("attach", "w-none"), 2),
        (("send", "w-none", "yes"), 2),
        (("diff", "w-none"), 2),
        (("open", "--print", "w-none"), 2),
        (("prune",), 0),
        (("prune", "--dry-run", "--json"), 0),
        (("doctor",), 0),
        (("doctor", "--json"), 0),
        (("spawn", "--dry-run", "-m", "Mend", "--repo", "REMOTE"), 0),
        (("config", "check"), 0),
        (("queue",), 0),
        (("queue", "--json"), 0),
        (("cost",), 0),
        (("cost", "--csv"), 0),
        (("explain", "t-none"), 2),
    ],
)
def test_reading_works_in_an_empty_home_and_writes_nothing(
    cli: Cli, command: tuple[str, ...], code: int
) -> None:
    install_claude(cli)
    before = tree(cli.world.folder)
    cli(*(cli.world.remote.url if part == "REMOTE" else part for part in command), code=code)
    assert tree(cli.world.folder) == before


def install_claude(cli: Cli) -> None:
    """Put a program on the path that passes for Claude Code, so that the doctor misses nothing."""
    program = cli.world.folder / "programs" / "claude"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 2.1\n")
    program.chmod(0o755)
    cli.world.environment["PATH"] = f"{program.parent}:{cli.world.environment['PATH']}"


def test_looking_at_a_worker_writes_nothing(cli: Cli) -> None:
    install_claude(cli)
    worker = cli.spawn("echo made > made.txt", "--wait")["worker"]
    cli.world.gone(worker)
    before = files(cli)
    for command in (
        ("ps", "-a"),
        ("status", worker),
        ("logs", worker),
        ("diff", worker),
        ("diff", "--stat", worker),
        ("prune", "--before", "0s", "--dry-run"),
        ("doctor",),
    ):
        assert cli(*command).out
        assert files(cli) == before, command
    for command in (("open", "--print", worker), ("send", worker, "hello")):
        assert cli(*command, code=2).err
        assert files(cli) == before, command


def files(cli: Cli) -> dict[str, tuple[int, int]]:
    """Return all files and folders but those beside the store that SQLite itself reads with."""
    found = tree(cli.world.folder)
    return {name: it for name, it in found.items() if not name.endswith(("-shm", "-wal", "state"))}


def test_empty_states_say_how_to_begin(cli: Cli) -> None:
    assert cli("ps").out == EMPTY
    assert cli("ps", "-a").out == EMPTY
    assert cli("ps", "--json").json() == []
    config = ("--config", cli.world.config())
    table = "NAME   TYPE   WORKERS  STATUS\nlocal  local  0/40     ok\n"
    assert cli("list", *config).out == table
    nobody = "No controller is up, and none is needed.\n"
    assert cli("status", *config).out == f"{table}\n{EMPTY}\n{nobody}"
    overview = cli("status", "--json").json()
    assert (overview["workers"], overview["queued"]) == ([], [])
    assert set(overview["tasks"].values()) == {0}
    assert overview["controller"] is None


def test_config_stands_in_front_of_the_command_or_behind_it(cli: Cli) -> None:
    path = cli.world.config()
    for command in (("list", "--json"), ("config", "check", "--json")):
        in_front = cli("--config", path, *command).out
        assert in_front == cli(*command, "--config", path).out
        assert "40" in in_front
        missing = cli("--config", "/nowhere.yaml", *command, code=2)
        assert missing.err.startswith("error: /nowhere.yaml")


def test_status_words_of_outposts(cli: Cli) -> None:
    config = cli.world.config(
        "outposts:\n"
        "  - {name: here, type: local, max_workers: 2, tmux: no-such-tmux}\n"
        "  - {name: off, type: local, enabled: false}\n"
    )
    words = {row["name"]: row["status"] for row in cli("list", "--json", "--config", config).json()}
    assert words == {
        "here": "unhealthy: no-such-tmux is not installed",
        "off": "disabled",
    }


def test_a_name_nobody_has_is_an_error_with_the_nearest_one(cli: Cli) -> None:
    cli("spawn", "--wait", "-m", "Mend", "--repo", cli.world.remote.url, "--", "true")
    commands = ("logs", "attach", "stop", "rm", "send", "diff", "open", "resume")
    for command in commands:
        more = ("hello",) if command == "send" else ()
        failed = cli(command, "mendd", *more, code=2)
        assert failed.out == ""
        assert failed.err == (
            "error: no worker, issue or branch is called 'mendd'; did you mean 'mend'?\n"
            "hint: outpost ps -a  shows all workers\n"
        )
    failed = cli("status", "mendd", code=2)
    called = "no outpost, worker, issue or branch is called"
    assert failed.err == (
        f"error: {called} 'mendd'; did you mean 'mend'?\n"
        "hint: configured are: local\n"
        "      outpost ps -a  shows all workers\n"
    )
    error = cli("status", "locl", "--json", code=2).json()["error"]
    assert error["message"] == f"{called} 'locl'; did you mean 'local'?"
    assert (error["code"], error["hint"]) == (
        "not_found",
        "configured are: local\noutpost ps -a  shows all workers",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("remove", "locl"),
        ("deploy", "locl"),
        ("spawn", "-m", "x", "--repo", "/", "--on", "locl"),
        ("doctor", "--conformance", "locl"),
    ],
    ids=lambda it: it[0],
)
def test_an_outpost_nobody_has_is_answered_the_same_everywhere(
    cli: Cli, arguments: tuple[str, ...]
) -> None:
    failed = cli(*arguments, code=2)
    assert failed.err == (
        "error: there is no outpost 'locl'; did you mean 'local'?\nhint: configured are: local\n"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("spwan",), "Did you mean 'spawn'?"),
        (("ps", "--nope"), "No such option"),
        (("logs",), "Missing argument 'WORKER'"),
        (("spawn",), "which issue? none is named"),
        (("spawn", "-m", "x", "--"), "nothing stands behind --"),
        (("spawn", "-m", "x", "--priority", "P7"), "there is no priority 'P7'"),
        (("spawn", "-m", "x", "--time-limit", "soon"), "'soon' is no duration"),
        (("spawn", "-m", "x", "--agent", "claude", "--", "sh"), "exclude each other"),
        (("spawn", "-m", "x", "--follow", "--json"), "--json is for programs"),
        (("logs", "x", "--raw", "--json"), "exclude each other"),
        (("ps", "--watch"), "on a terminal, and there is none"),
        (("stop", "x", "--grace", "1 fortnight"), "is no duration"),
    ],
)
def test_wrong_usage_exits_2_and_says_why(cli: Cli, arguments: tuple[str, ...], text: str) -> None:
    failed = cli(*arguments, code=2)
    assert text in failed.err
    assert failed.out == "" or "error" in failed.json()


def test_a_bug_exits_70(cli: Cli) -> None:
    script = (
        "import sys, outpost.federation as f\n"
        "def boom(*a, **k): raise KeyError('boom')\n"
        "f.Federation.workers = boom\n"
        "sys.argv = ['outpost', 'ps']\n"
        "from outpost.cli import main; main()"
    )
    argv = [OUTPOST[0], "-c", script]
    environment = cli.world.environment
    done = subprocess.run(
        argv, env=environment, cwd=cli.here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 70
    assert done.stderr.splitlines()[0] == "error: KeyError: 'boom'"
    assert "Traceback" not in done.stderr


def test_watch_on_a_terminal_ends_with_ctrl_c(cli: Cli) -> None:
    with Terminal(cli, 80, ["ps", "--watch"]) as terminal:
        terminal.read_until("No workers.")
        terminal.press(b"\x03")
        terminal.read_to_end()
        assert terminal.process.returncode == 130
    assert b"Traceback" not in terminal.shown


def test_colour_only_on_a_terminal_that_wants_it(cli: Cli) -> None:
    cli("spawn", "--wait", "-m", "Mend", "--repo", cli.world.remote.url, "--", "true")
    code, lines = cli.terminal(80, "ps", "-a")
    assert code == 0
    assert lines[0].startswith("WORKER ")
    assert "\x1b" not in cli("ps", "-a").out
    for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
        cli.world.environment.update(extra)
        for command in (["ps", "-a"], ["logs", "mend"], ["status", "nobody"]):
            with Terminal(cli, 80, command) as terminal:
                terminal.read_to_end()
            assert (b"\x1b[3" in terminal.shown or b"\x1b[2m" in terminal.shown) is coloured


def test_completion_knows_workers_and_outposts_and_never_complains(cli: Cli) -> None:
    worker = cli.spawn("true", "--wait")["worker"]

    def complete(words: str, **more: str) -> list[str]:
        index = str(len(words.split(" ")) - 1)
        environment = {"_OUTPOST_COMPLETE": "complete_bash", "COMP_WORDS": words}
        ran = cli(environment={**environment, "COMP_CWORD": index, **more})
        assert ran.err == ""
        return ran.out.split()

    assert complete("outpost logs ") == [worker, "mend-the-words"]
    assert complete("outpost logs w-") == [worker]
    for command in ("send", "diff", "open", "resume", "attach", "stop", "rm", "status"):
        assert complete(f"outpost {command} w-") == [worker]
    assert complete("outpost spawn --on lo") == ["local"]
    assert complete("outpost st") == ["stop", "status"]
    assert complete("outpost logs ", OUTPOST_HOME="/dev/null/x") == []
    assert complete("outpost logs ", OUTPOST_CONFIG="/nowhere.yaml") == []


def test_version(cli: Cli) -> None:
    assert cli("--version").out.startswith("outpost 0.")


def test_schema_and_help_of_every_command(cli: Cli) -> None:
    assert json.loads(cli("config", "schema").out)
    for command in MODULES:
        assert cli(command, "-h").out.startswith(f"Usage: outpost {command}")

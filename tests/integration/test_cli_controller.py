"""What commands say of the controller, and what it says itself."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from outpost.controller import standing
from outpost.wire.redact import MARK
from tests.integration.cli_world import OUTPOST, Cli
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

SECRET = "k3y-0123456789"
LOOPS = ["supervise", "dispatch", "duties", "expire", "reconcile", "sweep"]


@pytest.fixture
def cli(world: World) -> Cli:
    world.environment["OUTPOST_CONFIG"] = world.config()
    return Cli(world)


def last_line(cli: Cli) -> str:
    return cli("status").out.splitlines()[-1]


@contextmanager
def up(cli: Cli, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a controller, and kill it in the end; yields it once all its loops have gone round."""

    def goes_round() -> bool:
        seen = standing(cli.world.home)
        return seen is not None and bool(seen.loops) and all(it.rounds for it in seen.loops)

    process = cli.start("up", *arguments)
    try:
        until(goes_round, "a controller goes round")
        yield process
    finally:
        process.kill()
        process.communicate()


def test_status_says_whether_a_controller_is_up(cli: Cli) -> None:
    cli.spawn("sleep 60")
    assert last_line(cli) == "No controller is up. To have these looked after: outpost up"
    assert cli("status", "--controller").out == f"{last_line(cli)}\n"
    assert cli("status", "--controller", "--json").json() is None
    with up(cli) as process:
        line = rf"A controller is up, process {process.pid}; its last round was \d+s ago\."
        assert re.fullmatch(line, last_line(cli))
        said = cli("status", "--json").json()["controller"]
        assert (said["pid"], said["trouble"]) == (process.pid, None)
        assert said["rounds"] >= 1
        assert "controller" not in cli("status", "local", "--json").json()
    assert cli("status", "--json").json()["controller"] is None


def test_every_loop_is_shown_where_the_controller_is_asked_for(cli: Cli) -> None:
    cli.spawn("sleep 60")
    with up(cli) as process:
        line, _, *shown = cli("status", "--controller").out.splitlines()
        said = cli("status", "--controller", "--json").json()
        refused = cli("status", "--controller", "local", code=2)
    assert line.startswith(f"A controller is up, process {process.pid}; ")
    assert shown[0] == f"process        {process.pid}"
    table = shown[shown.index("") + 1 :]
    assert table[0].split() == ["LOOP", "EVERY", "ROUNDS", "AGO", "TOOK", "LAG", "DOING"]
    assert {row.split()[0] for row in table[1:]} >= set(LOOPS)
    assert {loop["name"] for loop in said["loops"]} >= set(LOOPS)
    assert not [loop for loop in said["loops"] if loop["trouble"] or not loop["rounds"]]
    assert refused.err.startswith("error: --controller and a name exclude each other\n")


def test_a_file_of_an_earlier_version_is_read(cli: Cli) -> None:
    path = cli.world.home / "controller.json"
    with up(cli) as process:
        process.send_signal(signal.SIGSTOP)
        said = json.loads(path.read_text())
        del said["loops"]
        path.write_text(json.dumps({**said, "round_s": 0.012}))
        assert last_line(cli).startswith(f"A controller is up, process {process.pid}; its last ")
        assert cli("status", "--json").json()["controller"]["loops"] == []


def test_it_says_what_it_does_and_nothing_of_its_libraries(cli: Cli) -> None:
    process = cli.start("up", "--idle", "1s")
    _, said = process.communicate(timeout=30)
    lines = [
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO (.*)", it) for it in said.splitlines()
    ]
    told = [line[1] for line in lines if line]
    assert len(told) == len(lines), said
    assert told == [f"up, process {process.pid}", "nothing to do for 1 s", "down"]


def test_each_line_says_which_worker_task_and_outpost_it_is_about(cli: Cli) -> None:
    queued = _queue(cli)
    process = cli.start("up", "--idle", "1s")
    _, said = process.communicate(timeout=30)
    worker = _worker_of(cli, queued)
    (line,) = (line for line in said.splitlines() if "started" in line)
    assert line.endswith(f" worker={worker} task={queued} outpost=local")


def test_each_line_is_an_object_where_json_is_asked_for(cli: Cli) -> None:
    queued = _queue(cli)
    process = cli.start("up", "--idle", "1s", "--log-format", "json")
    _, said = process.communicate(timeout=30)
    worker = _worker_of(cli, queued)
    lines = [json.loads(line) for line in said.splitlines()]
    keys = {"time", "level", "logger", "message", "loop", "worker", "task", "outpost"}
    assert all(line.keys() == keys for line in lines)
    assert (lines[0]["message"], lines[0]["worker"]) == (f"up, process {process.pid}", None)
    assert lines[0]["time"] < lines[-1]["time"]
    (started,) = (line for line in lines if "started" in line["message"])
    about = ("worker", "task", "outpost", "loop", "level")
    assert [started[key] for key in about] == [worker, queued, "local", "dispatch", "info"]


def test_the_error_that_ends_it_is_an_object_too(cli: Cli) -> None:
    cli.world.environment["SOME_TOKEN"] = SECRET
    broken = cli.world.config("outposts: [{name: local, type: locl}]\n")
    said = [
        cli("up", *arguments, "--log-format", "json", code=2).err
        for arguments in (("--config", broken), ("--config", f"/none/{SECRET}"), ("--idle", "x"))
    ]
    wrong, missing, idle = (json.loads(text) for text in said)
    assert "did you mean 'local'?" in wrong["message"]
    assert (wrong["level"], wrong["code"], wrong["logger"]) == ("error", "config", "outpost")
    assert MARK in missing["message"]
    assert SECRET not in "".join(said)
    assert idle["message"].startswith("--idle: ")
    assert idle["hint"] == "for example: --idle 30m"


def test_a_bug_that_ends_it_is_an_object_too(cli: Cli) -> None:
    folder = cli.world.folder / "broken"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import outpost.controller as it\nit.Controller.run = None\n"
    )
    cli.world.environment["PYTHONPATH"] = str(folder)
    line = json.loads(cli("up", "--log-format", "json", code=70).err)
    assert line["level"] == "critical"
    assert line["message"].startswith("TypeError: ")
    assert line["hint"].startswith("this is a bug in outpost; ")
    assert "exception" not in line
    cli.world.environment["OUTPOST_DEBUG"] = "1"
    process = cli.start("up", "--log-format", "json")
    _, said = process.communicate(timeout=30)
    assert json.loads(said)["exception"].startswith("Traceback")


def test_no_secret_gets_into_the_log(cli: Cli) -> None:
    cli.world.environment["SOME_TOKEN"] = SECRET
    in_the_way = cli.world.folder / SECRET
    in_the_way.touch()
    url = f"sqlite:///{in_the_way}/outpost.db"
    config = cli.world.config(json.dumps({"store": {"url": url}}))
    process = cli.start("up", "--config", config)
    until(lambda: (it := standing(cli.world.home)) and it.trouble, "it has trouble")
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert f"{cli.world.folder}/{MARK}/outpost.db" in said
    assert SECRET not in said


@pytest.mark.parametrize("closing", ["2>&-", "2>&1 >/dev/null | true", "2>/dev/full"])
def test_it_works_where_nobody_hears_it(cli: Cli, closing: str) -> None:
    queued = _queue(cli)
    command = f"{' '.join(OUTPOST)} up --idle 1s; echo $? >&3"
    code = cli.world.folder / "code"
    subprocess.run(
        ["sh", "-c", f"exec 3>{code}; {{ {command}; }} {closing}"],
        cwd=cli.here,
        env=cli.world.environment,
        check=True,
        timeout=30,
    )
    until(code.read_text, "it ends")
    assert code.read_text() == "0\n"
    assert _worker_of(cli, queued)


def test_an_unknown_format_is_refused(cli: Cli) -> None:
    refused = cli("up", "--log-format", "jason", code=2)
    assert refused.err == (
        "error: --log-format: there is no format 'jason'; did you mean 'json'?\n"
        "hint: one of text, json\n"
    )


def _queue(cli: Cli) -> str:
    """Store a task that nobody has looked at yet; return its id."""
    world = cli.world

    async def store() -> str:
        async with world.federation() as federation:
            asked = world.options("true", world.remote)
            task = await federation.resolve("text:Mend the words", asked)
            await federation.store.add_task(task)
            return task.id

    return asyncio.run(store())


def _worker_of(cli: Cli, task: str) -> str:
    (worker,) = (it["worker"] for it in cli("ps", "-a", "--json").json() if it["task"] == task)
    assert worker
    return str(worker)

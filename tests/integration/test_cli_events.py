"""``outpost events``: what happened, on terminals, on pipes, as JSON, and as it happens."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outpost.model import AgentSpec, Task
from outpost.ports import Clock
from outpost.store import open_store
from tests.integration.cli_world import OUTPOST, Cli, Terminal, tree
from tests.integration.screens import WIDTHS, screen, screens
from tests.integration.screens_planted import REPOSITORY, plant
from tests.integration.screens_world import folder_for_screens, make_world
from tests.snapshots import check, names_in
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

THEN = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
FITTED = {
    "all": ("events",),
    "limit": ("events", "-n", "3"),
    "task": ("events", "gt-78"),
    "none": ("events", "-n", "0"),
}
ERRORS = {
    "nobody": ("events", "gt-79"),
    "since": ("events", "--since", "yesterday"),
    "future": ("events", "--since", "2126-11-21"),
}


class Then:
    """A clock that has stopped."""

    def now(self) -> datetime:
        return THEN


@pytest.fixture
def cli(world: World) -> Cli:
    world.environment["OUTPOST_CONFIG"] = world.config()
    return Cli(world)


@pytest.fixture(scope="module")
def planted(require: Callable[[str], str]) -> Iterator[Cli]:
    """Return the command line in a home whose log was written by one process at one instant."""
    require("git")

    async def fill(home: Path) -> None:
        store = open_store(home / "outpost.db", clock=Then(), by="spawn@laptop:4711")
        await plant(store, str(home / "outposts" / "local"))
        await store.close()

    with folder_for_screens() as folder:
        cli = Cli(make_world(folder))
        asyncio.run(fill(cli.world.home))
        yield cli


@pytest.mark.parametrize("name", FITTED)
def test_screens(planted: Cli, name: str) -> None:
    check(f"events/{name}", screens(planted, FITTED[name], {}))


@pytest.mark.parametrize("name", ERRORS)
def test_errors(planted: Cli, name: str) -> None:
    check(f"events/{name}", screen(planted, WIDTHS[0], ERRORS[name], {}, code=2))


def test_documents(planted: Cli) -> None:
    check("events/json", screens(planted, ("events", "--json", "w-m5p4w8kg"), {}, widths=()))


def test_an_empty_home_says_what_to_do_and_stays_empty(cli: Cli) -> None:
    before = tree(cli.world.folder)
    check("events/empty", screens(cli, ("events",), {}, widths=WIDTHS[:1]))
    assert cli("events", "--json").out == ""
    earlier = cli("events", "--since", "2026-01-01").out
    assert earlier == "Nothing happened since 2026-01-01T00:00:00Z. Earlier: outpost events\n"
    assert tree(cli.world.folder) == before


def test_every_snapshot_is_checked() -> None:
    assert names_in("events") == {f"events/{name}" for name in (*FITTED, *ERRORS, "json", "empty")}


def test_colour_only_on_a_terminal_that_wants_it(planted: Cli) -> None:
    with Terminal(planted, 80, ["events"]) as terminal:
        terminal.read_to_end()
    assert b"\x1b[31mlost\x1b[0m" in terminal.shown
    assert "\x1b" not in planted("events").out


def test_the_life_of_a_worker(cli: Cli) -> None:
    worker = cli.spawn("echo done > words.txt", "--wait")
    for name in (worker["worker"], worker["task"], worker["issue"], worker["branch"]):
        log = cli("events", name, "--json").lines()
        changes = [(it["before"], it["after"]) for it in log]
        assert changes[:2] == [(None, "queued"), ("queued", "reserved")]
        assert changes[-1][1] == "done"
        assert [after for _, after in changes[:-1]] == [before for before, _ in changes[1:]]
        assert {it["worker"] for it in log} == {None, worker["worker"]}
        assert {it["task"] for it in log} == {worker["task"]}
        assert all(it["by"].startswith("spawn@") for it in log)
        assert [it["id"] for it in log] == sorted({it["id"] for it in log})
        assert [it["at"] for it in log] == sorted(it["at"] for it in log)


def test_it_outlives_what_it_tells_of(cli: Cli) -> None:
    worker = cli.spawn("true", "--wait")
    whole = cli("events").out
    cli("rm", worker["worker"])
    assert cli("events", worker["task"]).out == whole
    cli("events", worker["worker"], code=2)


def test_follow_shows_what_happens_at_once_until_ctrl_c(cli: Cli) -> None:
    with following(cli) as (process, states):
        worker = cli.spawn("true", "--wait")["worker"]
        until(lambda: states(worker)[-1:] == ["done"], "the end is shown", deadline_s=3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (130, "")


def test_follow_ends_with_the_task_that_is_named(cli: Cli) -> None:
    cli.spawn("true", "--wait")
    worker = cli.spawn("sleep 60")["worker"]
    with following(cli, worker) as (process, states):
        until(lambda: states(worker), "the beginning is shown")
        cli("stop", worker)
        process.communicate(timeout=10)
    assert process.returncode == 0
    assert states(worker)[-1] == "stopped"
    lines = (cli.here / "followed").read_text().splitlines()
    assert {json.loads(line)["worker"] for line in lines} == {None, worker}


def test_follow_on_a_terminal_goes_on_in_the_same_columns(cli: Cli) -> None:
    with Terminal(cli, 160, ["events", "-f", "-n", "0"]) as terminal:
        terminal.read_until("WHY")
        cli.spawn("true", "--wait")
        terminal.read_until("done")
        terminal.press(b"\x03")
        terminal.read_to_end()
        header, *rows = [line for line in terminal.lines() if not line.startswith("^C")]
        assert terminal.process.returncode == 130
    column = header.index("CHANGE")
    assert rows[0][column:].startswith("→ queued")
    assert rows[1][column:].startswith("queued → reserved")


def test_follow_is_woken_whatever_keeps_the_store(cli: Cli, store_url: str) -> None:
    config = cli.world.config(json.dumps({"store": {"url": store_url}}))
    asyncio.run(_add_tasks(store_url, range(1)))
    with following(cli, "--config", config) as (process, _):

        def shown(number: int) -> bool:
            return len((cli.here / "followed").read_text().splitlines()) == number

        until(lambda: shown(1), "what has happened is shown")
        for number in (1, 2):
            asyncio.run(_add_tasks(store_url, range(number, number + 1)))
            # Sooner than it would look without being told.
            until(lambda: shown(number + 1), "what happens is shown", deadline_s=4)  # noqa: B023
        assert process.poll() is None


def test_since_shows_all_of_that_time_and_limit_the_last_of_it(cli: Cli) -> None:
    store = f"sqlite:///{cli.world.home}/outpost.db"
    asyncio.run(_add_tasks(store, range(1), clock=Yesterday()))
    asyncio.run(_add_tasks(store, range(1, 1100)))
    assert len(cli("events", "--json").lines()) == 50
    recent = cli("events", "--json", "--since", "10m").lines()
    assert [it["task"] for it in recent] == [f"t-{number:08}" for number in range(1, 1100)]
    assert len(cli("events", "--json", "--since", "2d").lines()) == 1100
    last = cli("events", "--json", "--since", "10m", "-n", "2").lines()
    assert last == recent[-2:]
    assert len(cli("events", "--json", "-n", "1100").lines()) == 1100


def test_a_reader_that_goes_away_is_no_fault(cli: Cli) -> None:
    asyncio.run(_add_tasks(f"sqlite:///{cli.world.home}/outpost.db", range(400)))
    process = subprocess.run(
        ["sh", "-c", f"{' '.join(OUTPOST)} events -n 400 | head -1"],
        cwd=cli.here,
        env=cli.world.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert (process.stdout[:4], process.stderr) == ("TIME", "")


class Yesterday:
    """A clock that is a day late."""

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(days=1)


async def _add_tasks(url: str, numbers: Iterable[int], *, clock: Clock | None = None) -> None:
    """Write tasks into a store, each of which is a line of its log."""
    store = open_store(url, clock=clock)
    for number in numbers:
        await store.add_task(
            Task(
                id=f"t-{number:08}",
                issue_id=f"issue-{number}",
                source="text",
                title="Mend",
                body="",
                repo_url=REPOSITORY,
                created_at=datetime.now(UTC),
                agent=AgentSpec(name="claude"),
            )
        )
    await store.close()


@contextmanager
def following(
    cli: Cli, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], list[str]]]]:
    """Follow the log; yields the process, and what tells the states of a worker so far."""
    path = cli.here / "followed"

    def states(worker: str) -> list[str]:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [it["after"] for it in found if it["worker"] == worker]

    with (
        path.open("w") as out,
        subprocess.Popen(
            [*OUTPOST, "events", "-f", "--json", *arguments],
            cwd=cli.here,
            env=cli.world.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            yield process, states
        finally:
            process.kill()

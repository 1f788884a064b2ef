"""An agent's conversation on its way to another place, and all that may keep it from there."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.control import transcripts
from outpost.model import Attempt
from outpost.ports import Setup
from outpost.runner.builtin.trajectory import Trajectory
from outpost.runner.place import Place
from outpost.runner.transcript import ABSENT, MOST_BYTES, gone_on_in
from outpost.wire.orders import AgentOrder, Environment, WorkOrder
from tests.doubles.messages_api import MessagesApi, Text, Tokens, Turn
from tests.integration.claude_program import (
    TEST_KEY,
    agent_for,
    drive,
    make_place,
    require_claude,
    run,
)
from tests.integration.lone_worker import BORN
from tests.unit.orders import order_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SESSION = "39aa8494-80b4-8362-8158-7a2d837bf7c7"
LINE = b'{"type":"user"}\n'
PROMPT = "You are elsewhere now."


class Spot:
    """A folder of workers with one order in it, and the home of whoever works there."""

    def __init__(self, folder: Path, agent: str = "claude") -> None:
        self.home = folder / "home"
        self.directory = folder / "workers" / "w-0123456789ab"
        self.directory.mkdir(parents=True)
        self.order = order_for(AgentOrder(name=agent, argv=[], options={}))
        (self.directory / "order.json").write_text(json.dumps(self.order))
        self.place = Place(str(self.directory))
        self.environment: Environment = {"agent": {"HOME": str(self.home)}, "git": {}}

    def keep(self, data: bytes, project: str = "-somewhere") -> Path:
        """Keep a conversation as Claude Code does."""
        path = self.home / ".claude" / "projects" / project / f"{SESSION}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def printed(self, session_id: str = SESSION) -> tuple[int, bytes]:
        """Return what the runner prints of a conversation."""
        done = subprocess.run(
            [sys.executable, "-m", "outpost.runner", "transcript", self.directory, session_id],
            input=json.dumps(self.environment).encode(),
            stdout=subprocess.PIPE,
            check=False,
        )
        return done.returncode, done.stdout

    def bring(self, printed: bytes, session_id: str = SESSION) -> WorkOrder:
        """Return the order of an agent that something was brought to."""
        (self.directory / "transcript").write_bytes(printed)
        carried: WorkOrder = {
            **self.order,
            "transcript": {"session_id": session_id, "prompt": PROMPT},
        }
        return gone_on_in(self.place, carried, self.environment)


@pytest.fixture
def there(tmp_path: Path) -> Spot:
    return Spot(tmp_path / "there")


@pytest.fixture
def here(tmp_path: Path) -> Spot:
    return Spot(tmp_path / "here")


def test_the_program_goes_on_at_another_home_in_another_folder(tmp_path: Path) -> None:
    claude = require_claude()
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = make_place(tmp_path / "old"), make_place(tmp_path / "new")
    each = Tokens(input=1000, output=20)
    first, _ = run(claude, old, lambda _: Turn((Text("I shall."),), each))
    session = first.fields("agent", "session")[0]["session_id"]
    from_there = Spot(tmp_path / "old" / "root")
    from_there.environment = {"agent": {"HOME": str(old / "home")}, "git": {}}
    exit_code, printed = from_there.printed(session)
    assert exit_code == 0

    to_here = Spot(tmp_path / "new" / "root")
    to_here.environment = {"agent": {"HOME": str(new / "home")}, "git": {}}
    order = to_here.bring(printed, session)
    assert order["prompt"] == PROMPT
    tree = Path(to_here.place.tree)
    tree.parent.mkdir(parents=True)
    (new / "tree").rename(tree)
    (new / "tree").symlink_to(tree)
    agent = agent_for(claude, prompt=order["prompt"], resume=order["resume"])
    with MessagesApi(lambda _: Turn((Text("Done."),), each), key=TEST_KEY) as api:
        second = drive(agent, new, api).finish()
        said = json.dumps(api.exchanges[0].body["messages"])
    assert second.ending.outcome == "done"
    assert said.index("Mend the words.") < said.index("I shall.") < said.index(PROMPT)
    assert second.tokens() == each
    total = math.ceil(round(second.results[-1]["total_cost_usd"] * 1e6, 3))
    assert second.cost_microusd() == total - first.cost_microusd() > 0


def test_the_newest_of_a_session_is_printed(there: Spot) -> None:
    os.utime(there.keep(LINE, "-older"), (1, 1))
    there.keep(LINE * 2, "-newer")
    exit_code, printed = there.printed()
    assert (exit_code, zlib.decompress(printed)) == (0, LINE * 2)


@pytest.mark.parametrize("session", ["../39aa", "-x", "", "*", "a/b", "gone"])
def test_nothing_but_a_session_s_name_is_looked_for(there: Spot, session: str) -> None:
    there.keep(LINE)
    assert there.printed(session) == (ABSENT, b"")


def test_what_is_too_large_stays(there: Spot) -> None:
    path = there.keep(LINE)
    os.truncate(path, MOST_BYTES)
    assert there.printed()[0] == 0
    os.truncate(path, MOST_BYTES + 1)
    assert there.printed() == (ABSENT, b"")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_only_leads_elsewhere_stays(there: Spot, tmp_path: Path, kind: str) -> None:
    path = there.keep(LINE)
    path.unlink()
    if kind == "link":
        (tmp_path / "secret").write_bytes(b"secret\n")
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert there.printed() == (ABSENT, b"")


def test_an_agent_that_hands_nothing_on(tmp_path: Path) -> None:
    spot = Spot(tmp_path, "codex")
    assert spot.printed() == (ABSENT, b"")
    order = spot.bring(zlib.compress(LINE))
    assert (order["prompt"], "resume" in order) == (spot.order["prompt"], False)


def test_half_a_line_is_left_out(here: Spot) -> None:
    order = here.bring(zlib.compress(LINE + b'{"type":"assist'))
    assert order["resume"]["session_id"] == SESSION
    (kept,) = here.home.glob(".claude/projects/*/*")
    assert (kept.name, kept.read_bytes()) == (f"{SESSION}.jsonl", LINE)
    assert kept.parent.name.endswith("-here-trees-w-0123456789ab")
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    "printed", [b"", b"garbage", zlib.compress(b""), zlib.compress(b'{"version":1}')]
)
@pytest.mark.parametrize("agent", ["claude", "builtin"])
def test_what_cannot_be_gone_on_in_changes_nothing(
    tmp_path: Path, agent: str, printed: bytes
) -> None:
    spot = Spot(tmp_path, agent)
    order = spot.bring(printed)
    assert (order["prompt"], "resume" in order) == (spot.order["prompt"], False)
    assert not spot.home.exists()
    assert {path.name for path in spot.directory.iterdir()} == {"order.json", "transcript"}


def test_a_name_that_leads_elsewhere_is_not_written_to(here: Spot) -> None:
    assert "resume" not in here.bring(zlib.compress(LINE), "../../../x")
    assert not here.home.exists()


def test_a_home_that_cannot_be_written_to_changes_nothing(here: Spot) -> None:
    here.home.write_text("no folder")
    assert "resume" not in here.bring(zlib.compress(LINE))


def test_a_trajectory_goes_the_same_way(tmp_path: Path) -> None:
    there, here = Spot(tmp_path / "there", "builtin"), Spot(tmp_path / "here", "builtin")
    told = Trajectory(str(there.directory), model="m", system="s")
    told.say("Mend the words.")
    told.save()
    exit_code, printed = there.printed("w-0123456789ab")
    assert exit_code == 0
    assert here.bring(printed, "w-0123456789ab")["prompt"] == PROMPT
    taken = Trajectory(str(here.directory), model="m", system="")
    assert taken.take_over(str(here.directory / "earlier.json"))
    assert (taken.messages, taken.system) == (told.messages, "s")


def attempt_of(outpost: LocalOutpost, session_id: str = SESSION) -> Attempt:
    handle = outpost.handle_of("w-0123456789ab")
    return replace(BORN, id=handle.worker_id, outpost="a", handle=handle, session_id=session_id)


def outpost_at(folder: Path, **options: str) -> LocalOutpost:
    setup = Setup(name="a", federation_id="f-test", data_folder=str(folder), environment={})
    return LocalOutpost(setup, LocalOptions(root=str(folder), **options))  # type: ignore[arg-type]


async def test_it_is_fetched_from_its_place(there: Spot, tmp_path: Path) -> None:
    there.keep(LINE)
    outpost = outpost_at(tmp_path / "there")
    data = await transcripts.fetched(attempt_of(outpost), lambda _: outpost, there.environment)
    assert data
    assert zlib.decompress(data) == LINE
    for nonsense in ("a\0b", "\udcff", "x" * 100_000, "../x"):
        told = attempt_of(outpost, nonsense)
        assert await transcripts.fetched(told, lambda _: outpost, there.environment) is None


async def test_nobody_waits_long_for_a_place_that_does_not_answer(
    there: Spot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o700)
    monkeypatch.setattr(transcripts, "FETCH_S", 0.5)
    there.keep(LINE)
    outpost = outpost_at(tmp_path / "there", python=str(python))
    begun = time.monotonic()
    found = await transcripts.fetched(attempt_of(outpost), lambda _: outpost, there.environment)
    assert found is None
    assert 0.5 <= time.monotonic() - begun < 10

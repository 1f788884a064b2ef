"""The conversation of an agent whose worker was lost is gone on with by the next one."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from outpost.testing.faulty import bring
from tests.doubles.messages_api import Json, MessagesApi, Reply, Text, Tokens, ToolUse, Turn
from tests.integration.claude_program import claude_environment, require_claude
from tests.integration.lost_world import Document, LostWorld, lost_world
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MakeWorld = Callable[..., LostWorld]
EACH = Tokens(input=100, output=20)
PATIENCE = "silent_after: 30s, lost_after: 60s"
ALLOWED = "permissions: {default: allow}"
MODEL = "claude-sonnet-5-5"


@pytest.fixture
def make(world: World, tmp_path: Path) -> Iterator[MakeWorld]:
    """Return what makes a world of faulty outposts whose workers get lost."""
    world.environment["PYTHONPATH"] = bring(tmp_path / "packages")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(lost_world(world, **options))


class Making:
    """An agent at outpost ``a`` that makes a file and then waits, with the API that drives it."""

    def __init__(self, lost: LostWorld, agent: str) -> None:
        self._lost = lost
        self._agent = agent
        self._tool = "Bash" if agent == "claude" else "bash"
        self.api = MessagesApi(self._script)

    def start(self) -> Document:
        """Start a controller and the worker; return what is said of it once the file is there."""
        lost, environment = self._lost, self._lost.world.environment
        environment.update(claude_environment(Path(environment["HOME"]), self.api.url))
        environment["PATH"] = os.environ["PATH"]
        lost.up()
        arguments = ("-m", "Make it", "--repo", lost.remote.url, "--agent", self._agent, "--json")
        worker: Document = lost.cli("spawn", *arguments).json()
        made = lost.tree("a", worker["worker"]) / "made.txt"
        until(made.exists, "the agent is at it", deadline_s=60)
        return worker

    def told(self) -> str:
        """Return all that the model was told last."""
        return json.dumps(self.api.exchanges[-1].body["messages"])

    def _script(self, messages: list[Json]) -> Reply:
        begun = any(it["role"] == "assistant" for it in messages)
        command = f"echo mended > made.txt; until [ -e {self._lost.go} ]; do sleep 0.1; done"
        return Turn((Text("Made.") if begun else ToolUse(self._tool, {"command": command}),), EACH)


def options_of(agent: str) -> str:
    """Return the section of the configuration that lets an agent do anything."""
    options = f"executable: {require_claude()}" if agent == "claude" else f"model: {MODEL}"
    return f"agents: {{{agent}: {{{options}, {ALLOWED}}}}}\n"


@pytest.mark.parametrize("agent", ["claude", "builtin"])
def test_a_killed_agent_goes_on_in_its_conversation(make: MakeWorld, agent: str) -> None:
    lost = make(patience=PATIENCE, more=options_of(agent))
    making = Making(lost, agent)
    with making.api:
        worker = making.start()
        lost.kill_its_carers("a", worker["worker"])
        first = lost.until_state(worker["worker"], "failed")
        second = lost.nth(worker["task"], 2)
        lost.go.touch()
        order = lost.place("a", second["id"]).order()
        assert order["prompt"].startswith("You were interrupted: ")
        assert order["resume"]["session_id"] == first["session_id"]
        assert "transcript" not in order
        assert first["session_id"]
        done = lost.until_state(second["id"], "done", "failed", deadline_s=60)
        assert (done["state"], done["summary"]) == ("done", "Made.")
        assert "Make it" in making.told()
        assert "You were interrupted: " in making.told()
    assert lost.remote.show(done["branch"], "made.txt") == "mended"


@pytest.mark.parametrize("agent", ["claude", "builtin"])
def test_its_conversation_is_carried_to_where_it_is_tried_again(
    make: MakeWorld, agent: str
) -> None:
    lost = make(patience=PATIENCE, more=options_of(agent))
    making = Making(lost, agent)
    with making.api:
        worker = making.start()
        lost.faults["a"].change(ping="down")
        lost.kill_its_carers("a", worker["worker"])
        first = lost.until_state(worker["worker"], "failed")
        second = lost.nth(worker["task"], 2)
        place = lost.place("b", second["id"])
        order = place.order()
        assert order["transcript"].keys() == {"session_id", "prompt"}
        assert order["transcript"]["session_id"] == first["session_id"]
        assert "resume" not in order
        assert stat.S_IMODE(Path(place.path("transcript")).stat().st_mode) == 0o600
        done = lost.until_state(second["id"], "done", "failed", deadline_s=60)
        assert (done["state"], done["summary"]) == ("done", "Made.")
        told = making.told()
    asked = told.index("Make it")
    called = told.index("echo mended > made.txt")
    assert asked < called < told.index("You were interrupted: ")
    assert f"on the branch `{done['branch']}`" in told
    assert "An earlier attempt at this was cut short" not in told
    # Its own tokens and money, not those of the conversation so far.
    used = lost.stored(second["id"])
    assert (used["input_tokens"], used["output_tokens"]) == (EACH.input, EACH.output)
    assert used["cost_microusd"] > 0
    assert lost.remote.show(done["branch"], "made.txt") == "mended"
    files = lost.remote.git("ls-tree", "-r", "--name-only", done["branch"]).splitlines()
    assert "made.txt" in files
    assert not [name for name in files if "transcript" in name or "earlier" in name]


def test_where_it_cannot_be_fetched_the_next_one_is_told_what_was_done(make: MakeWorld) -> None:
    lost = make(patience="silent_after: 2s, lost_after: 3s", more=options_of("builtin"))
    making = Making(lost, "builtin")
    with making.api:
        worker = making.start()
        lost.until_checkpoint(worker["task"], "made.txt")
        lost.faults["a"].change(ping="down", partition="the cable is cut")
        lost.until_state(worker["worker"], "lost")
        second = lost.nth(worker["task"], 2)
        order = lost.place("b", second["id"]).order()
        assert "transcript" not in order
        assert "An earlier attempt at this was cut short" in order["prompt"]
        lost.go.touch()
        done = lost.until_state(second["id"], "done", "failed", deadline_s=60)
        assert done["state"] == "done"
    assert lost.remote.show(done["branch"], "made.txt") == "mended"

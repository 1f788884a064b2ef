"""The conversation of an agent whose worker was killed is gone on with by the next one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from outpost.testing.faulty import bring
from tests.doubles.messages_api import Json, MessagesApi, Reply, Text, Tokens, ToolUse, Turn
from tests.integration.claude_program import claude_environment, require_claude
from tests.integration.lost_world import LostWorld, lost_world
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MakeWorld = Callable[..., LostWorld]
EACH = Tokens(input=100, output=20)
PATIENCE = "silent_after: 30s, lost_after: 60s"
ALLOWED = "permissions: {default: allow}"


@pytest.fixture
def make(world: World, tmp_path: Path) -> Iterator[MakeWorld]:
    """Return what makes a world of faulty outposts whose workers get lost."""
    world.environment["PYTHONPATH"] = bring(tmp_path / "packages")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(lost_world(world, **options))


@pytest.mark.parametrize("agent", ["claude", "builtin"])
def test_a_killed_agent_goes_on_in_its_conversation(
    make: MakeWorld, world: World, agent: str
) -> None:
    options = {
        "claude": f"executable: {require_claude() if agent == 'claude' else ''}, {ALLOWED}",
        "builtin": f"model: claude-sonnet-5-5, {ALLOWED}",
    }[agent]
    lost = make(patience=PATIENCE, more=f"agents: {{{agent}: {{{options}}}}}\n")
    tool = "Bash" if agent == "claude" else "bash"
    command = f"echo mended > made.txt; until [ -e {lost.go} ]; do sleep 0.1; done"

    def script(messages: list[Json]) -> Reply:
        begun = any(it["role"] == "assistant" for it in messages)
        return Turn((Text("Made.") if begun else ToolUse(tool, {"command": command}),), EACH)

    with MessagesApi(script) as api:
        world.environment.update(claude_environment(Path(world.environment["HOME"]), api.url))
        world.environment["PATH"] = os.environ["PATH"]
        lost.up()
        arguments = ("-m", "Make it", "--repo", lost.remote.url, "--agent", agent, "--json")
        worker = lost.cli("spawn", *arguments).json()
        made = lost.tree("a", worker["worker"]) / "made.txt"
        until(made.exists, "the agent is at it", deadline_s=60)
        lost.kill_its_carers("a", worker["worker"])
        first = lost.until_state(worker["worker"], "failed")
        second = lost.nth(worker["task"], 2)
        lost.go.touch()
        order = lost.place("a", second["id"]).order()
        assert order["prompt"].startswith("You were interrupted: ")
        assert order["resume"]["session_id"] == first["session_id"]
        assert first["session_id"]
        done = lost.until_state(second["id"], "done", "failed", deadline_s=60)
        assert (done["state"], done["summary"]) == ("done", "Made.")
        told = json.dumps(api.exchanges[-1].body["messages"])
        assert "Make it" in told
        assert "You were interrupted: " in told
    assert lost.remote.show(done["branch"], "made.txt") == "mended"

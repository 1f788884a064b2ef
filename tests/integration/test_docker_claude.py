"""The main job in a container: an issue in, the image's Claude Code works, a branch on a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker_engine import running_engine
from tests.doubles.messages_api import MessagesApi, Text, Tokens, ToolUse, Turn, by_turn
from tests.integration.claude_program import TEST_KEY, claude_environment
from tests.integration.docker_outposts import clear
from tests.world import Remote, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TURNS = by_turn(
    Turn(
        (
            Text("I shall add a greeting."),
            ToolUse("Write", {"file_path": "greeting.txt", "content": "bonjour\n"}),
        ),
        Tokens(input=900, output=55, cache_write=200),
    ),
    Turn((Text("The greeting is there."),), Tokens(input=40, output=12, cache_read=1100)),
)


def test_claude_code_resolves_an_issue_in_a_container(world: World, served_remote: Remote) -> None:
    engine = running_engine()
    box: dict[str, object] = {
        **{"name": "box", "type": "docker", "image": engine.image("full"), "network": "host"},
        **{"read_only": True, "memory": "2g", "min_free_mib": 0},
    }
    world.config(json.dumps({"outposts": [box]}))
    with MessagesApi(TURNS, key=TEST_KEY) as api:
        environment = {
            **world.environment,
            **claude_environment(Path(world.environment["HOME"]), api.url),
            **{"PATH": os.environ["PATH"], "DOCKER_HOST": engine.host},
        }
        done = subprocess.run(
            [
                *(sys.executable, "-m", "outpost", "spawn", "-m", "Greet in French"),
                *("--repo", served_remote.url, "--wait", "--json"),
            ],
            cwd=world.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        metered = api.metered()
    world.homes.add(world.home)
    try:
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        finished = json.loads(done.stdout)
        shown = engine.inspect(finished["worker"])
        assert (finished["state"], finished["outpost"]) == ("done", "box")
        assert served_remote.show(finished["branch"], "greeting.txt") == "bonjour"
        assert metered
        assert shown["HostConfig"]["ReadonlyRootfs"]
        assert TEST_KEY not in json.dumps(shown)
    finally:
        clear(engine, world.federation_id())

"""A task for one outpost by name, which takes no work: every command says why it waits."""

from __future__ import annotations

import pytest

from outpost.federation import Federation
from tests.integration.cli_world import Cli
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

LOCAL = "outposts:\n  - {name: local, type: local}\n"
OFF = f"{LOCAL}  - {{name: syd, type: local, enabled: false}}\n"
NOWHERE = "its outpost 'syd' is not configured here"
DISABLED = "its outpost 'syd' is disabled"


@pytest.fixture
def cli(world: World) -> Cli:
    world.environment["OUTPOST_CONFIG"] = world.config(OFF)
    return Cli(world)


def queued(cli: Cli) -> str:
    """Queue a task for the outpost; return its id."""
    ran = cli.spawn("true", "--on", "syd")
    assert ran["reason"] == "the outpost asked for is not configured, or disabled"
    return str(ran["task"])


def test_where_its_outpost_is_gone_it_says_so(cli: Cli) -> None:
    task = queued(cli)
    cli.world.config(LOCAL)
    assert NOWHERE in cli("queue").out
    assert cli("queue", "--json").json()["tasks"][0]["reason"] == NOWHERE
    assert f"waits: {NOWHERE}" in cli("status").out
    assert f"reason      {NOWHERE}\n" in cli("status", task).out
    said = cli("explain", task).out
    assert f"reason    {NOWHERE}\n" in said
    assert "not asked for: syd is" in said, "the other outposts stay in the table"
    assert cli("explain", task, "--json").json()["reason"] == NOWHERE


def test_where_its_outpost_is_disabled_it_says_that(cli: Cli) -> None:
    task = queued(cli)
    assert DISABLED in cli("queue").out
    assert f"reason    {DISABLED}\n" in cli("explain", task).out


def test_where_its_outpost_is_there_again_nothing_is_said_of_that(cli: Cli) -> None:
    task = queued(cli)
    cli.world.config(OFF.replace("enabled: false", "enabled: true"))
    assert DISABLED not in cli("queue").out
    said = cli("explain", task).out
    assert "reason" not in said
    assert "asked for by name" in said


async def test_the_library_says_it_too(cli: Cli) -> None:
    task = queued(cli)
    cli.world.config(LOCAL)
    world = cli.world
    async with Federation(directory=world.folder, environment=world.environment) as federation:
        (waiting,) = await federation.queued()
        assert (waiting.id, waiting.reason) == (task, NOWHERE)
        found = await federation.find_queued(task)
        assert found
        assert found.reason == NOWHERE
        assert not await federation.dispatch()
        gone, there = await federation.capabilities("syd"), await federation.capabilities("local")
        assert (gone.attach, gone.stop) == (False, False)
        assert (there.attach, there.stop) == (True, True)

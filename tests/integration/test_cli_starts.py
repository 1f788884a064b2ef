"""What is said of a start: only what can be done with that worker, and no more than is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.e2b.cloud import E2bCloud
from tests.e2b_world import KEY, TEMPLATE, config_for
from tests.faulty_world import MakeWorld
from tests.integration.cli_world import Cli
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MEND = ("-m", "Mend the words")


def test_where_nobody_can_attach_that_is_not_offered(world: World, tmp_path: Path) -> None:
    with E2bCloud(tmp_path / "e2b") as e2b:
        e2b.add_template(TEMPLATE)
        world.environment[KEY] = e2b.api_key
        cli = Cli(world)
        (cli.here / "outposts.yaml").write_text(
            config_for(e2b).replace("defaults:", "  - {name: here, type: local}\ndefaults:")
        )
        asked = ("--repo", world.remote.url, "--", "true")
        there = cli("spawn", *MEND, "--on", "cloud", *asked).out
        worker = there.split()[1]
        assert f"  outpost logs -f {worker}  see what it does\n" in there
        assert "outpost attach" not in there
        assert "outpost attach" in cli("spawn", *MEND, "--on", "here", *asked).out
        cli("logs", "-f", worker)


def test_a_start_in_doubt_is_told_as_that(faulty: MakeWorld) -> None:
    world = faulty("a")
    world.faults["a"].write(spawn=["ambiguous_lost"], find=["none", "none"])
    cli = Cli(world.world)
    asked = ("--repo", world.world.remote.url, "--", "true")
    out = cli("spawn", *MEND, *asked).out
    first, second, *rest = out.splitlines()
    assert first.startswith("may have been started: w-")
    worker = first.split()[4]
    assert second.startswith("  on a: ")
    assert "the answer was lost" in second
    assert rest == ["", f"  outpost status {worker}  see whether it was started"]
    said = cli("diff", worker, code=2).err
    assert f"error: {worker} may have been started, and has not been seen: " in said
    assert f"hint: outpost status {worker}  looks again\n" in said


def test_what_has_no_screen_gets_nothing_to_be_worked_on_at_one(world: World) -> None:
    cli = Cli(world)
    (cli.here / "outposts.yaml").write_text(
        "outposts:\n"
        "  - {name: cloud, type: e2b, api_url: 'http://127.0.0.1:9'}\n"
        "  - {name: here, type: local}\n"
        "policy: {default_preference: [cloud, here]}\n"
    )
    asked = ("spawn", *MEND, "--repo", world.remote.url, "--agent", "claude", "--dry-run", "--json")
    decision = cli(*asked, "--interactive").json()["decision"]
    assert decision["chosen"] == "here"
    assert [it["code"] for it in decision["refused"]] == ["no_screen"]
    assert [it["code"] for it in cli(*asked).json()["decision"]["refused"]] == ["unhealthy"]

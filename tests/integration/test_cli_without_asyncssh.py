"""``type: ssh`` where asyncssh is not installed: every command says what to type."""

from __future__ import annotations

import pytest

from tests.integration.cli_world import Cli
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

CONFIG = "outposts:\n  - {name: vm, type: ssh, host: 127.0.0.1, port: 9}\n"
INSTALL = "pip install '.[ssh]' in the checkout of outpost"
WORDS = f"asyncssh is not installed: {INSTALL}"
HINT = "after that, have it tried again: outpost doctor --fix"


@pytest.fixture
def cli(world: World) -> Cli:
    """Return a command line that finds something else under that name, which cannot be loaded."""
    folder = world.folder / "modules"
    folder.mkdir()
    (folder / "asyncssh.py").write_text("import no_such_module\n")
    world.environment["PYTHONPATH"] = str(folder)
    cli = Cli(world)
    (cli.here / "outposts.yaml").write_text(CONFIG)
    return cli


def test_what_needs_no_connection_goes_on(cli: Cli) -> None:
    assert "vm    ssh   no limit     enabled" in cli("config", "check").out
    assert "--host-key" in cli("add", "ssh", "--help").out
    assert cli("ps", "-a").err == ""


def test_the_outposts_say_what_is_missing(cli: Cli) -> None:
    assert f"unhealthy: {WORDS}" in cli("list").out
    [row] = cli("list", "--json").json()
    assert (row["status"], row["hint"]) == (f"unhealthy: {WORDS}", HINT)
    said = cli("doctor", code=1).out
    assert f"  problem  vm: {WORDS}\n           → {HINT}\n" in said


def test_an_issue_waits_and_says_for_what(cli: Cli) -> None:
    where = ("-m", "Mend the words", "--repo", cli.world.remote.url)
    assert f"  vm        free        -  {WORDS}" in cli("spawn", "--dry-run", *where).out
    queued = cli("spawn", *where, "--", "true")
    assert f"waits: vm {WORDS}" in " ".join(queued.out.split())


def test_an_outpost_that_is_added_says_it_too(cli: Cli) -> None:
    ran = cli("add", "ssh", "--name", "b", "--host", "127.0.0.1", "--port", "9", "--yes", code=1)
    assert f": {WORDS}\nhint: {HINT}\n" in ran.err


def test_one_that_is_there_but_broken_says_why(cli: Cli) -> None:
    module = cli.world.folder / "modules" / "asyncssh.py"
    module.write_text("raise ImportError('libcrypto.so.3 is not there')\n")
    words = f"asyncssh cannot be loaded (libcrypto.so.3 is not there): {INSTALL}"
    assert f"unhealthy: {words}" in cli("list").out

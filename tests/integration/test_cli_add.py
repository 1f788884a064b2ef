"""``outpost add`` and ``outpost remove`` on real files, on pipes and on a terminal."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from outpost.config import parse
from tests.integration.cli_world import Cli, Terminal
from tests.world import World, until

pytestmark = pytest.mark.integration

CONFIG = """\
# ours
outposts:
  - {name: local, type: local, max_workers: 4}   # this machine

policy:
  default_preference: [local]   # best first
"""
ADDED = """\
# ours
outposts:
  - {name: local, type: local, max_workers: 4}   # this machine
  - {name: build, type: local, max_workers: 2}

policy:
  default_preference: [local, build]   # best first
"""
# A kind that another package brings, with options of many forms.
CAMP = """\
from typing import ClassVar
from pydantic import BaseModel, ConfigDict, Field
from outpost.backends.local import LocalOptions, LocalOutpost

class CampOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    place: str = Field(description="Where the tents stand.")
    tents: int = Field(default=3, ge=1, description="How many.")
    env: dict[str, str] = Field(default={}, description="Variables of the camp.")
    flag: bool = Field(default=True, description="Whether a flag flies.")

class Camp(LocalOutpost):
    kind: ClassVar[str] = "camp"
    Options: ClassVar[type[BaseModel]] = CampOptions

    def __init__(self, setup, options):
        super().__init__(setup, LocalOptions(root=options.place))
"""


@pytest.fixture
def cli(world: World) -> Cli:
    return Cli(world)


@pytest.fixture
def file(cli: Cli) -> Path:
    path = cli.here / "outposts.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def camp(world: World) -> None:
    """Install a package with a kind of its own, and one with a kind that lacks something."""
    folder = world.folder / "packages"
    (folder / "camp-1.0.dist-info").mkdir(parents=True)
    (folder / "camp_site.py").write_text(CAMP)
    (folder / "camp_broken.py").write_text("import no_such_camp_sdk\n")
    (folder / "camp-1.0.dist-info/METADATA").write_text("Name: camp\nVersion: 1.0\n")
    (folder / "camp-1.0.dist-info/entry_points.txt").write_text(
        "[outpost.backends]\ncamp = camp_site:Camp\nbroken = camp_broken:Camp\n"
    )
    world.environment["PYTHONPATH"] = str(folder)


def test_without_a_file_one_is_made_and_this_machine_stays(cli: Cli) -> None:
    ran = cli("add", "local", "--name", "build", "--max-workers", "2", "--label", "gpu")
    usual = Path(cli.world.environment["HOME"], ".config/outpost/outposts.yaml")
    outposts = parse(usual.read_bytes()).outposts
    assert [(it.name, it.max_workers, dict(it.labels)) for it in outposts] == [
        ("local", outposts[0].max_workers, {}),
        ("build", 2, {"gpu": "true"}),
    ]
    assert outposts[0].max_workers
    assert ran.err == (
        f"note: there is no configuration yet: {usual} is made\n"
        "note: the built-in outpost 'local' is written out too, so that it stays\n"
    )
    assert ran.out.startswith("--- /dev/null\n+++ ")
    assert ran.out.endswith(f"added build (local) to {usual}\nbuild: ok, workers 0/2\n")
    assert [it["name"] for it in cli("list", "--json").json()] == ["local", "build"]
    assert not (cli.world.folder / "state/outpost.db").exists()


def test_a_dry_run_shows_the_change_only(cli: Cli, file: Path) -> None:
    ran = cli("add", "local", "--name", "build", "--max-workers", "2", "--dry-run")
    assert file.read_text() == CONFIG
    assert ran.out == (
        "--- outposts.yaml\n+++ outposts.yaml\n@@ -1,6 +1,7 @@\n # ours\n outposts:\n"
        "   - {name: local, type: local, max_workers: 4}   # this machine\n"
        "+  - {name: build, type: local, max_workers: 2}\n \n policy:\n"
        "-  default_preference: [local]   # best first\n"
        "+  default_preference: [local, build]   # best first\n"
    )
    assert ran.err == (
        "note: policy.default_preference names it too, at its end\n"
        "note: nothing was written: this was a dry run\n"
    )


def test_an_option_that_takes_one_or_more_may_be_given_again(cli: Cli, file: Path) -> None:
    app = ("add", "fly", "--name", "b", "--app", "m", "--dry-run")
    one = cli(*app, "--region", "iad").out
    assert "region: iad" in one
    several = cli(*app, "--region", "iad", "--region", "ams").out
    assert "region: [iad, ams]" in several
    assert "may be given again" in " ".join(cli("add", "fly", "--help").out.split())
    assert file.read_text() == CONFIG


def test_what_was_added_is_removed_without_a_trace(cli: Cli, file: Path) -> None:
    cli("add", "local", "--name", "build", "--max-workers", "2")
    assert file.read_text() == ADDED
    ran = cli("remove", "build")
    assert ran.out.endswith(f"removed build from {file}\n")
    assert ran.err == ""
    assert file.read_text() == CONFIG


def test_its_place_in_the_preference_can_be_said(cli: Cli, file: Path) -> None:
    cli("add", "local", "--name", "first", "--prefer-first")
    ran = cli("add", "local", "--name", "second", "--before", "local")
    assert "note: policy.default_preference names it too, as number 2\n" in ran.err
    assert "default_preference: [first, second, local]   # best first\n" in file.read_text()
    unknown = cli("add", "local", "--name", "third", "--before", "lokal", code=2)
    assert "--before: there is no outpost 'lokal'; did you mean 'local'?" in unknown.err
    both = cli("add", "local", "--name", "x", "--before", "local", "--prefer-first", code=2)
    assert "--before and --prefer-first exclude each other" in both.err


def test_without_a_preference_the_order_of_the_file_counts(cli: Cli, file: Path) -> None:
    file.write_text(CONFIG[: CONFIG.index("\npolicy")])
    cli("add", "local", "--name", "first", "--prefer-first")
    cli("add", "local", "--name", "second", "--before", "local")
    cli("add", "local", "--name", "last")
    names = [it["name"] for it in cli("list", "--json").json()]
    assert names == ["first", "second", "local", "last"]


def test_a_preference_that_means_its_labels_needs_no_change(cli: Cli, file: Path) -> None:
    text = CONFIG.replace("4}", "4, labels: {region: eu}}").replace("[local]", "[{region: eu}]")
    file.write_text(text)
    cli("add", "local", "--name", "build", "--label", "region=eu", "--label", "tier=1")
    assert "  - {name: build, type: local, labels: {region: eu, tier: 1}}\n" in file.read_text()
    assert "default_preference: [{region: eu}]   # best first\n" in file.read_text()


def test_one_that_is_not_well_stays_in_the_file(cli: Cli, file: Path) -> None:
    ran = cli("add", "local", "--name", "build", "--tmux", "no-such-tmux", code=1)
    assert ran.err.splitlines()[1:] == [
        "error: build is in the file, but not well: no-such-tmux is not installed",
        "hint: install no-such-tmux, for example: sudo apt-get install no-such-tmux",
    ]
    assert "tmux: no-such-tmux" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "error: an outpost of type 'local' needs --name\n"),
        (("--name", "local"), "error: an outpost is named 'local' already, in outposts.yaml\n"),
        (("--name", "a b"), "error: --name: a name is 1 to 63 letters"),
        (("--name", "b", "--max-workers", "0"), "error: --max-workers: must be at least 1\n"),
        (("--name", "b", "--max-workers", "x"), "--max-workers: expected a whole number, got text"),
        (("--name", "b", "--on-cap", "halt"), "error: --on-cap: expected 'hold' or 'stop'"),
        (("--name", "b", "--label", "=x"), "error: --label: a label's name is 1 to 63 letters"),
        (("--name", "b", "--min-free-mib", "-3"), "error: --min-free-mib: must be at least 0\n"),
        (("--name", "b", "--price-hourly", "1", "--price-gib-hourly", "1"), "--price-hourly: is"),
        (("--name", "b", "--root", "\udcff"), "UTF-8 text only"),
        (("--name", "b", "--root", "\x07"), "control character U+0007"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_terms_of_the_flags(
    cli: Cli, file: Path, arguments: tuple[str, ...], told: str
) -> None:
    ran = cli("add", "local", *arguments, code=2)
    assert told in ran.err
    assert "hint: " in ran.err
    assert file.read_text() == CONFIG


def test_a_kind_that_is_not_there_is_said_to_be_so(cli: Cli, camp: None) -> None:
    unknown = cli("add", "lokal", "--name", "x", code=2).err
    assert "there is no type of outpost named 'lokal'; did you mean 'local'?" in unknown
    broken = cli("add", "broken", "--name", "x", code=2).err
    assert "outposts of type 'broken' need what is not installed: No module named" in broken
    assert " outpost add camp --help\n" in cli("add", "--help").out


def test_kinds_and_their_flags_are_completed(cli: Cli, file: Path, camp: None) -> None:
    def completed(*words: str) -> list[str]:
        line = {"COMP_WORDS": " ".join(("outpost", *words)), "COMP_CWORD": str(len(words))}
        return cli(environment={"_OUTPOST_COMPLETE": "complete_bash", **line}).out.splitlines()

    assert completed("add", "ca") == ["camp"]
    assert completed("add", "camp", "--pl") == ["--place"]
    assert completed("add", "camp", "--before", "lo") == ["local"]
    assert completed("remove", "lo") == ["local"]


def test_a_kind_of_another_package_has_flags_of_its_own(cli: Cli, file: Path, camp: None) -> None:
    shown = cli("add", "camp", "--help").out
    for part in (
        "--place TEXT",
        "Where the tents stand.",
        "--tents N",
        "[default: 3]",
        "--no-flag",
    ):
        assert part in shown
    missing = cli("add", "camp", "--yes", code=2).err
    assert "an outpost of type 'camp' needs --name and --place\n" in missing
    refused = cli("add", "camp", "--name", "c", "--place", "p", "--tents", "0", code=2).err
    assert "error: --tents: must be at least 1\n" in refused
    place = str(cli.world.folder / "a camp")
    options = ("--place", place, "--env", "A=1", "--env", "B=x y", "--no-flag", "--cost-cap-daily")
    cli("add", "camp", "--name", "c", *options, "2.50")
    assert (
        f'{{name: c, type: camp, place: {place}, env: {{A: "1", B: x y}}, flag: false,'
        " cost_cap_daily: 2.50}\n"
    ) in file.read_text()


def test_on_a_terminal_it_asks_for_what_is_missing(cli: Cli, file: Path, camp: None) -> None:
    with Terminal(cli, 100, ("add", "camp")) as terminal:
        terminal.read_until("name (what it is called) [camp]: ")
        terminal.press(b"\n")
        terminal.read_until("place (Where the tents stand.): ")
        terminal.press(b"meadow\n")
        terminal.read_until(f"Write {file}? [Y/n]: ")
        assert "{name: camp, type: camp, place: meadow}" in "\n".join(terminal.lines())
        assert file.read_text() == CONFIG
        terminal.press(b"y\n")
        terminal.read_to_end()
    assert terminal.process.returncode == 0, terminal.lines()
    assert terminal.lines()[-2:] == [f"added camp (camp) to {file}", "camp: ok, workers 0"]
    assert "{name: camp, type: camp, place: meadow}\n" in file.read_text()


def test_on_a_terminal_no_means_no(cli: Cli, file: Path) -> None:
    for arguments in (("add", "local", "--name", "x"), ("remove", "build")):
        file.write_text(ADDED)
        with Terminal(cli, 100, arguments) as terminal:
            terminal.read_until("[Y/n]: ")
            terminal.press(b"n\n")
            terminal.read_to_end()
        assert terminal.process.returncode == 1
        assert terminal.lines()[-1] == "note: nothing was written"
        assert file.read_text() == ADDED


def test_on_a_terminal_a_question_may_be_left(cli: Cli, file: Path) -> None:
    for arguments, keys in ((("add", "local"), b"\x03"), (("remove", "local"), b"\x04")):
        file.write_text(ADDED)
        with Terminal(cli, 100, arguments) as terminal:
            terminal.read_until("]: ")
            terminal.press(keys)
            terminal.read_to_end()
        assert terminal.process.returncode == 130
        assert terminal.lines()[-1] == "note: nothing was written"
        assert file.read_text() == ADDED


def test_on_a_terminal_what_changed_while_it_asked_is_not_overwritten(cli: Cli, file: Path) -> None:
    with Terminal(cli, 100, ("add", "local", "--name", "x")) as terminal:
        terminal.read_until("[Y/n]: ")
        file.write_text(ADDED)
        terminal.press(b"y\n")
        terminal.read_to_end()
    assert terminal.process.returncode == 2
    assert "was changed by somebody else meanwhile" in " ".join(terminal.lines())
    assert file.read_text() == ADDED


def test_with_yes_a_terminal_is_asked_nothing(cli: Cli, file: Path) -> None:
    code, lines = cli.terminal(100, "add", "local", "--name", "build", "--max-workers", "2", "-y")
    assert (code, file.read_text()) == (0, ADDED), lines
    code, lines = cli.terminal(100, "add", "local", "--yes")
    assert code == 2
    assert "needs --name" in " ".join(lines)


def test_an_outpost_stays_while_workers_run_there(cli: Cli, file: Path) -> None:
    file.write_text(ADDED)
    gate = cli.world.folder / "gate"
    script = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    worker = cli.spawn(script, "--on", "build")["worker"]
    ran = cli("remove", "build", code=2)
    assert f"1 worker is on 'build': {worker} (" in ran.err
    assert f"hint: outpost stop {worker}\n" in ran.err
    assert file.read_text() == ADDED
    forced = cli("remove", "build", "--force", "--dry-run")
    assert f"nobody looks after {worker} (" in forced.err
    gate.touch()
    until(lambda: cli("status", worker, "--json").json()["state"] == "done", "it is done")
    left = cli("remove", "build")
    assert "1 ended worker is on 'build': what is left of them stays there" in left.err
    assert file.read_text() == CONFIG


def test_of_several_at_once_none_overwrites_another(cli: Cli, file: Path) -> None:
    numbers = range(4)
    running = [cli.start("add", "local", "--name", f"o{number}", "--yes") for number in numbers]
    ended = [process.communicate(timeout=60) for process in running]
    done = [f"o{number}" for number, it in zip(numbers, running, strict=True) if it.returncode == 0]
    assert done
    names = [outpost.name for outpost in parse(file.read_bytes()).outposts]
    assert sorted(names) == ["local", *done]
    for process, (_, err) in zip(running, ended, strict=True):
        assert (process.returncode == 0) == ("changed by somebody else" not in err), err
    assert [path.name for path in file.parent.iterdir()] == ["outposts.yaml"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lokal", "there is no outpost 'lokal'; did you mean 'local'?"),
        ("local", "it is the only outpost"),
    ],
)
def test_what_cannot_be_removed_is_said_to_be_so(
    cli: Cli, file: Path, name: str, told: str
) -> None:
    ran = cli("remove", name, code=2)
    assert told in ran.err
    assert "hint: " in ran.err
    assert file.read_text() == CONFIG


def test_this_machine_without_a_file_cannot_be_removed(cli: Cli) -> None:
    assert "stands in no file" in cli("remove", "local", code=2).err


def test_the_configuration_may_be_named_in_front(cli: Cli) -> None:
    cli("--config", "mine.yaml", "add", "local", "--name", "b")
    assert [it.name for it in parse((cli.here / "mine.yaml").read_bytes()).outposts] == [
        "local",
        "b",
    ]
    cli("--config", "mine.yaml", "remove", "b")
    assert [it.name for it in parse((cli.here / "mine.yaml").read_bytes()).outposts] == ["local"]


def test_a_file_that_does_not_load_is_not_touched(cli: Cli, file: Path) -> None:
    file.write_text(broken := "outposts: 3\n")
    for arguments in (("add", "local", "--name", "b"), ("remove", "b")):
        assert "outposts.yaml:1:11: outposts: expected a list" in cli(*arguments, code=2).err
    assert file.read_text() == broken


def test_the_guide_shows_what_is_printed(cli: Cli, file: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/add-an-outpost.md").read_text()
    blocks = re.findall(r"^```(?:yaml|console)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    file.write_text(blocks[0])
    # What a machine is asked before it is added is shown with a machine, elsewhere.
    for block in (it for it in blocks[1:] if not it.startswith("$ outpost add ssh")):
        command, _, shown = block.partition("\n")
        ran = cli(*shlex.split(command)[2:])
        if shown:
            assert ran.err + ran.out.replace(str(file), "/home/sam/shop/outposts.yaml") == shown
    assert file.read_text() == blocks[0]

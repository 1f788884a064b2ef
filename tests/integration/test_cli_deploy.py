"""``outpost deploy`` and ``outpost add`` for a kind whose provider has to run something first."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloudrun_program import CloudRunProgram
from tests.cloudrun_world import KIND, TOKEN, installed
from tests.integration.cli_world import Cli, Ran, Terminal
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION, SERVICE
from tests.world import World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
CONFIG = f"""\
outposts:
  - {{name: local, type: local}}
  - name: burst
    type: {KIND}
    project: {PROJECT}
    region: {REGION}
    service: {SERVICE}
    token: env://OUTPOST_TOKEN
    keep_alive: 5m
    max_workers: 20
"""
DEPLOY = ("deploy", "burst", "--image", IMAGE)


class Desk:
    """A command line beside a stand-in for Google."""

    def __init__(self, cli: Cli, google: CloudRunProgram) -> None:
        self.cli = cli
        self.google = google

    def __call__(self, *arguments: str, code: int = 0) -> Ran:
        return self.cli(*arguments, code=code)

    @property
    def file(self) -> Path:
        return self.cli.here / "outposts.yaml"


@pytest.fixture(params=[0.0])
def desk(request: pytest.FixtureRequest, world: World) -> Iterator[Desk]:
    with CloudRunProgram(world.folder, operation_s=request.param) as google:
        world.environment |= installed(world.folder / "kinds", google.address)
        world.environment["OUTPOST_TOKEN"] = TOKEN
        world.environment["GOOGLE_APPLICATION_CREDENTIALS"] = google.key_file
        desk = Desk(Cli(world), google)
        desk.file.write_text(CONFIG)
        yield desk


def test_a_plan_is_shown_and_with_yes_carried_out(desk: Desk) -> None:
    ran = desk(*DEPLOY, "--yes")
    lines = ran.out.splitlines()
    assert lines[0] == f"+ service {SERVICE} in {REGION}, project {PROJECT}"
    assert f"+   image: {IMAGE}" in lines
    assert lines[-1] == f"burst: deployed, at {desk.google.url}"
    assert "note: holding an instance warm for 5 min after work costs up to $0.0174\n" in ran.err
    assert f"note: {REGION}: making the service {SERVICE}\n" in ran.err
    assert TOKEN not in ran.out + ran.err
    again = desk("deploy", KIND, "burst", "--yes")
    assert again.out == f"burst: as it should be, at {desk.google.url}\n"
    status = desk("status", "burst").out
    assert "costs up to $0.0174" in " ".join(status.split())


def test_without_a_terminal_a_yes_is_needed(desk: Desk) -> None:
    ran = desk(*DEPLOY, code=2)
    assert ran.out.startswith("+ service")
    assert "error: burst would be changed, and there is nobody to ask\n" in ran.err
    assert "hint: --yes agrees to it; --dry-run only shows it\n" in ran.err
    assert "CreateService" not in desk.google.calls


def test_a_dry_run_changes_nothing_and_makes_no_store(desk: Desk) -> None:
    ran = desk(*DEPLOY, "--dry-run")
    assert ran.out.startswith("+ service")
    assert ran.err.endswith("note: nothing was changed: this was a dry run\n")
    assert "CreateService" not in desk.google.calls
    assert not (desk.cli.world.folder / "state" / "outpost.db").exists()
    desk(*DEPLOY, "--yes")
    ran = desk("deploy", "burst", "--dry-run")
    assert ran.out == "burst: there is nothing to change\n"


def test_json_is_one_document(desk: Desk) -> None:
    planned = desk(*DEPLOY, "--dry-run", "--json").json()
    assert planned["changes"][0].startswith("+ service")
    assert (planned["deployed"], planned["addresses"]) == (False, [])
    done = desk(*DEPLOY, "--yes", "--json").json()
    assert (done["outpost"], done["deployed"]) == ("burst", True)
    assert done["addresses"] == [desk.google.url]
    refused = desk("deploy", "local", "--json", code=1).json()
    assert refused["error"]["code"] == "unsupported"


@pytest.mark.parametrize(("keys", "code"), [(b"\n", 1), (b"n\n", 1), (b"\x03", 130)])
def test_anything_but_a_yes_changes_nothing(desk: Desk, keys: bytes, code: int) -> None:
    with Terminal(desk.cli, 200, DEPLOY) as terminal:
        terminal.read_until("Change burst so? [y/N]: ")
        terminal.press(keys)
        terminal.read_to_end()
    assert terminal.process.returncode == code
    assert "CreateService" not in desk.google.calls


def test_a_yes_on_a_terminal_is_enough(desk: Desk) -> None:
    with Terminal(desk.cli, 200, DEPLOY) as terminal:
        terminal.read_until("Change burst so? [y/N]: ")
        terminal.press(b"y\n")
        terminal.read_to_end()
    assert terminal.lines()[-1] == f"burst: deployed, at {desk.google.url}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("deploy", "brust"), 2, "there is no outpost 'brust'; did you mean 'burst'?"),
        (("deploy", "ssh", "burst"), 2, f"'burst' is of type {KIND}, not ssh"),
        (("deploy", "ssh", "local"), 2, "hint: no outpost is of type ssh: outpost add ssh"),
        (("deploy", KIND, "local"), 2, f"'local' is of type local, not {KIND}"),
        (("deploy", KIND, "local"), 2, f"hint: of type {KIND}: burst"),
        (("deploy", "a", "b", "c"), 2, "one outpost at a time"),
        (("deploy", "burst", "local"), 2, "one outpost at a time"),
        (("deploy", "sssh", "burst"), 2, "there is no type of outpost named 'sssh'; did you mean"),
        (("deploy", "local"), 1, "local needs no deployment: outposts of type local do not"),
        (("deploy", "burst", "--yes"), 2, "which image? There is no service"),
    ],
)
def test_what_cannot_be_deployed(
    desk: Desk, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = desk(*arguments, code=code)
    assert words in ran.err
    assert "hint: " in ran.err or code == 1


def test_a_service_of_somebody_else_s_needs_to_be_adopted(desk: Desk) -> None:
    desk(*DEPLOY, "--yes")
    environment = desk.cli.world.environment
    environment["OUTPOST_HOME"] = str(desk.cli.world.folder / "other")
    ran = desk(*DEPLOY, "--yes", code=1)
    assert "is another federation's" in ran.err
    ran = desk(*DEPLOY, "--adopt", "--yes")
    assert "~   label outpost-federation: " in ran.out


@pytest.mark.parametrize("desk", [60.0], indirect=True)
def test_ctrl_c_says_that_the_provider_goes_on(desk: Desk) -> None:
    process: subprocess.Popen[str] = desk.cli.start(*DEPLOY, "--yes")
    try:
        until(lambda: "GetOperation" in desk.google.calls, "the command waits")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "note: the provider goes on with what it was asked for\n" in err
    assert "hint: outpost deploy burst  shows what is left to do\n" in err
    assert "Traceback" not in err


def test_an_outpost_is_added_before_there_is_a_service(desk: Desk) -> None:
    desk.file.write_text("outposts:\n  - {name: local, type: local}\n")
    options = {
        "--name": "burst",
        "--project": PROJECT,
        "--region": REGION,
        "--service": SERVICE,
        "--token": "env://OUTPOST_TOKEN",
        "--keep-alive": "5m",
    }
    words = [word for pair in options.items() for word in pair]
    dry = desk("add", KIND, *words, "--dry-run")
    assert desk.google.calls == []
    assert "keep_alive: 5m" in dry.out
    ran = desk("add", KIND, *words, "--yes", code=1)
    assert "note: holding an instance warm for 5 min after work costs up to $0.0174\n" in ran.err
    assert f"error: burst is in the file, but not well: there is no service {SERVICE}" in ran.err
    assert "hint: outpost deploy cloudrun burst --image IMAGE\n" in ran.err
    desk(*DEPLOY, "--yes")
    listed = desk("list", "--json").json()
    assert [row["status"] for row in listed if row["name"] == "burst"] == ["ok"]


def test_without_credentials_it_is_added_and_says_what_to_type(desk: Desk) -> None:
    desk.file.write_text("outposts:\n  - {name: local, type: local}\n")
    environment = desk.cli.world.environment
    del environment["GOOGLE_APPLICATION_CREDENTIALS"]
    environment["NO_GCE_CHECK"] = "true"
    words = ("--project", PROJECT, "--region", REGION, "--service", SERVICE)
    more = ("--token", "env://OUTPOST_TOKEN", "--name", "burst", "--yes")
    ran = desk("add", "cloudrun", *words, *more, code=1)
    assert "burst is in the file, but not well: there are no Google credentials here" in ran.err
    assert "hint: gcloud auth application-default login\n" in ran.err
    assert "type: cloudrun" in desk.file.read_text()

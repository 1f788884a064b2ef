"""Every screen that only shows something: on terminals of 80 and 160 columns, and on a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.cli_world import Cli
from tests.integration.screens import WIDTHS, screen, screens
from tests.integration.screens_world import (
    NOON,
    Screens,
    folder_for_screens,
    make_screens,
    make_world,
    places,
)
from tests.snapshots import check, names_in

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

REMOTE = ("--repo", "https://github.com/acme/shop")
PAID = ("--config", "paid.yaml")
FITTED = {
    "ps": ("ps",),
    "ps-all": ("ps", "-a"),
    "ps-limit": ("ps", "-a", "-n", "4"),
    "status": ("status",),
    "status-outpost": ("status", "local"),
    "status-outpost-out-of-reach": ("status", "vm-1"),
    "status-waiting": ("status", "WAITING"),
    "status-working": ("status", "WORKING"),
    "status-done": ("status", "DONE"),
    "status-done-pr": ("status", "acme/shop#12"),
    "status-failed": ("status", "w-h7c3t5vz"),
    "status-stopped": ("status", "gt-77"),
    "status-lost": ("status", "gt-78"),
    "status-unknown": ("status", "gt-80"),
    "status-queued": ("status", "QUEUED"),
    "list": ("list",),
    "prune-dry-run": ("prune", "--before", "1d", "--dry-run"),
    "spawn-dry-run": ("spawn", "--dry-run", "-m", "Paint the door", *REMOTE),
    "config-check": ("config", "check"),
    "queue": ("queue",),
    "explain-queued": ("explain", "QUEUED"),
    "explain-done": ("explain", "acme/shop#12"),
    "explain-unknown": ("explain", "gt-80"),
    "cost": ("cost",),
    "cost-by-task": ("cost", "--by", "task"),
    "paid-spawn-dry-run": ("spawn", "--dry-run", "-m", "Paint the door", *REMOTE, *PAID),
    "paid-spawn-dry-run-queue": (
        *("spawn", "--dry-run", "-m", "Paint the door", *REMOTE, *PAID),
        *("--on", "cloudrun-burst"),
    ),
    "paid-explain-queued": ("explain", "QUEUED", *PAID),
    "paid-status-outpost": ("status", "gce-worker-1", *PAID),
    "paid-status": ("status", *PAID),
}
"""What is laid out to fit a terminal."""
PLAIN = {
    "logs": ("logs", "DONE"),
    "logs-raw": ("logs", "--raw", "WORKING"),
    "logs-waiting": ("logs", "WAITING"),
    "logs-gone": ("logs", "gt-77"),
    "diff": ("diff", "DONE"),
    "diff-stat": ("diff", "--stat", "DONE"),
    "diff-names": ("diff", "--name-only", "DONE"),
    "diff-nothing": ("diff", "WORKING"),
    "open-pull-request": ("open", "--print", "acme/shop#12"),
    "open-branch": ("open", "--print", "DONE"),
    "cost-csv": ("cost", "--by", "task", "--csv"),
}
"""What is the same at every width."""
JSON = {
    "ps-json": ("ps", "-a", "--json"),
    "list-json": ("list", "--json"),
    "status-waiting-json": ("status", "WAITING", "--json"),
    "status-queued-json": ("status", "QUEUED", "--json"),
    "logs-json": ("logs", "--json", "DONE"),
    "prune-json": ("prune", "--before", "1d", "--dry-run", "--json"),
    "config-check-json": ("config", "check", "--json"),
    "queue-json": ("queue", "--json"),
    "explain-done-json": ("explain", "acme/shop#12", "--json"),
    "explain-queued-json": ("explain", "QUEUED", "--json"),
    "cost-json": ("cost", "--json"),
    "paid-list-json": ("list", "--json", *PAID),
}
TROUBLED = {"prune-dry-run": 1, "prune-json": 1}
"""What exits with a code of its own, as one outpost does not answer."""
ERRORS = {
    "status-nobody": ("status", "gt-79"),
    "logs-queued": ("logs", "QUEUED"),
    "open-nothing": ("open", "--print", "w-h7c3t5vz"),
    "attach-ended": ("attach", "DONE"),
    "send-ended": ("send", "DONE", "hello"),
    "send-nothing": ("send", "WAITING", ""),
    "resume-running": ("resume", "WORKING"),
    "rm-running": ("rm", "WORKING"),
    "rm-unknown": ("rm", "gt-80"),
    "rm-queued": ("rm", "QUEUED"),
    "stop-nobody": ("stop", "gt-79"),
    "cancel-nobody": ("cancel", "tidy-the-celler"),
    "cancel-running": ("cancel", "WORKING"),
    "cancel-ended": ("cancel", "DONE"),
    "explain-nobody": ("explain", "gt-79"),
    "cost-since": ("cost", "--since", "yesterday"),
    "cost-by-what": ("cost", "--by", "model"),
    "cost-json-csv": ("cost", "--json", "--csv"),
    "spawn-which": ("spawn",),
    "spawn-no-repository": ("spawn", "-m", "Paint the door"),
    "spawn-no-outpost": ("spawn", "-m", "Paint the door", *REMOTE, "--on", "locl"),
    "spawn-no-agent": ("spawn", "-m", "Paint the door", *REMOTE, "--agent", "cluade"),
    "config-wrong": ("config", "check", "--config", "wrong.yaml"),
    "config-absent": ("ps", "--config", "absent.yaml"),
    "usage-command": ("spwan",),
    "usage-option": ("ps", "--al"),
    "usage-missing": ("logs",),
    "usage-number": ("ps", "-n", "few"),
    "usage-duration": ("prune", "--before", "soon"),
}
"""What is refused with exit code 2; on a pipe the same comes on standard error, unbroken."""
EMPTY = {
    "ps": ("ps",),
    "ps-all": ("ps", "-a"),
    "status": ("status",),
    "list": ("list",),
    "prune": ("prune",),
    "doctor": ("doctor",),
    "config-check": ("config", "check"),
    "queue": ("queue",),
    "cost": ("cost",),
}
WRONG = "outposts:\n  - name: local\n    type: lcoal\npolcy: {}\n"
PAID_CONFIG = f"""\
outposts:
  - {{name: local, type: local, max_workers: 2}}
  - name: cloudrun-burst
    type: local
    max_workers: 20
    price_hourly: 0.96
    cost_cap_hourly: 1.50
  - name: gce-worker-1
    type: local
    max_workers: 8
    price_hourly: 0.25
    labels: {{region: eu, gpu: true}}
    cost_cap_daily: 50
  - {{name: hetzner-1, type: local, enabled: false}}
policy:
  default_preference: [local, cloudrun-burst, gce-worker-1]
  overrides:
    - condition: epic == gt-abc
      prefer: cloudrun-burst
budget:
  daily: 400
  on_cap: stop
  time_zone: {NOON}
"""


@pytest.fixture(scope="module")
def world(require: Callable[[str], str]) -> Iterator[Screens]:
    require("tmux")
    with folder_for_screens() as folder:
        shown = make_screens(folder)
        (shown.cli.here / "wrong.yaml").write_text(WRONG)
        (shown.cli.here / "paid.yaml").write_text(PAID_CONFIG)
        yield shown
        shown.end()


@pytest.fixture(scope="module")
def empty() -> Iterator[Cli]:
    with folder_for_screens() as folder:
        yield Cli(make_world(folder))


@pytest.mark.parametrize("name", FITTED)
def test_what_fits_the_terminal(world: Screens, name: str) -> None:
    arguments, code = world.named(FITTED[name]), TROUBLED.get(name, 0)
    check(f"screens/{name}", screens(world.cli, arguments, world.names, code=code))


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_the_same_at_every_width(world: Screens, name: str) -> None:
    arguments = world.named(PLAIN[name])
    check(f"screens/{name}", screens(world.cli, arguments, world.names, widths=WIDTHS[:1]))


@pytest.mark.parametrize("name", JSON)
def test_documents(world: Screens, name: str) -> None:
    arguments, code = world.named(JSON[name]), TROUBLED.get(name, 0)
    check(f"screens/{name}", screens(world.cli, arguments, world.names, code=code, widths=()))


@pytest.mark.parametrize("name", ERRORS)
def test_errors(world: Screens, name: str) -> None:
    arguments = world.named(ERRORS[name])
    check(f"screens/{name}", screen(world.cli, WIDTHS[0], arguments, world.names, code=2))


def test_an_error_on_a_pipe_and_attach_without_a_terminal(world: Screens) -> None:
    for name in ("status-nobody", "config-wrong"):
        text = screens(world.cli, world.named(ERRORS[name]), world.names, code=2, widths=())
        check(f"screens/{name}-pipe", text)
    text = screens(world.cli, world.named(("attach", "WORKING")), world.names, code=2, widths=())
    check("screens/attach-pipe", text)


def test_the_doctor(world: Screens) -> None:
    check("screens/doctor", screens(world.cli, ("doctor",), world.names, code=1))


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_home(empty: Cli, name: str) -> None:
    text = screens(empty, EMPTY[name], places(empty), widths=WIDTHS[:1])
    check(f"empty/{name}", text)


def test_every_snapshot_is_checked() -> None:
    more = ("doctor", "status-nobody-pipe", "config-wrong-pipe", "attach-pipe")
    shown = (*FITTED, *PLAIN, *JSON, *ERRORS, *more)
    assert names_in("screens") == {f"screens/{name}" for name in shown}
    assert names_in("empty") == {f"empty/{name}" for name in EMPTY}

"""``examples/vm`` and its guide: what they tell Terraform, cloud-init and ``outpost`` is valid."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator
from typer.main import get_command

from outpost import config
from outpost.cli.commands import app
from outpost.config import KindRegistry
from tests.unit.terraform_files import Terraform

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "vm"
CLOUD_INIT = EXAMPLE / "cloud-init.yaml"
PAGE = (ROOT / "docs" / "how-to" / "add-a-vm.md").read_text()
MADE = ROOT / "build" / "cloud-init"
"""Debian's package, unpacked: ``make`` does it where all tests must run."""
SCHEMA = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINNQapj7AbQO7MVcHfHCMfEDe6vqqJ/REb5A7Lnh0cUK sam"
_SWITCHED_OFF = re.compile(r"^#(?! \S|$)", re.MULTILINE)
FILES = Terraform(EXAMPLE)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_what_the_terraform_files_use_is_declared_and_nothing_else() -> None:
    declared, used = FILES.declared(), FILES.used()
    assert used - declared == set()
    assert {name for kind, name in declared - used if kind in ("var", "local")} == set()


def test_terraform_variables_and_outputs_say_what_they_are() -> None:
    outputs = {"address", "fingerprint_command", "add_command", "ssh_config"}
    assert set(FILES.named("output")) == outputs
    for kind in ("variable", "output"):
        for name, body in FILES.named(kind).items():
            assert body["description"].endswith("."), name
    named_on_the_page = set(re.findall(r"-var '?(\w+)=", PAGE))
    assert named_on_the_page
    assert named_on_the_page <= set(FILES.named("variable"))
    assert set(re.findall(r"terraform output (?:-raw )?(\w+)", PAGE)) <= outputs


def test_the_terraform_files_are_formatted(tmp_path: Path) -> None:
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("terraform is not installed; no registry that the tests install from has it")
    environment = {"HOME": str(tmp_path), "CHECKPOINT_DISABLE": "1"}
    argv = [program, "fmt", "-check", "-diff", "-no-color", str(EXAMPLE)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_vm_may_do_nothing_and_lets_in_only_whom_it_is_told() -> None:
    resources = {kind: body for it in FILES.blocks["resource"] for kind, body in it.items()}
    assert not [kind for kind in resources if "iam" in kind]
    (account,) = resources["google_compute_instance"]["worker"]["service_account"]
    assert account["scopes"] == ["userinfo-email"]
    firewall = resources["google_compute_firewall"]["ssh"]
    assert firewall["allow"] == [{"protocol": "tcp", "ports": ["22"]}]
    assert firewall["source_ranges"] == "${local.ssh_from}"
    (condition,) = firewall["lifecycle"][0]["precondition"]
    assert condition["condition"] == "${length(local.ssh_from) > 0}"


@pytest.fixture
def cloud_config() -> Callable[[str], list[str]]:
    """Return a function that says what is wrong with a cloud-config, by cloud-init's own schema."""
    found = next((it for it in (MADE / SCHEMA, Path("/") / SCHEMA) if it.exists()), None)
    if found is None:
        reason = "cloud-init's schema is not here: Debian's package cloud-init has it"
        if os.environ.get("OUTPOST_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    schema = json.loads(found.read_text())
    # What stands at the top is the sum of what modules know; that nothing else does is ours to see.
    parts = [schema["$defs"][it["$ref"].removeprefix("#/$defs/")] for it in schema["allOf"]]
    known = {key for part in parts for key in part["properties"]}
    validator = Draft4Validator(schema)

    def faults(text: str) -> list[str]:
        document = yaml.safe_load(text)
        unknown = [f"unknown: {key}" for key in document if key not in known]
        return unknown + [error.message for error in validator.iter_errors(document)]

    return faults


def with_everything(text: str) -> str:
    """Return the cloud-config with what is switched off switched on."""
    first, rest = text.split("\n", 1)
    return f"{first}\n{_SWITCHED_OFF.sub('', rest)}"


def test_cloud_init_reads_the_file(cloud_config: Callable[[str], list[str]]) -> None:
    text = CLOUD_INIT.read_text()
    assert text.startswith("#cloud-config\n")
    assert cloud_config(text) == []
    everything = with_everything(text)
    assert cloud_config(everything) == []
    assert {*yaml.safe_load(everything)} - {*yaml.safe_load(text)} == {"apt"}
    for fault in ("user: {}\n", "packages: git\n", "runcmd: 3\n"):
        assert cloud_config(f"{text}\n{fault}"), fault


def test_cloud_init_makes_what_a_worker_needs_and_no_more() -> None:
    said = yaml.safe_load(CLOUD_INIT.read_text())
    assert {"git", "tmux", "python3", "unattended-upgrades"} <= set(said["packages"])
    (user,) = said["users"]
    assert user["name"] == "outpost"
    assert not {"sudo", "groups", "passwd", "plain_text_passwd"} & set(user)
    assert (said["ssh_pwauth"], said["disable_root"]) == (False, True)
    assert said["ssh"]["emit_keys_to_console"]
    everything = yaml.safe_load(with_everything(CLOUD_INIT.read_text()))
    installed = [it[-1] for it in everything["runcmd"] if it[0] == "npm"]
    assert [re.fullmatch(r"@?[\w/-]+@\d+\.\d+\.\d+", it) is not None for it in installed] == [True]


def test_terraform_puts_the_public_key_where_cloud_init_has_its_place() -> None:
    text = CLOUD_INIT.read_text()
    placeholder = FILES.named("locals")["placeholder"]
    assert text.count(placeholder) == 1
    user = yaml.safe_load(text.replace(placeholder, KEY))["users"][0]
    assert user["ssh_authorized_keys"] == [f"restrict,pty {KEY}"]
    metadata = next(
        body["worker"]["metadata"]
        for it in FILES.blocks["resource"]
        for kind, body in it.items()
        if kind == "google_compute_instance"
    )
    assert "local.placeholder, local.public_key" in metadata["user-data"]


@pytest.mark.parametrize("block", blocks("yaml"))
def test_each_configuration_of_the_page_loads(block: str) -> None:
    assert config.parse(block.encode()).outposts


def test_the_page_has_every_option_of_the_kind() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", PAGE, re.MULTILINE)
    assert rows == [*KindRegistry().backend("ssh").Options.model_fields]


def said_by_us() -> str:
    """Return every text in the sources of what reaches a machine and runs there."""
    folders = ("backends", "transports", "runner/agents")
    paths = [path for it in folders for path in (ROOT / "src" / "outpost" / it).glob("*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    return "\n".join(
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_the_page_quotes_what_is_really_said() -> None:
    (table,) = re.findall(r"^\| it says \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    symptoms = [row.split(" | ")[0] for row in table.splitlines()[2:]]
    quoted = [text for symptom in symptoms for text in re.findall(r"`([^`]+)`", symptom)]
    assert len(quoted) > 12
    quoted += re.findall(r"^(Is .+\?) \[y/N\]", PAGE, re.MULTILINE)
    said = said_by_us()
    parts = [part.strip() for text in quoted for part in text.split("…")]
    assert [part for part in parts if part not in said] == []


def parsed(line: str) -> None:
    """Have the command line's own parser read a command; raises ``click.UsageError``."""
    words = shlex.split(line.partition(" #")[0])
    assert words.pop(0) == "outpost"
    command: Any = get_command(app)
    context = command.context_class(command, info_name="outpost")
    while hasattr(command, "get_command"):
        command = command.get_command(context, words.pop(0))
        assert command is not None, line
    command.make_context(command.name, words)


def commands() -> list[str]:
    lines = [line for text in blocks("console") for line in text.splitlines()]
    shown = [line.removeprefix("$ ") for line in lines if line.startswith("$ outpost ")]
    return shown + re.findall(r"`(outpost \w+ [^`…]+)`", PAGE)


@pytest.mark.parametrize("line", commands())
def test_each_command_of_the_page_is_one(line: str) -> None:
    parsed(line)


def test_the_command_that_terraform_prints_is_one() -> None:
    words = FILES.named("output")["add_command"]["value"]
    for price in ("", " --price-hourly 0.033500"):
        parsed(re.sub(r"\$\{.*?\}", "1", words.replace("${local.price}", price)))

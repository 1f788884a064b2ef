"""``examples/cloudrun`` and its guide: the service is the one that ``outpost deploy`` makes."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import outpost.backends.cloudrun as outpost_module
from outpost import config
from outpost.backends import cloudrun_control, cloudrun_deployment
from outpost.backends.cloudrun_costs import costs, keeping
from outpost.backends.cloudrun_service import applied
from outpost.cli.commands import app
from outpost.transports import google_tokens
from tests.unit.cloudrun_values import a_wish, some_options
from tests.unit.terraform_files import Terraform

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "cloudrun"
PAGE = (ROOT / "docs" / "how-to" / "cloud-run.md").read_text()
FILES = Terraform(EXAMPLE)


def resources(kind: str) -> dict[str, Any]:
    """Return the resources of one kind by their names."""
    return {
        name: body
        for block in FILES.blocks["resource"]
        for found, bodies in block.items()
        for name, body in bodies.items()
        if found == kind
    }


def only(value: Any) -> Any:
    (item,) = value
    return item


def test_what_the_files_use_is_declared_and_nothing_else() -> None:
    declared, used = FILES.declared(), FILES.used()
    assert used - declared == set()
    assert {name for kind, name in declared - used if kind in ("var", "local")} == set()
    for kind in ("variable", "output"):
        for name, body in FILES.named(kind).items():
            assert body["description"].endswith((".", "}.")), name


def test_the_files_are_formatted(tmp_path: Path) -> None:
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("terraform is not installed; no registry that the tests install from has it")
    environment = {"HOME": str(tmp_path), "CHECKPOINT_DISABLE": "1"}
    argv = [program, "fmt", "-check", "-diff", "-no-color", str(EXAMPLE)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_service_is_the_one_that_deploy_makes() -> None:
    template = only(resources("google_cloud_run_v2_service")["worker"]["template"])
    container = only(template["containers"])
    made = applied(None, a_wish())
    wanted = made.template
    assert template["timeout"] == f"{wanted.timeout.total_seconds():g}s"
    assert template["max_instance_request_concurrency"] == wanted.max_instance_request_concurrency
    assert str(template["session_affinity"]).lower() == str(wanted.session_affinity).lower()
    assert template["execution_environment"] == wanted.execution_environment.name
    port, wanted_port = only(container["ports"]), only(wanted.containers[0].ports)
    assert (port["name"], port["container_port"]) == (wanted_port.name, wanted_port.container_port)
    size = only(container["resources"])
    variables = FILES.named("variable")
    default = {name: variables[name]["default"] for name in ("cpu", "memory", "max_workers")}
    limits = wanted.containers[0].resources.limits
    assert (default["cpu"], default["memory"]) == (limits["cpu"], limits["memory"])
    assert default["max_workers"] == wanted.scaling.max_instance_count
    for name in ("cpu_idle", "startup_cpu_boost"):
        assert str(size[name]).lower() == str(getattr(wanted.containers[0].resources, name)).lower()
    text = (EXAMPLE / "main.tf").read_text()
    for variable in wanted.containers[0].env:
        if secret := variable.value_source.secret_key_ref.secret:
            assert f'{variable.name} = "{secret}:latest"' in text
        else:
            assert re.search(rf'{variable.name} += "{variable.value}"', text)


def test_nobody_may_do_more_than_it_has_to() -> None:
    roles = set(re.findall(r'role += "([^"]+)"', (EXAMPLE / "main.tf").read_text()))
    assert roles == {
        "roles/iam.serviceAccountTokenCreator",
        "roles/run.invoker",
        "roles/run.viewer",
        "roles/secretmanager.secretAccessor",
    }
    assert "allUsers" not in (EXAMPLE / "main.tf").read_text()
    assert not resources("google_project_iam_member")
    assert all(role in PAGE for role in roles)


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S))
def test_each_configuration_of_the_page_loads(block: str) -> None:
    assert config.parse(block.encode()).outposts


def commands() -> list[str]:
    shown = "".join(re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S))
    lines = re.sub(r"\\\n\s*", "", shown).splitlines()
    found = [line.removeprefix("$ ") for line in lines if line.startswith("$ outpost ")]
    return [*found, re.sub(r"\$\{[^}]*\}", "1", _add_command())]


def _add_command() -> str:
    text = only(re.findall(r'output "add_command" .*?\[(.*?)^  \]\)', outputs(), re.M | re.S))
    command = " ".join(re.findall(r'"(.*)",', text))
    return command.replace("${var.memory}", "4Gi").replace("${var.region}", "us-central1")


def outputs() -> str:
    return (EXAMPLE / "outputs.tf").read_text()


@pytest.mark.parametrize("line", commands())
def test_each_command_is_one(line: str) -> None:
    words = shlex.split(line)[1:]
    command: Any = get_command(app)
    context = command.make_context("outpost", list(words), resilient_parsing=True)
    name, found, rest = command.resolve_command(context, list(words))
    if name == "add":
        context = found.make_context(name, rest, parent=context, resilient_parsing=True)
        name, found, rest = found.resolve_command(context, rest)
    found.make_context(name, rest, parent=context)


def test_the_page_quotes_what_is_really_said() -> None:
    modules = (outpost_module, cloudrun_control, cloudrun_deployment, google_tokens)
    said = re.sub(r'"\s*f?"', "", "\n".join(map(inspect.getsource, modules)))
    (table,) = re.findall(r"^\| it says \|.*?\n\n", PAGE + "\n\n", re.M | re.S)
    quoted = [row.split(" | ")[0].lstrip("| ") for row in table.strip().splitlines()[2:]]
    assert len(quoted) >= 8
    parts = [part for text in quoted for part in re.split(r"\s*…\s*|: port$", text) if part]
    assert [part for part in parts if part not in said] == []


def test_the_prices_of_the_page_are_those_that_are_counted() -> None:
    assert f"note: {keeping(some_options(keep_alive='5m'))}\n" in PAGE
    for billing in ("request", "instance"):
        options = some_options(billing=billing, keep_alive="5m", min_instances=1)
        for line in costs(options):
            (first, *_) = re.findall(r"\$[0-9.]+", line)
            assert first in PAGE, line

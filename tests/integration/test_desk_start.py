"""How a desk comes to life: past noise, with whatever Python is there, or with a clear error."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.transports.desk import OutOfReach
from outpost.transports.desk_link import Patience
from outpost.transports.desk_start import Unusable, bootstrap_argv
from tests.integration.desk_world import Machine, desk_on

pytestmark = pytest.mark.integration
COMMAND = shlex.join(bootstrap_argv())


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def old_python(folder: Path, name: str, version: str) -> None:
    """Make a Python of an older version, as far as anybody can tell by what it says and does."""
    program(folder, name, f'[ "$1" = -V ] && echo "Python {version}" || exit 93')


def machine_with(folder: Path) -> Machine:
    """Return a machine where the only programs are those of a folder, ``sh`` and ``sleep``."""
    folder.mkdir(exist_ok=True)
    for name in ("sh", "sleep"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return Machine(environment={"PATH": str(folder)})


@pytest.mark.parametrize(
    "noise",
    [
        "echo Welcome to the box",
        "printf 'no newline at the end'",
        "echo Running: $SSH_ORIGINAL_COMMAND",
        "printf '\\nhalf of it: \\noutpost-desk'",
        "head -c 60000 /dev/urandom",
        "echo on stderr >&2",
        "sleep 0.3; echo slow",
    ],
)
async def test_noise_of_start_up_files_is_passed_over(noise: str) -> None:
    machine = Machine(
        ["sh", "-c", f"{noise}; {COMMAND}"], {**os.environ, "SSH_ORIGINAL_COMMAND": COMMAND}
    )
    async with desk_on(machine) as shell:
        assert (await shell.run(["echo", "here"])).stdout == b"here\n"


async def test_noise_without_end_is_an_error_that_shows_it() -> None:
    machine = Machine(["sh", "-c", "yes so much to say"])
    async with desk_on(machine) as shell:
        with pytest.raises(Unusable, match=r"says too much .* so much to say") as caught:
            await shell.run(["true"])
    assert ".bashrc" in caught.value.hint


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo This account is not available.; exit 1", "it said: This account is not available"),
        ("exit 1", "before anything was started$"),
        ("printf '\\033[31mred\\033[0m\\0'", r"it said: .\[31mred"),
    ],
)
async def test_a_session_that_ends_at_once_is_an_error(command: str, said: str) -> None:
    async with desk_on(Machine(["sh", "-c", command])) as shell:
        with pytest.raises(Unusable, match=said):
            await shell.get("/etc/hostname")
        with pytest.raises(Unusable, match=said):
            await shell.facts()


async def test_a_machine_that_never_answers_is_an_error() -> None:
    machine = Machine(["sleep", "3"])
    async with asyncio.timeout(20), desk_on(machine, patience=Patience(connect_s=0.3)) as shell:
        with pytest.raises(OSError, match=r"nothing was started within 0.3 s"):
            await shell.run(["true"])


async def test_no_python_is_an_error_that_says_what_to_install(tmp_path: Path) -> None:
    async with desk_on(machine_with(tmp_path / "bin")) as shell:
        caught: pytest.ExceptionInfo[OSError]
        with pytest.raises(Unusable, match="no Python there") as caught:
            await shell.run(["true"])
        assert "sudo apt-get install python3" in caught.value.hint
        async with asyncio.timeout(20):
            while isinstance(caught.value, Unusable):
                with pytest.raises(OSError, match="no Python there") as caught:
                    await shell.run(["true"])
    assert isinstance(caught.value, OutOfReach)
    assert "sudo apt-get install python3" in caught.value.hint


async def test_an_old_python_is_an_error_that_says_its_version(tmp_path: Path) -> None:
    machine = machine_with(tmp_path / "bin")
    old_python(tmp_path / "bin", "python3", "3.8.10")
    program(tmp_path / "bin", "python3.11", "echo python3.11: command not found; exit 127")
    async with desk_on(machine) as shell:
        with pytest.raises(Unusable, match=r"no Python 3\.10 .*: python3 is Python 3\.8\.10"):
            await shell.run(["true"])


async def test_a_newer_python_beside_an_old_one_is_found(tmp_path: Path) -> None:
    machine = machine_with(tmp_path / "bin")
    old_python(tmp_path / "bin", "python3", "3.9.1")
    program(tmp_path / "bin", "python3.12", f'exec {sys.executable} "$@"')
    async with desk_on(machine) as shell:
        facts = await shell.facts()
    assert facts["version"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["home"] == str(Path("~").expanduser())


async def test_the_configured_python_is_taken_and_no_other(tmp_path: Path) -> None:
    machine = Machine(bootstrap_argv(str(tmp_path / "absent")))
    async with desk_on(machine) as shell:
        with pytest.raises(Unusable, match="no Python there"):
            await shell.run(["true"])
    async with desk_on(Machine(bootstrap_argv(sys.executable))) as shell:
        assert (await shell.run(["true"])).exit_code == 0


def pythons() -> list[str]:
    """Return a Python of each version there is, beside the one that runs this or on the path."""
    found: dict[int, str] = {}
    beside = Path(sys.base_prefix).parent.glob("*/bin/python3.*")
    for path in [*map(str, beside), *(shutil.which(f"python3.{it}") or "" for it in range(6, 20))]:
        minor = path.rpartition(".")[2]
        if path and minor.isdigit() and int(minor) not in found and _runs(path):
            found[int(minor)] = path
    return [found[minor] for minor in sorted(found)]


def _runs(python: str) -> bool:
    return subprocess.run([python, "-V"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("python", pythons())
async def test_every_python_there_is_serves_or_says_that_it_is_too_old(python: str) -> None:
    minor = int(python.rpartition(".")[2])
    async with desk_on(Machine(bootstrap_argv(python))) as shell:
        if minor < 10:
            with pytest.raises(Unusable, match=rf"is Python 3\.{minor}"):
                await shell.run(["true"])
        else:
            assert (await shell.run(["cat"], stdin=b"x")).stdout == b"x"
            assert str((await shell.facts())["version"]).startswith(f"3.{minor}.")


@pytest.mark.parametrize("login_shell", ["sh", "bash", "dash", "zsh", "fish", "tcsh"])
async def test_every_login_shell_starts_it(login_shell: str, require: Callable[[str], str]) -> None:
    async with desk_on(Machine([require(login_shell), "-c", COMMAND])) as shell:
        assert (await shell.run(["true"])).exit_code == 0


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "de_DE.ISO-8859-1"])
async def test_names_do_not_depend_on_the_locale_there(tmp_path: Path, locale: str) -> None:
    machine = Machine(environment={"PATH": os.environ["PATH"], "LC_ALL": locale})
    async with desk_on(machine) as shell:
        await shell.put(f"{tmp_path}/é", b"x")
        assert (await shell.run(["ls", str(tmp_path)])).stdout in (
            b"\xc3\xa9\n",
            b"''$'\\303\\251'\n",
        )
    assert (tmp_path / "é").exists()


def test_the_command_has_nothing_a_shell_would_touch() -> None:
    assert not set("!\\\n") & set(COMMAND)
    assert COMMAND.count("'") == 4, "two words are quoted, and hold no quotes"
    assert "outpost-desk" not in COMMAND, "a start-up file may repeat the command"

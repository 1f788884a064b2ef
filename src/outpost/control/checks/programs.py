"""The programs that are called: whether they are there, whether they run, and their versions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from outpost.control.checks import Check, problem, warning, well
from outpost.transports.fitness import GIT_LEAST

VERSION_S = 6.0
CANNOT_RUN = (126, 127)
NEEDED = ("PATH", "LANG", "LC_ALL", "TMPDIR")  # and no key, just to say a version
_VERSION = re.compile(r"\d+(?:\.\d+)+[a-z]?")


async def check_programs(
    environment: Mapping[str, str], directory: Path, *, bd: str
) -> list[Check]:
    """Look at what every worker needs, and at what issues are read with; ``bd`` is that program."""
    checks = await asyncio.gather(_git(environment), _tmux(environment), _gh(environment))
    python = well("python", f"Python {platform.python_version()}")
    return [python, *checks, *await _beads(bd, environment, directory)]


async def version(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a program that says its version; return its exit code and the version, or its complaint.

    Its home is an empty folder that is thrown away: some programs write there even to say that.
    The code is -1 where it took too long.
    """
    with tempfile.TemporaryDirectory(prefix="outpost-") as folder:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env={
                **{name: environment[name] for name in NEEDED if name in environment},
                "HOME": folder,
                "DISABLE_AUTOUPDATER": "1",
            },
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(VERSION_S):
                stdout, stderr = await process.communicate()
        except BaseException as exc:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            if isinstance(exc, TimeoutError):
                return -1, f"it did not answer within {VERSION_S:g} s"
            raise
    assert process.returncode is not None
    found = _VERSION.search(stdout.decode("utf-8", "replace"))
    if process.returncode == 0 and found:
        return 0, found.group()
    said = (stderr or stdout).decode("utf-8", "replace").strip().splitlines()
    return process.returncode or 1, said[-1] if said else f"it exited {process.returncode}"


def find(program: str, environment: Mapping[str, str]) -> str | None:
    """Return the path of a program as a worker would find it."""
    return shutil.which(program, path=environment.get("PATH", os.defpath))


async def check_program(
    program: str, environment: Mapping[str, str], *, missing: str, arguments: Sequence[str]
) -> Check:
    """Say whether a program is there and runs; ``missing`` is what to type where it is not."""
    path = find(program, environment)
    if path is None:
        return problem(program, f"{program} is not installed", missing)
    code, said = await version((path, *arguments), environment)
    name = Path(program).name
    if code == 0:
        return well(name, f"{name} {said}")
    if code in CANNOT_RUN:
        return problem(name, f"{path} cannot be run: {said}", missing)
    return warning(name, f"{path} does not say its version: {said}")


async def _git(environment: Mapping[str, str]) -> Check:
    install = "install git, for example: sudo apt-get install git"
    check = await check_program("git", environment, missing=install, arguments=["--version"])
    found = _VERSION.search(check.detail)
    numbers = tuple(int(part) for part in re.findall(r"\d+", found.group())) if found else ()
    if check.detail.startswith("git ") and numbers and numbers < GIT_LEAST:
        least = ".".join(map(str, GIT_LEAST))
        return problem("git", f"{check.detail} is too old: {least} or newer is needed", install)
    return check


async def _tmux(environment: Mapping[str, str]) -> Check:
    install = "install tmux, for example: sudo apt-get install tmux"
    return await check_program("tmux", environment, missing=install, arguments=["-V"])


async def _gh(environment: Mapping[str, str]) -> Check:
    if find("gh", environment) is None:
        return well("gh", "gh is not installed; it is only asked for a GitHub token")
    return await check_program("gh", environment, missing="", arguments=["--version"])


async def _beads(bd: str, environment: Mapping[str, str], directory: Path) -> list[Check]:
    """Look at ``bd`` where there are beads to read."""
    if not any((folder / ".beads").is_dir() for folder in (directory, *directory.parents)):
        return []
    install = "npm install -g @beads/bd, or set sources.beads.executable to its path"
    return [await check_program(bd, environment, missing=install, arguments=["--version"])]

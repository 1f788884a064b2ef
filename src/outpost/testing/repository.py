"""The repository to work on: a sample for places that can reach it, and what was pushed to it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from outpost.testing.contract import ContractBroken

_IDENTITY = ("-c", "user.name=Outpost", "-c", "user.email=outpost@localhost")


def sample_repository(folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Make a bare repository with one commit in ``folder`` and return its URL: its path."""
    clone, bare = folder / "sample", folder / "sample.git"
    clone.mkdir(parents=True)
    (clone / "words.txt").write_text("some words\n")
    for arguments in (
        ("init", "--quiet", "-b", "main"),
        ("add", "."),
        (*_IDENTITY, "commit", "--quiet", "-m", "First words"),
        ("clone", "--quiet", "--bare", str(clone), str(bare)),
    ):
        argv = ("git", *arguments)
        subprocess.run(argv, cwd=clone, env=dict(environment or os.environ), check=True)
    return str(bare)


async def take_branch(repo_url: str, branch: str, environment: Mapping[str, str]) -> str:
    """Delete a branch at the remote; return the commit it stood at, empty if it is not there."""
    return (await take_branches(repo_url, f"refs/heads/{branch}", environment)).get(branch, "")


async def take_branches(
    repo_url: str, pattern: str, environment: Mapping[str, str]
) -> dict[str, str]:
    """Delete all branches at the remote whose ref is like ``pattern``; return their commits."""
    listed = await _git(environment, "ls-remote", repo_url, pattern)
    found = {ref: commit for commit, _, ref in (it.partition("\t") for it in listed.splitlines())}
    if found:
        with tempfile.TemporaryDirectory(prefix="outpost-conformance-") as folder:
            # Deleting is a push, and a push is from a repository.
            await _git(environment, "init", "--quiet", "--bare", folder)
            push = ("--git-dir", folder, "push", "--quiet", repo_url)
            await _git(environment, *push, *(f":{ref}" for ref in found))
    return {ref.removeprefix("refs/heads/"): commit for ref, commit in found.items()}


async def _git(environment: Mapping[str, str], *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        env={**environment, "GIT_TERMINAL_PROMPT": "0"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise ContractBroken(f"git must work here too: {' '.join(arguments)}", err.decode().strip())
    return out.decode().strip()

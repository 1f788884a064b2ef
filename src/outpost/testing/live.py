"""The kit on an outpost as it is configured: real workers at the real place, all taken away."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from outpost.config import Config
from outpost.control.environment import worker_environment
from outpost.control.sites import Sites
from outpost.errors import OutpostError, UserError
from outpost.ports import Outpost
from outpost.testing.bench import Bench, BenchOptions
from outpost.testing.catalogue import CHECKS
from outpost.testing.contract import Check, ContractBroken
from outpost.testing.repository import sample_repository, take_branches
from outpost.testing.running import Result, run_checks
from outpost.wire.events import Event

BRANCHES = "refs/heads/outpost/conformance-*"


async def check_configured(
    config: Config,
    name: str,
    *,
    home: Path,
    environment: Mapping[str, str],
    repo_url: str | None = None,
    checks: Sequence[Check] = CHECKS,
    slow: bool = False,
    report: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Carry the checks out on the outpost ``name`` and return what came of each, in their order.

    Its workers are those of a federation made up for this: the controller neither sees nor counts
    them, and the store is not touched. Where the place cannot reach this machine's files,
    ``repo_url`` is a repository it may push to; what is pushed is deleted again. ``report`` gets
    each result as it comes. Cancelled, it takes its workers away before it ends. Raises
    ``NotFound`` for a name that is not configured, ``UserError`` for a repository that cannot be
    reached from there, and whatever its backend raises as it is made.
    """

    def make(federation_id: str) -> Outpost:
        return Sites(config, federation_id, home, environment).backend(name)

    make("")
    with tempfile.TemporaryDirectory(prefix="outpost-conformance-") as folder:
        if repo_url is None:
            repo_url = await asyncio.to_thread(sample_repository, Path(folder), environment)
        options = BenchOptions(
            make=make,
            repo_url=repo_url,
            environment=worker_environment(environment, agent_variables=(), extra=()),
        )
        async with Bench(options) as bench:
            await _demand_repository(bench)
            try:
                return await run_checks(bench, checks, slow=slow, report=report)
            finally:
                await _take_branches(bench)


async def _demand_repository(bench: Bench) -> None:
    """Raise ``UserError`` where a worker cannot fetch the repository: no check would tell more."""
    try:
        handle = await bench.spawn("true")
        events = await bench.log(handle)
    except (OutpostError, TimeoutError):
        return  # the checks say better what is wrong
    if _reached(events):
        return
    reason = events[-1].fields["reason"]
    raise UserError(
        f"workers on {handle.outpost} cannot use {bench.options.repo_url}: {reason}",
        hint="name a repository that they may push to: --repo URL",
    )


def _reached(events: Sequence[Event]) -> bool:
    """Whether a worker came so far as to work, or failed in a way that says nothing of git."""
    states = [event.fields["state"] for event in events if event.type == "status"]
    return "working" in states or not events or events[-1].type != "result"


async def _take_branches(bench: Bench) -> None:
    """Delete what checks that were cut short have pushed."""
    git = bench.options.environment["git"]
    with contextlib.suppress(ContractBroken):
        await take_branches(bench.options.repo_url, BRANCHES, git)

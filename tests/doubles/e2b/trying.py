"""What the tests of the stand-in try it with: the official client, led to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
from e2b import AsyncSandbox, SandboxQuery

from tests.doubles.cloud_run.trying import until
from tests.doubles.e2b.cloud import E2bCloud
from tests.doubles.e2b.limits import Limits

FAST = Limits(exit_kept_s=0.2)

__all__ = ["FAST", "create", "listed", "out", "plain", "state", "until", "way"]


def way(e2b: E2bCloud, **more: Any) -> dict[str, Any]:
    """Return the client's options that lead to the stand-in."""
    options = {"api_key": e2b.api_key, "api_url": e2b.api_url, "sandbox_url": e2b.sandbox_url}
    return {**options, "validate_api_key": False, "retries": 0, **more}


async def create(e2b: E2bCloud, **wanted: Any) -> AsyncSandbox:
    return await AsyncSandbox.create("base", **{"timeout": 600, **way(e2b), **wanted})


async def out(sandbox: AsyncSandbox, command: str, **more: Any) -> str:
    return str((await sandbox.commands.run(command, **more)).stdout).strip()


async def listed(e2b: E2bCloud, **query: Any) -> list[str]:
    pages = AsyncSandbox.list(query=SandboxQuery(**query), **way(e2b))
    return [it.sandbox_id for it in await pages.next_items()]


def state(e2b: E2bCloud, sandbox: AsyncSandbox) -> str:
    return next(it.state for it in e2b.sandboxes(ended=True) if it.id == sandbox.sandbox_id)


@contextlib.asynccontextmanager
async def plain(e2b: E2bCloud, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(headers={"X-API-Key": e2b.api_key, **headers}) as client:
        yield client

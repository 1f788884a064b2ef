"""Asking an outpost how it is, without waiting for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from outpost.control.foreseen import as_fault_of
from outpost.control.situation import Site
from outpost.errors import OutpostFault
from outpost.model import Health

PING_S = 10.0


async def ask(site: Site) -> Health:
    """Ask one outpost how it is, within ``PING_S``; whoever shows that says whose it is."""
    health = await _asked(site)
    detail = health.detail.removeprefix(f"{site.name}: ").removeprefix(f"{site.name} ")
    return replace(health, detail=detail)


async def _asked(site: Site) -> Health:
    try:
        async with asyncio.timeout(PING_S):
            with as_fault_of(site.name):
                return await site.outpost.ping()
    except TimeoutError:
        return Health(ok=False, detail=f"no answer within {PING_S:g} s")
    except OutpostFault as exc:
        return Health(ok=False, detail=exc.message, hint=exc.hint)

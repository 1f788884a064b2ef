"""Taking away sandboxes whose workers nobody needs any more, after a last look into each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from outpost.model import Handle, Liveness
from outpost.transports.e2b_api import Gone
from outpost.transports.tidying import take_away

if TYPE_CHECKING:
    from outpost.backends.e2b import E2bOutpost
    from outpost.wire.tidying import Leftover, TidyOrder


async def tidy_sandboxes(
    outpost: E2bOutpost, order: TidyOrder, handles: Sequence[Handle]
) -> list[Leftover]:
    """Remove the sandboxes of ``order``, and say what went (with ``dry_run``: would go).

    A paused one is resumed for the look whether it holds unsaved work. Raises ``OutpostFault``.
    """
    known = {it.worker_id: it for it in handles}
    for handle in await outpost.handles():
        known.setdefault(handle.worker_id, handle)

    async def needed(name: str) -> tuple[str, str]:
        return await _needed(outpost, known[name]) if name in known else ("", "")

    async def destroy(name: str) -> None:
        if handle := known.get(name):
            await outpost.destroy(handle)

    return await take_away(order, needed, destroy)


async def _needed(outpost: E2bOutpost, handle: Handle) -> tuple[str, str]:
    """Say what a sandbox is still needed for, and what to type; empty: for nothing.

    Raises ``OutpostFault`` where that cannot be found out.
    """
    sandbox = outpost.entered(outpost.sandbox_of(handle))
    with contextlib.suppress(Gone):
        await sandbox.wake()
        rows = await sandbox.probe(handle.worker_id)
        if rows and rows[0]["liveness"] == Liveness.ALIVE:
            return "it still runs", ""
        if rows:  # else its order never arrived
            what, _, way_out = (await outpost.worker(handle).unsaved()).partition("\n")
            enter = f"e2b sandbox connect {sandbox.sandbox_id}, and there:\n{way_out}"
            return (f"{what}: there and nowhere else", enter) if what else ("", "")
    return "", ""

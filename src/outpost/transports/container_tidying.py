"""Taking away containers whose workers nobody needs any more, after a last look into each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from outpost.errors import OutpostFault
from outpost.model import Handle, Liveness
from outpost.transports.http_client import Refusing, Unreachable
from outpost.transports.tidying import take_away

if TYPE_CHECKING:
    from outpost.transports.http_containers import ContainerOutpost
    from outpost.wire.tidying import Leftover, TidyOrder


async def tidy_containers(
    outpost: ContainerOutpost, order: TidyOrder, handles: Sequence[Handle], *, enter: str
) -> list[Leftover]:
    """Remove the containers of ``order``, and say what went (with ``dry_run``: would go).

    One that ended is started again for the look whether it holds unsaved work. ``enter`` is the
    command that leads into a container, with ``{}`` for the worker's id. Raises ``OutpostFault``.
    """
    for handle in handles:
        outpost.worker(handle)  # so that it is known where each is
    await outpost.look()

    async def needed(name: str) -> tuple[str, str]:
        kept, _, hint = (await _needed(outpost, name)).partition("\n")
        return kept, f"{enter.format(name)}, and there:\n{hint}" if kept and hint else hint

    async def destroy(name: str) -> None:
        await outpost.destroy(outpost.handle_of(name))

    return await take_away(order, needed, destroy)


async def _needed(outpost: ContainerOutpost, name: str) -> str:
    """Say what a container is still needed for, and on further lines what to type; empty: nothing.

    Raises ``OutpostFault`` where that cannot be found out.
    """
    seen = await outpost.observe(name)
    if seen.liveness is Liveness.ABSENT:
        return ""
    if seen.liveness is Liveness.UNSEEN:
        raise OutpostFault(seen.detail, outpost=outpost.name)
    if seen.liveness is Liveness.ALIVE:
        return "it still runs"
    address = await outpost.reached(name)
    try:
        row = await outpost.caller.row(address, outpost.token_of(name), name)
    except (Refusing, Unreachable) as exc:
        # It may have stopped again meanwhile.
        raise OutpostFault(f"{name} on {outpost.name}: {exc}", outpost=outpost.name) from exc
    if row is None:
        return ""  # its order never arrived
    what, _, way_out = (await outpost.worker(outpost.handle_of(name)).unsaved()).partition("\n")
    return f"{what}: there and nowhere else\n{way_out}" if what else ""

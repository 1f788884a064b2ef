"""Laying an order down at a place, and beside it the conversation that it may have with it."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import json
import posixpath

from outpost.runner.transcript import FILE
from outpost.transports.place import ShellPlace
from outpost.wire.orders import Limits, Transcript, WorkOrder

TRANSCRIPT_S = 5.0


def order_at(place: ShellPlace, order: WorkOrder) -> WorkOrder:
    """Return a copy of an order as it is at a place: its disk's limit, no instant of our clock."""
    order = order.copy()
    if place.min_free_mib is not None:
        limits: Limits = {**order["limits"], "min_free_mib": place.min_free_mib}
        order["limits"] = limits
    if not place.is_here:
        order.pop("asked_at", None)
    return order


async def put_order(place: ShellPlace, directory: str, order: WorkOrder) -> None:
    """Put an order into its worker's ``directory``; raises ``OSError``.

    The conversation goes apart, as the order is read by all who look. Where that fails, or takes
    long, the worker does without it.
    """
    data, transcript = b"", order.get("transcript")
    if transcript is not None:
        data = binascii.a2b_base64(transcript.get("data", ""))
        bare: Transcript = {
            "session_id": transcript["session_id"],
            "prompt": transcript["prompt"],
        }
        order = {**order, "transcript": bare}
    await place.shell.put(posixpath.join(directory, "order.json"), json.dumps(order).encode())
    if data:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(TRANSCRIPT_S):
                await place.shell.put(posixpath.join(directory, FILE), data)

"""Laying an order down at a place, and beside it the conversation that it may have with it."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import json
import posixpath

from outpost.runner.transcript import FILE
from outpost.transports.place import ShellPlace
from outpost.wire.orders import Transcript, WorkOrder

TRANSCRIPT_S = 5.0


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

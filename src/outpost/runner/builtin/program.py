"""Start and end of a run: the order read, the key put away, the ending told."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys

from outpost.runner.agents.reading import shorten
from outpost.runner.builtin.channel import Channel
from outpost.runner.builtin.request import surroundings, system_text
from outpost.runner.builtin.settings import BadSettings, Settings
from outpost.runner.builtin.shell import Shell
from outpost.runner.builtin.trajectory import EARLIER, FILE, Trajectory
from outpost.wire.prices import price

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import anthropic

    from outpost.wire.orders import WorkOrder

SECRETS = "ANTHROPIC_"
UNATTENDED = {"GIT_EDITOR": "true", "GIT_TERMINAL_PROMPT": "0"}
SUMMARY_CHARS = 4_000


class Unprepared(Exception):
    """The work cannot begin; the text says what is missing."""


def run(directory: str) -> int:
    """Work on the order in a worker's private folder; returns 0 if it is done, else 1."""
    try:
        return asyncio.run(_run(os.path.abspath(directory)))
    except (BrokenPipeError, KeyboardInterrupt):
        return 1  # nobody listens any more; what was done is in the trajectory


async def _run(directory: str) -> int:
    channel, stopped = Channel(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    work = asyncio.ensure_future(_work(directory, channel))
    stop = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({work, stop}, return_when="FIRST_COMPLETED")
    # Once only: a second signal must not cut short what the first one began.
    work.cancel()
    ending = await work
    channel.emit("end", **ending)
    return 0 if ending["outcome"] == "done" else 1


async def _work(directory: str, channel: Channel) -> dict[str, Any]:
    """Work on an order; returns the fields of its ending."""
    try:
        order = _order(directory)
        settings = Settings(order)
        client = _client()
        _put_secrets_away()
        _check_price(settings)
        return await _converse(directory, channel, order, settings, client)
    except (BadSettings, Unprepared) as exc:
        return _failed(str(exc))
    except asyncio.CancelledError:
        return _failed("interrupted")


async def _converse(
    directory: str,
    channel: Channel,
    order: WorkOrder,
    settings: Settings,
    client: anthropic.AsyncAnthropic,
) -> dict[str, Any]:
    from outpost.runner.builtin.faults import Hopeless  # noqa: PLC0415 - these need the library
    from outpost.runner.builtin.loop import Halted, Loop  # noqa: PLC0415
    from outpost.runner.builtin.model import GaveUp, Model  # noqa: PLC0415
    from outpost.runner.builtin.tools import Tools  # noqa: PLC0415
    from outpost.runner.permissions import Permissions  # noqa: PLC0415

    trajectory = Trajectory(directory, model=settings.model, system=system_text(settings))
    introduction = "" if trajectory.load() else surroundings()
    if introduction:
        _take_over(trajectory, directory, channel, order)
    _tell_session(channel, order, settings)
    shell = Shell(os.path.join(directory, "command"), os.getcwd(), {**os.environ, **UNATTENDED})
    tools = Tools(shell, channel, Permissions(order.get("permissions")), settings.tool_timeout_s)
    tools.allow(trajectory.always)
    loop = Loop(settings, channel, trajectory, Model(client, settings, channel), tools)
    try:
        summary = await loop.run(introduction)
        return {"outcome": "done", "reason": "", "summary": shorten(summary, SUMMARY_CHARS)}
    except (Halted, Hopeless) as exc:
        return _failed(str(exc), trajectory.summary)
    except GaveUp as exc:
        return {**_failed(str(exc), trajectory.summary), "retry_in_s": exc.retry_in_s}
    except BrokenPipeError:
        raise
    except OSError as exc:
        return _failed(f"{exc.strerror}: {exc.filename}", trajectory.summary)
    finally:
        await shell.stop()
        with contextlib.suppress(OSError):
            trajectory.save()
        await client.close()


def _order(directory: str) -> WorkOrder:
    with open(os.path.join(directory, "order.json"), "rb") as file:
        order: WorkOrder = json.load(file)
    return order


def _failed(reason: str, summary: str = "") -> dict[str, Any]:
    return {"outcome": "failed", "reason": reason, "summary": shorten(summary, SUMMARY_CHARS)}


def _client() -> anthropic.AsyncAnthropic:
    try:
        import anthropic  # noqa: PLC0415 - what is missing is told as an ending
    except ImportError as exc:
        raise Unprepared(
            f"the agent 'builtin' needs the library anthropic, which {sys.executable} has not "
            f"({exc}): run  pip install '.[builtin]'  there, in a checkout of outpost, or name a "
            "Python that has it with the agent's option 'executable'"
        ) from None
    try:
        client = anthropic.AsyncAnthropic()
    except (anthropic.AnthropicError, ValueError) as exc:
        raise Unprepared(f"the credentials for Anthropic's API cannot be used: {exc}") from None
    if not (client.api_key or client.auth_token or client.credentials):
        raise Unprepared("the agent 'builtin' needs a key: set ANTHROPIC_API_KEY")
    return client


def _put_secrets_away() -> None:
    """Take the API's variables out of this process: a tool could read them there in /proc."""
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    for name in [name for name in os.environ if name.startswith(SECRETS)]:
        address = libc.getenv(name.encode())
        if address:
            ctypes.memset(address, 0, len(os.fsencode(os.environ[name])))
        del os.environ[name]


def _check_price(settings: Settings) -> None:
    if settings.budget_microusd is not None and price(settings.model, 0, settings.prices) is None:
        raise Unprepared(
            f"the agent's option max_budget_usd is set, but the price of '{settings.model}' is "
            "not known: give it in the configuration's prices, or take the limit away"
        )


def _take_over(trajectory: Trajectory, directory: str, channel: Channel, order: WorkOrder) -> None:
    """Take over the conversation of the worker that the order goes on with, if any."""
    resume = order.get("resume")
    if resume and resume["session_id"]:
        earlier = os.path.basename(resume["session_id"])
        if not trajectory.take_over(os.path.join(os.path.dirname(directory), earlier, FILE)):
            channel.emit("progress", text="the earlier conversation is gone: starting anew")
    else:
        trajectory.take_over(os.path.join(directory, EARLIER))


def _tell_session(channel: Channel, order: WorkOrder, settings: Settings) -> None:
    session_id, model = order["worker_id"], settings.model
    text = f"session {session_id} with {model}"
    channel.emit("agent", kind="session", text=text, session_id=session_id, model=model)

"""``outpost up``: the controller in front."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.options import ConfigOption, duration, run

if TYPE_CHECKING:
    from outpost.federation import Federation

OBJECTS_BETWEEN_COLLECTIONS = 5_000

app = typer.Typer()


def _complete_format(incomplete: str) -> list[str]:
    return [form for form in ("text", "json") if form.startswith(incomplete)]


@app.command()
def up(
    idle: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Leave once nothing was to do for that long, as 10m."),
    ] = None,
    log_format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="How to say what it does: text, or json, an object a line.",
            autocompletion=_complete_format,
        ),
    ] = "text",
    config: ConfigOption = None,
    instead: Annotated[bool, typer.Option("--instead", hidden=True)] = False,
) -> None:
    """Start what is queued and look after workers, until stopped.

    `outpost spawn` starts one in the background where it leaves something unfinished;
    OUTPOST_CONTROLLER=off forbids that.
    """
    from outpost.cli.log_lines import ending, log_to_standard_error  # noqa: PLC0415 - here only
    from outpost.controller import Controller, shut_down, standing  # noqa: PLC0415 - as above

    # It stays: what goes round in circles must not pile up as in a short command.
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    log_to_standard_error(log_format, os.environ)

    async def work(federation: Federation) -> bool:
        running = standing(federation.home) if instead else None
        if running and running.config != str(federation.config.path or ""):
            await asyncio.to_thread(shut_down, federation.home)
        controller = Controller(federation, idle_s=idle_s)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, controller.stop)
        return await controller.run()

    with ending(log_format):
        idle_s = duration("--idle", idle)
        while run(config, work):
            # With the configuration as it is now.
            instead = False

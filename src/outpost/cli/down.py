"""``outpost down``: the end of the controller."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from outpost.cli.options import ConfigOption, run

if TYPE_CHECKING:
    from outpost.federation import Federation

app = typer.Typer()


@app.command()
def down(config: ConfigOption = None) -> None:
    """End the controller; workers go on, and what is queued waits.

    Workers on Cloud Run, which it holds, go on for as long as their outpost's lease: where no
    controller is up by then they save their work and end, and their tasks are tried again.
    """
    from outpost.controller import shut_down  # noqa: PLC0415 - here only

    async def work(federation: Federation) -> bool:
        return await asyncio.to_thread(shut_down, federation.home)

    ended = run(config, work, read_only=True)
    typer.echo("the controller has ended" if ended else "no controller is up")

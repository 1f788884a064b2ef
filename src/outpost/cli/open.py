"""``outpost open``: a worker's pull request or branch in the browser."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.names import started_worker
from outpost.cli.options import ConfigOption, WorkerArgument, run
from outpost.errors import OutpostError

if TYPE_CHECKING:
    from outpost.federation import Federation

app = typer.Typer()


@app.command()
def open_page(
    worker: WorkerArgument,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the address; open nothing.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Open a worker's pull request, or its branch, in the browser."""

    async def work(federation: Federation) -> str:
        return await (await started_worker(federation, worker)).page()

    url = run(config, work, read_only=True)
    typer.echo(url)
    if not only_print and not webbrowser.open(url):
        raise OutpostError("no browser can be started here", hint="open the address above")

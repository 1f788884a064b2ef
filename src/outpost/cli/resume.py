"""``outpost resume``: go on from where a worker ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.failures import FAILED, INTERRUPTED
from outpost.cli.names import started_worker
from outpost.cli.options import ConfigOption, WorkerArgument, run
from outpost.cli.started import Begun, print_interrupted, print_next, print_submitted
from outpost.cli.waiting import Ends, looked_after
from outpost.errors import UserError

if TYPE_CHECKING:
    from outpost.federation import Federation

app = typer.Typer()


@app.command()
def resume(
    worker: WorkerArgument,
    message: Annotated[
        str, typer.Option("-m", "--message", metavar="TEXT", help="What to tell the agent.")
    ] = "",
    agent: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another agent, which begins a new conversation."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; exit 0 only if it is done.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Show what the worker does, and wait.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Go on where a worker ended: same branch and conversation.

    It is a new worker. Where its agent keeps no conversation, or the outpost has lost it, the
    agent starts anew from the issue and the branch.
    """
    if follow and as_json:
        raise UserError("--follow and --json exclude each other", hint="--wait --json")
    begun = Begun()

    async def work(federation: Federation) -> bool:
        found = await started_worker(federation, worker)
        submitted = await federation.resume(found, message, agent=agent)
        if submitted.worker:
            begun.workers.append(submitted.worker)
        else:
            begun.queued.append(submitted.task)
        async with looked_after(federation, begun):
            waits = wait or follow
            if not (waits and as_json):
                print_submitted(submitted, as_json=as_json)
            if not as_json:
                await print_next(federation, begun, waits=waits)
            if not waits:
                return True
            return await Ends(federation, begun, follow=follow, as_json=as_json).wait()

    try:
        done = run(config, work)
    except KeyboardInterrupt:
        print_interrupted(begun)
        raise typer.Exit(INTERRUPTED) from None
    if not done:
        raise typer.Exit(FAILED)

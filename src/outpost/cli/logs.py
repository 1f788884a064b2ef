"""``outpost logs``: what a worker said and did."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.failures import colourful, say
from outpost.cli.names import started_worker
from outpost.cli.options import ConfigOption, WorkerArgument, run
from outpost.errors import UserError
from outpost.wire.render import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from outpost.federation import Federation
    from outpost.wire.events import Event

app = typer.Typer()


@app.command()
def logs(
    worker: WorkerArgument,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the worker has ended.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Show only what the agent itself put out.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the events, one JSON object a line.")
    ] = False,
    after: Annotated[
        int,
        typer.Option("--after", metavar="N", min=0, help="Leave out the events up to number N."),
    ] = 0,
    config: ConfigOption = None,
) -> None:
    """Show what a worker said and did."""
    if raw and as_json:
        raise UserError("--raw and --json exclude each other", hint="leave one of them out")
    as_text = _json_line if as_json else _raw if raw else _renderer()

    async def show(federation: Federation) -> None:
        found = await started_worker(federation, worker)
        result, seen = False, False
        events = found.events(
            after=after,
            follow=follow,
            on_trouble=lambda why: say("note", f"{found.id} is out of contact: {why}", "33"),
        )
        async with contextlib.aclosing(events):
            async for event in events:
                result, seen = result or event.type == "result", True
                text = as_text(event)
                if text:
                    sys.stdout.write(f"{text}\n")
                    if follow:
                        sys.stdout.flush()
        attempt = await found.status()
        if not seen and attempt.state.ended and not after:
            say("note", f"there is no log of {found.id} any more: it is {attempt.state}", "33")
        elif follow and not result and not attempt.seq > after:
            say("note", f"nothing follows event {after}: {found.id} is {attempt.state}", "33")
        elif follow and not result:
            say("note", f"{found.id} is {attempt.state}: {attempt.reason}", "33")

    run(config, show, read_only=True)


def _renderer() -> Callable[[Event], str]:
    colour = colourful(1)
    return lambda event: render(event, colour=colour)


def _json_line(event: Event) -> str:
    return json.dumps(event.to_json())


def _raw(event: Event) -> str:
    if event.type == "log" and event.fields.get("stream") != "runner":
        return str(event.fields.get("text", ""))
    if event.type == "agent" and "raw" in event.fields:
        raw = event.fields["raw"]
        return raw if isinstance(raw, str) else json.dumps(raw)
    return ""

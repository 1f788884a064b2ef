"""``outpost send``: answer a worker's question, or tell it something."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.documents import Document, print_json_line
from outpost.cli.failures import FAILED, INTERRUPTED, colourful, say
from outpost.cli.names import started_worker
from outpost.cli.options import ConfigOption, JsonOption, WorkerArgument, run
from outpost.errors import OutpostError, UserError
from outpost.wire.render import render

if TYPE_CHECKING:
    from outpost.federation import Federation, SpawnedWorker
    from outpost.wire.events import Event

app = typer.Typer()

HEARD_S = 5.0
TOO_LATE = "it had ended before it read it"
_TOLD = {
    "answer": "answered",
    "now": "told; it hears it at its next step",
    "later": "taken; it hears it when its present run has ended",
}


@dataclass(slots=True)
class Sent:
    """What became of a message so far."""

    message_id: str
    delivered: str = ""
    reason: str = ""
    asks: str = ""
    outcome: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether the message arrived and, as far as it was waited for, the work did not fail."""
        return self.delivered != "never" and self.outcome in ("", "done")


@app.command()
def send(
    worker: WorkerArgument,
    text: Annotated[
        list[str],
        typer.Argument(metavar="TEXT", help="What to say; - reads it from standard input."),
    ],
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Show what it says until it asks again or has ended."),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Answer what a worker asks, or tell it something.

    Where it asks for leave the answer is yes, always or no; what follows a no is what it should
    do instead.
    """
    said = " ".join(text)
    if text == ["-"]:
        said = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not said.strip():
        raise UserError("there is nothing to send", hint=f"outpost send {worker} TEXT")

    async def work(federation: Federation) -> bool:
        found = await started_worker(federation, worker)
        sent = await _send(found, said, wait=wait, show=not as_json)
        if as_json:
            print_json_line(_document(found, sent))
        else:
            _tell(found, sent)
        return sent.well

    try:
        done = run(config, work, read_only=True)
    except KeyboardInterrupt:
        say("note", f"you no longer wait; {worker} goes on", "33")
        raise typer.Exit(INTERRUPTED) from None
    if not done:
        raise typer.Exit(FAILED)


async def _send(worker: SpawnedWorker, text: str, *, wait: bool, show: bool) -> Sent:
    before = (await worker.status()).seq
    sent = Sent(message_id=await worker.send(text))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if wait else HEARD_S):
            await _hear(worker, sent, after=before, wait=wait, show=show)
    return sent


async def _hear(worker: SpawnedWorker, sent: Sent, *, after: int, wait: bool, show: bool) -> None:
    """Follow the worker until the message has arrived and, with ``wait``, it asks or has ended."""
    async with contextlib.aclosing(worker.events(after=after)) as events:
        async for event in events:
            if event.type == "message" and event.fields.get("message_id") == sent.message_id:
                sent.delivered = str(event.fields["delivered"])
                sent.reason = str(event.fields.get("reason") or "")
                if not wait or sent.delivered == "never":
                    return
            elif event.type == "result":
                sent.outcome = str(event.fields.get("outcome"))
                sent.reason = str(event.fields.get("reason") or "")
                if not sent.delivered:
                    sent.delivered, sent.reason = "never", TOO_LATE
            elif sent.delivered:
                _note(event, sent, show=show)
            if sent.delivered and (asks := _asks(event)):
                sent.asks = asks
                return


def _asks(event: Event) -> str:
    """Return what a worker asks from now on: a new question, or the next of those open."""
    if event.type == "question":
        return str(event.fields.get("text") or "")
    waits = event.type == "status" and event.fields.get("state") == "waiting"
    return str(event.fields.get("reason") or "") if waits else ""


def _note(event: Event, sent: Sent, *, show: bool) -> None:
    if event.type == "agent" and event.fields.get("kind") == "text":
        sent.said.append(str(event.fields.get("text") or ""))
    if show and (text := render(event, colour=colourful(1))):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _document(worker: SpawnedWorker, sent: Sent) -> Document:
    return {
        "worker": worker.id,
        "message_id": sent.message_id,
        "delivered": sent.delivered or None,
        "reason": sent.reason,
        "said": [text for text in sent.said if text],
        "asks": sent.asks or None,
        "outcome": sent.outcome or None,
    }


def _tell(worker: SpawnedWorker, sent: Sent) -> None:
    if sent.delivered == "never":
        hint = f"outpost status {worker.id}"
        if sent.outcome:
            hint = f"outpost resume {worker.id} -m TEXT  goes on from there"
        raise OutpostError(f"{worker.id} did not take it: {sent.reason}", hint=hint)
    if sent.asks:
        typer.echo(f"? {worker.id}  asks: {sent.asks}")
    elif sent.outcome:
        typer.echo(f"{worker.id}  {sent.outcome}{f': {sent.reason}' if sent.reason else ''}")
    elif sent.delivered:
        typer.echo(f"{worker.id}  {_TOLD.get(sent.delivered, sent.delivered)}")
    else:
        say("note", f"it lies in the mailbox of {worker.id}, which has not read it yet", "33")

"""``outpost deploy``: have an outpost's provider run what the outpost needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.changes import Manner, YesOption, agree, coloured
from outpost.cli.documents import print_json
from outpost.cli.failures import INTERRUPTED, say
from outpost.cli.options import ConfigOption, JsonOption, complete_outpost, run
from outpost.errors import UserError, nearest
from outpost.wire.render import harmless

if TYPE_CHECKING:
    from outpost.federation import Federation
    from outpost.ports import Plan

app = typer.Typer()


@app.command()
def deploy(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[KIND] OUTPOST",
            help="An outpost's name; its kind may stand in front.",
            autocompletion=complete_outpost,
        ),
    ],
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="IMAGE", help="The worker image to run from now on."),
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over what is there and was not made by outpost.")
    ] = False,
    yes: YesOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change there.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make or change what an outpost needs at its provider.

    For one of type cloudrun that is its service or its job, of type e2b its template. What would
    change is shown first, and agreed to. Lines begin with + (comes), ~ (changes) or - (goes);
    settings that are not ours stay as they are. Ctrl-C ends the waiting: the provider goes on with
    what it was asked for.
    """
    manner = Manner(yes=yes, dry_run=dry_run)

    async def planned(federation: Federation) -> Plan:
        name = _name(federation, names)
        return await federation.plan(name, image=image, adopt=adopt)

    # A dry run makes no store where there is none.
    plan = run(config, planned, read_only=dry_run)
    if not as_json:
        _show(plan)
    if dry_run:
        say("note", "nothing was changed: this was a dry run", "36")
        _done(plan, [], as_json=as_json)
        return
    _agree(plan, manner)

    async def deployed(federation: Federation) -> Sequence[str]:
        return await federation.deploy(plan, report=lambda text: say("note", text, "36"))

    try:
        addresses = run(config, deployed)
    except KeyboardInterrupt:
        say("note", "the provider goes on with what it was asked for", "36")
        say("hint", f"outpost deploy {plan.outpost}  shows what is left to do", "36")
        raise typer.Exit(INTERRUPTED) from None
    _done(plan, addresses, as_json=as_json)


def _name(federation: Federation, names: Sequence[str]) -> str:
    """Return which outpost is meant. Raises ``UserError``."""
    from outpost.config import KindRegistry  # noqa: PLC0415 - loads pydantic
    from outpost.control.naming import unknown_outpost  # noqa: PLC0415 - beside it

    *kinds, name = names
    configured = {outpost.name: outpost.type for outpost in federation.config.outposts}
    if kinds:
        kind, known = kinds[0], KindRegistry().names()
        if len(kinds) > 1 or (kind in configured and kind not in known):
            raise UserError("one outpost at a time", hint="outpost deploy [KIND] OUTPOST")
        if kind not in known:
            raise UserError(
                f"there is no type of outpost named {kind[:40]!r}{nearest(kind, known)}",
                hint=f"outpost deploy [KIND] OUTPOST; installed: {', '.join(known)}",
            )
    if name not in configured:
        raise unknown_outpost(name, configured)
    if kinds and kinds[0] != configured[name]:
        there = [it for it, kind in configured.items() if kind == kinds[0]]
        raise UserError(
            f"'{name}' is of type {configured[name]}, not {kinds[0]}",
            hint=f"of type {kinds[0]}: {', '.join(there)}"
            if there
            else f"no outpost is of type {kinds[0]}: outpost add {kinds[0]}",
        )
    return name


def _show(plan: Plan) -> None:
    for line in plan.changes:
        sys.stdout.write(coloured(harmless(line)) + "\n")
    sys.stdout.flush()
    for note in plan.notes:
        say("note", note, "36")


def _agree(plan: Plan, manner: Manner) -> None:
    """Ask whether to go on, where there is something to change. Raises ``UserError``."""
    if not plan.changes or manner.yes:
        return
    if not manner.asks:
        raise UserError(
            f"{plan.outpost} would be changed, and there is nobody to ask",
            hint="--yes agrees to it; --dry-run only shows it",
        )
    agree(f"Change {plan.outpost} so?", default=False)


def _done(plan: Plan, addresses: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        document = {
            "outpost": plan.outpost,
            "changes": list(plan.changes),
            "notes": list(plan.notes),
            "deployed": bool(addresses),
            "addresses": list(addresses),
        }
        print_json(document)
    elif not addresses and not plan.changes:
        typer.echo(f"{plan.outpost}: there is nothing to change")
    elif addresses:
        what = "deployed" if plan.changes else "as it should be"
        typer.echo(f"{plan.outpost}: {what}, at {' '.join(addresses)}")

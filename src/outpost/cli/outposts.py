"""``outpost list``: the configured outposts and how they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from outpost.cli.documents import outpost_document, print_json
from outpost.cli.options import ConfigOption, JsonOption, run

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from outpost.control.overview import OutpostStatus
    from outpost.federation import Federation

app = typer.Typer()

LEFT_ALONE = "left alone"
_STYLES = {
    "ok": "green",
    "full": "yellow",
    LEFT_ALONE: "yellow",
    "disabled": "dim",
}


@app.command()
def list_(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show the outposts, their load, and whether they can take more."""

    async def show(federation: Federation) -> None:
        statuses = await federation.outposts()
        if as_json:
            print_json([outpost_document(status, status_word(status)) for status in statuses])
            return
        from outpost.cli.screen import make_console, show  # noqa: PLC0415 - JSON: no rich

        console = make_console()
        show(outposts_table(statuses, console), console=console)

    run(config, show, read_only=True)


def status_word(status: OutpostStatus) -> str:
    """Say in a word or two whether an outpost can take a worker, and if not, why."""
    if not status.enabled:
        return "disabled"
    if not status.health.ok:
        return f"unhealthy: {status.health.detail}"
    if _is_left_alone(status):
        return LEFT_ALONE
    if status.max_workers is not None and status.active >= status.max_workers:
        return "full"
    return "ok"


def _is_left_alone(status: OutpostStatus) -> bool:
    """Whether it, or a part of it, has failed of late, so that it gets no work for a while."""
    now = datetime.now(UTC)
    return any(it.open_until is not None and it.open_until > now for it in status.breakers)


def load_word(status: OutpostStatus) -> str:
    """Return how many workers run, and how many may: ``1/4``, or ``1`` without a limit."""
    limit = "" if status.max_workers is None else f"/{status.max_workers}"
    return f"{status.active}{limit}"


def outposts_table(statuses: Sequence[OutpostStatus], console: Console) -> RenderableType:
    """Return the outposts in the order of the configuration."""
    from outpost.cli.phrases import dollars, one_line  # noqa: PLC0415 - with the screen
    from outpost.cli.screen import Cell, Column, Row, table  # noqa: PLC0415 - JSON: no rich

    columns = [Column("NAME"), Column("TYPE"), Column("WORKERS"), Column("STATUS", flexible=True)]
    costs = any(status.spent_today_microusd for status in statuses)
    if costs:
        columns.insert(3, Column("TODAY", right=True))
    rows: list[Row] = []
    for status in statuses:
        word = one_line(status_word(status))
        today = [dollars(status.spent_today_microusd)] if costs else []
        style = _STYLES.get(word, "red")
        known = (Cell(status.name, "bold"), status.kind, load_word(status))
        rows.append([*known, *today, Cell(word, style)])
    return table(columns, rows, console)

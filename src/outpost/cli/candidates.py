"""A decision as a table: every outpost with its rank, price, the most it may cost, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outpost.cli.money import at_most, price
from outpost.cli.phrases import NOTHING, exact_dollars, one_line, span
from outpost.cli.screen import Cell, Column, Row, pairs, table
from outpost.model import Candidate, Decision, Refused

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

COLUMNS = (
    Column("", right=True),
    Column("OUTPOST", share=1 / 4),
    Column("PRICE", right=True),
    Column("AT MOST", right=True),
    Column("VERDICT", flexible=True, wrap=True),
)
MARK = "→"
"""Stands before the outpost that is chosen: colour alone would not do."""


def candidates(decision: Decision, console: Console) -> list[RenderableType]:
    """Return the table, the chosen outpost first and marked, and below it what else is to say."""
    ranked = [_candidate(rank, it) for rank, it in enumerate(decision.ranked, 1)]
    refused = [_refused(item) for item in decision.refused]
    shown: list[RenderableType] = []
    if ranked or refused:
        shown.append(table(COLUMNS, ranked + refused, console))
    if rows := _notes(decision):
        shown += ["", pairs(rows)]
    return shown


def _candidate(rank: int, candidate: Candidate) -> Row:
    first = rank == 1
    style = "bold green" if first else ""
    cells = (
        f"{MARK} {rank}" if first else str(rank),
        one_line(candidate.outpost),
        price(candidate.microusd_per_hour),
        at_most(candidate.estimate),
        one_line(candidate.why),
    )
    return [Cell(cell, style) for cell in cells]


def _refused(refused: Refused) -> Row:
    cells = (
        NOTHING,
        one_line(refused.outpost),
        price(refused.microusd_per_hour),
        at_most(refused.estimate),
        one_line(refused.detail),
    )
    return [Cell(cell, "dim") for cell in cells[:-1]] + [Cell(cells[-1])]


def _notes(decision: Decision) -> list[tuple[str, str]]:
    rows = []
    if decision.best and decision.best.estimate.total_microusd:
        rows.append(("at most", _estimate(decision.best)))
    return rows + [("note", one_line(note)) for note in decision.notes]


def _estimate(candidate: Candidate) -> str:
    """Say what the most that an attempt may cost is made of."""
    estimate = candidate.estimate
    parts = []
    if estimate.compute_microusd:
        held = "" if estimate.held_s is None else f" for {span_exact(estimate.held_s)}"
        rate = price(candidate.microusd_per_hour)
        parts.append(f"compute {exact_dollars(estimate.compute_microusd)} ({rate}{held})")
    if estimate.tokens_microusd:
        parts.append(f"tokens {exact_dollars(estimate.tokens_microusd)}")
    return f"{exact_dollars(estimate.total_microusd)}: {', '.join(parts)}"


def span_exact(seconds: float) -> str:
    """Return a duration in its two largest units: ``2h 2m``, ``45s``."""
    whole = int(seconds)
    for size, smaller in ((86_400, 3_600), (3_600, 60), (60, 1)):
        if whole >= size:
            rest = whole % size
            return span(whole) + (f" {span(rest)}" if rest >= smaller else "")
    return span(whole)

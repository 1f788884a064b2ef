"""Samples to figures, figures to a table; figures are shown beside their limits, never judged."""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

MS = 1e3
Measure = Callable[[argparse.Namespace], Coroutine[None, None, list["Row"]]]
"""A benchmark: its parsed options to its rows; raises ``NotMeasured``."""

HEADER = ("what", "median ms (min-max)", "against", "median ms (min-max)", "ratio", "limit")


class NotMeasured(Exception):
    """Something needed is missing or failed; the text says what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a table, ready to be shown."""

    what: str
    ours: str
    against: str = ""
    theirs: str = ""
    ratio: str = ""
    limit: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the columns in the order of ``HEADER``."""
        return (self.what, self.ours, self.against, self.theirs, self.ratio, self.limit)


def spread(samples_s: Sequence[float]) -> str:
    """Return the median, minimum and maximum of samples in seconds, as milliseconds."""
    low, middle, high = min(samples_s), statistics.median(samples_s), max(samples_s)
    return f"{middle * MS:.1f} ({low * MS:.1f}-{high * MS:.1f})"


def slower(
    what: str, ours_s: Sequence[float], against: str, theirs_s: Sequence[float], at_most: float
) -> Row:
    """Compare with something that ours may be slower than, by the ratio of the medians."""
    ratio = statistics.median(ours_s) / statistics.median(theirs_s)
    return Row(
        what=what,
        ours=spread(ours_s),
        against=against,
        theirs=spread(theirs_s),
        ratio=f"{ratio:.2f}",
        limit=f"at most {at_most:g}",
    )


def faster(
    what: str,
    ours_s: Sequence[float],
    against: str,
    theirs_s: Sequence[float],
    at_least: float | None,
) -> Row:
    """Compare with something that ours should be faster than; the ratio is theirs to ours."""
    ratio = statistics.median(theirs_s) / statistics.median(ours_s)
    return Row(
        what=what,
        ours=spread(ours_s),
        against=against,
        theirs=spread(theirs_s),
        ratio=f"{ratio:.2f} x faster",
        limit="" if at_least is None else f"at least {at_least:g} x",
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table that is also readable as it is."""
    return markdown([HEADER, *(row.cells() for row in rows)])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells, the header first, as a Markdown table that is also readable."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def main(measure: Measure, parser: argparse.ArgumentParser) -> None:
    """Run one benchmark as a program: read the options, measure, print the table."""
    options = parser.parse_args()
    try:
        print(table(asyncio.run(measure(options))))
    except NotMeasured as exc:
        print(f"not measured: {exc}")

"""Figures that must hold: a table of them, and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from benchmarks.figures import NotMeasured, markdown

HEADER = ("what", "figure", "limit", "holds")
CheckedMeasure = Callable[[argparse.Namespace], Coroutine[None, None, Sequence["Check"]]]
"""A benchmark: its parsed options to what was found; raises ``NotMeasured``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A figure and, if it has one, the most it may be."""

    what: str
    figure: float
    unit: str = ""
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        return self.at_most is None or self.figure <= self.at_most

    def cells(self) -> tuple[str, ...]:
        """Return the columns in the order of ``HEADER``."""
        limit = "" if self.at_most is None else f"at most {self.at_most:,g}{self._unit}"
        verdict = "" if self.at_most is None else ("yes" if self.holds else "NO")
        figure = self.figure
        shown = (
            f"{figure:,.0f}" if float(figure).is_integer() or figure >= 1000 else f"{figure:.3g}"
        )
        return (self.what, f"{shown}{self._unit}", limit, verdict)

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""


def table(checks: Sequence[Check]) -> str:
    """Return the figures as a Markdown table that is also readable as it is."""
    return markdown([HEADER, *(check.cells() for check in checks)])


def main(measure: CheckedMeasure, parser: argparse.ArgumentParser) -> None:
    """Run one benchmark as a program; exits 1 where a figure does not hold, 2 without figures."""
    try:
        checks = asyncio.run(measure(parser.parse_args()))
    except NotMeasured as exc:
        print(f"not measured: {exc}")
        sys.exit(2)
    print(table(checks))
    failed = [check.what for check in checks if not check.holds]
    if failed:
        print(f"\ndoes not hold: {'; '.join(failed)}")
        sys.exit(1)

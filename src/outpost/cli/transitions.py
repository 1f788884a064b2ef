"""Lines of the federation's log for people: all in columns but why, which may go on below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Self

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from outpost.cli.phrases import NOTHING, STYLES, one_line, to_the_second
from outpost.model import State, Transition

_ARROW = "→"
_MOMENT = "%m-%d %H:%M:%S"
_MOMENT_COLUMNS = len("11-21 09:30:00")
_ID_COLUMNS = len("w-k3f9a2pq")
_CHANGE_COLUMNS = 2 * max(len(state) for state in State) + len(f" {_ARROW} ")
_USUAL_BY = "spawn@laptop:1048576"
_LEAST_BESIDE = 40
"""With less room than that beside the rest, all that is said of why stands below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How wide the columns are. ``width`` is that of the terminal.

    On a pipe it is ``None``: there every change is one line, and nothing is cut.
    """

    width: int | None
    outpost: int
    by: int

    @classmethod
    def fitting(
        cls, transitions: Sequence[Transition], console: Console, more_on: Sequence[str] = ()
    ) -> Self:
        """Return the layout for these transitions, and for more to come on those outposts."""
        named = [*more_on, *(it.outpost for it in transitions)]
        outpost = max(map(cell_len, ["OUTPOST", *named]))
        least = _USUAL_BY if more_on else "BY"
        by = max(map(cell_len, [least, *(one_line(it.by) for it in transitions)]))
        if not console.is_terminal:
            return cls(width=None, outpost=outpost, by=by)
        outpost = min(outpost, console.width // 8)
        used = _MOMENT_COLUMNS + _ID_COLUMNS + outpost + _CHANGE_COLUMNS + 4 * 2
        return cls(width=console.width, outpost=outpost, by=min(by, max(console.width - used, 2)))

    def header(self) -> Text:
        """Return the titles of the columns."""
        time = "TIME" if self.width is None else "TIME (UTC)"
        row = self._row(*map(Text, (time, "WORKER", "OUTPOST", "CHANGE", "BY")))
        why = Text("WHY")
        if self._fits(why, row):
            row.append_text(why)
        row.rstrip()
        row.stylize("dim")
        return row

    def lines(self, transition: Transition) -> list[RenderableType]:
        """Return a transition: one line, or another below it where why has no room beside."""
        at = transition.at
        row = self._row(
            Text(to_the_second(at) if self.width is None else f"{at.astimezone(UTC):{_MOMENT}}"),
            Text(transition.attempt_id or transition.task_id, "bold"),
            Text(transition.outpost or NOTHING),
            _change(transition.before, transition.after),
            Text(one_line(transition.by)),
        )
        why = Text(one_line(transition.reason))
        beside = self._fits(why, row)
        if beside:
            row.append_text(why)
        row.rstrip()
        return [row] if beside else [row, Padding(why, (0, 0, 0, self._indent()))]

    def _row(self, time: Text, who: Text, outpost: Text, change: Text, by: Text) -> Text:
        widths = (
            len("2026-11-21T09:30:00Z") if self.width is None else _MOMENT_COLUMNS,
            _ID_COLUMNS,
            self.outpost,
            _CHANGE_COLUMNS,
            self.by,
        )
        row = Text(no_wrap=self.width is None)
        for text, width in zip((time, who, outpost, change, by), widths, strict=True):
            if self.width is not None:
                text.truncate(width, overflow="ellipsis")
            row.append_text(text).append(" " * max(0, width - text.cell_len)).append("  ")
        return row

    def _indent(self) -> int:
        """Return where a line below begins: under the second column, where there is the room."""
        return min(_MOMENT_COLUMNS + 2, (self.width or 0) // 5)

    def _fits(self, why: Text, row: Text) -> bool:
        """Whether there is room for a text beside a row."""
        if self.width is None or not why:
            return True
        left = self.width - row.cell_len
        return left >= max(_LEAST_BESIDE, why.cell_len)


def _change(before: State | None, after: State) -> Text:
    """Say what became what; where nothing did, as when a stop is asked for, what it is."""
    if before is after:
        return Text(after, STYLES[after])
    return Text.assemble(f"{before} " if before else "", f"{_ARROW} ", (after, STYLES[after]))

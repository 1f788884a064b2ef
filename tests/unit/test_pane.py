"""The live view's pipe, with somebody at its other end who takes what they want."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.runner.pane import BACKLOG_BYTES, BACKLOG_LINES, Pane
from outpost.wire.events import Event
from tests.world import until

LONG = "x" * 60_000
LAST = "all was told"


class View:
    """A pane, and its viewer."""

    def __init__(self, folder: Path) -> None:
        path = folder / "pane"
        self.pane = Pane(str(path), {"argv": ["true"], "environment": dict(os.environ)})
        self.text = ""
        self._path = path
        self._fd = -1

    def come(self) -> None:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)

    def go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def show(self, text: str) -> None:
        fields = {"stream": "stdout", "text": text}
        self.pane.show(Event(1, "2026-11-21T10:00:00.000Z", "log", fields))

    def read(self) -> str:
        """Read what there is by now."""
        try:
            while data := os.read(self._fd, 1 << 20):
                self.text += data.decode()
        except BlockingIOError:
            pass
        return self.text

    def read_until(self, text: str) -> list[str]:
        """Read on while the runner ticks; return the lines that were read, without the clock."""

        def shown() -> bool:
            self.pane.look()
            return text in self.read()

        until(shown, f"{text} is shown")
        return [line.partition("│ ")[2].removesuffix("\x1b[0m") for line in self.text.splitlines()]


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    view = View(tmp_path)
    yield view
    view.go()


def test_a_viewer_that_lags_gets_all_lines_whole_and_in_order(view: View) -> None:
    view.come()
    view.pane.greet()
    told = [*(f"{number}{LONG}" for number in range(5)), LAST]
    for text in told:
        view.show(text)
    assert LAST not in view.read(), "there was room for all of it"
    assert view.read_until(LAST) == told


def test_a_viewer_that_comes_late_gets_what_was_told_before(view: View) -> None:
    told = ["one", LONG, LONG, LAST]
    for text in told:
        view.show(text)
    view.come()
    assert view.read_until(LAST) == told


@pytest.mark.parametrize("text", ["short", LONG])
def test_of_very_much_the_latest_is_kept(view: View, text: str) -> None:
    for number in range(BACKLOG_LINES * 2):
        view.show(f"{number} {text}")
    view.show(LAST)
    view.come()
    lines = view.read_until(LAST)
    assert len(lines) <= BACKLOG_LINES
    assert len(view.text) <= BACKLOG_BYTES
    first, *_, latest, _ = (int(line.split()[0]) for line in [*lines[:-1], "0"])
    assert latest == BACKLOG_LINES * 2 - 1
    assert len(lines) == latest - first + 2


def test_a_viewer_that_goes_has_closed_the_view(view: View) -> None:
    view.come()
    assert not view.pane.look()
    view.show(LONG)
    view.show(LONG)
    view.go()
    assert view.pane.look()
    assert view.pane.closed
    view.show(LAST)
    assert not view.pane.look()

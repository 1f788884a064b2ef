"""The part of an outpost whose one place is reached through a desk there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outpost.errors import OutpostFault
from outpost.transports.desk import DeskShell
from outpost.transports.place import ShellPlace
from outpost.transports.shell import ShellOutpost


class DeskOutpost(ShellOutpost):
    """An outpost that learns from a desk what place it is; ``called`` is that place, in faults."""

    def __init__(self, name: str, shell: DeskShell, *, called: str) -> None:
        self.name = name
        self._shell = shell
        self._called = called
        self._facts: Mapping[str, Any] = {}
        self._place: ShellPlace | None = None

    def place(self) -> ShellPlace:
        assert self._place, "not reached yet"
        return self._place

    async def reach(self) -> ShellPlace:
        """Return where workers run there; connects if need be, else asks nothing."""
        try:
            facts = await self._shell.facts()
        except OSError as exc:
            raise self.fault(exc) from exc
        if self._place is None or facts != self._facts:
            try:
                self._facts, self._place = facts, self._placed(facts)
            except (AttributeError, KeyError, TypeError) as exc:
                what = f"{self._called} does not say what machine it is: {exc!r}"
                raise OutpostFault(what, outpost=self.name) from exc
        return self._place

    async def close(self) -> None:
        await self._shell.close()

    def _placed(self, facts: Mapping[str, Any]) -> ShellPlace:
        """Return the place that ``facts`` tell of; ``KeyError`` and such if they do not."""
        raise NotImplementedError

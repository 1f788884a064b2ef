"""An outpost on this machine whose workers hold no way to the remote, and a count of what moves."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.ports import Completed, Setup, Shell
from outpost.testing.faults import bring_kind
from outpost.transports.relay import RelayedOutpost

CHECKOUT = Path(__file__).parents[2]


class RelayedOptions(LocalOptions):
    """``record`` is a file that gets a line for all that goes through the shell: verb and size."""

    record: str | None = None
    push_via: str = "controller"


class RelayedLocal(RelayedOutpost, LocalOutpost):
    """Workers on this machine that the controller pushes for."""

    kind: ClassVar[str] = "relayed"
    Options: ClassVar[type[BaseModel]] = RelayedOptions

    def __init__(self, setup: Setup, options: RelayedOptions) -> None:
        super().__init__(setup, options)
        self.mirrors = str(Path(setup.data_folder, "mirrors"))
        self.push_via = options.push_via
        if options.record:
            shell = CountingShell(self._place.shell, Path(options.record))
            self._place = replace(self._place, shell=shell)


class CountingShell(Shell):
    """A shell that notes how many bytes it moved.

    It moves no bundle in the direction (``put``, ``get``) that a file ``RECORD.cut`` names.
    """

    def __init__(self, shell: Shell, record: Path) -> None:
        self._shell = shell
        self._record = record

    def _reach(self, verb: str, path: str) -> None:
        cut = self._record.with_name(f"{self._record.name}.cut")
        if ".bundle" in path and cut.exists() and cut.read_text() == verb:
            raise ConnectionError("the cable is cut")

    def _note(self, verb: str, size: int, what: str) -> None:
        with self._record.open("a") as file:
            file.write(f"{verb} {size} {what}\n")

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Completed:
        done = await self._shell.run(
            argv, stdin=stdin, environment=environment, timeout_s=timeout_s
        )
        self._note("run", len(stdin) + len(done.stdout), argv[0])
        return done

    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self._reach("put", path)
        await self._shell.put(path, data, mode=mode)
        self._note("put", len(data), path)

    async def get(self, path: str, *, offset: int = 0) -> bytes:
        self._reach("get", path)
        data = await self._shell.get(path, offset=offset)
        self._note("get", len(data), path)
        return data

    def stream(self, path: str, *, offset: int = 0) -> AsyncGenerator[bytes, None]:
        return self._shell.stream(path, offset=offset)


def bring(folder: Path) -> str:
    """Bring the kind into ``folder``; return what a program's ``PYTHONPATH`` must hold for it."""
    bring_kind(folder, RelayedLocal.kind, f"{__name__}:{RelayedLocal.__name__}")
    return os.pathsep.join((str(folder), str(CHECKOUT)))

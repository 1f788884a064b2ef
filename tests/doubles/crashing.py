"""Ports whose process dies at a chosen point: before, during or after the n-th call of a method.

``crashing`` stands before a real store, outpost, worker or shell and hands every call on. It notes
each point that is passed in a file, one a line, and at the chosen one kills its own process as
``kill -9`` does. ``during`` is a moment after the call has begun, and is not noted. Whatever is
yielded by a stream is a call of its own, named with ``[]``: its ``before`` is when it was read, its
``after`` when whoever reads asks for the next. What an outpost does in several steps is cut between
them: at its shell, at its requests, at what it writes down on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast, get_args

from outpost.backends.e2b import E2bOutpost
from outpost.backends.fly import FlyOutpost
from outpost.backends.local import LocalOutpost
from outpost.control.parts import Parts
from outpost.control.sites import Sites
from outpost.control.situation import Site
from outpost.federation import Federation
from outpost.ports import Outpost, Store, Worker
from outpost.transports.e2b_sandbox import SandboxOutpost
from outpost.transports.held_files import HeldFiles
from outpost.transports.http_held import HeldOutpost

When = Literal["before", "during", "after"]
DURING_S = 0.03
LASTING = frozenset(
    f"files.{name}"
    for name in ("hold", "let_go", "make", "note_attached", "note_ended", "lose", "post", "remove")
)
"""Plain methods that leave something on the disk; all others are no points."""
_Port = TypeVar("_Port")


@dataclass(frozen=True, order=True)
class Point:
    """A moment of a program: before, during or after the ``number``-th call of ``call``."""

    call: str
    number: int
    when: When

    def __str__(self) -> str:
        return f"{self.call}:{self.number}:{self.when}"

    @classmethod
    def parse(cls, text: str) -> Self:
        call, number, when = text.split(":")
        assert when in get_args(When), text
        return cls(call, int(number), cast(When, when))


class Crashes:
    """Notes the points that this process passes in a file, and kills it ``at`` one of them."""

    def __init__(self, record: Path, at: Point | None) -> None:
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._at = at
        self._calls: Counter[str] = Counter()

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Pass the points before and after a call, however it ends."""
        self._calls[name] += 1
        number = self._calls[name]
        self._pass(Point(name, number, "before"))
        if self._at == Point(name, number, "during"):
            asyncio.get_running_loop().call_later(DURING_S, self._die)
        try:
            yield
        finally:
            self._pass(Point(name, number, "after"))

    def _pass(self, point: Point) -> None:
        os.write(self._record, f"{point}\n".encode())
        if point == self._at:
            self._die()

    @staticmethod
    def _die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def crashing(real: _Port, name: str, crashes: Crashes) -> _Port:
    """Return what does all that ``real`` does, and dies where ``crashes`` says."""
    return cast(_Port, _Crashing(real, name, crashes))


class _Crashing:
    def __init__(self, real: object, name: str, crashes: Crashes) -> None:
        self._real = real
        self._name = name
        self._crashes = crashes

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._real, attribute)
        if not inspect.ismethod(value):
            return value
        if inspect.iscoroutinefunction(value):
            return _awaited(value, f"{self._name}.{attribute}", self._crashes)

        name = f"{self._name}.{attribute}"

        def call(*arguments: Any, **named: Any) -> Any:
            if name in LASTING:
                with self._crashes.call(name):
                    return value(*arguments, **named)
            returned = value(*arguments, **named)
            if isinstance(returned, Worker):
                return crashing(returned, "worker", self._crashes)
            if isinstance(returned, AsyncIterator):
                return self._iterated(returned, name)
            if isinstance(returned, contextlib.AbstractAsyncContextManager):
                return self._entered(returned, name)
            return returned

        return call

    @contextlib.asynccontextmanager
    async def _entered(
        self, manager: contextlib.AbstractAsyncContextManager[Any], name: str
    ) -> AsyncGenerator[Any, None]:
        async with contextlib.AsyncExitStack() as stack:
            with self._crashes.call(name):
                entered = await stack.enter_async_context(manager)
            yield entered

    async def _iterated(self, items: AsyncIterator[Any], name: str) -> AsyncGenerator[Any, None]:
        with self._crashes.call(name):
            try:
                async for item in items:
                    with self._crashes.call(f"{name}[]"):
                        yield item
            finally:
                if isinstance(items, AsyncGenerator):
                    await items.aclose()


class _CrashingSites(Sites):
    """The outposts of a federation, each of which dies where ``crashes`` says."""

    def __init__(self, real: Sites, crashes: Crashes) -> None:
        self._real = real
        self._crashes = crashes
        self._outposts: dict[int, Outpost] = {}

    def enabled(self) -> list[Site]:
        return [
            replace(site, outpost=site.outpost and self._crashing(site.outpost))
            for site in self._real.enabled()
        ]

    def backend(self, name: str) -> Outpost:
        return self._crashing(self._real.backend(name))

    def _crashing(self, outpost: Outpost) -> Outpost:
        if id(outpost) not in self._outposts:
            _cut_between_steps(outpost, self._crashes)
            self._outposts[id(outpost)] = crashing(outpost, "outpost", self._crashes)
        return self._outposts[id(outpost)]


def _cut_between_steps(outpost: Outpost, crashes: Crashes) -> None:
    if isinstance(outpost, LocalOutpost):
        place = outpost.place()
        shell = crashing(place.shell, "shell", crashes)
        outpost._place = replace(place, shell=shell)
    elif isinstance(outpost, HeldOutpost):
        outpost._caller = crashing(outpost._caller, "caller", crashes)
        files_of = outpost.files_of

        def crashing_files(worker_id: str) -> HeldFiles:
            # Those of a worker that is held here are ours already.
            files = files_of(worker_id)
            return crashing(files, "files", crashes) if type(files) is HeldFiles else files

        outpost.files_of = crashing_files  # type: ignore[method-assign]
    elif isinstance(outpost, FlyOutpost):
        outpost.caller = crashing(outpost.caller, "caller", crashes)
        _cut_calls(outpost._machines, "machines", crashes)
    elif isinstance(outpost, E2bOutpost):
        _cut_calls(outpost.api, "api", crashes)
        entered = outpost.entered
        cut: set[str] = set()

        def crashing_sandbox(sandbox_id: str) -> SandboxOutpost:
            sandbox = entered(sandbox_id)
            if sandbox_id not in cut:
                cut.add(sandbox_id)
                _cut_calls(sandbox._shell, "shell", crashes)
            return sandbox

        outpost.entered = crashing_sandbox  # type: ignore[method-assign]


def _awaited(
    method: Callable[..., Awaitable[Any]], name: str, crashes: Crashes
) -> Callable[..., Awaitable[Any]]:
    async def call(*arguments: Any, **named: Any) -> Any:
        with crashes.call(name):
            return await method(*arguments, **named)

    return call


def _cut_calls(real: object, name: str, crashes: Crashes) -> None:
    """Have all calls be points of what several others have got hold of already."""
    for attribute, method in inspect.getmembers(real, inspect.iscoroutinefunction):
        if not attribute.startswith("_"):
            setattr(real, attribute, _awaited(method, f"{name}.{attribute}", crashes))


class _CrashingParts(Parts):
    def __init__(self, ground: Federation, crashes: Crashes) -> None:
        super().__init__(ground)
        self._crashes = crashes
        self._crashing_sites: Sites | None = None

    async def sites(self) -> Sites:
        if self._crashing_sites is None:
            self._crashing_sites = _CrashingSites(await super().sites(), self._crashes)
        return self._crashing_sites


class CrashingFederation(Federation):
    """A federation whose process dies where ``crashes`` says."""

    def __init__(self, crashes: Crashes, **options: Any) -> None:
        super().__init__(**options)
        self._crashes = crashes

    @cached_property
    def store(self) -> Store:
        return crashing(super().store, "store", self._crashes)

    @cached_property
    def parts(self) -> Parts:
        return _CrashingParts(self, self._crashes)

"""A stand-in in a thread with a loop of its own: for tests, and tools, that wait without one."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

_T = TypeVar("_T")


class InThread(ABC):
    """``with`` it, it lives; leaving fails if it does not end, or if it tells what was ``wrong``.

    What it is made of belongs to the thread: ``do`` and ``wait`` run something there. ``close_s``
    is how long its end may take, ``answer_s`` how long anything else (``None``: as long as it may).
    """

    close_s: ClassVar[float] = 30.0
    answer_s: ClassVar[float | None] = None

    def __init__(self) -> None:
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    @abstractmethod
    async def opened(self, stack: AsyncExitStack) -> None:
        """Have it answer, in its thread; ``stack`` is what ends it."""

    def wrong(self) -> list[str]:
        """Return what nobody may have done; asked once it has ended."""
        return []

    def do(self, work: Callable[[], _T]) -> _T:
        """Run a function in the thread; return its result."""

        async def there() -> _T:
            return work()

        return self.wait(there)

    def wait(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine function in the thread; return its result."""
        loop = self._ready.result()
        return asyncio.run_coroutine_threadsafe(work(), loop).result(self.answer_s)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ready.result().call_soon_threadsafe(self._over.set)
        self._thread.join(self.close_s)
        assert not self._thread.is_alive(), "the stand-in does not end"
        if error is None:
            assert not self.wrong(), "\n".join(self.wrong())

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                await self.opened(stack)
                self._over = asyncio.Event()
                self._ready.set_result(asyncio.get_running_loop())
                await self._over.wait()
        except BaseException as exc:
            if not self._ready.done():
                self._ready.set_exception(exc)
            raise

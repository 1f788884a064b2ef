"""The stand-in in a thread with a loop of its own: for tests that wait without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.doubles.cloud_run.cloud import CloudRun
from tests.doubles.cloud_run.control import ControlPlane

CLOSE_S = 30.0
_T = TypeVar("_T")


class BackgroundCloudRun:
    """``with BackgroundCloudRun(CloudRun(…)) as cloud``: the platform with all its servers.

    ``cloud`` and ``control`` belong to the thread: ``do`` and ``wait`` run something there.
    Plain values such as ``cloud.faults`` may be set from anywhere.
    """

    def __init__(self, cloud: CloudRun) -> None:
        self.cloud = cloud
        self.control = ControlPlane(cloud)
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))

    def do(self, work: Callable[[], _T]) -> _T:
        """Run a function in the thread; return its result."""

        async def there() -> _T:
            return work()

        return self.wait(there)

    def wait(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine function in the thread; return its result."""
        return asyncio.run_coroutine_threadsafe(work(), self._ready.result()).result()

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
        self._thread.join(CLOSE_S)
        assert not self._thread.is_alive(), "the stand-in does not end"

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.cloud)
                await stack.enter_async_context(self.control)
                self._over = asyncio.Event()
                self._ready.set_result(asyncio.get_running_loop())
                await self._over.wait()
        except BaseException as exc:
            if not self._ready.done():
                self._ready.set_exception(exc)
            raise

"""The stand-in in a thread with a loop of its own: for tests that wait without one."""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.doubles.cloud_run.cloud import CloudRun
from tests.doubles.cloud_run.control import ControlPlane
from tests.doubles.in_thread import InThread


class BackgroundCloudRun(InThread):
    """``with BackgroundCloudRun(CloudRun(…)) as cloud``: the platform with all its servers.

    ``cloud`` and ``control`` belong to the thread. Plain values such as ``cloud.faults`` may be set
    from anywhere.
    """

    def __init__(self, cloud: CloudRun) -> None:
        super().__init__()
        self.cloud = cloud
        self.control = ControlPlane(cloud)

    async def opened(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.cloud)
        await stack.enter_async_context(self.control)

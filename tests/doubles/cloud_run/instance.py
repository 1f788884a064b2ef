"""One instance of a service: a container that takes requests, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

from pyqwest import Client, HTTPTransport, HTTPVersion

from tests.doubles.cloud_run.container import Container
from tests.doubles.cloud_run.faults import Faults
from tests.doubles.cloud_run.limits import Limits
from tests.doubles.cloud_run.metering import Meter
from tests.doubles.cloud_run.revision import Revision

State = Literal["starting", "ready", "ending", "ended"]


class Instance:
    """``open`` is how many requests it has. ``draining``: it gets no more of them."""

    def __init__(
        self, instance_id: str, revision: Revision, container: Container, limits: Limits, kept: bool
    ) -> None:
        self.id = instance_id
        self.revision = revision
        self.container = container
        self.state: State = "starting"
        self.draining = False
        self.open = 0
        self.idle: asyncio.TimerHandle | None = None
        self._limits = limits
        self.meter = Meter(
            clock=limits.clock,
            billing="request" if revision.cpu_idle else "instance",
            vcpus=revision.vcpus,
            memory_gib=revision.memory_gib,
            kept=kept,
        )
        version = HTTPVersion.HTTP2 if revision.http2 else HTTPVersion.HTTP1
        self.client = Client(
            HTTPTransport(
                http_version=version,
                enable_gzip=False,
                enable_brotli=False,
                enable_zstd=False,
                follow_redirects=False,
                enable_otel=False,
                pool_idle_timeout=90.0,
            )
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.container.port}"

    @property
    def living(self) -> bool:
        return self.state in ("starting", "ready")

    @property
    def has_room(self) -> bool:
        ready = self.state == "ready" and not self.draining
        return ready and self.open < self.revision.concurrency

    async def start(self, faults: Faults) -> bool:
        """Start the container; whether it listens within the time that it has."""
        self.meter.enter()
        stuck = faults.take("stuck_starts")
        try:
            async with asyncio.timeout(self._limits.startup_s):
                await asyncio.sleep(self._limits.cold_start_s + faults.slow_start_s)
                if stuck:
                    await asyncio.Event().wait()
                if self.state != "starting":
                    return False
                await self.container.start()
                listens = await self.container.listening()
        except (OSError, TimeoutError):
            listens = False
        if listens and self.state == "starting":
            self.state = "ready"
            self.meter.leave()
            self._rest()
        return self.state == "ready"

    def enter(self) -> None:
        """A request comes: there is CPU from now on."""
        if self.idle:
            self.idle.cancel()
            self.idle = None
        self.open += 1
        self.meter.requests += 1
        self.meter.enter()
        self.container.thaw()

    def leave(self) -> None:
        """A request has ended."""
        self.open -= 1
        if self.meter.ended_at is None:
            self.meter.leave()
        self._rest()

    async def end(self) -> None:
        """SIGTERM, with CPU, whatever the billing; SIGKILL after the grace. Idempotent."""
        if self.living:
            self.meter.enter()
            self.state = "ending"
            self.container.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.grace_s):
                    await self.gone()
            self.container.kill()
        await self.gone()

    async def gone(self) -> None:
        """Wait until nothing of it runs any more."""
        if self.container.begun:
            await self.container.ended()
        self.state = "ended"
        if self.idle:
            self.idle.cancel()
        self.meter.end()
        self.container.remove()

    def _rest(self) -> None:
        """Without a request there is no CPU where billing is by request."""
        if self.open == 0 and self.state == "ready" and self.revision.cpu_idle:
            self.container.freeze()

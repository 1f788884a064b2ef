"""The control plane: a gRPC server that the official clients of Cloud Run talk to unchanged.

``ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=control.channel()))``; the
same for jobs, executions and tasks. What services declare governs the front ends of ``cloud``.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import grpc.aio  # type: ignore[import-untyped]

from tests.doubles.cloud_run import rpc
from tests.doubles.cloud_run.cloud import CloudRun
from tests.doubles.cloud_run.declared import Image, Shelf
from tests.doubles.cloud_run.jobs_api import Jobs
from tests.doubles.cloud_run.operations import Operations
from tests.doubles.cloud_run.services_api import Services

RUN = "google.cloud.run.v2"
LOST = "after "


class ControlPlane:
    """``async with ControlPlane(cloud) as control``; ``shelf`` holds images and secrets."""

    def __init__(self, cloud: CloudRun) -> None:
        self.cloud = cloud
        self.shelf = Shelf()
        self.operations = Operations(cloud.limits.operation_s)
        self.services = Services(cloud, self.shelf, self.operations)
        self.jobs = Jobs(cloud, self.shelf, self.operations)
        self.calls: list[str] = []
        self.address = ""
        self._server: Any = None

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        services = {
            f"{RUN}.Services": self.services.methods(),
            f"{RUN}.Jobs": self.jobs.methods(),
            f"{RUN}.Executions": self.jobs.execution_methods(),
            f"{RUN}.Tasks": self.jobs.task_methods(),
            "google.longrunning.Operations": self.operations.methods(),
        }
        handlers = [rpc.handler(name, rows, self._around) for name, rows in services.items()]
        self._server.add_generic_rpc_handlers(tuple(handlers))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.stop(None)
        await self.jobs.close()
        await self.operations.close()

    def channel(self) -> Any:
        """Return a channel to this server, for a client's transport."""
        return grpc.aio.insecure_channel(self.address)

    def image(self, reference: str, *argv: str) -> str:
        """Put an image that runs ``argv`` into the registry; return its reference."""
        self.shelf.images[reference] = Image(entrypoint=argv)
        return reference

    async def _around(self, name: str, call: rpc.Call, request: Any) -> Any:
        """Run a call, unless a fault is due for it."""
        self.calls.append(name)
        due = self.cloud.faults.calls.get(name, [])
        fault = due.pop(0) if due else ""
        if fault == "never":
            await asyncio.Event().wait()
        if fault and not fault.startswith(LOST):
            raise _refused(fault, name)
        answer = await call(request)
        if fault:
            raise _refused(fault.removeprefix(LOST), name)
        return answer


def _refused(code: str, name: str) -> rpc.Refused:
    texts = {
        "PERMISSION_DENIED": f"Permission 'run.{name}' denied on resource (or it may not exist)."
    }
    return rpc.Refused(rpc.Code[code], texts.get(code, f"{name}: {code} on demand."))

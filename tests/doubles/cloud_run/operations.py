"""Long-running operations: ``google.longrunning``, as the control plane's calls return them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf import empty_pb2  # type: ignore[import-untyped]

from tests.doubles.cloud_run.rpc import Code, Method, Refused, plain


class Operations:
    """All operations that there are. ``operation_s``: how long each takes at least."""

    def __init__(self, operation_s: float) -> None:
        self._operation_s = operation_s
        self._all: dict[str, Any] = {}
        self._subjects: dict[str, Callable[[], Any]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(
        self, parent: str, subject: Callable[[], Any], work: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Return the operation that does ``work``, whose result it will hold.

        ``subject`` gives what the operation is about, as it is when somebody asks. Work that
        takes no time is done before this returns.
        """
        name = f"{parent}/operations/{uuid.uuid4()}"
        operation = self._all[name] = operations_pb2.Operation(name=name)
        self._subjects[name] = subject

        async def carry_out() -> None:
            if self._operation_s:
                await asyncio.sleep(self._operation_s)
            try:
                operation.response.Pack(plain(await work()))
            except Refused as refused:
                operation.error.code, operation.error.message = refused.code.value[0], str(refused)
            operation.done = True

        task = asyncio.get_running_loop().create_task(carry_out())
        self._tasks[name] = task
        if not self._operation_s:
            await asyncio.wait({task}, timeout=0.05)
        return self._shown(name)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def methods(self) -> dict[str, Method]:
        kind = operations_pb2
        return {
            "GetOperation": Method(
                call=self._get, takes=kind.GetOperationRequest, returns=kind.Operation
            ),
            "WaitOperation": Method(
                call=self._wait, takes=kind.WaitOperationRequest, returns=kind.Operation
            ),
            "ListOperations": Method(
                call=self._list,
                takes=kind.ListOperationsRequest,
                returns=kind.ListOperationsResponse,
            ),
            "DeleteOperation": Method(
                call=self._delete, takes=kind.DeleteOperationRequest, returns=empty_pb2.Empty
            ),
        }

    async def _get(self, request: Any) -> Any:
        return self._shown(request.name)

    async def _wait(self, request: Any) -> Any:
        self._shown(request.name)
        timeout = request.timeout.ToMilliseconds() / 1000 or None
        await asyncio.wait({self._tasks[request.name]}, timeout=timeout)
        return self._shown(request.name)

    async def _list(self, request: Any) -> Any:
        names = [name for name in self._all if name.startswith(f"{request.name}/")]
        shown = [self._shown(name) for name in names]
        return operations_pb2.ListOperationsResponse(operations=shown)

    async def _delete(self, request: Any) -> Any:
        self._shown(request.name)
        del self._all[request.name]
        return empty_pb2.Empty()

    def _shown(self, name: str) -> Any:
        if name not in self._all:
            raise Refused(Code.NOT_FOUND, f"Operation '{name}' not found.")
        operation = self._all[name]
        operation.metadata.Pack(plain(self._subjects[name]()))
        return operation

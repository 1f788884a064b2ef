"""envd's process service, as its source has it: real processes in the sandbox's machine."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process.process_connect import Process
from e2b.envd.process.process_pb import (
    CloseStdinRequest,
    CloseStdinResponse,
    ConnectRequest,
    ConnectResponse,
    ListRequest,
    ListResponse,
    ProcessConfig,
    ProcessEvent,
    ProcessInfo,
    ProcessInput,
    ProcessSelector,
    SendInputRequest,
    SendInputResponse,
    SendSignalRequest,
    SendSignalResponse,
    Signal,
    StartRequest,
    StartResponse,
    StreamInputRequest,
    StreamInputResponse,
)
from protobuf import Oneof

from tests.doubles.e2b.disk import Disk
from tests.doubles.e2b.events import Event, is_end, keepalive, started
from tests.doubles.e2b.machine import Command, Machine
from tests.doubles.e2b.running import Running
from tests.doubles.e2b.users import user_of

if TYPE_CHECKING:
    from connectrpc.request import RequestContext

KEEPALIVE_S = 90.0
Descriptors = list[int]
_KEEPALIVE = keepalive()
_SIGNALS = {Signal.SIGKILL: signal.SIGKILL, Signal.SIGTERM: signal.SIGTERM}


class Processes(Process):
    """The processes of one sandbox; ``variables`` says what each of them finds."""

    def __init__(
        self,
        machine: Machine,
        disk: Disk,
        variables: Callable[[], Mapping[str, str]],
        exit_kept_s: float,
    ) -> None:
        self._machine = machine
        self._disk = disk
        self._variables = variables
        self._exit_kept_s = exit_kept_s
        self._running: dict[int, Running] = {}
        self._ended: dict[int, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def list(self, request: ListRequest, ctx: RequestContext[Any, Any], /) -> ListResponse:
        rows = [
            ProcessInfo(config=it.config, pid=it.pid, tag=it.tag) for it in self._running.values()
        ]
        return ListResponse(processes=rows)

    async def start(
        self, request: StartRequest, ctx: RequestContext[Any, Any], /
    ) -> AsyncIterator[StartResponse]:
        user_of(ctx)
        running, queue = await self._start(request, _timeout_s(ctx))
        async for event in self._events(running, queue, ctx):
            yield StartResponse(event=event)

    async def connect(
        self, request: ConnectRequest, ctx: RequestContext[Any, Any], /
    ) -> AsyncIterator[ConnectResponse]:
        try:
            running = self._find(request.process)
        except ConnectError:
            if (gone := self._find_ended(request.process)) is None:
                raise
            yield ConnectResponse(event=started(gone.pid))
            yield ConnectResponse(event=gone.end)
            return
        async for event in self._events(running, running.listen(), ctx):
            yield ConnectResponse(event=event)

    async def send_input(
        self, request: SendInputRequest, ctx: RequestContext[Any, Any], /
    ) -> SendInputResponse:
        _write(self._find(request.process), request.input)
        return SendInputResponse()

    async def stream_input(
        self, request: AsyncIterator[StreamInputRequest], ctx: RequestContext[Any, Any], /
    ) -> StreamInputResponse:
        running: Running | None = None
        async for message in request:
            match message.event:
                case Oneof(value=StreamInputRequest.StartEvent() as start):
                    running = self._find(start.process)
                case Oneof(value=StreamInputRequest.DataEvent() as data) if running is not None:
                    _write(running, data.input)
                case Oneof(value=StreamInputRequest.KeepAlive()):
                    pass
                case other:
                    raise ConnectError(Code.UNIMPLEMENTED, f"invalid event type {other}")
        return StreamInputResponse()

    async def send_signal(
        self, request: SendSignalRequest, ctx: RequestContext[Any, Any], /
    ) -> SendSignalResponse:
        running = self._find(request.process)
        if request.signal not in _SIGNALS:
            raise ConnectError(Code.UNIMPLEMENTED, f"invalid signal: {request.signal}")
        running.signal(_SIGNALS[request.signal])
        return SendSignalResponse()

    async def close_stdin(
        self, request: CloseStdinRequest, ctx: RequestContext[Any, Any], /
    ) -> CloseStdinResponse:
        self._find(request.process).close_stdin()
        return CloseStdinResponse()

    def break_off(self, why: ConnectError) -> None:
        """Break all streams; the processes go on."""
        for running in self._running.values():
            running.tell(why)

    async def over(self) -> None:
        """Return once all processes of a machine that is off are forgotten."""
        for running in self._running.values():
            running.stop_reading()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _start(
        self, request: StartRequest, timeout_s: float | None
    ) -> tuple[Running, asyncio.Queue[Event]]:
        config = request.process or ProcessConfig()
        if request.has_field("pty"):
            raise ConnectError(Code.UNIMPLEMENTED, "the stand-in has no terminals")
        command, ours = self._command(config, stdin=request.stdin or not request.has_field("stdin"))
        try:
            pid, exited = await self._machine.start(command)
        except OSError as exc:
            for file in ours:
                os.close(file)
            raise ConnectError(Code.UNAVAILABLE, f"error starting process: {exc}") from exc
        finally:
            for file in command.files:
                os.close(file)
        tag = request.tag if request.has_field("tag") else None
        running = Running(pid, exited, config, tag)
        queue = running.listen()
        stdout, stderr, *stdin = ours
        running.read(stdout, "stdout")
        running.read(stderr, "stderr")
        if stdin:
            loop = asyncio.get_running_loop()
            pipe = os.fdopen(stdin[0], "wb", buffering=0)
            running.stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipe)
        self._ended.pop(pid, None)
        self._running[pid] = running
        self._spawn(self._until_ended(running, timeout_s))
        return running, queue

    def _command(self, config: ProcessConfig, *, stdin: bool) -> tuple[Command, Descriptors]:
        """Return what to start, and our ends of its output, its errors and perhaps its input."""
        try:
            cwd = self._disk.inside(config.cwd)
        except ValueError as exc:
            raise ConnectError(Code.INVALID_ARGUMENT, str(exc)) from exc
        if not cwd.is_dir():
            raise ConnectError(
                Code.INVALID_ARGUMENT, f"cwd '{self._disk.shown(cwd)}' does not exist"
            )
        variables = {**self._variables(), **config.envs}
        if shutil.which(config.cmd, path=variables.get("PATH")) is None:
            what = f"exec: {config.cmd!r}: executable file not found in $PATH"
            raise ConnectError(Code.INVALID_ARGUMENT, what)
        out, out_theirs = os.pipe()
        err, err_theirs = os.pipe()
        in_theirs, *ours_in = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY),)
        command = Command(
            argv=[config.cmd, *(self._disk.in_text(word) for word in config.args)],
            cwd=cwd,
            environment={name: self._disk.in_text(value) for name, value in variables.items()},
            files=(in_theirs, out_theirs, err_theirs),
        )
        return command, [out, err, *ours_in]

    async def _until_ended(self, running: Running, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        # The deadline of the call ends the process, though not what that one has started.
        deadline = timeout_s and loop.call_later(timeout_s, running.signal, signal.SIGKILL)
        await running.follow()
        if deadline:
            deadline.cancel()
        del self._running[running.pid]
        self._ended[running.pid] = running
        loop.call_later(self._exit_kept_s, self._forget, running)

    def _forget(self, running: Running) -> None:
        if self._ended.get(running.pid) is running:
            del self._ended[running.pid]

    async def _events(
        self, running: Running, queue: asyncio.Queue[Event], ctx: RequestContext[Any, Any]
    ) -> AsyncIterator[ProcessEvent]:
        """Yield the start and all that comes, until the end or the caller's deadline."""
        keepalive_s = float(ctx.request_headers.get("keepalive-ping-interval") or KEEPALIVE_S)
        loop = asyncio.get_running_loop()
        timeout_s = _timeout_s(ctx)
        deadline = loop.time() + timeout_s if timeout_s else math.inf
        try:
            yield started(running.pid)
            while True:
                wait_s = min(keepalive_s, deadline - loop.time())
                event: Event = _KEEPALIVE
                with contextlib.suppress(TimeoutError):
                    event = await asyncio.wait_for(queue.get(), max(wait_s, 0))
                if event is _KEEPALIVE and loop.time() >= deadline:
                    event = ConnectError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
                if isinstance(event, ConnectError):
                    raise event
                yield event
                if is_end(event):
                    return
        finally:
            running.leave(queue)

    def _find(self, selector: ProcessSelector | None) -> Running:
        match selector.selector if selector else None:
            case Oneof(value=int() as pid):
                if running := self._running.get(pid):
                    return running
                raise ConnectError(Code.NOT_FOUND, f"process with pid {pid} not found")
            case Oneof(value=str() as tag):
                for running in self._running.values():
                    if running.tag == tag:
                        return running
                raise ConnectError(Code.NOT_FOUND, f"process with tag {tag} not found")
        raise ConnectError(Code.UNIMPLEMENTED, "invalid input type")

    def _find_ended(self, selector: ProcessSelector | None) -> Running | None:
        match selector.selector if selector else None:
            case Oneof(value=int() as pid):
                return self._ended.get(pid)
            case Oneof(value=str() as tag):
                return next((it for it in self._ended.values() if it.tag == tag), None)
        return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _timeout_s(ctx: RequestContext[Any, Any]) -> float | None:
    return ctx.timeout_ms / 1000 if ctx.timeout_ms else None


def _write(running: Running, given: ProcessInput | None) -> None:
    match given.input if given else None:
        case Oneof(field="stdin", value=data):
            running.write(data)
        case Oneof(field="pty"):
            raise ConnectError(Code.INTERNAL, "error writing to tty: tty not assigned to process")
        case other:
            raise ConnectError(Code.UNIMPLEMENTED, f"invalid input type {other}")

"""``Shell`` on another machine, through one desk there and one channel to it.

Any number of calls share the connection at once: they go out as they come, and each gets its own
answer. It is opened by the first call and again by the first one after it was lost.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from outpost.ports import Completed, Shell
from outpost.runner.desk import MOST_BYTES
from outpost.transports.desk_link import Asked, Link, LinkLost, Patience, Pipe, Traffic

if TYPE_CHECKING:
    from outpost.runner.desk import Header

IDLE_S = 0.5
WAIT_S = 60.0
"""One question whether a file has grown stands for so long."""
ANSWER_S = 10.0
"""What the way there and back may take beyond a command's own time."""
FILE_S = 120.0
"""How long a piece of a file may take there and back: somebody may hold up only that."""
SLOWEST_BYTES_PER_S = 8192
GET_S = FILE_S + MOST_BYTES / SLOWEST_BYTES_PER_S
MOST_ERRNO = 1 << 12
MOST_DOUBLINGS = 16  # a machine may be away for days
STEADY_S = 5.0
"""A connection that is lost sooner counts as one that failed."""


class OutOfReach(ConnectionError):
    """The last tries to connect failed; ``why``, with its ``hint`` on what to do about it."""

    def __init__(self, message: str, *, why: OSError | None) -> None:
        super().__init__(message)
        self.why = why
        self.hint = str(getattr(why, "hint", ""))


class DeskShell(Shell):
    """Runs commands and moves bytes where ``open_pipe`` leads.

    ``open_pipe`` starts ``bootstrap_argv()`` there; its trouble is an ``OSError``. An instance
    belongs to the event loop of its first call. ``name`` is what errors call the place.
    """

    def __init__(
        self,
        open_pipe: Callable[[], Awaitable[Pipe]],
        *,
        name: str,
        patience: Patience | None = None,
    ) -> None:
        self.traffic = Traffic()
        self._open_pipe = open_pipe
        self._name = name
        self._patience = patience or Patience()
        self._opening = asyncio.Lock()
        self._link: Link | None = None
        self._lives: dict[asyncio.Task[None], Link] = {}
        self._failures = 0
        self._failed_at = 0.0
        self._retry_at = 0.0
        self._why: OSError | None = None

    async def facts(self) -> Mapping[str, object]:
        """Return what the desk tells of its machine: python, version, home, path, pid."""
        link = await self._connected()
        return await asyncio.shield(link.facts)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Completed:
        request = {
            "verb": "run",
            "argv": list(argv),
            "environment": None if environment is None else dict(environment),
            "timeout_s": timeout_s,
        }
        asked = await self._ask(request, stdin, timeout_s + ANSWER_S, argv[0])
        exit_code = asked.done.result().get("exit_code")
        if type(exit_code) is not int:
            raise _nonsense(argv[0])
        stdout, stderr = bytes(asked.stdout), bytes(asked.stderr)
        return Completed(exit_code=exit_code, stdout=stdout, stderr=stderr)

    async def call(self, path: str, data: bytes, *, timeout_s: float = 30.0) -> bytes:
        request = {"verb": "call", "path": path, "environment": None, "timeout_s": timeout_s}
        asked = await self._ask(request, data, timeout_s + ANSWER_S, path)
        return bytes(asked.stdout)

    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        seconds = FILE_S + len(data) / SLOWEST_BYTES_PER_S
        await self._ask({"verb": "put", "path": path, "mode": mode}, data, seconds, path)

    async def get(self, path: str, *, offset: int = 0) -> bytes:
        asked = await self._ask({"verb": "get", "path": path, "offset": offset}, b"", GET_S, path)
        return bytes(asked.stdout)

    async def stream(self, path: str, *, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Ask again and again to be told what is new; goes on after a lost connection.

        Raises ``OSError`` where the place cannot be reached again at once.
        """
        while True:
            link = await self._connected()
            request = {"verb": "wait", "path": path, "offset": offset, "seconds": WAIT_S}
            try:
                asked = link.ask(request)
                try:
                    while not (await asyncio.wait([asked.done], timeout=IDLE_S))[0]:
                        yield b""
                finally:
                    link.drop(asked)
                _check(asked.done.result(), path)
            except LinkLost:
                continue
            offset += len(asked.stdout)
            yield bytes(asked.stdout)

    async def close(self) -> None:
        """End the connection, and with it the desk; a later call opens another."""
        self._link = None
        for life, link in self._lives.items():
            if link.ended is None:
                life.cancel()
        if self._lives:
            await asyncio.wait(list(self._lives))

    async def _ask(
        self, request: Header, body: bytes, seconds: float | None, subject: str
    ) -> Asked:
        """Return a request with its last answer; raises ``OSError`` as the machine there did."""
        link = await self._connected()
        asked = link.ask(request, body)
        try:
            async with asyncio.timeout(seconds) as limit:
                answer = await asked.done
        except TimeoutError as exc:
            if not limit.expired():
                raise
            late = f"{self._name} did not answer within {seconds:g} s"
            raise TimeoutError(late) from exc
        finally:
            link.drop(asked)
        _check(answer, subject)
        return asked

    async def _connected(self) -> Link:
        if self._link is not None and self._link.ended is None:
            return self._link
        async with self._opening:
            if self._link is None or self._link.ended is not None:
                await self._connect()
            assert self._link is not None
            return self._link

    async def _connect(self) -> None:
        if self._link is not None:
            self._judge(self._link)
            self._link = None
        await self._pause()
        seconds = self._patience.connect_s
        try:
            async with asyncio.timeout(seconds) as limit:
                pipe = await self._open_pipe()
        except OSError as exc:
            why = exc
            if limit.expired():
                why = TimeoutError(f"no connection to {self._name} within {seconds:g} s")
            self._failed(why, asyncio.get_running_loop().time())
            raise why from None
        self.traffic.connections += 1
        self._link = Link(pipe, self._patience, self.traffic)
        life = asyncio.create_task(self._link.live())
        self._lives[life] = self._link
        life.add_done_callback(self._lives.pop)

    async def _pause(self) -> None:
        """Wait before the next try if that is soon; else fail at once, and say why."""
        now = asyncio.get_running_loop().time()
        pause_s = self._retry_at - now
        if pause_s > self._patience.short_pause_s:
            raise OutOfReach(
                f"{self._name} is out of reach for {now - self._failed_at:.0f} s: {self._why}"
                f" (tried again in {pause_s:.0f} s)",
                why=self._why,
            )
        if pause_s > 0:
            await asyncio.sleep(pause_s)

    def _judge(self, link: Link) -> None:
        """Learn from a connection that has ended."""
        if link.ended is not None and link.ended_at < link.began_at + STEADY_S:
            self._failed(link.ended, link.ended_at)
        else:
            self._failures = 0

    def _failed(self, why: OSError, at: float) -> None:
        if not self._failures:
            self._failed_at = at
        doublings = min(self._failures, MOST_DOUBLINGS)
        pause_s = min(self._patience.pause_least_s * 2**doublings, self._patience.pause_most_s)
        self._retry_at = at + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - to spread tries
        self._failures += 1
        self._why = why


def _check(answer: Header, subject: str) -> None:
    """Raise the error that the machine there had."""
    if "error" not in answer:
        return
    if answer["error"] == "TimeoutError":
        raise TimeoutError(f"{subject}: {answer.get('text')}")
    number = answer.get("errno")
    if number is None:
        raise ValueError(answer.get("text"))
    if type(number) is not int or not 0 < number < MOST_ERRNO:
        raise _nonsense(subject)
    raise OSError(number, os.strerror(number), subject)


def _nonsense(subject: str) -> OSError:
    return OSError(errno.EPROTO, os.strerror(errno.EPROTO), subject)

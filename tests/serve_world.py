"""Real ``runner serve`` processes on loopback, and a client for each."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyqwest import Client, HTTPTransport, HTTPVersion, Response

from outpost.runner.place import Place
from outpost.wire.events import Event, decode
from outpost.wire.orders import ORDER_VERSION
from outpost.wire.work import SAID
from tests.world import Remote, pids_marked, pids_naming, until

TOKEN = "a-token-of-the-tests"
LINE_S = 20.0
MEND = "echo 'the words are right' > words.txt"


@dataclass(frozen=True)
class Answered:
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Talk:
    """An open ``POST /work``: lines go out as they are said, and come in one after the other.

    ``log`` is all of the log that was read, ``said`` all that the server itself said.
    """

    def __init__(self, response: Response, outgoing: asyncio.Queue[bytes | None]) -> None:
        self.said: list[dict[str, Any]] = []
        self._log = bytearray()
        self._pieces = response.content
        self._outgoing = outgoing
        self._lines: deque[bytes] = deque()
        self._begun: list[bytes] = []  # of a line that has no end yet

    @property
    def log(self) -> bytes:
        return bytes(self._log)

    def forget(self) -> None:
        """Begin a log anew."""
        self._log.clear()

    def say(self, value: object) -> None:
        """Send a line."""
        self._outgoing.put_nowait(json.dumps(value).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._outgoing.put_nowait(data)

    def hang_up(self) -> None:
        """End the request's body, and go on reading."""
        self._outgoing.put_nowait(None)

    async def line(self) -> bytes | None:
        """Return the next line; ``None`` at the end of the answer."""
        while not self._lines:
            async with asyncio.timeout(LINE_S):
                piece = await anext(self._pieces, None)
            if piece is None:
                assert not self._begun, f"the answer ends within a line: {self._begun[0][:80]!r}"
                return None
            first, *others = bytes(piece).split(b"\n")
            self._begun.append(first)
            for other in others:
                self._lines.append(b"".join(self._begun) + b"\n")
                self._begun = [other]
            self._begun = [it for it in self._begun if it]
        return self._lines.popleft()

    async def next(self) -> bytes | dict[str, Any] | None:
        """Return the next line of the log, or what the server says; noted either way."""
        line = await self.line()
        if line is None or not line.startswith(SAID):
            self._log += line or b""
            return line
        said: dict[str, Any] = json.loads(line)
        self.said.append(said)
        return said

    async def until_said(self, kind: str) -> dict[str, Any]:
        """Read until the server says something of a kind; fail if the answer ends before."""
        while (line := await self.next()) is not None:
            if isinstance(line, dict) and line["said"] == kind:
                return line
        raise AssertionError(f"the answer ended without {kind}: {self.said}")

    async def until_event(self, text: str) -> Event:
        """Read until a line of the log holds a text."""
        while (line := await self.next()) is not None:
            if isinstance(line, bytes) and text.encode() in line:
                return decode(line)
        raise AssertionError(f"the answer ended without {text}: {self.log[-2000:]!r}")

    async def to_end(self) -> bytes:
        """Read to the end of the answer; return all of the log."""
        while await self.next() is not None:
            pass
        return self.log

    async def ask(self, number: str, verb: str, *arguments: str, stdin: bytes = b"") -> Any:
        """Ask for a command, and read until it is answered: exit code, stdout, stderr."""
        self.say(ask(number, verb, *arguments, stdin=stdin))
        said = await self.until_said("answer")
        assert said["id"] == number
        return said["exit_code"], *(base64.b64decode(said[it]) for it in ("stdout", "stderr"))


async def soon(look: Callable[[], object], what: str, *, deadline_s: float = LINE_S) -> None:
    """Wait until ``look`` returns what is true, while everything else goes on."""
    deadline = asyncio.get_running_loop().time() + deadline_s
    while not look():
        assert asyncio.get_running_loop().time() < deadline, f"not within {deadline_s:g} s: {what}"
        await asyncio.sleep(0.02)


def ask(number: str, verb: str, *arguments: str, stdin: bytes = b"") -> dict[str, Any]:
    """Return an ``ask`` as a client says it."""
    text = base64.b64encode(stdin).decode()
    return {"said": "ask", "id": number, "verb": verb, "arguments": list(arguments), "stdin": text}


def client(version: HTTPVersion = HTTPVersion.HTTP2) -> Client:
    """Return a client with connections of its own."""
    return Client(HTTPTransport(http_version=version, enable_otel=False))


@dataclass
class Served:
    """A running server, and what its clients need."""

    process: subprocess.Popen[str]
    root: Path
    port: int
    said: Path
    client: Client = field(default_factory=client)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def place(self, worker_id: str) -> Place:
        return Place(str(self.root / "workers" / worker_id))

    def log(self, worker_id: str) -> bytes:
        """Return the whole log of a worker as it is on disk."""
        path = Path(self.place(worker_id).path("events.jsonl"))
        return path.read_bytes() if path.exists() else b""

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        token: str = TOKEN,
        through: Client | None = None,
    ) -> Answered:
        """Make a request and read the whole answer."""
        headers = {"authorization": f"Bearer {token}"}
        async with asyncio.timeout(LINE_S):
            opened = (through or self.client).stream(
                method, self.url + path, headers=headers, content=body
            )
            async with opened as response:
                pieces = [bytes(piece) async for piece in response.content]
                return Answered(response.status, dict(response.headers), b"".join(pieces))

    @contextlib.asynccontextmanager
    async def talk(
        self, call: Mapping[str, Any], *, through: Client | None = None
    ) -> AsyncGenerator[Talk]:
        """Open ``POST /work``; read as far as ``attached``. Leaving closes the stream."""
        outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        outgoing.put_nowait(json.dumps(call).encode() + b"\n")

        async def content() -> AsyncGenerator[bytes]:
            while (data := await outgoing.get()) is not None:
                yield data

        headers = {"authorization": f"Bearer {TOKEN}"}
        opened = (through or self.client).stream(
            "POST", f"{self.url}/work", headers=headers, content=content()
        )
        try:
            async with opened as response:
                assert response.status == 200, await _body(response)
                talk = Talk(response, outgoing)
                attached = await talk.next()
                assert isinstance(attached, dict), attached
                assert attached["said"] == "attached"
                yield talk
        finally:
            outgoing.put_nowait(None)

    async def result(self, call: Mapping[str, Any]) -> Talk:
        """Follow a worker to its end."""
        async with self.talk(call) as talk:
            await talk.to_end()
        assert talk.said[-1]["said"] == "ended"
        return talk

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self, within_s: float) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(within_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


async def _body(response: Response) -> bytes:
    return b"".join([bytes(piece) async for piece in response.content])


@dataclass
class ServeWorld:
    """Servers and the orders they get; what they started must have ended when a test ends."""

    folder: Path
    environment: dict[str, str]
    remote: Remote
    servers: list[Served] = field(default_factory=list)
    # Workers' processes are found by it, on all of the machine.
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    made: list[str] = field(default_factory=list)

    def command(self, *flags: str) -> list[str]:
        return [sys.executable, "-m", "outpost.runner", "serve", *flags]

    def start(
        self, *flags: str, root: str = "root", variables: Mapping[str, str] | None = None
    ) -> Served:
        """Start a server on a free port; returns once it listens."""
        folder = self.folder / root
        said = self.folder / f"said-{len(self.servers)}.txt"
        argv = self.command("--root", str(folder), "--listen", "127.0.0.1:0", *flags)
        environment = {**self.environment, "OUTPOST_SERVE_TOKEN": TOKEN, **(variables or {})}
        with said.open("w") as output:
            process = subprocess.Popen(
                argv, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True
            )
        until(lambda: "\n" in said.read_text() or process.poll() is not None, "it listens")
        first = said.read_text().splitlines()[0]
        assert first.startswith("listening on 127.0.0.1:"), said.read_text()
        served = Served(process, folder, int(first.rpartition(":")[2]), said)
        self.servers.append(served)
        return served

    def new_id(self) -> str:
        self.made.append(f"w-served{len(self.made)}-{self.name}")
        return self.made[-1]

    def order(self, script: str, **more: Any) -> dict[str, Any]:
        """Return a ``Call`` whose agent is a shell script; ``more`` is of its order."""
        worker_id = more.pop("worker_id", "") or self.new_id()
        order: dict[str, Any] = {
            "version": ORDER_VERSION,
            "federation_id": "f-test",
            "worker_id": worker_id,
            "task_id": "t-1",
            "issue_id": "words-1",
            "repo_url": self.remote.url,
            "base": None,
            "branch": f"outpost/words-1-{worker_id}",
            "title": "Mend the words",
            "body": "They are wrong.",
            "prompt": "Mend the words.",
            "agent": {"name": "command", "argv": ["sh", "-c", script], "options": {}},
            "limits": {"time_s": None, "grace_s": 4.0, **more.pop("limits", {})},
            "keep_workspace": False,
            **more,
        }
        environment: dict[str, Any] = {"agent": {}, "git": {}}
        return {"worker_id": worker_id, "after": 0, "order": order, "environment": environment}

    def waiting(self, before: str = "", after: str = MEND) -> tuple[str, Path]:
        """Return a script that goes on once a file is there, and that file."""
        go = self.folder / f"go-{secrets.token_hex(3)}"
        return f"{before}\nuntil [ -e {go} ]; do sleep 0.02; done; {after}", go

    def end(self) -> None:
        for served in self.servers:
            if served.process.poll() is None:
                served.kill()
        left = pids_marked(set(self.made))
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self._nurseries_killed(), "nothing of it runs any more")
        assert not left, f"still at work: {left}"

    def _nurseries_killed(self) -> dict[int, str]:
        """Kill the nurseries, and whatever else their servers began; return who still lived."""
        found = pids_naming(str(self.folder))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found


@contextlib.contextmanager
def serve_world(folder: Path, environment: dict[str, str], remote: Remote) -> Iterator[ServeWorld]:
    """Yield a world in which servers can be started; end them and see that nothing is left."""
    world = ServeWorld(folder, environment, remote)
    try:
        yield world
    finally:
        world.end()

"""Calls to ``runner serve``, one HTTP request each, and the one that goes on: a ``Session``.

The library is pyqwest ([why](docs/decisions/0022-http.md)): requests that are written and read at
the same time, any number of them over few connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from outpost.ports import Completed
from outpost.transports.http_session import Session
from outpost.wire.work import DEAD_AFTER_S, EXIT_CODE_HEADER, STDERR_HEADER

if TYPE_CHECKING:
    from pyqwest import Client, Response

    from outpost.transports.containers import Address
    from outpost.wire.orders import Message
    from outpost.wire.work import Call, Row, ServerHealth

CONNECT_S = 10.0
ANSWER_S = 30.0
ATTACHED_S = 30.0
"""How long the first line of an answer may take, beyond what a front end takes to wake it."""
SETTLE_S = 0.1
MOST_REASON_CHARS = 300


class Unreachable(ConnectionError):
    """The server, or whatever leads there, does not answer."""


class Refusing(Exception):
    """An answer that is not a 2xx: from the server (``code`` of a ``Refusal``) or in front of it.

    ``status`` is HTTP's; ``code`` is empty where the body is no ``Refusal``.
    """

    def __init__(
        self, message: str, *, status: int, code: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class Caller:
    """Makes the requests of one outpost. Connections are opened as needed and kept a while.

    A peer that says nothing for ``silent_s`` seconds is taken for dead.
    """

    def __init__(self, silent_s: float = DEAD_AFTER_S) -> None:
        self._silent_s = silent_s
        self._client: Client | None = None

    async def health(self, to: Address, token: str) -> ServerHealth:
        """Return what a server says of itself."""
        answer = await self._ask("GET", to, token, "/health")
        with _reaching(to.url):
            health: ServerHealth = json.loads(answer.stdout)
        return health

    async def row(self, to: Address, token: str, worker_id: str) -> Row | None:
        """Return how a worker is; ``None`` where the server does not know it."""
        try:
            answer = await self._ask("GET", to, token, f"/work/{worker_id}")
        except Refusing as exc:
            if exc.status == 404 and exc.code:
                return None
            raise
        with _reaching(to.url):
            row: Row = json.loads(answer.stdout)
            if row["liveness"] not in ("alive", "dead"):
                raise ValueError(row["liveness"])
        return row

    async def post(self, to: Address, token: str, worker_id: str, message: Message) -> None:
        """Put a message in a worker's mailbox."""
        body = json.dumps(message).encode() + b"\n"
        await self._ask("POST", to, token, f"/work/{worker_id}/messages", body)

    async def lines(self, to: Address, token: str, call: Call) -> bytes:
        """Return lines of a worker's log from ``call["offset"]`` on; empty where there are none."""
        query = f"after={call['after']}&offset={call['offset']}"
        path = f"/work/{call['worker_id']}/events?{query}"
        return (await self._ask("GET", to, token, path)).stdout

    async def run(
        self,
        to: Address,
        token: str,
        path: Sequence[str],
        *,
        arguments: Sequence[str] = (),
        stdin: bytes = b"",
        timeout_s: float = 300.0,
    ) -> Completed:
        """Run a command of the runner there: ``path`` is the worker's id and the verb."""
        query = urllib.parse.urlencode([("argument", it) for it in arguments])
        whole = "/work/" + "/".join(path) + (f"?{query}" if query else "")
        return await self._ask("POST", to, token, whole, stdin, timeout_s=timeout_s)

    @contextlib.asynccontextmanager
    async def session(
        self, to: Address, token: str, call: Call, *, patience_s: float = ATTACHED_S
    ) -> AsyncGenerator[Session]:
        """Start a worker or attach to it; yields once the server has said that it is attached.

        Leaving ends the request and nothing else. Raises ``Unreachable``, ``Refusing``.
        """
        session = Session(call, self._silent_s)
        headers = {**to.headers, **_authorised(token), "content-type": "application/x-ndjson"}
        url = f"{to.url}/work"
        async with contextlib.AsyncExitStack() as stack:
            with _reaching(url):
                async with asyncio.timeout(patience_s):
                    stack.callback(session.close)
                    request = self._pool().stream(
                        "POST", url, headers=headers, content=session.outgoing()
                    )
                    response = await stack.enter_async_context(request)
                    if response.status != 200:
                        raise await _refusal(response)
                    session.cookies = response.headers.getall("set-cookie")
                    await session.begin(response.content)
            yield session

    async def close(self) -> None:
        """Let go of all connections."""
        if self._client is not None:
            self._client = None
            # What the library's threads have yet to say aborts an interpreter that ends meanwhile.
            await asyncio.sleep(SETTLE_S)

    async def _ask(
        self,
        method: str,
        to: Address,
        token: str,
        path: str,
        body: bytes = b"",
        *,
        timeout_s: float = ANSWER_S,
    ) -> Completed:
        url = to.url + path
        headers = {**to.headers, **_authorised(token)}
        with _reaching(url):
            async with asyncio.timeout(timeout_s):
                request = self._pool().stream(method, url, headers=headers, content=body)
                async with request as response:
                    if not 200 <= response.status < 300:
                        raise await _refusal(response)
                    content = await _whole(response.content)
            stderr = urllib.parse.unquote_to_bytes(response.headers.get(STDERR_HEADER, ""))
            exit_code = int(response.headers.get(EXIT_CODE_HEADER, "0"))
        return Completed(exit_code=exit_code, stdout=content, stderr=stderr)

    def _pool(self) -> Client:
        if self._client is None:
            from pyqwest import Client, HTTPTransport, HTTPVersion  # noqa: PLC0415 - heavy

            transport = HTTPTransport(
                http_version=HTTPVersion.HTTP2,
                tls_include_system_certs=True,
                connect_timeout=CONNECT_S,
                follow_redirects=False,
                enable_otel=False,
                use_system_dns=True,
            )
            self._client = Client(transport)
        return self._client


@contextlib.contextmanager
def _reaching(url: str) -> Any:
    """Turn the library's trouble into ``Unreachable``."""
    from pyqwest import ReadError, RemoteProtocolError, WriteError  # noqa: PLC0415 - heavy

    host = urllib.parse.urlsplit(url).netloc
    try:
        yield
    except Unreachable:
        raise
    except TimeoutError as exc:
        raise Unreachable(f"{host} does not answer in time") from exc
    except (OSError, ReadError, RemoteProtocolError, WriteError) as exc:
        raise Unreachable(f"{host} cannot be reached: {exc}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise Unreachable(f"{host} says nothing sensible: {exc!r}") from exc


def _authorised(token: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token}"}


async def _whole(content: AsyncIterator[Any]) -> bytes:
    return b"".join([bytes(piece) async for piece in content])


async def _refusal(response: Response) -> Refusing:
    """Return what an answer that is not a 2xx means."""
    body = await _whole(response.content)
    code, message = "", f"it answered {response.status}"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = json.loads(body)
        code, message = str(said["code"]), str(said["message"])[:MOST_REASON_CHARS]
    retry_after_s = None
    with contextlib.suppress(ValueError):
        retry_after_s = max(0.0, float(response.headers.get("retry-after", "")))
    return Refusing(message, status=response.status, code=code, retry_after_s=retry_after_s)

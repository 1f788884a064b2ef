"""Which request means what: the ASGI application, with its token and its limits."""

from __future__ import annotations

import asyncio
import math
import sys
import time
import traceback
import urllib.parse
from hmac import compare_digest

from outpost.runner.serve.calls import (
    check_arguments,
    check_message,
    check_worker_id,
    read_object,
)
from outpost.runner.serve.exchange import BYTES, LINES, Answer, Body, Gone, as_line
from outpost.runner.serve.log_lines import LogLines
from outpost.runner.serve.refused import Refused, malformed
from outpost.runner.serve.stream import Stream
from outpost.wire.work import (
    CALL_MOST_BYTES,
    EXIT_CODE_HEADER,
    LINE_MOST_BYTES,
    STDERR_HEADER,
    VERBS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from outpost.runner.serve.exchange import Receive, Send
    from outpost.runner.serve.server import Server

WAIT_MOST_S = 60.0
MESSAGES_MOST_BYTES = 16 << 20
LINES_MOST_BYTES = 1 << 20
"""So much of a log is one answer to ``GET …/events``; a line that is longer still comes whole."""
STDERR_BYTES = 4 << 10
THERE_IS = (
    "there are GET /health, POST and GET /work, GET /work/ID, GET /work/ID/events,"
    f" POST /work/ID/messages and POST /work/ID/VERB, where VERB is one of {', '.join(VERBS)}"
)


class App:
    """Answers the requests of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._authorization = f"Bearer {server.token}".encode()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        answer = Answer(send)
        try:
            self._check_token(scope)
            with self._server.following.request(looks=_looks(scope)):
                await self._route(scope, Body(receive), answer)
        except Refused as refused:
            await answer.refuse(refused)
        except Gone:
            pass
        except Exception:  # noqa: BLE001 - one request's trouble is not another's
            traceback.print_exc(file=sys.stderr)
            if not answer.begun:
                what = "a fault of this server; what it was stands in its output"
                await answer.refuse(Refused(500, "fault", what))

    def _check_token(self, scope: dict[str, Any]) -> None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1 or not compare_digest(given[0], self._authorization):
            raise Refused(
                *(401, "unauthorized", "send Authorization: Bearer TOKEN, with this one's token"),
                headers={"www-authenticate": "Bearer"},
            )

    async def _route(self, scope: dict[str, Any], body: Body, answer: Answer) -> None:
        method, path = scope["method"], scope["path"]
        top, *rest = path.strip("/").split("/")
        query = _query(scope)
        if top == "health" and not rest:
            _allow(method, "GET")
            await answer.json(self._server.health())
        elif top == "work" and not rest:
            _allow(method, "GET", "POST")
            await (self._rows(answer) if method == "GET" else self._stream(body, answer))
        elif top == "work" and len(rest) == 1:
            _allow(method, "GET")
            await answer.json(self._server.works.row(check_worker_id(rest[0])))
        elif top == "work" and len(rest) == 2:
            await self._route_worker(method, (rest[0], rest[1]), query, body, answer)
        else:
            raise _no_path(path)

    async def _route_worker(
        self,
        method: str,
        path: tuple[str, str],
        query: dict[str, list[str]],
        body: Body,
        answer: Answer,
    ) -> None:
        worker_id, what = check_worker_id(path[0]), path[1]
        if what == "events":
            _allow(method, "GET")
            await _unless_gone(body, self._events(worker_id, query, answer))
        elif what == "messages":
            _allow(method, "POST")
            await self._messages(worker_id, body, answer)
        elif what in VERBS:
            _allow(method, "POST")
            await self._verb(worker_id, what, query, body, answer)
        else:
            raise _no_path(f"/work/{worker_id}/{what}")

    async def _rows(self, answer: Answer) -> None:
        rows = b"".join(map(as_line, self._server.works.rows()))
        await answer.whole(200, rows, LINES)

    async def _stream(self, body: Body, answer: Answer) -> None:
        stream = Stream(self._server, body, answer)
        self._server.streams.add(stream)
        try:
            await stream.run()
        finally:
            self._server.streams.discard(stream)

    async def _events(self, worker_id: str, query: dict[str, list[str]], answer: Answer) -> None:
        """Answer with what there is of a log from somewhere on, or wait until there is."""
        after, offset = _count(query, "after"), _count(query, "offset")
        until = time.monotonic() + _seconds(query, "wait")
        place = self._server.works.place(worker_id)
        grown = asyncio.Event()
        with LogLines(place.path("events.jsonl")) as log:
            with self._server.growth.watched(place.directory, grown):
                await log.seek(after, offset)
                while not (piece := log.piece()):
                    left_s = until - time.monotonic()
                    if left_s <= 0 or self._server.works.leaving:
                        break
                    await _wait(grown, min(left_s, 1.0))
            await answer.begin(200, LINES)
            begun_at = log.offset - len(piece)
            while piece and (log.within_line or log.offset - begun_at < LINES_MOST_BYTES):
                await answer.write(piece)
                piece = log.piece()
            await answer.end(piece)

    async def _messages(self, worker_id: str, body: Body, answer: Answer) -> None:
        place = self._server.works.place(worker_id)
        size, messages = 0, []
        while (line := await body.line(LINE_MOST_BYTES)) is not None:
            size += len(line)
            if size > MESSAGES_MOST_BYTES:
                raise Refused(
                    413, "too_large", f"messages of more than {MESSAGES_MOST_BYTES} bytes"
                )
            if line.strip():
                messages.append(check_message(read_object(line, "a message")))
        if not messages:
            raise malformed("there is no message, one on each line")
        self._server.post(place, messages)
        await answer.whole(204, b"")

    async def _verb(
        self, worker_id: str, verb: str, query: dict[str, list[str]], body: Body, answer: Answer
    ) -> None:
        place = self._server.works.place(worker_id)
        arguments = check_arguments(query.get("argument", []))
        stdin = await body.whole(CALL_MOST_BYTES)
        task = self._server.asking.begin(place, verb, arguments, stdin)
        done = await asyncio.shield(task)
        headers = {
            EXIT_CODE_HEADER: str(done.exit_code),
            STDERR_HEADER: urllib.parse.quote(done.stderr[-STDERR_BYTES:]),
        }
        await answer.whole(200, done.stdout, BYTES, headers)


async def _unless_gone(body: Body, work: Coroutine[Any, Any, None]) -> None:
    """Do something for as long as the client is there."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(body.gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    event.clear()


def _query(scope: dict[str, Any]) -> dict[str, list[str]]:
    try:
        text = scope["query_string"].decode("ascii")
        return urllib.parse.parse_qs(text, keep_blank_values=True, errors="strict")
    except ValueError:
        raise malformed("the query is none") from None


def _count(query: dict[str, list[str]], name: str) -> int:
    text = query.get(name, ["0"])[-1]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise malformed(f"{name} is no count")
    return int(text)


def _seconds(query: dict[str, list[str]], name: str) -> float:
    try:
        seconds = float(query.get(name, ["0"])[-1])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise malformed(f"{name} is no number of seconds")
    return min(seconds, WAIT_MOST_S)


def _looks(scope: dict[str, Any]) -> bool:
    """Whether a request only asks how one worker is, or all."""
    top, *rest = scope["path"].strip("/").split("/")
    return scope["method"] == "GET" and top == "work" and len(rest) <= 1


def _allow(method: str, *methods: str) -> None:
    if method not in methods:
        allowed = ", ".join(methods)
        raise Refused(405, "method", f"it takes {allowed}", headers={"allow": allowed})


def _no_path(path: str) -> Refused:
    return Refused(404, "no_such_path", f"there is no {path[:80]!r} here; {THERE_IS}")

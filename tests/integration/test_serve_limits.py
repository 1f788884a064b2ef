"""What ``runner serve`` refuses: without the token, malformed, too large, or not there at all."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outpost.wire.work import CALL_MOST_BYTES, LINE_MOST_BYTES
from tests.serve_world import MEND, TOKEN, ServeWorld, serve_world
from tests.world import Remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def serves(
    tmp_path: Path, isolated_environment: dict[str, str], remote: Remote
) -> Iterator[ServeWorld]:
    with serve_world(tmp_path, isolated_environment, remote) as made:
        yield made


async def test_nothing_is_told_without_the_token(serves: ServeWorld) -> None:
    served = serves.start()
    paths = ("/health", "/work", "/work/w-1", "/nowhere", "/", "/work/w-1/kill")
    for path in paths:
        for token in ("", "x", TOKEN + "x", TOKEN[:-1], TOKEN.upper()):
            for method in ("GET", "POST"):
                answered = await served.call(method, path, token=token)
                assert (answered.status, answered.json()["code"]) == (401, "unauthorized")
    assert (await served.call("GET", "/health")).status == 200


async def test_what_there_is_not_is_said_with_what_there_is(serves: ServeWorld) -> None:
    served = serves.start()
    for method, path, status, words in (
        ("GET", "/", 404, "GET /health"),
        ("GET", "/nothing/at/all", 404, "GET /health"),
        ("POST", "/work/w-1/dance", 404, "kill"),
        ("GET", "/work/w-1/kill/now", 404, "GET /health"),
        ("GET", "/work/w-1", 404, "no worker w-1"),
        ("GET", "/work/w-1/events", 404, "no worker w-1"),
        ("POST", "/work/w-1/messages", 404, "no worker w-1"),
        ("POST", "/work/w-1/kill", 404, "no worker w-1"),
        ("DELETE", "/work", 405, "GET, POST"),
        ("POST", "/health", 405, "GET"),
        ("PUT", "/work/w-1/messages", 405, "POST"),
        ("GET", "/work/w-1/kill", 405, "POST"),
        ("GET", "/work/..%2f..%2fetc", 404, "GET /health"),
        ("GET", "/work/%2e%2e/events", 404, ""),
        ("GET", "/work/-x", 400, "worker_id"),
        ("GET", f"/work/{'x' * 200}", 400, "worker_id"),
    ):
        answered = await served.call(method, path)
        assert answered.status == status, (method, path, answered)
        assert words in answered.json()["message"], (method, path, answered)
        assert answered.json()["code"]


def spoilt(call: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield calls that are none, each with a word for what is wrong."""
    yield "nothing", b""
    yield "an empty line", b"\n" + json.dumps(call).encode()
    yield "no JSON", b"{"
    yield "no UTF-8", b'{"worker_id":"\xff"}'
    yield "a list", b"[]"
    yield "a number", b"7"
    yield "deep", b"[" * 100_000
    yield "digits", b"9" * 100_000
    texts: list[object] = [None, 7, True, [], {}]
    counts: list[object] = [None, -1, 1.5, True, "1", 1 << 70, []]
    wrong: dict[str, list[object]] = {
        "worker_id": [*texts, "", "..", ".", "a/b", "-a", "a b", "a\n", "ä", "x" * 101, "a\0"],
        "after": counts,
        "offset": counts,
        "hold": [None, 1, "true"],
        "order": [7, [], "x", {}],
        "environment": [
            *(7, [], {"agent": 7}, {"agent": {"A": 7}}, {"git": {"": "x"}}),
            *({"git": {"A=B": "x"}}, {"agent": {"A": "a\0b"}}, {"agent": {"A": "\ud800"}}),
        ],
    }
    for name, values in wrong.items():
        for value in values:
            yield f"{name} {value!r}", json.dumps({**call, name: value}).encode()
    order = call["order"]
    spans: list[object] = [-1, "1", True, [], 10**400, float("nan"), float("inf")]
    wrong_in_order: dict[str, list[object]] = {
        **dict.fromkeys(("federation_id", "task_id", "title", "prompt", "repo_url"), texts),
        "worker_id": [*texts, "w-another"],
        "branch": [*texts, ""],
        "version": [None, "1", 1.5],
        "base": [7, []],
        "keep_workspace": [None, 1],
        "agent": [
            *(*texts, {"name": "nobody"}, {"name": "command", "argv": "sh"}),
            *({"name": "command", "argv": [1]}, {"name": "command", "options": []}),
        ],
        "limits": [
            *(*texts, *({"grace_s": it} for it in spans)),
            *({"grace_s": 1, "time_s": it} for it in spans),
        ],
        "resume": [7, {}, {"worker_id": "a"}],
        "transcript": [
            *(7, {}, {"session_id": "a", "prompt": "b", "data": 7}),
            {"session_id": "a", "prompt": "b", "data": "ä"},
        ],
    }
    for name, values in wrong_in_order.items():
        for value in values:
            whole = {**call, "order": {**order, name: value}}
            yield f"order.{name} {value!r:.60}", json.dumps(whole).encode()


async def test_malformed_calls_of_all_kinds(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(MEND)
    call["environment"]["agent"] = {"A_SECRET": "s3cr3t-in-a-call"}
    number = 0
    for what, body in spoilt(call):
        answered = await served.call("POST", "/work", body)
        assert (answered.status, answered.json()["code"]) == (400, "malformed"), what
        assert "s3cr3t" not in answered.body.decode()
        number += 1
    assert number > 100
    assert (await served.call("GET", "/work")).body == b""
    assert "s3cr3t" not in served.said.read_text()
    assert "Traceback" not in served.said.read_text()
    # And the whole one is taken.
    assert (await served.result(call)).said[0]["started"]


async def test_malformed_lines_end_no_stream(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        for data in (
            *(b"{", b"[]", b"{}", b"\xff", b'{"said":7}', b'{"said":"attached"}'),
            *(b'{"said":"message"}', b'{"said":"message","message":{"type":7}}'),
            *(b'{"said":"ask"}', b'{"said":"ask","id":"1","verb":"diff","stdin":7}'),
            b'{"said":"ask","id":"1","verb":"diff","stdin":"x"}',
            b'{"said":"ask","id":"1","verb":"diff","arguments":"x"}',
            b'{"said":"ask","id":"1","verb":"diff","arguments":["\\u0000"]}',
            *(b'{"said":"call"}', b'{"said":"call","call":7}'),
        ):
            talk.send(data + b"\n")
            said = await talk.until_said("refused")
            assert said["code"] == "malformed", data
        talk.send(b"\n  \n")
        talk.send(b'{"said":"message","message":{"type":"text","text":"x",')
        talk.send(b'"message_id":"1"}}\n')
        await talk.until_event('"message_id":"1"')
        talk.send(b"x" * (LINE_MOST_BYTES + 2))
        assert (await talk.until_said("refused"))["code"] == "too_large"
        go.touch()
        await talk.to_end()
    assert talk.log == served.log(call["worker_id"])


async def test_queries_and_messages_that_are_none(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(MEND)
    await served.result(call)
    path = f"/work/{call['worker_id']}"
    for query in ("after=x", "after=-1", "offset=1.5", "wait=x", "wait=nan", "wait=-1", "after=²"):
        answered = await served.call("GET", f"{path}/events?{query}")
        assert (answered.status, answered.json()["code"]) == (400, "malformed"), query
    for body in (b"", b"\n", b"{}", b"7", b'{"type":"text"}\n{'):
        assert (await served.call("POST", f"{path}/messages", body)).status == 400, body
    assert not Path(served.place(call["worker_id"]).path("inbox.jsonl")).exists()
    many = "&".join(["argument=x"] * 100)
    assert (await served.call("POST", f"{path}/diff?{many}")).status == 400
    assert (await served.call("POST", f"{path}/recover", b"no JSON")).status == 400


async def test_what_is_too_large(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(MEND)
    await served.result(call)
    big = b'{"type":"text","text":"' + b"x" * LINE_MOST_BYTES + b'"}'
    answered = await served.call("POST", f"/work/{call['worker_id']}/messages", big)
    assert (answered.status, answered.json()["code"]) == (413, "too_large")
    whole = b'{"worker_id":"w-1","after":0,"x":"' + b"x" * CALL_MOST_BYTES + b'"}'
    answered = await served.call("POST", "/work", whole)
    assert (answered.status, answered.json()["code"]) == (413, "too_large")


def test_requests_that_are_no_http_do_no_harm(serves: ServeWorld) -> None:
    served = serves.start()
    for data in (
        b"\0" * 1000,
        b"GET\n\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxx",
        b"\x16\x03\x01",
    ):
        line = socket.create_connection(("127.0.0.1", served.port), timeout=10)
        with line, contextlib.suppress(OSError):  # it may be gone at once
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            while line.recv(1000):
                pass
    head = f"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as line:
        line.sendall(f"{head}Connection: close\r\n\r\n".encode())
        said = b""
        while piece := line.recv(1000):
            said += piece
    assert said.startswith(b"HTTP/1.1 200")
    # Two tokens are none, even if one of them is right.
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as line:
        line.sendall(f"{head}Authorization: Bearer x\r\n\r\n".encode())
        assert line.recv(1000).startswith(b"HTTP/1.1 401")

"""Clients of ``runner serve``: curl over both protocols, many at once, those that just go away."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyqwest import HTTPVersion

from tests.serve_world import MEND, TOKEN, Served, ServeWorld, Talk, client, serve_world, soon
from tests.world import Remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
BOTH = pytest.mark.parametrize("flag", ["--http1.1", "--http2-prior-knowledge"])


@pytest.fixture
def serves(
    tmp_path: Path, isolated_environment: dict[str, str], remote: Remote
) -> Iterator[ServeWorld]:
    with serve_world(tmp_path, isolated_environment, remote) as made:
        yield made


def held(served: Served) -> dict[str, int]:
    """Return what the server holds open: descriptors by kind."""
    found: dict[str, int] = {}
    for entry in Path(f"/proc/{served.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kind = str(entry.readlink()).partition(":")[0]
            kind = "file" if kind.startswith("/") else kind
            found[kind] = found.get(kind, 0) + 1
    return found


def watches(served: Served) -> int:
    """Return how many folders the server has the kernel watch."""
    texts = []
    for entry in Path(f"/proc/{served.process.pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            texts.append(entry.read_text())
    return "".join(texts).count("inotify wd:")


def curl(served: Served, flag: str, *arguments: str) -> list[str]:
    header = f"Authorization: Bearer {TOKEN}"
    return ["curl", "-sS", "-N", flag, "-H", header, *arguments, f"{served.url}/work"]


@BOTH
async def test_curl_starts_a_worker_and_follows_it(
    serves: ServeWorld, require: Callable[[str], str], flag: str
) -> None:
    require("curl")
    served = serves.start("--heartbeat", "0.2")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    path = serves.folder / "call.json"
    path.write_text(json.dumps(call))
    argv = curl(served, flag, "--data-binary", f"@{path}")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines: list[bytes] = []

    async def until_line(text: bytes) -> None:
        while not lines or text not in lines[-1]:
            lines.append(await asyncio.to_thread(process.stdout.readline))  # type: ignore[union-attr]
            assert lines[-1], lines

    await until_line(b"begun")
    assert json.loads(lines[0])["said"] == "attached"
    await until_line(b"heartbeat")
    go.touch()
    await until_line(b'"said":"ended"')
    assert process.stdout.read() == b""
    assert process.wait(5) == 0
    log = b"".join(line for line in lines if not line.startswith(b'{"said":'))
    assert log == served.log(call["worker_id"])
    process.stdout.close()


@BOTH
async def test_curl_that_is_interrupted_ends_nothing_but_its_stream(
    serves: ServeWorld, require: Callable[[str], str], flag: str
) -> None:
    require("curl")
    served = serves.start()
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    argv = curl(served, flag, "--data-binary", json.dumps(call))
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    while b"begun" not in await asyncio.to_thread(process.stdout.readline):
        pass
    assert watches(served) == 1
    process.kill()
    process.wait()
    process.stdout.close()
    await soon(lambda: watches(served) == 0, "its stream is over", deadline_s=3)
    go.touch()
    assert (await served.result(call)).log == served.log(call["worker_id"])


async def test_http1_in_both_directions(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call, through=client(HTTPVersion.HTTP1)) as talk:
        await talk.until_event("begun")
        talk.say({"said": "message", "message": {"type": "text", "text": "x", "message_id": "1"}})
        await talk.until_event('"message_id":"1"')
        go.touch()
        assert await talk.to_end() == served.log(call["worker_id"])


async def test_a_body_that_comes_in_crumbs(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(MEND)
    body = json.dumps(call).encode() + b"\n"
    head = (
        "POST /work HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head.encode())
    for at in range(0, len(body), 7):
        piece = body[at : at + 7]
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
        await asyncio.sleep(0)
    # The body has no end yet, and the answer comes all the same.
    said = await asyncio.wait_for(reader.readuntil(b'"said":"attached"'), 20)
    assert said.startswith(b"HTTP/1.1 200")
    await asyncio.wait_for(reader.readuntil(b'"said":"ended"'), 20)
    writer.close()


async def test_300_that_go_away_leave_nothing_behind(serves: ServeWorld) -> None:
    served = serves.start("--heartbeat", "0.3")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    attach = {"worker_id": call["worker_id"], "after": 0}
    async with served.talk(call) as talk:
        await talk.until_event("begun")

        async def come_and_go(number: int) -> None:
            async with served.talk(attach) as other:
                if number % 3:
                    await other.until_event("begun")
                if number % 5 == 0:
                    other.hang_up()

        def at_rest() -> bool:
            return held(served).get("file", 0) == before.get("file", 0)

        before = held(served)
        for start in range(0, 300, 20):
            await asyncio.gather(*(come_and_go(start + number) for number in range(20)))
        await soon(at_rest, "their logs are closed")
        # The connection that carried them goes on.
        go.touch()
        await talk.to_end()
    await soon(lambda: watches(served) == 0, "nothing is watched any more")
    after = held(served)
    assert after.get("socket", 0) <= before.get("socket", 0) + 1, (before, after)


async def test_those_that_never_send_a_call_hold_nothing(serves: ServeWorld) -> None:
    served = serves.start()
    before = held(served)
    head = (
        f"POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nAuthorization: Bearer {TOKEN}\r\n"
    )
    lines = []
    for _ in range(50):
        line = socket.create_connection(("127.0.0.1", served.port))
        line.sendall(f"{head}\r\n{{".encode())
        lines.append(line)
    await soon(lambda: held(served)["socket"] >= before["socket"] + 50, "they are there")
    for line in lines:
        line.close()
    await soon(lambda: held(served)["socket"] == before["socket"], "they are gone")


async def test_200_streams_at_once(serves: ServeWorld) -> None:
    served = serves.start("--max-workers", "2")
    script, go = serves.waiting("echo begun", after="for i in $(seq 300); do echo line $i; done")
    calls = [serves.order(script), serves.order(script)]
    ready = asyncio.Semaphore(0)

    async def follow(call: dict[str, object]) -> Talk:
        async with served.talk(call) as talk:
            await talk.until_event("begun")
            ready.release()
            await talk.to_end()
            return talk

    following = [asyncio.create_task(follow(calls[number % 2])) for number in range(200)]
    for _ in following:
        await asyncio.wait_for(ready.acquire(), 60)
    go.touch()
    talks = await asyncio.gather(*following)
    logs = [served.log(str(call["worker_id"])) for call in calls]
    for number, talk in enumerate(talks):
        assert talk.log == logs[number % 2]
        assert talk.said[-1]["said"] == "ended"
    assert sum(bool(talk.said[0]["started"]) for talk in talks) == 2
    await soon(lambda: watches(served) == 0, "nothing is watched any more")


async def test_a_silent_worker_has_heartbeats(serves: ServeWorld) -> None:
    served = serves.start("--heartbeat", "0.2")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    loop = asyncio.get_running_loop()
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        moments = []
        for _ in range(5):
            beat = await talk.until_said("heartbeat")
            assert beat["time"].endswith("Z")
            moments.append(loop.time())
        gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
        assert min(gaps) > 0.1, gaps
        assert max(gaps) < 1, gaps
        go.touch()
        await talk.to_end()

"""Ends of a server and of its workers: told to, nobody follows, nobody needs it, killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyqwest import ReadError, RemoteProtocolError

from outpost.wire.events import decode
from tests.serve_world import MEND, TOKEN, Served, ServeWorld, serve_world, soon
from tests.world import Remote, alive

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


@pytest.fixture
def serves(
    tmp_path: Path, isolated_environment: dict[str, str], remote: Remote
) -> Iterator[ServeWorld]:
    with serve_world(tmp_path, isolated_environment, remote) as made:
        yield made


def inbox(served: Served, worker_id: str) -> list[dict[str, Any]]:
    path = Path(served.place(worker_id).path("inbox.jsonl"))
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line]


async def test_told_to_end_it_saves_the_work_first(serves: ServeWorld) -> None:
    served = serves.start("--grace", "9")
    script, _go = serves.waiting("echo half > words.txt; echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk, served.talk(call) as other:
        await talk.until_event("begun")
        began = time.monotonic()
        served.terminate()
        await talk.until_said("leaving")
        result = await talk.until_event('"type":"result"')
        await talk.to_end()
        assert talk.said[-1]["said"] == "ended"
        assert await other.to_end() == talk.log
    assert await asyncio.to_thread(served.ended, 5) == 0
    assert time.monotonic() - began < 9
    [message] = inbox(served, call["worker_id"])
    assert message.pop("grace_s") == pytest.approx(0.4 * 8.5)
    reason = "the platform ends this instance"
    assert message == {"type": "stop", "reason": reason, "again": True}
    assert (result.fields["outcome"], result.fields["evicted"]) == ("failed", True)
    assert result.fields["reason"] == reason
    ref, _, path = result.fields["kept"]["where"].partition(" ")
    assert (result.fields["kept"]["how"], path) == ("remote", "")
    assert "half" in [serves.remote.show(name, "words.txt") for name in serves.remote.refs()], ref


async def test_while_it_ends_there_is_no_new_work(serves: ServeWorld) -> None:
    served = serves.start("--grace", "9")
    # It takes its time to stop.
    script, _go = serves.waiting("trap 'sleep 1; exit 0' INT; echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        served.terminate()
        await talk.until_said("leaving")
        new = await served.call("POST", "/work", json.dumps(serves.order(MEND)).encode())
        assert (new.status, new.json()["code"]) == (503, "leaving")
        assert new.headers["retry-after"] == "1"
        assert (await served.call("GET", "/health")).json()["leaving"] is True
        # Whoever wants to see how it ends may.
        async with served.talk({"worker_id": call["worker_id"], "after": 0}) as again:
            await again.to_end()
            assert again.said[1]["said"] == "leaving"
            assert again.said[-1]["said"] == "ended"
        await talk.to_end()
    assert await asyncio.to_thread(served.ended, 5) == 0


async def test_a_held_stream_without_work_keeps_it_no_longer(serves: ServeWorld) -> None:
    served = serves.start("--heartbeat", "0.1")
    async with served.talk({**serves.order(MEND), "hold": True}) as talk:
        await talk.until_said("ended")
        await talk.until_said("heartbeat")
        began = time.monotonic()
        served.terminate()
        await talk.to_end()
        assert talk.said[-1]["said"] == "leaving"
    assert await asyncio.to_thread(served.ended, 5) == 0
    assert time.monotonic() - began < 5


async def test_when_the_grace_is_over_it_goes_and_kills_nobody(serves: ServeWorld) -> None:
    served = serves.start("--grace", "1.5")
    hook = serves.remote.path / "hooks" / "pre-receive"
    go = serves.folder / "push"
    hook.write_text(f"#!/bin/sh\nuntil [ -e {go} ]; do sleep 0.05; done\n")
    hook.chmod(0o755)
    script, _go = serves.waiting("echo half > words.txt; echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        began = time.monotonic()
        served.terminate()
        with pytest.raises((ReadError, RemoteProtocolError, AssertionError)):
            await talk.until_said("ended")
        assert await asyncio.to_thread(served.ended, 5) == 0
        assert 1 < time.monotonic() - began < 4
    place = served.place(call["worker_id"])
    assert place.cared_for()
    go.touch()
    await soon(lambda: not place.cared_for(), "it has saved its work")
    result = decode(served.log(call["worker_id"]).splitlines()[-1])
    assert result.fields["kept"]["how"] == "remote"


async def test_a_worker_that_nobody_follows_is_stopped(serves: ServeWorld) -> None:
    served = serves.start("--lease", "0.6", "--max-workers", "2")
    script, _go = serves.waiting("echo half > words.txt; echo begun")
    followed, left = serves.order(script), serves.order(script)
    async with served.talk(followed) as talk:
        async with served.talk(left) as other:
            await other.until_event("begun")
        await soon(lambda: inbox(served, left["worker_id"]), "it is told to stop")
        [message] = inbox(served, left["worker_id"])
        assert message["reason"] == "nobody follows it any more"
        assert message["again"] is True
        await soon(lambda: b'"type":"result"' in served.log(left["worker_id"]), "it stops")
        # The stream of the other holds it.
        assert not inbox(served, followed["worker_id"])
        talk.say({"said": "message", "message": {"type": "stop", "grace_s": 1}})
        await talk.to_end()


async def test_a_lease_is_renewed_by_following_again(serves: ServeWorld) -> None:
    served = serves.start("--lease", "1")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    for _ in range(4):
        async with served.talk(call) as talk:
            await talk.until_event("begun")
        await asyncio.sleep(0.4)
    assert not inbox(served, call["worker_id"])
    async with served.talk(call) as talk:
        go.touch()
        await talk.to_end()
    assert decode(talk.log.splitlines()[-1]).fields["outcome"] == "done"


async def test_the_lease_of_a_worker_found_at_the_start_begins_there(serves: ServeWorld) -> None:
    served = serves.start()
    script, _go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        served.kill()
    again = serves.start("--lease", "0.6")
    assert not inbox(again, call["worker_id"])
    await soon(lambda: inbox(again, call["worker_id"]), "it is told to stop")
    await soon(lambda: not again.place(call["worker_id"]).cared_for(), "it stops")


async def test_time_that_it_was_frozen_does_not_count(serves: ServeWorld) -> None:
    served = serves.start("--lease", "1.5", "--idle-exit", "1.5")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
    served.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(3.5)
    served.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.3)
    assert not inbox(served, call["worker_id"])
    async with served.talk(call) as talk:
        go.touch()
        await talk.to_end()
    assert decode(talk.log.splitlines()[-1]).fields["outcome"] == "done"


async def test_looks_do_not_keep_it(serves: ServeWorld) -> None:
    """Whoever looks after workers looks at those that have ended as well, for ever."""
    served = serves.start("--idle-exit", "0.8")
    call = serves.order(MEND)
    async with served.talk(call) as talk:
        await talk.until_said("ended")
    async with asyncio.timeout(20):
        while served.process.poll() is None:
            with contextlib.suppress(ConnectionError, ReadError):
                await served.call("GET", f"/work/{call['worker_id']}")
                await served.call("GET", "/work")
            await asyncio.sleep(0.1)
    assert "nobody needs it" in served.said.read_text()


async def test_it_waits_from_the_end_of_its_work_on(serves: ServeWorld) -> None:
    served = serves.start("--idle-exit", "0.8")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
    await asyncio.sleep(1.2)
    go.touch()
    place = served.place(call["worker_id"])
    await soon(lambda: not place.cared_for(), "it is done")
    assert served.process.poll() is None, "somebody may ask what became of it"


async def test_it_ends_once_nobody_needs_it(serves: ServeWorld) -> None:
    served = serves.start("--idle-exit", "0.8")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
    await asyncio.sleep(1.2)
    assert served.process.poll() is None, "a worker lives"
    async with served.talk({**call, "hold": True}) as talk:
        go.touch()
        await talk.until_said("ended")
        await asyncio.sleep(1.2)
        assert served.process.poll() is None, "somebody holds it"
    for _ in range(4):
        await asyncio.sleep(0.3)
        assert (await served.call("GET", "/health")).status == 200
    began = time.monotonic()
    while served.process.poll() is None:
        # Strangers do not keep it.
        assert time.monotonic() - began < 5
        with contextlib.suppress(ConnectionError):
            await served.call("GET", "/health", token="no")
        await asyncio.sleep(0.1)
    assert served.ended(1) == 0
    assert "nobody needs it" in served.said.read_text()


def test_without_a_token_it_does_not_start(serves: ServeWorld) -> None:
    def said(*flags: str, **variables: str) -> str:
        done = subprocess.run(
            serves.command("--root", str(serves.folder / "none"), *flags),
            env={**serves.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    empty = serves.folder / "empty"
    empty.touch()
    assert "no token" in said()
    assert "no token" in said(OUTPOST_SERVE_TOKEN=" ")
    assert "no token" in said(OUTPOST_SERVE_TOKEN_FILE=str(empty))
    assert "cannot be read" in said(OUTPOST_SERVE_TOKEN_FILE="/nowhere")
    assert "HTTP header" in said(OUTPOST_SERVE_TOKEN="a b")
    token = {"OUTPOST_SERVE_TOKEN": "x"}
    assert "usage" in said("--what", "1", **token)
    assert "needs a value" in said("--lease", **token)
    assert "no number" in said("--lease", "soon", **token)
    assert "no number" in said(OUTPOST_SERVE_MAX_WORKERS="0", **token)
    assert "HOST:PORT" in said("--listen", "8080", **token)
    assert "no folder" in said("--cache", "/nowhere", **token)
    assert not (serves.folder / "none").exists()


async def test_all_of_it_can_be_said_by_variables(serves: ServeWorld) -> None:
    token = serves.folder / "token"
    token.write_text("another\n")
    cache = serves.folder / "volume"
    cache.mkdir()
    variables = {
        "OUTPOST_SERVE_TOKEN": "",
        "OUTPOST_SERVE_TOKEN_FILE": str(token),
        "OUTPOST_SERVE_MAX_WORKERS": "7",
        "OUTPOST_SERVE_CACHE": str(cache),
    }
    (serves.folder / "root" / "cache").mkdir(parents=True)
    served = serves.start(variables=variables)
    health = (await served.call("GET", "/health", token="another")).json()
    assert health["capacity"] == 7
    assert (served.root / "cache").readlink() == cache
    served.terminate()
    assert await asyncio.to_thread(served.ended, 5) == 0
    # Once more, where the link is there already.
    served = serves.start(variables=variables)
    assert (served.root / "cache").readlink() == cache


def test_a_port_that_is_taken_is_said_to_be(serves: ServeWorld) -> None:
    served = serves.start()
    done = subprocess.run(
        serves.command("--root", str(served.root), "--listen", f"127.0.0.1:{served.port}"),
        env={**serves.environment, "OUTPOST_SERVE_TOKEN": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


async def test_what_dies_with_the_server_is_nothing_but_the_server(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
    nursery = int(next(served.root.glob("runner/*.pid")).read_text())
    runner = served.place(call["worker_id"]).pids("runner.pid")[1]
    served.kill()
    assert alive(nursery)
    assert alive(runner)
    go.touch()
    await soon(lambda: not served.place(call["worker_id"]).cared_for(), "it ends")
    assert serves.remote.show(call["order"]["branch"], "words.txt") == "the words are right"


async def test_a_call_that_comes_late_hears_first_that_it_is_attached(serves: ServeWorld) -> None:
    served = serves.start("--grace", "6")
    script, _go = serves.waiting("trap 'sleep 1; exit 0' INT; echo begun")
    call = serves.order(script)
    head = f"POST /work HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    line = json.dumps({"worker_id": call["worker_id"], "after": 0}).encode() + b"\n"
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(f"{head}Content-Length: {len(line)}\r\n\r\n".encode() + line[:1])
        await writer.drain()
        # Somebody else's answer: by then the half of a call is there as well.
        assert (await served.call("GET", "/health")).status == 200
        served.terminate()
        await talk.until_said("leaving")
        writer.write(line[1:])
        said = await asyncio.wait_for(reader.readuntil(b'"said":"ended"'), 20)
        writer.close()
        await talk.to_end()
    assert said.index(b'"said":"attached"') < said.index(b'"said":"leaving"')
    assert said.count(b'"said":"leaving"') == 1

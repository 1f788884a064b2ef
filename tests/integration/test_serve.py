"""``runner serve``: starting, attaching, following, and talking to real workers over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.wire.events import EventReader, decode
from tests.serve_world import MEND, ServeWorld, ask, serve_world, soon
from tests.world import Remote, alive, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


@pytest.fixture
def serves(
    tmp_path: Path, isolated_environment: dict[str, str], remote: Remote
) -> Iterator[ServeWorld]:
    with serve_world(tmp_path, isolated_environment, remote) as made:
        yield made


async def test_an_order_becomes_a_pushed_branch(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(f"echo hello; {MEND}")
    talk = await served.result(call)
    worker_id = call["worker_id"]
    assert talk.said[0]["worker_id"] == worker_id
    assert (talk.said[0]["liveness"], talk.said[0]["started"]) == ("alive", True)
    assert talk.said[-1] == {"said": "ended", "worker_id": worker_id, "liveness": "dead"}
    assert talk.log == served.log(worker_id)
    events = list(EventReader().feed(talk.log))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].fields["outcome"] == "done"
    assert serves.remote.show(call["order"]["branch"], "words.txt") == "the words are right"


async def test_a_start_is_done_once_however_often_it_is_asked_for(serves: ServeWorld) -> None:
    served = serves.start("--max-workers", "1")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)

    async def follow() -> tuple[bool, bytes]:
        async with served.talk(call) as talk:
            return talk.said[0]["started"], await talk.to_end()

    following = [asyncio.create_task(follow()) for _ in range(4)]
    await soon(lambda: b"begun" in served.log(call["worker_id"]), "it is at work")
    again = asyncio.create_task(follow())
    await asyncio.sleep(0)
    go.touch()
    outcomes = await asyncio.gather(*following, again)
    assert sorted(started for started, _ in outcomes) == [False] * 4 + [True]
    log = served.log(call["worker_id"])
    assert {data for _, data in outcomes} == {log}
    assert log.count(b'"state":"starting"') == 1
    # Even when it has ended.
    assert await follow() == (False, log)


async def test_an_order_that_was_laid_down_only_is_started(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(MEND)
    folder = served.root / "workers" / call["worker_id"]
    folder.mkdir(parents=True)
    (folder / "order.json").write_text(json.dumps(call["order"]))
    talk = await served.result(call)
    assert talk.said[0]["started"]
    assert decode(talk.log.splitlines()[-1]).fields["outcome"] == "done"


async def test_messages_reach_the_worker_both_ways(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        talk.say({"said": "message", "message": {"type": "text", "text": "hi", "message_id": "1"}})
        assert (await talk.until_event('"message_id":"1"')).fields["delivered"] == "never"
        body = b'{"type":"text","text":"a","message_id":"2"}\n{"type":"text","text":"b"}'
        path = f"/work/{call['worker_id']}/messages"
        assert (await served.call("POST", path, body)).status == 204
        assert (await talk.until_event('"message_id":"2"')).type == "message"
        talk.say(
            {"said": "message", "message": {"type": "stop", "grace_s": 4, "reason": "so said"}}
        )
        result = await talk.until_event('"type":"result"')
        assert (result.fields["outcome"], result.fields["reason"]) == ("stopped", "so said")
        await talk.to_end()
    assert not go.exists()


async def test_commands_are_answered_between_lines_of_the_log(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo changed > words.txt; echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        code, patch, _ = await talk.ask("first", "diff", "--stat")
        assert (code, b"words.txt | 2 +-" in patch) == (0, True)
        code, _, problem = await talk.ask("second", "dance")
        assert (code, b"there is no 'dance'" in problem) == (2, True)
        go.touch()
        await talk.to_end()
    assert talk.log == served.log(call["worker_id"])
    path = f"/work/{call['worker_id']}"
    unsaved = await served.call("POST", f"{path}/unsaved")
    assert (unsaved.status, unsaved.body.strip()) == (200, b"")
    assert unsaved.headers["outpost-exit-code"] == "0"
    gone = await served.call("POST", f"{path}/diff?argument=--stat&argument=--no-color")
    assert gone.headers["outpost-exit-code"] == "3"
    odd = await served.call("POST", f"{path}/transcript?argument=a/b", b"{}")
    assert odd.headers["outpost-exit-code"] == "3"


async def test_an_answer_is_given_though_the_worker_has_ended(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order("sleep 0.3")
    async with served.talk(call) as talk:
        await talk.until_event('"type":"result"')
        talk.say(ask("late", "unsaved"))
        said = await talk.until_said("answer")
        assert said["exit_code"] == 0
        await talk.to_end()
        assert {it["said"] for it in talk.said} >= {"ended", "answer"}


async def test_kill_and_recover_and_remove(serves: ServeWorld) -> None:
    served = serves.start()
    script, _go = serves.waiting("echo half > words.txt; echo begun")
    call = serves.order(script)
    path = f"/work/{call['worker_id']}"
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        assert (await served.call("POST", f"{path}/kill")).headers["outpost-exit-code"] == "0"
        await talk.to_end()
        assert talk.said[-1]["liveness"] == "dead"
    assert b'"type":"result"' not in talk.log
    assert (await served.call("GET", path)).json()["liveness"] == "dead"
    # Without a word about variables: those of the place are there.
    mended = await served.call("POST", f"{path}/recover", b'{"agent":{},"git":{}}')
    assert (mended.headers["outpost-exit-code"], mended.headers["outpost-stderr"]) == ("0", "")
    rest = await served.result({"worker_id": call["worker_id"], "after": 0})
    result = decode(rest.log.splitlines()[-1])
    assert result.fields["rescued"] is True
    assert serves.remote.show(call["order"]["branch"], "words.txt") == "half"
    assert (await served.call("POST", f"{path}/remove")).headers["outpost-exit-code"] == "0"
    assert (await served.call("GET", path)).status == 404
    assert (await served.call("GET", f"{path}/events")).status == 404


async def test_the_place_adds_its_variables_and_keeps_its_token(serves: ServeWorld) -> None:
    served = serves.start(variables={"OF_THE_PLACE": "this", "BOTH": "place"})
    call = serves.order("env; tr '\\0' '\\n' < /proc/$PPID/environ; cat")
    call["environment"]["agent"] = {"BOTH": "order", "MY_SECRET_TOKEN": "s3cr3t-of-the-order"}
    talk = await served.result(call)
    assert b"OF_THE_PLACE=this" in talk.log
    assert b"BOTH=order" in talk.log
    assert b"a-token-of-the-tests" not in talk.log
    assert b"OUTPOST_SERVE" not in talk.log
    for path in served.root.rglob("*"):
        if path.is_file():
            assert b"s3cr3t-of-the-order" not in path.read_bytes(), path
    assert "s3cr3t" not in served.said.read_text()
    modes = {oct(path.stat().st_mode & 0o77) for path in served.root.glob("workers/*/*")}
    assert modes == {"0o0"}


async def test_a_conversation_lies_beside_the_order(serves: ServeWorld) -> None:
    served = serves.start()
    data = zlib.compress(os.urandom(3 << 20))
    carried = {"session_id": "s-1", "prompt": "Go on.", "data": base64.b64encode(data).decode()}
    call = serves.order(MEND, transcript=carried)
    await served.result(call)
    place = served.place(call["worker_id"])
    assert Path(place.path("transcript")).read_bytes() == data
    assert place.order()["transcript"] == {"session_id": "s-1", "prompt": "Go on."}


async def test_no_room_and_room_again(serves: ServeWorld) -> None:
    served = serves.start("--max-workers", "2")
    script, go = serves.waiting("echo begun")
    first, second, third = (serves.order(script) for _ in range(3))
    async with served.talk(first) as one, served.talk(second) as two:
        refused = await served.call("POST", "/work", json.dumps(third).encode())
        assert (refused.status, refused.json()["code"]) == (503, "busy")
        assert refused.headers["retry-after"] == "5"
        assert not served.place(third["worker_id"]).cared_for()
        health = (await served.call("GET", "/health")).json()
        assert (health["capacity"], health["workers"]) == (2, 2)
        # Whoever is here already needs no room.
        async with served.talk(first) as again:
            assert not again.said[0]["started"]
        go.touch()
        await one.to_end()
        await two.to_end()
    assert decode((await served.result(third)).log.splitlines()[-1]).fields["outcome"] == "done"
    rows = (await served.call("GET", "/work")).body.splitlines()
    ids = sorted(call["worker_id"] for call in (first, second, third))
    assert [json.loads(row) for row in rows] == [
        {"worker_id": worker_id, "liveness": "dead"} for worker_id in ids
    ]


async def test_many_starts_at_once_keep_to_the_room_there_is(serves: ServeWorld) -> None:
    served = serves.start("--max-workers", "3")
    script, go = serves.waiting()
    calls = [serves.order(script) for _ in range(8)]

    async def start(call: dict[str, object]) -> int:
        # The body ends at once: the stream is left alone.
        return (await served.call("POST", "/work", json.dumps(call).encode())).status

    starting = [asyncio.create_task(start(call)) for call in calls]
    refused = [503] * 5
    while sum(task.done() for task in starting) < len(refused):
        await asyncio.sleep(0.01)
    go.touch()
    assert sorted(await asyncio.gather(*starting)) == [200] * 3 + refused


async def test_another_federations_worker_is_not_ours(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(MEND)
    await served.result(call)
    theirs = serves.order(MEND, worker_id=call["worker_id"], federation_id="f-other")
    refused = await served.call("POST", "/work", json.dumps(theirs).encode())
    assert (refused.status, refused.json()["code"]) == (409, "another_federation")


async def test_a_held_stream_takes_one_worker_after_the_other(serves: ServeWorld) -> None:
    served = serves.start("--heartbeat", "0.2")
    first, second = serves.order(MEND), serves.order(f"echo second; {MEND}")
    async with served.talk({**first, "hold": True}) as talk:
        await talk.until_said("ended")
        await talk.until_said("heartbeat")
        talk.say({"said": "call", "call": {"worker_id": "w-nobody", "after": 0}})
        assert (await talk.until_said("refused"))["code"] == "unknown_worker"
        talk.forget()
        talk.say({"said": "call", "call": second})
        attached = await talk.until_said("attached")
        assert (attached["worker_id"], attached["started"]) == (second["worker_id"], True)
        await talk.to_end()  # the second call was not to be held
    assert talk.log == served.log(second["worker_id"])
    script, go = serves.waiting()
    third = serves.order(script)
    async with served.talk(third) as talk:
        talk.say({"said": "call", "call": first})
        assert (await talk.until_said("refused"))["code"] == "not_yet"
        go.touch()
        await talk.to_end()


async def test_workers_outlive_the_server(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        seen = await talk.until_event("begun")
        served.kill()
    place = served.place(call["worker_id"])
    runner = place.pids("runner.pid")[1]
    again = serves.start()
    assert alive(runner)
    assert (await again.call("GET", f"/work/{call['worker_id']}")).json()["liveness"] == "alive"
    offset = len(talk.log)
    attach = {"worker_id": call["worker_id"], "after": seen.seq, "offset": offset}
    async with again.talk(attach) as rest:
        assert not rest.said[0]["started"]
        go.touch()
        await rest.to_end()
    assert talk.log + rest.log == again.log(call["worker_id"])
    assert serves.remote.show(call["order"]["branch"], "words.txt") == "the words are right"


async def test_a_runner_that_dies_at_its_start_is_told_of(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(MEND, author=7)
    talk = await served.result(call)
    assert talk.said[0]["started"]
    assert talk.log == b""
    # Its end is written by whoever mends it, and it is not started again.
    path = f"/work/{call['worker_id']}"
    assert (await served.call("GET", path)).json()["liveness"] == "dead"


async def test_an_order_that_cannot_be_laid_down_is_refused(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order(MEND)
    in_the_way = served.root / "workers" / call["worker_id"]
    in_the_way.parent.mkdir()
    in_the_way.write_text("no folder")
    refused = await served.call("POST", "/work", json.dumps(call).encode())
    assert (refused.status, refused.json()["code"]) == (500, "not_started")
    in_the_way.unlink()
    assert (await served.result(call)).said[0]["started"]


async def test_without_a_nursery_work_starts_all_the_same(serves: ServeWorld) -> None:
    served = serves.start()
    await served.result(serves.order(MEND))
    pid_file = next(served.root.glob("runner/*.pid"))
    first = int(pid_file.read_text())
    os.kill(first, 9)
    until(lambda: not alive(first), "the nursery is dead")
    talk = await served.result(serves.order(MEND))
    assert decode(talk.log.splitlines()[-1]).fields["outcome"] == "done"
    assert int(pid_file.read_text()) != first

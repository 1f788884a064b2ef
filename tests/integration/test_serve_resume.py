"""Reading a worker's log over HTTP: from any event, from any byte, cut anywhere, by many."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.wire.events import VOID, EventReader, encode
from tests.serve_world import Served, ServeWorld, serve_world, soon
from tests.world import Remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def serves(
    tmp_path: Path, isolated_environment: dict[str, str], remote: Remote
) -> Iterator[ServeWorld]:
    with serve_world(tmp_path, isolated_environment, remote) as made:
        yield made


def starts(log: bytes) -> list[int]:
    """Return where each line of a log begins, and where the last one ends."""
    return [0, *(at + 1 for at, byte in enumerate(log) if byte == ord("\n"))]


def planted(served: Served, worker_id: str, log: bytes) -> Path:
    """Make the files of a worker that has ended, with this log."""
    folder = Path(served.place(worker_id).directory)
    folder.mkdir(parents=True)
    (folder / "order.json").write_text(json.dumps({"federation_id": "f-test"}))
    (folder / "events.jsonl").write_bytes(log)
    return folder / "events.jsonl"


def line(seq: int, text: str = "") -> bytes:
    return encode(seq, "2026-01-01T00:00:00.000000Z", "log", {"stream": "stdout", "text": text})


async def test_from_every_event_and_every_byte(serves: ServeWorld) -> None:
    served = serves.start()
    call = serves.order("for i in 1 2 3 4 5 6 7 8 9; do echo line $i äöü; done")
    log = (await served.result(call)).log
    attach = {"worker_id": call["worker_id"]}
    begins = starts(log)
    for seq, begin in enumerate(begins):
        by_event = await served.result({**attach, "after": seq})
        assert by_event.log == log[begin:]
        by_offset = await served.result({**attach, "after": seq, "offset": begin})
        assert by_offset.log == log[begin:]
        path = f"/work/{call['worker_id']}/events?after={seq}"
        assert (await served.call("GET", path)).body == log[begin:]
        assert (await served.call("GET", f"{path}&offset={begin}")).body == log[begin:]
    # An offset within a line is none: the event says where to go on.
    for offset in (1, begins[3] - 1, begins[3] + 1, len(log) + 5):
        assert (await served.result({**attach, "after": 2, "offset": offset})).log == log[
            begins[2] :
        ]


async def test_cut_again_and_again_while_it_grows(serves: ServeWorld) -> None:
    """A reader that is cut at any moment and goes on from what it has misses nothing."""
    served = serves.start()
    line_of_it = "echo $i $(head -c 300 /dev/zero | tr '\\0' x)"
    script = f"i=0; while [ $i -lt 300 ]; do {line_of_it}; i=$((i+1)); done"
    call = serves.order(script)
    chance = random.Random(7)
    got, seq = b"", 0
    while True:
        whole = {**call, "after": seq, "offset": len(got) if chance.random() < 0.5 else 0}
        async with served.talk(whole) as talk:
            for _ in range(chance.randrange(60)):
                if await talk.next() is None:
                    break
            got += talk.log
            seq += talk.log.count(b"\n")
        if talk.said[-1]["said"] == "ended":
            break
    assert got == served.log(call["worker_id"])
    assert [event.seq for event in EventReader().feed(got)] == list(range(1, seq + 1))


async def test_void_lines_and_gaps_go_out_as_they_stand(serves: ServeWorld) -> None:
    served = serves.start()
    torn = line(3)[:-10] + VOID + b"\n"
    gap = encode(8, "2026-01-01T00:00:00.000000Z", "gap", {"from_seq": 4, "to_seq": 8})
    parts = [line(1), line(2), torn, line(3), gap, line(9), b'{"seq":10,"ti']
    log = b"".join(parts)
    planted(served, "w-odd", log)
    whole = log[: -len(parts[-1])]
    assert (await served.result({"worker_id": "w-odd", "after": 0})).log == whole
    for after, index in ((1, 1), (2, 2), (3, 4), (5, 4), (7, 4), (8, 5), (9, 6)):
        expected = b"".join(parts[index:-1])
        assert (await served.result({"worker_id": "w-odd", "after": after})).log == expected, after


async def test_half_a_line_is_kept_back_until_it_is_whole(serves: ServeWorld) -> None:
    served = serves.start("--heartbeat", "0.1")
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        path = Path(served.place(call["worker_id"]).path("events.jsonl"))
        seen = talk.log
        whole = line(77, "half")
        with path.open("ab") as log:
            log.write(whole[:-10])
            log.flush()
            # What the server itself says goes on meanwhile, and is no part of the line.
            await talk.until_said("heartbeat")
            await talk.until_said("heartbeat")
            assert talk.log == seen
            log.write(whole[-10:])
            log.flush()
            assert await talk.until_event("half")
        go.touch()
        await talk.to_end()
        assert talk.log == path.read_bytes()


async def test_a_very_long_line(serves: ServeWorld) -> None:
    served = serves.start("--heartbeat", "0.1")
    log = line(1) + line(2, "x" * (40 << 20)) + line(3)
    path = planted(served, "w-long", log)
    assert (await served.result({"worker_id": "w-long", "after": 0})).log == log
    assert (await served.result({"worker_id": "w-long", "after": 2})).log == line(3)
    one = await served.call("GET", "/work/w-long/events?after=1")
    assert one.body == log[len(line(1)) :]
    assert (await served.call("GET", "/work/w-long/events?after=3")).body == b""
    # The server does not hold it in memory, nor even much of it.
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    assert peak_kib < 80 << 10, f"{peak_kib} KiB at its peak"
    assert path.stat().st_size == len(log)


async def test_a_slow_reader_is_not_read_ahead_of(serves: ServeWorld) -> None:
    served = serves.start()
    log = b"".join(line(number, "x" * 1000) for number in range(1, 60_000))
    planted(served, "w-much", log)

    def read_bytes() -> int:
        io = Path(f"/proc/{served.process.pid}/io").read_text()
        return int(io.partition("rchar: ")[2].split()[0])

    before = read_bytes()
    async with served.talk({"worker_id": "w-much", "after": 0}) as talk:
        for _ in range(5):
            await talk.next()
        seen = read_bytes()

        def rests() -> bool:
            nonlocal seen
            last, seen = seen, read_bytes()
            return seen == last

        await asyncio.sleep(0.3)
        await soon(rests, "the server waits for its client")
        # Looking for the end of lines reads everything twice; windows and buffers are the rest.
        assert seen - before < 16 << 20, f"{(seen - before) >> 20} MiB read ahead"
        # Others are served meanwhile.
        assert (await served.call("GET", "/health")).status == 200
        assert await talk.to_end() == log


async def test_several_follow_one_worker_and_each_gets_all(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    async with served.talk(call) as first, served.talk(call) as second:
        await first.until_event("begun")
        await second.until_event("begun")
        second.say({"said": "message", "message": {"type": "text", "text": "x", "message_id": "1"}})
        await first.until_event('"message_id":"1"')
        go.touch()
        assert await first.to_end() == await second.to_end() == served.log(call["worker_id"])


async def test_waiting_for_what_comes_next(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo begun", after="echo went")
    call = serves.order(script)
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        path = f"/work/{call['worker_id']}/events?offset={len(talk.log)}&wait="
        assert (await served.call("GET", path + "0.2")).body == b""
        waiting = asyncio.create_task(served.call("GET", path + "60"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        go.touch()
        assert b"went" in (await waiting).body
        await talk.to_end()


async def test_growth_is_seen_at_once(serves: ServeWorld) -> None:
    served = serves.start()
    script, go = serves.waiting("echo begun")
    call = serves.order(script)
    loop = asyncio.get_running_loop()
    async with served.talk(call) as talk:
        await talk.until_event("begun")
        path = Path(served.place(call["worker_id"]).path("events.jsonl"))
        taken = []
        for number in range(100, 140):
            began = loop.time()
            with path.open("ab") as log:
                log.write(line(number))
            await talk.until_event(f'"seq":{number}')
            taken.append(loop.time() - began)
        assert sorted(taken)[len(taken) // 2] < 0.01, taken
        go.touch()
        await talk.to_end()

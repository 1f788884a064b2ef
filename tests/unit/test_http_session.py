"""What a session makes of what it hears: lines of the log, words of the server, and nonsense."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from outpost.transports.http_session import LINE_MOST_BYTES, Cut, Session
from outpost.wire.events import VOID, encode

ATTACHED = (
    b'{"said":"attached","worker_id":"w-1","instance":"i-1","liveness":"alive","started":true}\n'
)
ONE = encode(1, "2026-01-01T00:00:00Z", "status", {"state": "starting"})
TWO = encode(2, "2026-01-01T00:00:01Z", "log", {"stream": "stdout", "text": "x"})
ENDED = b'{"said":"ended","liveness":"dead"}\n'


async def heard(*pieces: bytes) -> list[object]:
    """Return all that a session yields of an answer in these pieces, behind ``ATTACHED``."""

    async def content() -> AsyncIterator[bytes]:
        for piece in (ATTACHED, *pieces):
            yield piece

    session = Session({"worker_id": "w-1", "after": 0}, silent_s=5.0)
    await session.begin(content())
    assert (session.instance, session.started, session.alive) == ("i-1", True, True)
    return [it async for it in session.read()]


async def test_lines_come_whole_and_in_runs() -> None:
    whole = ONE + TWO + b'{"said":"heartbeat"}\n' + ENDED
    pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    for answer in ([whole], pieces):
        runs = await heard(*answer)
        assert b"".join(it for it in runs if isinstance(it, bytes)) == ONE + TWO
        assert b"" in runs, "a heartbeat"
        assert runs[-1] == {"said": "ended", "liveness": "dead"}


async def test_what_a_dead_writer_left_is_of_the_log() -> None:
    torn = ONE[:20] + VOID + b"\n"
    assert await heard(torn + ONE) == [torn + ONE]
    assert await heard(b"\xff\x00" + VOID + b"\n") == [b"\xff\x00" + VOID + b"\n"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"upstream request timeout\n",
        b"\n",
        b'{"said":nonsense\n',
        b'{"said":"answer"}\n',
        b'{"said":"answer","id":"1","exit_code":0,"stdout":"%%%"}\n',
        b'{"said":' + b"[" * 100_000 + b"\n",
    ],
    ids=["a front end", "nothing", "no JSON", "no id", "nobody asked", "deep"],
)
async def test_nonsense_cuts_and_nothing_of_it_is_kept(nonsense: bytes) -> None:
    if b'"id":"1"' in nonsense:
        assert await heard(nonsense + ONE) == [ONE], "an answer that nobody waits for"
        return
    with pytest.raises(Cut):
        await heard(ONE + nonsense + TWO)


async def test_a_line_without_an_end_is_not_held_for_ever() -> None:
    with pytest.raises(Cut):
        await heard(*[b"x" * (16 << 20)] * (LINE_MOST_BYTES // (16 << 20) + 2))


async def test_an_answer_that_begins_with_something_else_is_none() -> None:
    session = Session({"worker_id": "w-1", "after": 0}, silent_s=5.0)

    async def content() -> AsyncIterator[bytes]:
        yield b"<html>" + b"x" * 5_000_000 + b"\n"

    with pytest.raises(ValueError) as caught:
        await session.begin(content())
    assert len(str(caught.value)) < 500

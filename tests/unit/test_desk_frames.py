"""Frames between desk and client: cut anywhere they come whole, and garbage is refused."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outpost.runner.desk import MOST_BYTES, Frames, Garbage, frame

_texts = st.text(max_size=20) | st.sampled_from(["\ud800", "\udcff", "é🙂", "\n", "\x00", ""])
_values = st.none() | st.booleans() | st.integers() | _texts | st.lists(_texts, max_size=3)
_headers = st.builds(
    lambda more, number: {**more, "id": number},
    st.dictionaries(_texts, _values, max_size=4),
    st.integers(0, 1 << 40),
)
_frames = st.lists(st.tuples(_headers, st.binary(max_size=300)), max_size=8)


@given(frames=_frames, data=st.data())
def test_cut_anywhere_every_frame_comes_once_and_whole(
    frames: list[tuple[dict[str, Any], bytes]], data: st.DataObject
) -> None:
    sent = b"".join(frame(header, payload) for header, payload in frames)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8))), len(sent)]
    reader = Frames()
    got = []
    for start, end in itertools.pairwise(cuts):
        got += list(reader.feed(sent[start:end]))
    assert got == frames
    assert not reader.rest


@given(frames=_frames, data=st.data())
def test_what_is_missing_is_never_made_up(
    frames: list[tuple[dict[str, Any], bytes]], data: st.DataObject
) -> None:
    sent = [frame(header, payload) for header, payload in frames]
    whole = b"".join(sent)
    end = data.draw(st.integers(0, len(whole)))
    got = list(Frames().feed(whole[:end]))
    assert got == frames[: len(got)]
    assert sum(map(len, sent[: len(got)])) <= end
    assert len(got) == len(sent) or sum(map(len, sent[: len(got) + 1])) > end


@given(noise=st.binary(min_size=1, max_size=200))
def test_noise_is_refused_or_waited_for_but_nothing_else(noise: bytes) -> None:
    reader = Frames()
    try:
        for header, _ in reader.feed(noise):
            assert isinstance(header["id"], int)
    except Garbage:
        return
    assert len(reader.rest) <= len(noise)


def _raw(head: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">II", len(head), len(body)) + head + body


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">II", MOST_BYTES + 1, 0),
        struct.pack(">II", 2, MOST_BYTES + 1),
        b"Traceback (most recent call last)",
        _raw(b"{"),
        _raw(b"[]"),
        _raw(b"{}"),
        _raw(b'{"id":true}'),
        _raw(b'{"id":"1"}'),
        _raw(b"\xff\xfe"),
        _raw(b"[" * 100_000),
    ],
)
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(Garbage):
        list(Frames().feed(garbage))


def test_the_largest_frame_passes() -> None:
    payload = b"x" * MOST_BYTES
    assert list(Frames().feed(frame({"id": 1}, payload))) == [({"id": 1}, payload)]


def test_frames_before_garbage_are_heard() -> None:
    reader = Frames().feed(frame({"id": 1}) + b"Traceback")
    assert next(reader) == ({"id": 1}, b"")
    with pytest.raises(Garbage):
        next(reader)

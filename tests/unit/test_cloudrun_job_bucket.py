"""Buckets, as a controller and as a container use them, on a stand-in for Cloud Storage."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outpost.errors import OutpostFault, Rejected
from outpost.runner import bucket as runner_bucket
from outpost.runner.job import Job
from outpost.runner.serve.nursery import Nursery
from outpost.runner.serve.works import Works
from outpost.transports import gcs
from outpost.transports.gcs import Bucket, Changed
from outpost.transports.gcs_access import google_access
from tests.doubles.cloud_run.identity import Identity
from tests.doubles.cloud_run.storage import ACCESS, Storage
from tests.doubles.cloud_run.tokens import Tokens
from tests.doubles.google_identity import GoogleIdentity

NAME = "outpost-work"
FOLDER = "outpost/f-1/w-1/"


class Keys:
    """Gives tokens, the first of them one that nobody takes any more."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.refused: list[str] = []

    async def __call__(self, refused: str) -> str:
        self.refused.append(refused)
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    async with Storage(NAME) as made:
        yield made


@pytest.fixture
async def bucket(storage: Storage) -> AsyncIterator[Bucket]:
    made = Bucket(NAME, "burst", Keys(ACCESS), storage.url)
    yield made
    await made.close()


async def test_an_object_is_written_once_read_replaced_and_deleted(bucket: Bucket) -> None:
    assert await bucket.get("a/b c+d%") is None
    first = await bucket.put("a/b c+d%", b"one", generation=0)
    with pytest.raises(Changed):
        await bucket.put("a/b c+d%", b"two", generation=0)
    assert await bucket.get("a/b c+d%") == (b"one", first)
    second = await bucket.put("a/b c+d%", b"two", generation=first)
    await bucket.delete("a/b c+d%", generation=first)
    assert await bucket.get("a/b c+d%") == (b"two", second), "it was another one by then"
    await bucket.delete("a/b c+d%", "never")
    assert await bucket.get("a/b c+d%") is None


async def test_lists_are_whole_and_sorted(bucket: Bucket, storage: Storage) -> None:
    storage.objects[NAME] = {f"w/{number:05d}": (1, b"") for number in range(2500)}
    storage.objects[NAME] |= {"v/1/a": (1, b""), "v/2/a/b": (1, b""), "v/c": (1, b"")}
    assert await bucket.names("w/") == [f"w/{number:05d}" for number in range(2500)]
    assert await bucket.names("v/", folders=True) == ["v/1/", "v/2/"]
    assert await bucket.names("w/", most=1) == ["w/00000"]
    assert await bucket.names("nothing/") == []


async def test_many_are_deleted_by_few_at_once(
    bucket: Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of a week may be half a million objects."""
    monkeypatch.setattr(gcs, "PAGE", 20)
    storage.objects[NAME] = {f"w/{number:05d}": (1, b"") for number in range(300)}
    deleting = asyncio.ensure_future(bucket.delete(*storage.names(NAME)))
    most = 0
    while not deleting.done():
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(0)
    await deleting
    assert storage.names(NAME) == []
    assert most < 150


async def test_what_passes_is_waited_out(bucket: Bucket, storage: Storage) -> None:
    storage.trouble.statuses = [503, 429]
    await bucket.put("a", b"one", generation=0)
    assert storage.names(NAME) == ["a"]
    storage.trouble.statuses = [500] * 3
    with pytest.raises(OutpostFault, match="does not answer: 500 We encountered"):
        await bucket.get("a")


async def test_a_write_whose_answer_was_lost_is_not_taken_for_another_s(
    bucket: Bucket, storage: Storage
) -> None:
    storage.trouble.lost = 1
    generation = await bucket.put("a", b"one", generation=0)
    assert storage.objects[NAME]["a"] == (generation, b"one")
    await bucket.put("b", b"theirs", generation=0)
    storage.trouble.lost = 1
    with pytest.raises(Changed):
        await bucket.put("b", b"ours", generation=0)


async def test_a_token_that_is_refused_is_replaced_once(storage: Storage) -> None:
    keys = Keys("old", ACCESS)
    bucket = Bucket(NAME, "burst", keys, storage.url)
    assert await bucket.names("") == []
    assert keys.refused == ["", "old"]
    await bucket.close()
    bad = Bucket(NAME, "burst", Keys("bad"), storage.url)
    with pytest.raises(Rejected, match="401 Invalid Credentials"):
        await bad.names("")
    await bad.close()


async def test_what_is_wrong_is_said_with_what_to_type(storage: Storage) -> None:
    other = Bucket("elsewhere", "burst", Keys(ACCESS), storage.url)
    with pytest.raises(Rejected, match="there is no bucket elsewhere") as caught:
        await other.names("")
    assert caught.value.hint.startswith("gcloud storage buckets create gs://elsewhere")
    with pytest.raises(Rejected, match="there is no bucket elsewhere"):
        await other.put("a", b"", generation=0)
    await other.close()
    denied = Bucket(NAME, "burst", Keys(ACCESS), storage.url)
    storage.denied = True
    with pytest.raises(Rejected, match="you may not do that in the bucket outpost-work") as caught:
        await denied.get("a")
    assert "--role=roles/storage.objectUser" in caught.value.hint
    await denied.close()


class Inside:
    """A bucket as a container has it, in threads of its own as it blocks."""

    def __init__(self, storage: Storage, identity: Identity, **variables: str) -> None:
        found = {**identity.metadata, "STORAGE_EMULATOR_HOST": storage.url, **variables}
        self._bucket = runner_bucket.Bucket(NAME, FOLDER, found)

    async def get(self, name: str) -> Any:
        return await asyncio.to_thread(self._bucket.get, name)

    async def put(self, name: str, data: bytes, generation: int = 0) -> None:
        await asyncio.to_thread(self._bucket.put, name, data, generation=generation)


@pytest.fixture
async def identity() -> AsyncIterator[Identity]:
    async with Identity(Tokens()) as made:
        yield made


async def test_a_container_reads_and_writes_with_its_machine_s_account(
    storage: Storage, identity: Identity
) -> None:
    inside = Inside(storage, identity, http_proxy="http://127.0.0.1:1")
    assert await inside.get("worker") is None
    await inside.put("worker", b"one")
    found = await inside.get("worker")
    assert found[0] == b"one"
    with pytest.raises(runner_bucket.Changed):
        await inside.put("worker", b"two")
    await inside.put("worker", b"two", found[1])
    assert storage.names(NAME) == [f"{FOLDER}worker"]


async def test_a_container_sees_all_trouble_as_one(storage: Storage, identity: Identity) -> None:
    inside = Inside(storage, identity)
    storage.trouble.statuses = [503]
    with pytest.raises(OSError, match="503"):
        await inside.get("worker")
    storage.trouble.lost = 1
    with pytest.raises(OSError, match=r"."):
        await inside.put("worker", b"one")
    assert (await inside.get("worker"))[0] == b"one"
    identity.refusing = True
    fresh = Inside(storage, identity)
    with pytest.raises(OSError, match="503"):
        await fresh.get("worker")


@contextlib.asynccontextmanager
async def answering(answer: bytes, *, drain_s: float = 0.0) -> AsyncIterator[str]:
    """Yield where a server is that reads slowly, and says the same to all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while left > 0:
            left -= len(await reader.readexactly(min(left, 1 << 20)))
            await asyncio.sleep(drain_s)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def ok(body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (more, len(body), body)


@pytest.mark.parametrize(
    "said", [ok(b"{}"), ok(b"[]"), ok(b"<html>"), b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n{"]
)
async def test_a_container_lives_on_whatever_its_machine_says(
    storage: Storage, identity: Identity, said: bytes
) -> None:
    async with answering(said) as host:
        inside = Inside(storage, identity, GCE_METADATA_HOST=host)
        with pytest.raises(OSError, match=r"."):
            await inside.get("worker")


async def test_a_container_believes_no_half_object(storage: Storage, identity: Identity) -> None:
    short = ok(b"half").replace(b": 4", b": 9")
    odd = ok(b"one", b"x-goog-generation: many\r\n")
    for said in (short, odd):
        async with answering(said) as host:
            inside = Inside(storage, identity, STORAGE_EMULATOR_HOST=host)
            with pytest.raises(OSError, match=r"IncompleteRead|ValueError"):
                await inside.get("worker")


async def test_a_container_reads_no_more_than_any_of_ours_has(
    storage: Storage, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = Inside(storage, identity)
    await inside.put("worker", b"0123456789")
    monkeypatch.setattr(runner_bucket, "MOST_BYTES", 4)
    assert (await inside.get("worker"))[0] == b"0123"


async def test_an_order_that_was_taken_away_is_not_taken_for_our_own(
    storage: Storage, identity: Identity, tmp_path: Path
) -> None:
    """The container has read it; then its name was noted, and then it was killed."""
    name = f"{FOLDER}worker"
    storage.objects[NAME][name] = (1, json.dumps({"region": "r", "call": {}}).encode())

    class Late(runner_bucket.Bucket):
        def put(self, *given: Any, **named: Any) -> None:
            ended = json.dumps({"region": "r", "execution": "run-1", "ended": True})
            storage.objects[NAME][name] = (2, ended.encode())
            super().put(*given, **named)

    variables = {**identity.metadata, "STORAGE_EMULATOR_HOST": storage.url}
    works = Works(str(tmp_path), Nursery(str(tmp_path)), 1, {})
    assert await Job(Late(NAME, FOLDER, variables), works, "run-1").take() is None


async def test_what_is_large_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs, "CALL_S", 1.0)
    said = ok(b'{"generation": "7"}')
    async with answering(said, drain_s=0.1) as host:
        bucket = Bucket(NAME, "burst", Keys(ACCESS), f"http://{host}")
        assert await bucket.put("worker", bytes(20 << 20), generation=0) == 7
        await bucket.close()


async def test_who_has_logged_in_again_is_let_in_by_a_controller_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    access = google_access("burst")
    with GoogleIdentity() as google:
        google.key_file(tmp_path)
        google.failing = 400
        with pytest.raises(Rejected, match="does not take the credentials here"):
            await access("")
    with GoogleIdentity() as google:
        google.key_file(tmp_path)
        assert await access("") == ACCESS

"""An outpost whose code breaks its contract: that is its own fault, and hides no other outpost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from outpost.control import doctor
from outpost.errors import OutpostFault
from outpost.model import Health, Sighting
from outpost.testing import faulty as stranger
from tests.faulty_world import FaultyWorld, MakeWorld

pytestmark = pytest.mark.integration

TOLD = "it failed unforeseen: ValueError: who knows"


@pytest.fixture
def broken(faulty: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> FaultyWorld:
    """Outposts ``a`` and ``b``, of which the first raises what no contract allows."""
    ping, workers = stranger.FaultyOutpost.ping, stranger.FaultyOutpost.workers

    async def raising_ping(self: stranger.FaultyOutpost) -> Health:
        if self.name == "a":
            raise ValueError("who knows\nwhere")
        return await ping(self)

    async def raising_workers(self: stranger.FaultyOutpost) -> AsyncIterator[Sighting]:
        if self.name == "a":
            raise ValueError("who knows")
        async for sighting in workers(self):
            yield sighting

    async def raising_tidy(self: stranger.FaultyOutpost, *_: Any) -> list[Any]:
        raise TimeoutError

    monkeypatch.setattr(stranger.FaultyOutpost, "ping", raising_ping)
    monkeypatch.setattr(stranger.FaultyOutpost, "workers", raising_workers)
    monkeypatch.setattr(stranger.FaultyOutpost, "tidy", raising_tidy)
    return faulty("a", "b")


async def test_what_an_outpost_raises_is_its_own_fault(broken: FaultyWorld) -> None:
    async with broken.federation() as federation:
        health = {it.name: it.health for it in await federation.outposts()}
        assert (health["a"].ok, health["a"].detail) == (False, TOLD)
        assert health["b"].ok
        answers = (await federation.reconcile()).answers
        assert isinstance(fault := answers["a"], OutpostFault)
        assert (fault.message, fault.outpost) == (TOLD, "a")
        assert answers["b"] == 0
        problems = (await federation.prune()).problems
        assert [(it.outpost, it.message) for it in problems] == [
            ("a", TOLD),
            ("b", "no answer in time"),
        ]
        submitted = await broken.submit(federation)
        assert submitted.worker
        assert submitted.worker.attempt.outpost == "b"


async def test_a_slow_outpost_hides_no_other_from_the_doctor(
    faulty: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(self: stranger.FaultyOutpost, *_: Any) -> list[Any]:
        if self.name == "a":
            await asyncio.sleep(60)
        return []

    monkeypatch.setattr(stranger.FaultyOutpost, "lacking", slow)
    monkeypatch.setattr(doctor, "CHECK_S", 3.0)
    async with faulty("a", "b").federation() as federation:
        told = [it.detail for it in (await federation.diagnose()).parts["Outposts"]]
    assert told[0] == "a: no answer within 3 s"
    assert told[1].startswith("b can take work")

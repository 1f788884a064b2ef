"""Noticing that a log grows, where the kernel tells and where it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from outpost.runner.serve.growth import LOG, Growth

pytestmark = pytest.mark.integration


async def told(grown: asyncio.Event) -> bool:
    """Whether growth is told of in time; what was told is forgotten."""
    try:
        await asyncio.wait_for(grown.wait(), 2)
    except TimeoutError:
        return False
    grown.clear()
    return True


def append(folder: Path, name: str = LOG) -> None:
    with (folder / name).open("a") as log:
        log.write("x\n")


async def test_the_kernel_tells(tmp_path: Path) -> None:
    growth, grown, other = Growth(), asyncio.Event(), asyncio.Event()
    with growth.watched(str(tmp_path), grown):
        append(tmp_path)
        assert await told(grown)
        append(tmp_path, "another")
        await asyncio.sleep(0.2)
        assert not grown.is_set()
        with growth.watched(str(tmp_path), other):
            append(tmp_path)
            assert await told(grown)
            assert await told(other)
        append(tmp_path)
        assert await told(grown)
        assert not other.is_set()
    append(tmp_path)
    await asyncio.sleep(0.2)
    assert not grown.is_set()


async def test_what_the_kernel_does_not_watch_is_looked_at(tmp_path: Path) -> None:
    growth, grown, folder = Growth(), asyncio.Event(), tmp_path / "later"
    with growth.watched(str(folder), grown):  # of a folder that is not there it tells nothing
        folder.mkdir()
        for _ in range(3):
            append(folder)
            assert await told(grown)
    append(folder)
    await asyncio.sleep(0.2)
    assert not grown.is_set()


async def test_a_folder_that_goes_and_comes_again(tmp_path: Path) -> None:
    growth, grown, folder = Growth(), asyncio.Event(), tmp_path / "worker"
    for _ in range(3):
        folder.mkdir()
        with growth.watched(str(folder), grown):
            append(folder)
            assert await told(grown)
            (folder / LOG).unlink()
            folder.rmdir()

"""A worker's lock: one carer at a time, and a look at it keeps nobody out."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from outpost.runner.place import Place


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "workers" / "w-1"
    path.mkdir(parents=True)
    return path


def test_one_at_a_time_cares_for_a_worker(directory: Path) -> None:
    place, other = Place(str(directory)), Place(str(directory))
    assert not place.cared_for()
    assert place.take_lock()
    assert other.cared_for()
    assert not other.take_lock()
    place.drop_lock()
    assert not other.cared_for()
    assert other.take_lock()
    other.drop_lock()


def test_taking_the_lock_waits_out_a_look(directory: Path) -> None:
    looking = (directory / "lock").open("w")
    fcntl.flock(looking, fcntl.LOCK_SH)
    end_of_look = threading.Timer(0.05, looking.close)
    end_of_look.start()
    place = Place(str(directory))
    assert place.take_lock()
    end_of_look.join()
    place.drop_lock()

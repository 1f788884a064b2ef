"""A place that comes to an end, and tells its workers so: their tasks go on elsewhere."""

from __future__ import annotations

import os
import signal

import pytest

from outpost.model import State
from tests.integration.lone_worker import LoneWorker, Workers
from tests.integration.test_attempts import SAVED, WRITE, after, begin
from tests.world import Remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

LEAVING = "the platform ends this instance"


def evict(worker: LoneWorker, grace_s: float = 4.0) -> None:
    worker.post({"type": "stop", "grace_s": grace_s, "reason": LEAVING, "again": True})


def test_an_evicted_workers_task_goes_on_from_its_work(
    workers: Workers, elsewhere: Workers, remote: Remote
) -> None:
    first = begin(workers, WRITE)
    evict(first)
    attempt = first.result()
    assert (attempt.state, attempt.reason) == (State.FAILED, LEAVING)
    assert (attempt.died, attempt.evicted, attempt.got_on) == (True, True, True)
    assert workers.pushed(first, "new.txt") == "new"
    second = after(first, elsewhere, "echo b > b.txt", here=False)
    assert second.result().state is State.DONE
    for name, text in (("a.txt", "a"), ("new.txt", "new"), ("b.txt", "b")):
        assert elsewhere.pushed(second, name) == text


def test_whoever_asked_first_is_who_ended_it(workers: Workers) -> None:
    worker = begin(workers, f"trap '' INT TERM; {WRITE}")
    worker.stop(grace_s=2.0)
    evict(worker, grace_s=0.5)
    attempt = worker.result()
    assert (attempt.state, attempt.reason) == (State.STOPPED, "stopped by the test")
    assert (attempt.died, attempt.evicted) == (False, False)


def test_an_evicted_worker_that_saved_nothing_has_got_nowhere(workers: Workers) -> None:
    worker = begin(workers, "true")
    evict(worker)
    attempt = worker.result()
    assert (attempt.state, attempt.evicted, attempt.got_on) == (State.FAILED, True, False)


def test_one_that_is_killed_meanwhile_is_as_any_that_dies(workers: Workers) -> None:
    worker = begin(workers, WRITE)
    _, runner = worker.place.pids("runner.pid")
    os.kill(runner, signal.SIGSTOP)
    evict(worker)
    os.kill(runner, signal.SIGKILL)
    attempt = worker.result()
    assert (attempt.state, attempt.reason, attempt.died) == (State.FAILED, SAVED, True)
    assert workers.pushed(worker, "new.txt") == "new"

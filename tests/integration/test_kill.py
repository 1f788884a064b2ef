"""A kill that is begun is carried out, whatever becomes of whoever asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from outpost.wire.orders import AgentOrder
from tests.integration.lone_worker import LoneWorker, Workers
from tests.world import pids_marked, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

STUBBORN = "trap '' TERM INT HUP; echo ready; while :; do sleep 600; done"
TRIES = 12


def cut_short(worker: LoneWorker, after_s: float) -> None:
    """Ask for a kill, and end whoever asked a moment after the worker's carers were."""
    argv = [sys.executable, "-m", "outpost.runner", "kill", worker.place.directory]
    with subprocess.Popen(argv, env=dict(worker.environment), start_new_session=True) as asking:
        while worker.place.pids("runner.pid") and asking.poll() is None:
            time.sleep(0.0005)
        time.sleep(after_s)
        if asking.poll() is None:
            os.killpg(asking.pid, signal.SIGKILL)


def wait_for_death(worker: LoneWorker) -> None:
    until(lambda: not worker.place.cared_for(), "nobody cares for it")


@pytest.mark.parametrize("after_s", [0.0, 0.002])
def test_whoever_looks_dead_has_no_process_left(workers: Workers, after_s: float) -> None:
    agent = AgentOrder(name="command", argv=["sh", "-c", STUBBORN], options={})
    for _ in range(TRIES):
        worker = workers.start(agent, "Mend.", {})
        worker.wait_for_text("log", "ready")
        worker.killed = True
        cut_short(worker, after_s)
        wait_for_death(worker)
        assert not pids_marked({worker.place.worker_id})

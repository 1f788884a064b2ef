"""A program that dies at a chosen point of what it does::

    python -m tests.integration.crash_program RECORD POINT ACT …

``RECORD`` is the file that gets the points it passes, ``POINT`` where it dies, such as
``store.claim:1:after`` (``-``: nowhere). The acts are ``spawn REPOSITORY SCRIPT``, ``controller``
(which runs until there is nothing to do), ``stop WORKER`` and ``resume WORKER``; home and
configuration are what the variables say.

Without arguments it reads them from its input instead, one JSON object a line with a ``number``,
``arguments``, ``environment``, ``errors`` (a file) and ``modules`` (to be loaded before), runs each
in a fork of itself, and prints the number and how that exited: a Python that has imported
everything starts such a program at once.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

# Loaded before anything is forked.
import outpost.control.doctor
import outpost.control.explain
import outpost.control.failover
import outpost.control.loops.building
import outpost.control.prune
import outpost.control.queue
import outpost.control.resume
import outpost.control.spending
import outpost.sources.text
import outpost.store.sqlite
import outpost.store.writes  # noqa: F401
from outpost.controller import Controller
from outpost.federation import SpawnOptions
from tests.doubles.crashing import Crashes, CrashingFederation, Point

ISSUE = "text:Mend the words"
REASON = "enough of it"
MESSAGE = "Once more."


async def spawn(federation: CrashingFederation, repository: str, script: str) -> None:
    options = SpawnOptions(repo=repository, argv=("sh", "-c", script))
    await federation.submit(await federation.resolve(ISSUE, options))


async def controller(federation: CrashingFederation) -> None:
    await Controller(federation, idle_s=0.0).run()


async def stop(federation: CrashingFederation, worker_id: str) -> None:
    await (await federation.worker(worker_id)).stop(reason=REASON)


async def resume(federation: CrashingFederation, worker_id: str) -> None:
    await federation.resume(await federation.worker(worker_id), MESSAGE)


ACTS = {act.__name__: act for act in (spawn, controller, stop, resume)}


async def run(record: str, point: str, act: str, *arguments: str) -> None:
    crashes = Crashes(Path(record), None if point == "-" else Point.parse(point))
    async with CrashingFederation(crashes, actor=act) as federation:
        await ACTS[act](federation, *arguments)


def main(arguments: Sequence[str]) -> int:
    if arguments:
        asyncio.run(run(*arguments))
        return 0
    # Who waits for a program is nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        told = json.loads(line)
        for name in told["modules"]:
            importlib.import_module(name)
        if os.fork() == 0:
            _wait_for(told)
    return 0


def _wait_for(told: dict[str, Any]) -> NoReturn:
    """In a fork: run the program in another one, and print how that exited."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        _become(told["environment"], told["errors"], told["arguments"])
    _, status = os.waitpid(child, 0)
    os.write(1, f"{told['number']} {os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(environment: dict[str, str], errors: str, arguments: list[str]) -> NoReturn:
    """In a fork: run as a program started afresh would."""
    code = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        said = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream, file in ((0, nothing), (1, said), (2, said)):
            os.dup2(file, stream)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(environment["HOME"])
        code = main(arguments)
    except Exception:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

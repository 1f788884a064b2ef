"""The runner's commands: start, nursery, serve, job, recover, probe, agent, tidy and more.

``start``, ``recover`` and ``transcript`` read variables on standard input, ``tidy`` its order.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from outpost.runner.place import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NATIVE_AGENTS = ("acp", "builtin")


def probe(root: str, federation_id: str, worker_id: str | None = None) -> Iterator[dict[str, str]]:
    """Yield what each worker of a federation at ``root`` looks like: worker_id, liveness, tree."""
    folder = os.path.join(root, "workers")
    try:
        names = [worker_id] if worker_id else sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        place = Place(os.path.join(folder, name))
        try:
            order = place.order()
        except (FileNotFoundError, NotADirectoryError, ValueError):
            continue
        if order["federation_id"] == federation_id:
            yield {
                "worker_id": name,
                "liveness": "alive" if place.cared_for() else "dead",
                "directory": place.directory,
            }


def _native_agent(name: str, directory: str) -> int:
    program = importlib.import_module(f"outpost.runner.{name}")
    code: int = program.main(directory)
    return code


def _tidy(root: str) -> None:
    from outpost.runner.tidy import tidy  # noqa: PLC0415 - needed by nothing else

    for leftover in tidy(root, json.load(sys.stdin)):
        print(json.dumps(leftover), flush=True)


def _program(verb: str, rest: Sequence[str]) -> int | None:
    """Carry out a command that is a program of its own; ``None`` if it is another."""
    if verb == "screen" and rest:
        from outpost.runner import screen  # noqa: PLC0415 - as in main

        return screen.show(Place(rest[0]))
    if verb == "diff" and rest:
        from outpost.runner import difference  # noqa: PLC0415 - as in main

        return difference.print_difference(Place(rest[0]), rest[1:])
    if verb == "serve":
        from outpost.runner.serve import program  # noqa: PLC0415 - as in main

        return program.main(rest)
    if verb == "job":
        from outpost.runner import job  # noqa: PLC0415 - as in main

        return job.main(rest)
    if verb == "transcript" and len(rest) == 2:
        from outpost.runner import transcript  # noqa: PLC0415 - as in main

        return transcript.print_transcript(Place(rest[0]), rest[1], json.load(sys.stdin))
    return None


def main(arguments: Sequence[str]) -> int:
    """Carry out one command; returns the exit code."""
    verb, *rest = arguments or ("",)
    if verb == "probe" and rest:
        for row in probe(*rest):
            print(json.dumps(row))
        return 0
    if verb == "agent" and len(rest) == 2 and rest[0] in NATIVE_AGENTS:
        return _native_agent(*rest)
    if verb == "tidy" and rest:
        _tidy(rest[0])
        return 0
    if (code := _program(verb, rest)) is not None:
        return code
    from outpost.runner import nursery, removal, unsaved, work  # noqa: PLC0415 - a probe needs none of it

    if verb == "start" and rest:
        print(nursery.start(rest[0], sys.stdin.buffer.read()).decode(), end="")
        return 0
    if verb == "nursery" and rest:
        nursery.serve(*rest)
        return 0
    acts = {"kill": work.kill, "terminate": work.terminate, "remove": removal.remove}
    if verb in acts and rest:
        acts[verb](Place(rest[0]))
        return 0
    if verb == "unsaved" and rest:
        print(unsaved.unsaved(Place(rest[0])))
        return 0
    if verb == "recover" and rest:
        work.recover(Place(rest[0]), json.load(sys.stdin))
        return 0
    print(
        "usage: runner start|kill|unsaved|recover DIR, nursery SOCKET [MIB], tidy ROOT,"
        " probe ROOT ID [WORKER], agent NAME DIR, transcript DIR SESSION, serve [--help], job",
        file=sys.stderr,
    )
    return 2

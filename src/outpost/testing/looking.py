"""Looking at process lists: at the place, through a worker there, and on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import threading
from pathlib import Path
from types import TracebackType

from outpost.testing.bench import Bench, lines

WORKER_MARK = "OUTPOST_WORKER_ID"
WATCH_EVERY_S = 0.005
GOING_S = 3.0
_FOUND = "found "
# What is looked for comes in two halves and through a pipe: no argv of the look itself holds it.
_LOOK = """\
a={first}; b={second}; own={mark}={worker}
if [ -r /proc/self/cmdline ]; then
  for file in $(printf %s "$a$b" | grep -l -a -F -f - /proc/[0-9]*/cmdline 2>/dev/null); do
    echo "found argv of $(tr '\\0' ' ' 2>/dev/null <"$file" | cut -c 1-200)"
  done
  for file in $(printf %s "$a$b" | grep -l -a -F -f - /proc/[0-9]*/environ 2>/dev/null); do
    grep -q -a -F "$own" "$file" 2>/dev/null && continue
    echo "found environment of $(tr '\\0' ' ' 2>/dev/null <"${{file%environ}}cmdline")"
  done
else
  ps -axww -o pid= -o command= | while read -r pid argv; do
    case $argv in *"$a$b"*) echo "found argv of $pid" ;; esac
  done
fi
echo looked
"""


async def processes_holding(bench: Bench, text: str, *, but_environment_of: str = "") -> list[str]:
    """Return the processes at the place that hold a text in argv or environment, as they look.

    A worker looks there, so it works wherever workers run. ``but_environment_of`` is the worker
    in whose environment the text may stand. The text consists of letters, digits and dashes.
    """
    half = len(text) // 2
    script = _LOOK.format(
        first=shlex.quote(text[:half]),
        second=shlex.quote(text[half:]),
        mark=WORKER_MARK,
        worker=but_environment_of,
    )
    handle = await bench.spawn(script)
    printed = lines(await bench.log(handle))
    assert "looked" in printed, f"the look at the processes failed: {printed}"
    return [line.removeprefix(_FOUND) for line in printed if line.startswith(_FOUND)]


class Watch:
    """Reads the processes of this machine over and over, and keeps those that hold a text.

    Finds also what lives for a moment only, such as a client program that a backend starts. Looks
    at nothing where there is no ``/proc``.
    """

    def __init__(self, text: str, *, but_environment_of: str) -> None:
        self.found: set[str] = set()
        self._text = text.encode()
        self._own = f"{WORKER_MARK}={but_environment_of}".encode()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        if Path("/proc/self/cmdline").exists():
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(WATCH_EVERY_S):
            for process in Path("/proc").glob("[0-9]*"):
                # It may be gone by now, or be another user's.
                with contextlib.suppress(OSError):
                    self._look_at(process)

    def _look_at(self, process: Path) -> None:
        argv = (process / "cmdline").read_bytes()
        program = argv.partition(b"\0")[0].decode("utf-8", "replace")
        if self._text in argv:
            self.found.add(f"argv of {program}")
        environment = (process / "environ").read_bytes()
        if self._text in environment and self._own not in environment:
            self.found.add(f"environment of {program}")


def children() -> set[int]:
    """Return the living processes that this one started; none where there is no ``/proc``."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(path.parent.name))
    return found


def open_files() -> int:
    """Return how many descriptors this process has open; 0 where there is no ``/proc``."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def resident_mib() -> float:
    """Return how much memory this process takes now (at most so far, where there is no /proc)."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    import resource  # noqa: PLC0415 - only needed off Linux

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def held() -> dict[str, int]:
    """Return how much this process holds that somebody may have left: tasks, processes, files."""
    tasks = [task for task in asyncio.all_tasks() if not task.done()]
    return {"tasks": len(tasks), "processes": len(children()), "open files": open_files()}


async def left_since(before: dict[str, int]) -> str:
    """Say what this process holds more than before, once that had time to go; empty: nothing."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOING_S):
            while _more(before, held()):  # noqa: ASYNC110 - the loop itself
                await asyncio.sleep(0.05)
    return _more(before, held())


def _more(before: dict[str, int], after: dict[str, int]) -> str:
    grown = {name: count - before[name] for name, count in after.items() if count > before[name]}
    return ", ".join(f"{count} more {name}" for name, count in grown.items())

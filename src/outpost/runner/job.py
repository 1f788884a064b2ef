"""``runner job``: one worker in a container that nobody can reach, by way of a bucket.

It takes the order that lies in the bucket (``outpost.wire.jobs``), has a runner carry it out as
``runner serve`` does, copies the log out and messages in, and ends with its worker. Told to end by
the platform, it has the worker save its work, which is gone on with elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
import time

from outpost.runner.bucket import Bucket, Changed
from outpost.runner.serve.asking import Asking
from outpost.runner.serve.calls import check_message, read_call, read_object
from outpost.runner.serve.leaving import AGENT_SHARE, INSTANCE_ENDS
from outpost.runner.serve.log_lines import LogLines
from outpost.runner.serve.nursery import Nursery
from outpost.runner.serve.options import PREFIX as SERVE_PREFIX
from outpost.runner.serve.refused import Refused
from outpost.runner.serve.works import LOG, Works
from outpost.wire.jobs import BUCKET, FOLDER, GRACE, PREFIX, RECORD, letter, piece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence
    from typing import Any, TypeVar

    from outpost.runner.place import Place
    from outpost.wire.work import Call

    _T = TypeVar("_T")

USAGE = f"usage: runner job, with the variables {BUCKET} and {FOLDER}, and {GRACE} (seconds)"
EXECUTION = "CLOUD_RUN_EXECUTION"
TICK_S = 0.2
COPY_EVERY_S = LOOK_EVERY_S = 1.0
"""What is written and what is looked for costs money each time."""
PIECE_BYTES = 1 << 20
PAUSE_LEAST_S, PAUSE_MOST_S = 0.5, 5.0
TAKE_S, LAST_S = 60.0, 600.0
"""How long the bucket may be out of reach, at the beginning and at the end."""


def main(arguments: Sequence[str]) -> int:
    """Carry out the order; returns the exit code: 0 unless the work failed, or was not begun."""
    variables = os.environ
    given = {name: variables.pop(name) for name in list(variables) if _is_ours(name)}
    try:
        grace_s = float(given.get(GRACE) or 9)
    except ValueError:
        grace_s = 0
    if arguments or grace_s <= 0 or not (given.get(BUCKET) and given.get(FOLDER)):
        print(USAGE, file=sys.stderr)
        return 2
    os.umask(0o077)
    root = os.path.abspath(os.path.expanduser(given.get(f"{SERVE_PREFIX}ROOT") or "~/.outpost"))
    os.makedirs(os.path.join(root, "runner"), mode=0o700, exist_ok=True)
    bucket = Bucket(given[BUCKET], given[FOLDER], variables)
    return asyncio.run(_run(bucket, root, grace_s, variables))


async def _run(
    bucket: Bucket, root: str, grace_s: float, variables: MutableMapping[str, str]
) -> int:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    # Cloud Run says with it that the container is about to be moved, and moves all of it.
    loop.add_signal_handler(signal.SIGTSTP, lambda: None)
    nursery = Nursery(root)
    nursery.launch()
    works = Works(root, nursery, 1, dict(variables))
    job = Job(bucket, works, variables.get(EXECUTION, ""))
    try:
        call = await job.take()
        if call is None:
            print("there is no order here, or another container has it", flush=True)
            return 0
        code = await job.carry_out(call, asked, grace_s)
        await job.note_end()
    except OSError as exc:
        print(f"runner job: {exc}", file=sys.stderr)
        return 1
    return code


class Job:
    """One order, from taking it to its end. ``name`` is this container's own."""

    def __init__(self, bucket: Bucket, works: Works, name: str) -> None:
        self._bucket = bucket
        self._works = works
        self._name = name
        self._pending = b""  # of the log: read, and not yet known to lie in the bucket
        self._offset = 0
        self._copy_at = self._look_at = 0.0
        self._letters = 1
        self._result: dict[str, Any] = {}

    async def take(self) -> Call | None:
        """Take the order; ``None`` where there is none, or not any more. Raises ``OSError``."""
        call: Call | None = None
        while True:
            found = await _surely(TAKE_S, lambda: self._bucket.get(RECORD))
            record = _record(found)
            if "call" not in record:
                # Taken by us already, if only the answer to that was lost; or taken away.
                taken = record.get("execution") == self._name and not record.get("ended")
                return call if taken else None
            call = record.pop("call")
            if await self._replaced({**record, "execution": self._name}, found):
                return call

    async def carry_out(self, call: Call, asked: asyncio.Event, grace_s: float) -> int:
        """Have the worker work until it has ended and all of its log is copied.

        Once ``asked`` it has ``grace_s`` to save its work. Raises ``OSError``.
        """
        try:
            place, start = await self._works.attend(read_call(dict(call)))
            problem = await start if start else ""
        except Refused as refused:
            problem = str(refused)
        if problem:
            raise OSError(problem)
        print(f"{place.worker_id} is at work", flush=True)
        # A task of its own: no request that is not answered may hold it up.
        telling = asyncio.ensure_future(self._tell_once(asked, place, grace_s * AGENT_SHARE))
        mended = False
        with LogLines(place.path(LOG)) as log:
            while True:
                alive = place.cared_for()
                await self._copy(log, last=not alive)
                if not alive and (log.ended or mended):
                    break
                if not alive:
                    mended = True
                    await self._mend(place, call)
                    continue
                await self._receive(place)
                await asyncio.sleep(TICK_S)
        telling.cancel()
        return 0 if self._result.get("outcome") in ("done", "stopped") else 1

    async def note_end(self) -> None:
        """Say that all is over, unless nobody wants to know any more. Raises ``OSError``."""
        found = await _surely(LAST_S, lambda: self._bucket.get(RECORD))
        record = _record(found)
        if record.get("execution") == self._name:
            await self._replaced({**record, "ended": True}, found)

    async def _replaced(self, record: dict[str, Any], found: tuple[bytes, int] | None) -> bool:
        generation = found[1] if found else 0
        data = json.dumps(record).encode()
        try:
            await _surely(TAKE_S, lambda: self._bucket.put(RECORD, data, generation=generation))
        except Changed:
            return False
        return True

    async def _copy(self, log: LogLines, *, last: bool) -> None:
        """Copy what the log has grown by, if it is time; all of it where nothing more comes."""
        if not last and time.monotonic() < self._copy_at:
            return
        patience_s = LAST_S if last else 0.0
        while self._pending or (data := _grown(log)):
            # A piece stays the same until it is there: some of it may have arrived.
            self._pending = self._pending or data
            self._copy_at = time.monotonic() + COPY_EVERY_S
            pending = self._pending
            put = functools.partial(self._bucket.put, piece(self._offset), pending, generation=0)
            try:
                await _surely(patience_s, put)
            except Changed:
                pass  # it is there; only the answer was lost
            except OSError as exc:
                if last:
                    raise
                print(f"the log cannot be copied now: {exc}", file=sys.stderr, flush=True)
                return
            self._offset += len(pending)
            self._pending = b""
            if log.ended:
                self._result = json.loads(pending.rstrip(b"\n").rpartition(b"\n")[2])
            if not last:
                return

    async def _receive(self, place: Place) -> None:
        """Put messages that have come into the worker's mailbox, if it is time to look."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY_S
        try:
            while found := await asyncio.to_thread(self._bucket.get, letter(self._letters)):
                with contextlib.suppress(Refused):  # none of ours
                    message = check_message(read_object(found[0], "a message"))
                    self._works.post(place, [message])
                self._letters += 1
        except OSError as exc:
            print(f"messages cannot be looked for now: {exc}", file=sys.stderr, flush=True)

    async def _tell_once(self, asked: asyncio.Event, place: Place, grace_s: float) -> None:
        """Tell the worker to save its work, once the platform has told us to end."""
        await asked.wait()
        print(f"{place.worker_id} is to stop: {INSTANCE_ENDS}", flush=True)
        self._works.post(
            place, [{"type": "stop", "grace_s": grace_s, "reason": INSTANCE_ENDS, "again": True}]
        )

    async def _mend(self, place: Place, call: Call) -> None:
        """Finish for a runner that died: nobody else can, once the container is gone."""
        given = json.dumps(call.get("environment")).encode()
        done = await Asking(self._works).begin(place, "recover", (), given)
        if done.exit_code:
            said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            print(f"its work cannot be saved: {said}", file=sys.stderr, flush=True)


async def _surely(patience_s: float, act: Callable[[], _T]) -> _T:
    """Do something with the bucket, again where that fails; raises ``OSError`` in the end."""
    deadline, pause_s = time.monotonic() + patience_s, PAUSE_LEAST_S
    while True:
        try:
            return await asyncio.to_thread(act)
        except OSError:
            if time.monotonic() + pause_s > deadline:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MOST_S)


def _record(found: tuple[bytes, int] | None) -> dict[str, Any]:
    """Return a record; empty where there is none, or one that is none of ours."""
    try:
        record = json.loads(found[0]) if found else {}
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _grown(log: LogLines) -> bytes:
    """Return whole lines that the log has grown by."""
    data = bytearray()
    while (len(data) < PIECE_BYTES or log.within_line) and (more := log.piece()):
        data += more
    return bytes(data)


def _is_ours(name: str) -> bool:
    return name.startswith((PREFIX, SERVE_PREFIX))

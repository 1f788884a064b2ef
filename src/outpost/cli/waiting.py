"""``--wait`` and ``--follow``: until every task has ended, whoever comes to an end first."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import typer

from outpost.cli.documents import attempt_document, print_json_line, queued_document
from outpost.cli.failures import colourful, say, tell
from outpost.cli.outcome import outcome
from outpost.cli.started import started_word
from outpost.errors import OutpostError, StoreError
from outpost.model import State
from outpost.wire.render import render

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outpost.cli.started import Begun
    from outpost.federation import Federation, SpawnedWorker
    from outpost.model import Attempt, Task

SHOWN_S = 10.0
"""How long the rest of a log is waited for once its worker has ended."""
LOOK_AGAIN_S = 1.0


@contextlib.asynccontextmanager
async def looked_after(federation: Federation, begun: Begun) -> AsyncIterator[None]:
    """Leave what has not ended by then to a controller, however the block ends."""
    try:
        yield
    finally:
        running = any(not worker.attempt.state.ended for worker in begun.workers)
        if running or begun.queued or begun.refused:
            _have_controller(federation)


def _have_controller(federation: Federation) -> bool:
    """Start a controller where none is up and one may be started; return whether one is up."""
    from outpost.controller import standing, start_in_background  # noqa: PLC0415 - here only

    try:
        return start_in_background(federation) or standing(federation.home) is not None
    except StoreError as exc:
        say("note", f"no controller was started: {exc.message}", "33")
        return False


class Ends:
    """Waits for the tasks that one command began, and says how each of them ended."""

    def __init__(
        self, federation: Federation, begun: Begun, *, follow: bool, as_json: bool
    ) -> None:
        self._federation = federation
        self._begun = begun
        self._follow = follow
        self._as_json = as_json
        self._several = len(begun.workers) + len(begun.queued) > 1
        self._colour = colourful(1)
        self._seen_to = False

    async def wait(self) -> bool:
        """Return, once all have ended, whether all are done."""
        started = [self._end(worker) for worker in self._begun.workers]
        return all(await asyncio.gather(*started, self._queue()))

    async def _queue(self) -> bool:
        """Start what is queued as slots come free, the most urgent first."""
        well = True
        async with asyncio.TaskGroup() as group:
            ends = []
            for task in list(self._begun.queued):
                worker = await self._slot(task)
                self._begun.queued.remove(task)
                if worker is None:
                    well = False
                else:
                    self._begun.workers.append(worker)
                    ends.append(group.create_task(self._end(worker)))
        return well and all(end.result() for end in ends)

    async def _slot(self, task: Task) -> SpawnedWorker | None:
        try:
            worker = await self._federation.wait_for_slot(task.id)
        except OutpostError as exc:
            if self._as_json:
                after = await self._federation.task(task.id)
                print_json_line({**queued_document(after), "reason": exc.message})
            else:
                tell(exc)
            return None
        if not self._as_json:
            line = f"{started_word(worker.attempt)} {worker.id}  {task.issue_id}"
            typer.echo(f"{line}\n  on {worker.attempt.outpost}")
        return worker

    async def _end(self, worker: SpawnedWorker) -> bool:
        try:
            attempt = await self._result(worker)
            while successor := await worker.successor():
                worker = successor
                say("note", f"{attempt.id} {attempt.reason}; {worker.id} goes on from there", "33")
                self._begun.workers.append(worker)
                attempt = await self._result(worker)
            duties = await self._federation.store.duties_of(attempt.task_id)
        except OutpostError as exc:
            if self._as_json:
                print_json_line({**attempt_document(worker.attempt), "reason": exc.message})
            else:
                tell(exc)
            return False
        if self._as_json:
            print_json_line(attempt_document(attempt))
        else:
            typer.echo(outcome(attempt, duties))
        return attempt.state is State.DONE

    async def _result(self, worker: SpawnedWorker) -> Attempt:
        await self._have_tended(worker)
        if not self._follow:
            return await self._end_of(worker)
        shown = asyncio.create_task(self._show_events(worker))
        end = asyncio.create_task(self._end_of(worker))
        try:
            await asyncio.wait([shown, end], return_when=asyncio.FIRST_COMPLETED)
            if not shown.done():
                attempt = await end
                # The last it said; of one that was given up nobody waits for more.
                lost = attempt.state is State.LOST
                await asyncio.wait([shown], timeout=0 if lost else SHOWN_S)
            if shown.done():
                shown.result()
            return await end
        finally:
            shown.cancel()
            end.cancel()
            await asyncio.wait([shown, end])

    async def _have_tended(self, worker: SpawnedWorker) -> None:
        """Have a controller beside the waiting, once, where a worker's outpost needs one.

        The waiting renews no lease: without one its worker would be paused, and waited for on. A
        worker that lives by an open request needs none: who waits for it holds that.
        """
        name = worker.attempt.outpost
        if self._seen_to or not await self._federation.is_tended(name):
            return
        self._seen_to = True
        if not _have_controller(self._federation):
            why = f"no controller is up here, and {name} needs one while it has workers"
            say("note", f"{why}: outpost up", "33")

    @staticmethod
    async def _end_of(worker: SpawnedWorker) -> Attempt:
        def say_trouble(trouble: str) -> None:
            say("note", f"{worker.id} is out of contact, and waited for: {trouble}", "33")

        return await worker.result(on_trouble=say_trouble)

    async def _show_events(self, worker: SpawnedWorker) -> None:
        """Show each event once, through whatever troubles there are on the way."""
        prefix = f"{worker.id}  " if self._several else ""
        shown = 0
        while True:
            with contextlib.suppress(OutpostError):
                async with contextlib.aclosing(worker.events(after=shown)) as events:
                    async for event in events:
                        shown = event.seq
                        if text := render(event, colour=self._colour):
                            lines = (f"{prefix}{line}\n" for line in text.split("\n"))
                            sys.stdout.write("".join(lines))
                            sys.stdout.flush()
                    return
            await asyncio.sleep(LOOK_AGAIN_S)

"""A worker as callers of the federation see it: watch it, wait for it, stop it, remove it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from outpost.errors import NotFound, NotOurs, OutpostFault, Rejected, UserError, WorkAtRisk
from outpost.model import Attempt, Decision, DutyState, Handle, State, Task

if TYPE_CHECKING:
    from outpost.control.follow import Follower
    from outpost.federation import Federation
    from outpost.ports import Worker
    from outpost.wire.events import Event
    from outpost.wire.orders import Message

LOOK_AGAIN_S = 0.5
GIVEN_UP_S = 2.0
"""How often it is asked whether a worker that says nothing has been given up."""


class SpawnedWorker:
    """A worker of the federation, wherever it runs. ``attempt`` is what was last known of it."""

    def __init__(self, federation: Federation, attempt: Attempt) -> None:
        self._federation = federation
        self.attempt = attempt

    @property
    def id(self) -> str:
        """The worker's id, ``w-…``."""
        return self.attempt.id

    def __repr__(self) -> str:
        return f"SpawnedWorker({self.id} on {self.attempt.outpost}: {self.attempt.state})"

    async def status(self) -> Attempt:
        """Look at the worker and return what is known of it now; writes nothing."""
        self.attempt = await (await self._federation.parts.follower()).look(self.attempt)
        return self.attempt

    async def events(
        self,
        *,
        after: int = 0,
        follow: bool = True,
        on_trouble: Callable[[str], None] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield the worker's events after number ``after``, each once and in order.

        With ``follow`` until its result, else as far as the log goes now; with ``on_trouble``,
        which is told of it, also through lost contact, until a controller has given the worker up.
        Writes nothing.
        """
        worker, trouble = await self._port(), ""
        while True:
            events = worker.events(after=after, follow=follow)
            try:
                async with contextlib.aclosing(events):
                    async for event in events:
                        after, trouble = event.seq, ""
                        yield event
            except Rejected:
                raise
            except OutpostFault as exc:
                if not (on_trouble and follow) or await self._was_given_up():
                    raise
                if exc.message != trouble:
                    on_trouble(exc.message)
                trouble = exc.message
            else:
                return
            await asyncio.sleep(LOOK_AGAIN_S)

    async def result(self, *, on_trouble: Callable[[str], None] | None = None) -> Attempt:
        """Wait for the end and return the attempt: its state, reason, branch, commit, cost.

        What is learnt on the way is stored. It waits through lost contact, of which ``on_trouble``
        is told, until that is back or a controller has given the worker up: ``lost``. Cancelling
        stops the waiting, never the worker.
        """
        trouble = ""
        while True:
            try:
                over = await self._comes_to_an_end()
            except NotOurs:
                raise
            except OutpostFault as exc:
                over = await self._was_given_up()
                if not over and on_trouble and exc.message != trouble:
                    on_trouble(exc.message)
                trouble = exc.message
            if over:
                self.attempt = await self._federation.parts.duties.finish(self.attempt)
                return self.attempt
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _comes_to_an_end(self) -> bool:
        """Follow the worker as far as that goes; return whether it has ended."""
        follower = await self._federation.parts.follower()
        if self.attempt.handle is not None and not self.attempt.state.ended:
            following = asyncio.create_task(self._follow(follower))
            try:
                while not following.done():
                    if await self._was_given_up():
                        return True
                    await asyncio.wait([following], timeout=GIVEN_UP_S)
                following.result()
            finally:
                following.cancel()
                await asyncio.wait([following])
        if not self.attempt.state.ended:
            self.attempt = await follower.refresh(self.attempt)
        if self.attempt.state.ended:
            self.attempt = await follower.refresh(self.attempt)
        return self.attempt.state.ended

    async def _follow(self, follower: Follower) -> None:
        following = follower.follow(self.attempt)
        async with contextlib.aclosing(following):
            async for _event, attempt in following:
                self.attempt = attempt

    async def _was_given_up(self) -> bool:
        """Whether somebody has stored the worker as lost, which its log says nothing of."""
        known = await self._federation.store.attempts_of(self.attempt.task_id)
        lost = [it for it in known if it.id == self.attempt.id and it.state is State.LOST]
        self.attempt = lost[0] if lost else self.attempt
        return bool(lost)

    async def successor(self) -> SpawnedWorker | None:
        """Return the worker that tries its task again, started if need be; ``None``: none does.

        A task is tried again where its worker did not come to its own end; ``result`` says so
        with ``died``, or with the state ``lost``.
        """
        if not (self.attempt.died or self.attempt.state is State.LOST):
            return None
        store, task_id = self._federation.store, self.attempt.task_id
        newest = (await store.attempts_of(task_id))[-1]
        if newest.number > self.attempt.number:
            return SpawnedWorker(self._federation, newest)
        if (await store.task(task_id)).state is not State.QUEUED:
            return None
        return await self._federation.wait_for_slot(task_id)

    async def stop(self, *, grace_s: float | None = None, reason: str = "") -> Attempt:
        """End the worker, its work committed and pushed, and return how it ended. Idempotent.

        Its task is not tried again.
        """
        stopper = await self._federation.parts.stopper()
        self.attempt = await stopper.stop(self.attempt, reason, grace_s=grace_s)
        if self.attempt.state.ended:
            self.attempt = await self._federation.parts.duties.finish(self.attempt)
        return self.attempt

    async def send(self, text: str, *, question_id: str | None = None) -> str:
        """Tell the worker something; returns the message's id, which names it in ``events``.

        It answers the question that is open longest, or ``question_id``; with none open it is a
        message to the agent. An event ``message`` says what became of it. Raises ``UserError``
        for a worker that has ended.
        """
        attempt = await self.status()
        if attempt.state.ended:
            raise UserError(
                f"{self.id} has ended ({attempt.state}): nobody listens any more",
                hint=f"outpost resume {self.id} -m TEXT  goes on from there",
            )
        message: Message = {
            "type": "text",
            "text": text,
            "message_id": f"m-{secrets.token_hex(6)}",
        }
        if question_id:
            message["question_id"] = question_id
        await (await self._port()).send(message)
        return message["message_id"]

    async def diff(self, options: Sequence[str] = ()) -> bytes:
        """Return what the worker changed, as a patch: what is there now, else what it pushed.

        ``options`` are git's for a diff, such as ``--stat``. Raises ``NotFound`` where neither
        workspace nor branch is there.
        """
        from outpost.control.difference import of_branch  # noqa: PLC0415 - rarely needed

        attempt = await self.status()
        try:
            patch = await (await self._port()).diff(options)
        except OutpostFault:
            if attempt.commit is None:
                raise
        else:
            if patch is not None:
                return patch
        task = await self._federation.task(attempt.task_id)
        return await of_branch(task, attempt, options, self._federation.environment)

    async def page(self) -> str:
        """Return the web address of the worker's pull request, or else of its branch."""
        from outpost.control.pages import page  # noqa: PLC0415 - rarely needed

        attempt = await self.status()
        return page(await self._federation.task(attempt.task_id), attempt)

    async def attach(self) -> Sequence[str]:
        """Return the argv that shows the worker in a terminal, once there is a view to show.

        A worker that is still being prepared is waited for. Raises ``UserError`` once ended.
        """
        while True:
            attempt = await self.status()
            if attempt.state.ended:
                raise UserError(
                    f"{self.id} has ended ({attempt.state}): there is nothing to attach to",
                    hint=f"outpost logs {self.id}",
                )
            try:
                return await (await self._port()).attach()
            except OutpostFault:
                if attempt.state not in (State.RESERVED, State.STARTING):
                    raise

    async def remove(self, *, force: bool = False) -> None:
        """Delete the worker's files, and what is stored of it.

        Raises ``WorkAtRisk`` while it runs, or where work would be lost, unless ``force``.
        """
        attempt = await (await self._federation.parts.follower()).refresh(self.attempt)
        if attempt.state is State.UNKNOWN and not force:
            raise WorkAtRisk(
                f"{self.id} cannot be seen now: {attempt.reason}", hint="try again later"
            )
        if not attempt.state.ended and not force:
            raise WorkAtRisk(f"{self.id} is still {attempt.state}", hint=f"outpost stop {self.id}")
        if not force:
            await self._refuse_to_forget(attempt)
        if attempt.handle is not None:
            if not force:
                await self._refuse_to_lose(attempt)
            await self._destroy(attempt.handle, force=force)
        if not attempt.state.ended or attempt.state is State.LOST:
            # One that was lost had ended when that was seen, and was paid until then.
            end = attempt.ended_at or self._federation.clock.now()
            attempt = replace(attempt, state=State.STOPPED, reason="removed", ended_at=end)
            await self._federation.store.apply(attempt)
            await self._federation.parts.duties.carry_out(attempt_id=attempt.id)
        await self._federation.store.forget(attempt.id)

    async def _destroy(self, handle: Handle, *, force: bool) -> None:
        """Delete the worker's files; with ``force`` not where its outpost is configured no more."""
        sites = await self._federation.parts.sites()
        try:
            backend = sites.backend(handle.outpost)
        except NotFound:
            if not force:
                raise
            return
        await backend.destroy(handle)

    async def _refuse_to_forget(self, attempt: Attempt) -> None:
        from outpost.control.resume import Succession  # noqa: PLC0415 - here only

        heirs = await Succession(store=self._federation.store).heirs(attempt)
        if heirs:
            raise WorkAtRisk(
                f"{heirs[0]} goes on from {self.id}: it needs its workspace and its issue's text",
                hint=f"outpost {'stop' if heirs[0].startswith('t-') else 'rm'} {heirs[0]}  first",
            )
        await self._federation.parts.duties.finish(attempt)
        duties = await self._federation.store.duties_of(attempt.task_id)
        left = [
            f"{duty.kind}: {duty.detail or 'not done yet'}"
            for duty in duties
            if duty.attempt_id == attempt.id and duty.state is DutyState.PENDING
        ]
        if left:
            raise WorkAtRisk(
                f"{self.id} has something left to do: {'; '.join(left)}",
                hint=f"try again later\nor leave it undone: outpost rm --force {attempt.id}",
            )

    async def _refuse_to_lose(self, attempt: Attempt) -> None:
        what, _, way_out = (await (await self._port()).unsaved()).partition("\n")
        if what:
            raise WorkAtRisk(
                f"{self.id} holds {what}: here and nowhere else",
                hint=f"{way_out}\nor lose it: outpost rm --force {attempt.id}",
            )

    async def _port(self) -> Worker:
        if self.attempt.handle is None:
            await self.status()
        if self.attempt.handle is None:
            raise NotFound(f"{self.id} was never seen on {self.attempt.outpost}")
        sites = await self._federation.parts.sites()
        return sites.backend(self.attempt.outpost).worker(self.attempt.handle)


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """What became of a task: started (``worker``), or queued with the decision's reasons."""

    task: Task
    decision: Decision
    worker: SpawnedWorker | None

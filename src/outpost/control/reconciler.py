"""Comparing what outposts really run with the store, and settling what differs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from outpost.control.deadlines import OVERDUE, overdue
from outpost.control.foreseen import as_fault_of
from outpost.control.reconciling import Finding, Kind, Known, compare
from outpost.errors import NotFound, OutpostError, OutpostFault, Rejected
from outpost.model import Attempt, Liveness, Sighting, State
from outpost.ports import Clock, Outpost, Store

LIST_S = 60.0
"""How long an outpost may take to say what it runs, whatever deadlines it keeps by itself."""
STOPPED = "stopped"
STILL_AT_WORK = "still at work"
NO_RESULT = "its log has no result"


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What one look found, and what each outpost answered: how many workers it runs, or why not."""

    findings: tuple[Finding, ...]
    answers: Mapping[str, int | OutpostError]

    @property
    def asked(self) -> set[str]:
        """The outposts that gave an answer."""
        return {name for name, it in self.answers.items() if not isinstance(it, OutpostError)}


class Step(StrEnum):
    """What a look by hand does about a finding."""

    STOP = "stop"
    READ = "read"
    LEAVE = "leave"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """A finding, the step that was taken (or would be), and what came of it."""

    finding: Finding
    step: Step
    outcome: str = ""
    problem: OutpostError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciled:
    """What a look by hand found, and what was (``dry_run``: would be) done; see ``Look``."""

    dry_run: bool
    settled: tuple[Settled, ...]
    answers: Mapping[str, int | OutpostError]


class Reconciler:
    """Looks and settles; remembers nothing but which dead workers have ended for good.

    ``catch_up`` reads on in the log of a lost worker and stores its result, if it has one.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        outposts: Callable[[str], Outpost],
        catch_up: Callable[[Attempt], Awaitable[Attempt]],
        stop_grace_s: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._outposts = outposts
        self._catch_up = catch_up
        self._stop_grace_s = stop_grace_s
        self._over: set[str] = set()

    async def look(self, names: Collection[str]) -> Look:
        """Return what differs at these outposts, and which of them could not be asked.

        The outposts are asked before the store: whatever is seen there is in the store, if it is
        anybody's, as a worker is stored before it is started.
        """
        before = {attempt.id for attempt in await self._store.attempts() if attempt.handle}
        answers = dict(zip(names, await asyncio.gather(*map(self._list, names)), strict=True))
        seen = {name: it for name, it in answers.items() if not isinstance(it, OutpostError)}
        active = await self._store.attempts()
        known = await self._known(seen.values(), {attempt.id for attempt in active})
        findings = [
            finding
            for name, sightings in seen.items()
            for finding in compare(name, sightings, active, known)
            if finding.kind is not Kind.MISSING
            or (finding.worker_id in before and self._is_ours(finding))
        ]
        return Look(
            findings=tuple(findings),
            answers={
                name: it if isinstance(it, OutpostError) else _alive(it)
                for name, it in answers.items()
            },
        )

    async def settle(self, finding: Finding) -> str:
        """Do what a finding calls for; return what came of it. Idempotent.

        A worker that is stopped saves its work first; none is destroyed. Raises ``OutpostError``.
        """
        if reason := await self._reason_to_stop(finding):
            worker = self._outposts(finding.outpost).worker(finding.handle)
            await worker.stop(grace_s=self._stop_grace_s, reason=reason)
        attempt = finding.attempt
        if attempt is None or attempt.state is not State.LOST or attempt.outpost != finding.outpost:
            return STOPPED
        seen = await self._catch_up(replace(attempt, handle=attempt.handle or finding.handle))
        if seen.state is State.LOST and (reason or not finding.alive):
            return NO_RESULT
        if seen.state is State.LOST or not seen.state.ended:
            return STILL_AT_WORK
        return f"its end is known now: {seen.state}"

    async def by_hand(self, names: Collection[str], *, dry_run: bool, now: bool) -> Reconciled:
        """Look once and settle what can be settled without another look.

        That is what came back from being lost, and what another worker has taken the place of;
        with ``now`` everything that is to be stopped at all.
        """
        look = await self.look(names)

        async def settled(finding: Finding) -> Settled:
            step = _step(finding, now=now)
            if dry_run or step is Step.LEAVE:
                return Settled(finding=finding, step=step)
            try:
                outcome = await self.settle(finding)
            except OutpostError as exc:
                return Settled(finding=finding, step=step, problem=exc)
            return Settled(finding=finding, step=step, outcome=outcome)

        return Reconciled(
            dry_run=dry_run,
            settled=tuple(await asyncio.gather(*map(settled, look.findings))),
            answers=look.answers,
        )

    async def _list(self, name: str) -> list[Sighting] | OutpostError:
        try:
            async with asyncio.timeout(LIST_S):
                with as_fault_of(name):
                    return [sighting async for sighting in self._outposts(name).workers()]
        except TimeoutError:
            return OutpostFault(f"{name} gave no answer within {LIST_S:g} s", outpost=name)
        except OutpostError as exc:
            return exc

    async def _known(
        self, seen: Iterable[Iterable[Sighting]], active: Collection[str]
    ) -> dict[str, Known]:
        """Return what the store says of what was seen and is not active.

        Of the dead only who is lost counts: the others have ended for good, and are looked up once.
        """
        alive, dead = set[str](), set[str]()
        for sighting in (it for sightings in seen for it in sightings):
            lives = sighting.liveness is Liveness.ALIVE
            (alive if lives else dead).add(sighting.handle.worker_id)
        self._over &= dead
        known = {}
        for name in (alive | (dead - self._over)).difference(active):
            found = [it for it in await self._store.find(name) if it.id == name]
            if name not in alive and not any(it.state is State.LOST for it in found):
                self._over.add(name)
                continue
            for attempt in found:
                # It may be forgotten at this very moment.
                with contextlib.suppress(NotFound):
                    task = await self._store.task(attempt.task_id)
                    others = await self._store.attempts_of(attempt.task_id)
                    newest = max(others, key=lambda it: it.number, default=attempt)
                    known[name] = Known(attempt=attempt, task=task, newest_id=newest.id)
        return known

    def _is_ours(self, finding: Finding) -> bool:
        """Whether it would be seen here: another machine's outpost may have the same name."""
        try:
            self._outposts(finding.outpost).worker(finding.handle)
        except Rejected:
            return False
        return True

    async def _reason_to_stop(self, finding: Finding) -> str:
        """Say why a worker is to be stopped; empty if it is not."""
        if finding.stops:
            return finding.why
        if finding.alive and finding.attempt:
            # Nobody takes its place, so it may finish: but for no more money than it had.
            charge = await self._store.charge(finding.attempt.id)
            if overdue(charge, self._clock.now()):
                return OVERDUE
        return ""


def _alive(sightings: Iterable[Sighting]) -> int:
    return sum(it.liveness is Liveness.ALIVE for it in sightings)


def _step(finding: Finding, *, now: bool) -> Step:
    if finding.kind is Kind.RETURNED:
        return Step.READ
    return Step.STOP if finding.stops and (finding.went_on or now) else Step.LEAVE

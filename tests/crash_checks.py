"""What must be true of a home once a controller has mended what a killed program left."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from outpost.federation import Federation
from outpost.model import ENDED, Attempt, State
from outpost.ports.store import Store
from outpost.wire.events import Event, EventReader, LogDamaged
from tests.world import World, pids_marked

SUPERSEDED = "superseded"


@dataclass
class Checks:
    """Looks at one home. ``lines`` is the file that each agent has put its worker's id into.

    ``outposts_fail`` says that they do so by themselves, ``forgets`` that of a worker whose place
    is gone nothing is left to be mended.
    """

    world: World
    federation: Federation
    lines: Path
    outposts_fail: bool
    forgets: bool = False

    @property
    def store(self) -> Store:
        return self.federation.store

    async def unrest(self) -> str:
        """Say what goes on still, that a controller is to end by itself; empty if nothing."""
        counted = await self.store.count_by_state()
        attempts = await self.store.attempts(ended=True)
        if any(counted[state] for state in counted if state not in ENDED):
            return f"{dict(counted)}: {_told(attempts)}"
        if await self.store.pending_duties():
            return "duties are pending"
        if sessions := self._sessions():
            return f"sessions are left: {sessions}"
        if pids := pids_marked(self.world.worker_ids() | {it.id for it in attempts}):
            return f"processes are left: {pids}"
        return ""

    async def faults(self) -> list[str]:
        """Return what is wrong in a home where all is quiet."""
        attempts = await self.store.attempts(ended=True)
        faults = await self._of_tasks(attempts)
        faults += self._of_lines(attempts)
        for attempt in attempts:
            faults += await self._of_log(attempt)
        faults += await self._of_money(attempts)
        faults += await self._of_transitions(attempts)
        return faults

    async def _of_tasks(self, attempts: list[Attempt]) -> list[str]:
        """Every task has come to one end, that of its newest attempt, with its branch pushed."""
        faults = []
        tasks = {it.task_id: await self.store.task(it.task_id) for it in attempts}
        stored = sum((await self.store.count_by_state()).values())
        if stored != len(tasks):
            faults.append(f"{stored} tasks are stored, {len(tasks)} of them with attempts")
        for task in tasks.values():
            mine = [it for it in attempts if it.task_id == task.id]
            # Who said nothing for long is stopped where it is seen again: another has its task.
            ends = [
                it
                for it in mine
                if it.state in (State.DONE, State.STOPPED) and not it.reason.startswith(SUPERSEDED)
            ]
            if task.state not in (State.DONE, State.STOPPED) or [task.state] != [
                it.state for it in ends
            ]:
                faults.append(f"{task.id} is {task.state} ({task.reason}); {_told(mine)}")
                continue
            (end,) = ends
            if end is not mine[-1]:
                faults.append(f"{task.id} ended with an older attempt: {_told(mine)}")
            if end.state is State.STOPPED and not end.stop_asked:
                faults.append(f"{end.id} was stopped, and nobody had asked for that")
            faults += self._of_branch(end)
        return faults

    def _of_branch(self, end: Attempt) -> list[str]:
        """What an attempt pushed is on its branch, on which another may have gone on."""
        if end.commit is None or self.world.remote.tip(end.branch) is None:
            return [f"{end.id} says that it pushed {end.commit}, and {end.branch} is not there"]
        later = self.world.remote.git("rev-list", end.branch).split()
        return [] if end.commit in later else [f"{end.branch} does not hold {end.commit}"]

    def _of_lines(self, attempts: list[Attempt]) -> list[str]:
        """No agent ran twice, and a further one only after one that was proven dead."""
        ran = Counter(self.lines.read_text().split()) if self.lines.exists() else Counter[str]()
        faults = [
            f"the agent of {name} ran {times} times" for name, times in ran.items() if times > 1
        ]
        known = {it.id: it for it in attempts}
        faults += [f"{name} ran, and nobody knows of it" for name in ran.keys() - known.keys()]
        for attempt in attempts:
            if attempt.state in (State.DONE, State.STOPPED):
                if attempt.id not in ran:
                    faults.append(f"{attempt.id} is {attempt.state}, and its agent never ran")
            elif attempt.id in ran and not attempt.died and not self._is_forgotten(attempt):
                faults.append(f"the agent of {_told([attempt])} ran, and was not proven dead")
        return faults

    async def _of_log(self, attempt: Attempt) -> list[str]:
        """The log is whole, and the store has all of it."""
        root = self.world.home / "outposts" / attempt.outpost
        path = root / "workers" / attempt.id / "events.jsonl"
        if attempt.handle is None:
            return [f"{attempt.id} has a log, and the store no handle"] if path.exists() else []
        reader = EventReader()
        try:
            data = path.read_bytes() if path.exists() else b""
            events = list(reader.feed(data))
        except LogDamaged as exc:
            return [f"the log of {attempt.id} is damaged: {exc}"]
        faults = []
        numbers = [event.seq for event in events]
        if numbers != list(range(1, len(numbers) + 1)):
            faults.append(f"the log of {attempt.id} has the numbers {numbers}")
        if (attempt.seq, attempt.offset) != (len(numbers), len(data)):
            faults.append(
                f"of {attempt.id} the store has seq {attempt.seq}, offset {attempt.offset},"
                f" and its log {len(numbers)}, {len(data)}"
            )
        said = [
            it.fields["text"]
            for it in events
            if it.type == "log" and it.fields["stream"] != "runner"
        ]
        if attempt.state is State.DONE and said != ["one", "two"]:
            faults.append(f"the agent of {attempt.id} is said to have said {said}")
        results = [it.type for it in events].count("result")
        if results != 1 and not (results == 0 and self._may_lack_one(attempt, events)):
            faults.append(f"the log of {attempt.id} ({attempt.state}) has {results} results")
        return faults

    def _may_lack_one(self, attempt: Attempt, events: list[Event]) -> bool:
        """Whether nobody is left to say how it ended, or its order never came to its place."""
        return self._is_forgotten(attempt) or (attempt.state is State.LOST and not events)

    def _is_forgotten(self, attempt: Attempt) -> bool:
        """Whether it went with its place: what it has not told or pushed nobody knows."""
        return self.forgets and attempt.state is State.LOST

    async def _of_money(self, attempts: list[Attempt]) -> list[str]:
        """Nothing is reserved any more, no slot is taken, no outpost left alone for nothing."""
        faults = []
        charges = await self.store.charges()
        faults += [f"the charge of {it.attempt_id} is open" for it in charges if not it.ended_at]
        charged = Counter(it.attempt_id for it in charges)
        started = {it.id for it in attempts if it.handle is not None}
        if not started <= charged.keys():
            faults.append(f"nothing was charged for {started - charged.keys()}")
        taken = {name: count for name, count in (await self.store.counts()).items() if count}
        if taken:
            faults.append(f"slots are taken: {taken}")
        ended = {it.id for it in attempts if it.state in ENDED}
        for breaker in await self.store.breakers():
            if breaker.probe in ended or not self.outposts_fail:
                faults.append(f"a breaker is left: {breaker}")
        if leases := await self.store.leases():
            faults.append(f"leases are left: {leases}")
        return faults

    async def _of_transitions(self, attempts: list[Attempt]) -> list[str]:
        """What is told of each attempt hangs together, and ends with how it ended."""
        faults = []
        lines = await self.store.transitions()
        for attempt in attempts:
            told = [it for it in lines if it.attempt_id == attempt.id]
            moves = [(it.before, it.after) for it in told]
            broken = [pair for pair in pairwise(moves) if pair[0][1] != pair[1][0]]
            if broken or not moves or moves[-1][1] != attempt.state:
                faults.append(f"of {_told([attempt])} is told {moves}")
        return faults

    def _sessions(self) -> list[str]:
        if not (self.world.home / "outpost.db").exists():
            return []
        argv = self.world.tmux("list-sessions", "-F", "#{session_name}")
        listed = subprocess.run(
            argv, env=self.world.environment, capture_output=True, text=True, check=False
        )
        return listed.stdout.split()


def _told(attempts: list[Attempt]) -> str:
    return "; ".join(f"{it.id} {it.state} ({it.reason})" for it in attempts)

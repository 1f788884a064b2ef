"""Any order of claim, apply, release, cancel and forget, against a model in plain Python."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from outpost.model import ACTIVE, ENDED, Attempt, State, may_become
from outpost.store import open_store
from tests.unit.store_values import StandingClock, a_decision, a_task, an_attempt

MAX_WORKERS = 2
OUTPOSTS = ("local", "far")


@dataclass
class Expected:
    """What should be known of one task; ``attempts`` by id, in the order they were claimed."""

    state: State = State.QUEUED
    made: int = 0
    retries: int = 0
    attempts: dict[str, Attempt] = field(default_factory=dict)


class StoreMachine(RuleBasedStateMachine):
    """Runs each step on both and compares what they answer; all of it after each step."""

    tasks = Bundle("tasks")
    attempts = Bundle("attempts")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = open_store(url, clock=StandingClock())
        self.expected: dict[str, Expected] = {}
        self.number = 0
        self.read_up_to = 0
        self.states: dict[str, State] = {}
        self.newest: dict[str, str] = {}

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    @rule(target=tasks)
    def add(self) -> str:
        self.number += 1
        task = a_task(self.number)
        self.runner.run(self.store.add_task(task))
        self.expected[task.id] = Expected()
        return task.id

    @rule(target=attempts, task_id=tasks, outpost=st.sampled_from(OUTPOSTS))
    def claim(self, task_id: str, outpost: str) -> Attempt | object:
        self.number += 1
        task = a_task(int(task_id.removeprefix("t-"), 16))
        wanted = an_attempt(task, outpost=outpost, suffix=f"x{self.number:x}")
        claimed = self.runner.run(
            self.store.claim(wanted, a_decision(task, outpost), max_workers=MAX_WORKERS)
        )
        known = self.expected.get(task_id)
        free = self._slots()[outpost] < MAX_WORKERS
        assert (claimed is not None) == (known is not None and known.state is State.QUEUED and free)
        if known is None or claimed is None:
            return multiple()
        known.made += 1
        assert claimed == replace(wanted, number=known.made, fence=known.made)
        known.attempts[claimed.id] = claimed
        known.state = State.RESERVED
        return claimed

    @rule(
        attempt=attempts,
        state=st.sampled_from(State),
        seq=st.integers(0, 3),
        older=st.integers(0, 1),
        died=st.booleans(),
        again=st.booleans(),
    )
    def apply(
        self, attempt: Attempt, state: State, seq: int, older: int, died: bool, again: bool
    ) -> None:
        news = replace(attempt, state=state, seq=seq, died=died, fence=attempt.fence - older)
        again_at = StandingClock().now() if again else None
        applied = self.runner.run(self.store.apply(news, again_at=again_at))
        assert applied == self._learn(news, again=again)

    # A list of what there is none of would make the whole run count for nothing.
    @precondition(lambda self: self.bundle("attempts"))
    @rule(news=st.lists(st.tuples(attempts, st.sampled_from(State), st.integers(0, 3)), max_size=4))
    def apply_all(self, news: list[tuple[Attempt, State, int]]) -> None:
        learnt = [replace(attempt, state=state, seq=seq) for attempt, state, seq in news]
        applied = self.runner.run(self.store.apply_all(learnt))
        assert applied == [self._learn(one) for one in learnt]

    @rule(attempt=attempts, reason=st.sampled_from(["over its cap", "not needed"]))
    def ask_to_stop(self, attempt: Attempt, reason: str) -> None:
        asked = self.runner.run(self.store.ask_to_stop(attempt.id, reason))
        known, stored = self._known(attempt)
        assert asked == (stored is not None and stored.state in ACTIVE)
        if known and stored and asked:
            known.attempts[attempt.id] = replace(stored, stop_asked=stored.stop_asked or reason)

    @rule(attempt=attempts)
    def release(self, attempt: Attempt) -> None:
        released = self.runner.run(self.store.release(attempt, ""))
        known, stored = self._known(attempt)
        assert released == (stored is not None and stored.state is State.RESERVED)
        if known and stored and released:
            ended_at = StandingClock().now()
            known.attempts[attempt.id] = replace(stored, state=State.FAILED, ended_at=ended_at)
            known.state = State.QUEUED
            known.retries += 1

    @rule(task_id=tasks, failed=st.booleans())
    def end_queued(self, task_id: str, failed: bool) -> None:
        end = self.store.give_up if failed else self.store.cancel
        ended = self.runner.run(end(task_id, ""))
        known = self.expected.get(task_id)
        assert ended == (known is not None and known.state is State.QUEUED)
        if known and ended:
            known.state = State.FAILED if failed else State.STOPPED

    @rule(attempt=consumes(attempts))
    def forget(self, attempt: Attempt) -> None:
        self.runner.run(self.store.forget(attempt.id))
        known, stored = self._known(attempt)
        if known and stored and stored.state in ENDED:
            del known.attempts[attempt.id]
            if not known.attempts and known.state in ENDED:
                del self.expected[attempt.task_id]

    @invariant()
    def agrees(self) -> None:
        assert self.runner.run(self.store.counts()) == dict(self._slots())
        states = Counter(known.state for known in self.expected.values())
        assert self.runner.run(self.store.count_by_state()) == dict(states)
        for task_id, known in self.expected.items():
            stored = self.runner.run(self.store.attempts_of(task_id))
            assert stored == list(known.attempts.values())
            task = self.runner.run(self.store.task(task_id))
            assert (task.state, task.retries) == (known.state, known.retries)
        assert max(self._slots().values(), default=0) <= MAX_WORKERS

    @invariant()
    def the_log_tells_how_everything_came_to_be(self) -> None:
        states, newest = self.states, self.newest
        for line in self.runner.run(self.store.transitions(after=self.read_up_to)):
            self.read_up_to = line.id
            if line.attempt_id and line.attempt_id not in states:
                states[line.attempt_id] = State.QUEUED
                newest[line.task_id] = line.attempt_id
            assert line.before is states.get(line.attempt_id or line.task_id)
            follows = states.get(line.task_id) is line.before
            if follows and line.attempt_id in ("", newest.get(line.task_id)):
                states[line.task_id] = line.after
            if line.attempt_id:
                states[line.attempt_id] = line.after
        for task_id, known in self.expected.items():
            assert states[task_id] is known.state
            for attempt in known.attempts.values():
                assert states[attempt.id] is attempt.state

    def _slots(self) -> Counter[str]:
        return Counter(
            attempt.outpost
            for known in self.expected.values()
            for attempt in known.attempts.values()
            if attempt.state in ACTIVE
        )

    def _known(self, attempt: Attempt) -> tuple[Expected | None, Attempt | None]:
        known = self.expected.get(attempt.task_id)
        return known, known.attempts.get(attempt.id) if known else None

    def _learn(self, news: Attempt, *, again: bool = False) -> bool:
        """Do to the model what applying does, and return whether that is allowed."""
        known, stored = self._known(news)
        if known is None or stored is None or stored.fence != news.fence:
            return False
        if news.seq < stored.seq or news.state is State.QUEUED:
            return False
        if stored.state in ENDED - {State.LOST} or not may_become(stored.state, news.state):
            return False
        known.attempts[news.id] = replace(news, stop_asked=stored.stop_asked)
        if news.number != known.made:
            return True
        broken_off = news.state is State.LOST or (news.state is State.FAILED and news.died)
        if known.state is stored.state:
            tried = again and broken_off and not stored.stop_asked
            known.state = State.QUEUED if tried else news.state
            known.retries += tried
        elif known.state is State.QUEUED and news.state is State.DONE:
            known.state = State.DONE
        return True


@pytest.mark.parametrize(
    ("new_store_url", "examples"), [("sqlite", 25), ("postgres", 8)], indirect=["new_store_url"]
)
def test_the_store_does_as_the_model_in_any_order(
    new_store_url: Callable[[], str], examples: int
) -> None:
    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(new_store_url())

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, database=None
        ),
    )

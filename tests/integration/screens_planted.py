"""Workers of earlier days, as the store knows them: one in each state that a screen can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from outpost.model import (
    AgentSpec,
    Attempt,
    Candidate,
    Charge,
    Decision,
    Estimate,
    Handle,
    Priority,
    Refusal,
    Refused,
    State,
    Task,
    Usage,
)
from outpost.ports import Store

REPOSITORY = "https://github.com/acme/shop"
HOME = "/home/sam/.local/state/outpost/outposts/local"
LOGIN = "fix-the-login-that-times-out-after-a-password-was-reset"
WORKED = timedelta(minutes=25)


async def plant(store: Store, place: str) -> None:
    """Write the workers into a store; they are hours or days old, in the middle of one.

    ``place`` is the folder of the outpost that they ran on; nothing of theirs is there any more.
    """
    await _ended(
        store,
        "w-f4k2m9xq",
        ("acme/shop#12", "Invoices are a cent off"),
        State.DONE,
        hours=75,
        place=place,
        charged={
            "microusd_per_hour": 500_000,
            "price_source": "price_hourly",
            "token_budget_microusd": 5_000_000,
        },
        summary="Invoices are rounded once, at the end.\n\nThe rule stands in money.py.",
        commit="0123456789abcdef0123456789abcdef01234567",
        pr_url=f"{REPOSITORY}/pull/31",
        usage=Usage(
            input_tokens=181_203,
            output_tokens=20_117,
            cache_read_tokens=1_802_442,
            cache_write_tokens=90_210,
            cost_microusd=2_345_678,
        ),
        exit_code=0,
    )
    await _ended(
        store,
        "w-h7c3t5vz",
        (LOGIN, "Fix the login that times out after a password was reset"),
        State.FAILED,
        hours=50,
        place=place,
        reason="exited with code 1: tests/test_sessions.py fails in 3 of 97 tests, see the log",
        exit_code=1,
        usage=Usage(input_tokens=2_000, output_tokens=300, cost_microusd=1_200),
        kept_how="workspace",
        kept_where=f"{HOME}/trees/w-h7c3t5vz",
    )
    stopped = ("gt-77", "Draw the logo anew")
    await _ended(
        store, "w-j2n8b6rd", stopped, State.STOPPED, hours=26, place=place, reason="by outpost stop"
    )
    lost = ("gt-78", "Send mail in the background")
    reason = "its runner died without a result"
    await _ended(store, "w-m5p4w8kg", lost, State.LOST, hours=5, place=place, reason=reason)
    await _unseen(store)


async def _ended(
    store: Store, name: str, issue: tuple[str, str], state: State, *, hours: int, **more: Any
) -> None:
    folder = {"directory": f"{more.pop('place')}/workers/{name}"}
    handle = Handle(outpost="local", kind="local", worker_id=name, data=folder)
    charged = more.pop("charged", None)
    claimed = await _claimed(store, name, issue, hours=hours, charged=charged)
    ended = replace(claimed, state=state, handle=handle, ended_at=claimed.created_at + WORKED)
    assert await store.apply(replace(_busy(ended), **more))


async def _unseen(store: Store) -> None:
    """Plant a worker on an outpost that cannot be asked."""
    folder = {"directory": "/home/sam/.outpost/workers/w-q6s2y9td"}
    handle = Handle(outpost="vm-1", kind="ssh", worker_id="w-q6s2y9td", data=folder)
    issue = ("gt-80", "Measure the start of the shop")
    claimed = await _claimed(
        store,
        "w-q6s2y9td",
        issue,
        hours=3,
        outpost="vm-1",
        kind="ssh",
        charged={"microusd_per_hour": None, "price_source": "nobody knows"},
    )
    assert await store.apply(replace(_busy(claimed), state=State.WORKING, handle=handle))


def _busy(attempt: Attempt) -> Attempt:
    then = attempt.created_at + WORKED
    return replace(
        attempt,
        started_at=attempt.created_at,
        seen_at=then,
        active_at=then,
        activity="runs make test",
        seq=9,
    )


async def _claimed(
    store: Store,
    name: str,
    issue: tuple[str, str],
    *,
    hours: int,
    outpost: str = "local",
    kind: str = "local",
    charged: Mapping[str, Any] | None = None,
) -> Attempt:
    task = Task(
        id=name.replace("w-", "t-"),
        issue_id=issue[0],
        source="text",
        title=issue[1],
        body="",
        repo_url=REPOSITORY,
        created_at=datetime.now(UTC) - timedelta(hours=hours, minutes=30),
        agent=AgentSpec(name="claude"),
        priority=Priority.P1,
        time_limit_s=7200.0,
    )
    attempt = Attempt(
        id=name,
        task_id=task.id,
        issue_id=task.issue_id,
        number=0,
        fence=0,
        outpost=outpost,
        kind=kind,
        branch=f"outpost/{task.issue_id.replace('/', '-').replace('#', '-')}-{name}",
        created_at=task.created_at,
    )
    charge = _charge(task, attempt, **(charged or {}))
    full = Refused(outpost="local", code=Refusal.FULL, detail="full 2/2", microusd_per_hour=0)
    refused = () if outpost == "local" else (full,)
    decision = Decision(
        task_id=task.id,
        decided_at=task.created_at,
        ranked=(
            Candidate(
                outpost=outpost,
                why=f"preference {2 if refused else 1} of 2",
                microusd_per_hour=charge.microusd_per_hour,
                estimate=Estimate(
                    compute_microusd=charge.reserved_microusd(charge.started_at)
                    - charge.token_budget_microusd,
                    tokens_microusd=charge.token_budget_microusd,
                    held_s=task.time_limit_s,
                ),
            ),
        ),
        refused=refused,
    )
    await store.add_task(task)
    claimed = await store.claim(attempt, decision, max_workers=None, charge=charge)
    assert claimed
    return claimed


def _charge(task: Task, attempt: Attempt, **more: Any) -> Charge:
    """Return what an attempt reserves on an outpost that is free unless ``more`` says otherwise."""
    charge = Charge(
        attempt_id=attempt.id,
        task_id=task.id,
        issue_id=task.issue_id,
        outpost=attempt.outpost,
        kind=attempt.kind,
        agent=task.agent.name,
        repo=task.repo_url,
        started_at=attempt.created_at,
        held_until=attempt.created_at + timedelta(seconds=task.time_limit_s or 0),
    )
    return replace(charge, **more)

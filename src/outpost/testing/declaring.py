"""Checks of what an outpost says of itself, and of what it shows to others."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from outpost.errors import Unsupported
from outpost.model import AgentSpec, Health, Task
from outpost.ports import Worker
from outpost.testing.bench import GRACE_S, Bench, lines
from outpost.testing.contract import (
    ABILITIES,
    ContractBroken,
    Need,
    NotApplicable,
    check,
    demand,
)
from outpost.testing.looking import Watch, processes_holding
from outpost.wire.orders import Environment

SECRET, PASSWORD = "CONFORMANCE_TOKEN", "CONFORMANCE_PASSWORD"
ACTS: dict[Need, Callable[[Worker], Awaitable[object]]] = {
    "attach": lambda worker: worker.attach(),
    "send": lambda worker: worker.send({"type": "text", "text": "a word", "message_id": "m-1"}),
    "stop": lambda worker: worker.stop(grace_s=GRACE_S, reason="asked for"),
}


@check()
async def ping_says_how_it_is(bench: Bench) -> None:
    """Ping must return how the outpost is and never raise."""
    health = await bench.outpost.ping()
    demand(isinstance(health, Health), "ping must return a Health", health)
    demand(health.ok, "an outpost must be well to be checked", f"{health.detail} {health.hint}")


@check()
async def quote_is_pure(bench: Bench) -> None:
    """Quote must give the same answer each time, never less than nothing, and name its source."""
    task = Task(
        id="t-conformance",
        issue_id="conformance",
        source="text",
        title="What would it cost?",
        body="",
        repo_url=bench.options.repo_url,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        agent=AgentSpec(name="command", argv=("true",)),
    )
    for asked in (None, task, replace(task, time_limit_s=60.0)):
        first = bench.outpost.quote(asked)
        again = (bench.outpost.quote(asked), bench.restarted().quote(asked))
        demand(again == (first, first), "quote must be pure: the same task, the same price", again)
        price = first.microusd_per_hour
        demand(price is None or price >= 0, "a price must not be negative", first)
        demand(bool(first.source), "a quote must say where its price comes from", first)
        demand(
            bench.outpost.capabilities.paid or not price,
            "an outpost that costs money must declare that it is paid",
            first,
        )


@check()
async def workers_are_of_one_federation(bench: Bench) -> None:
    """Workers and find must show what is of our federation, and nothing else at the same place."""
    ours = await bench.spawn("echo begun; sleep 60")
    stranger = bench.stranger()
    order = bench.order("echo begun; sleep 60", federation_id=bench.stranger_id)
    theirs = await bench.start(order, outpost=stranger)
    await bench.wait_for_line(ours, "begun")
    seen = set(await bench.seen())
    demand(
        seen == {ours.worker_id},
        "workers() must show all of our federation and nothing of another's",
        sorted(seen),
    )
    seen = {it.handle.worker_id async for it in stranger.workers()}
    demand(
        seen == {theirs.worker_id}, "another federation must see its own workers only", sorted(seen)
    )
    found = await bench.outpost.find(theirs.worker_id)
    demand(found is None, "find must not show a worker of another federation", found)


@check()
async def declared_abilities_work(bench: Bench) -> None:
    """What the capabilities declare must work: attach gives an argv, send and stop do not raise."""
    declared = _abilities(bench, declared=True)
    if not declared:
        raise NotApplicable("no ability is declared")
    handle = await bench.spawn("echo begun; sleep 60")
    await bench.wait_for_line(handle, "begun")
    worker = bench.outpost.worker(handle)
    for ability in declared:
        try:
            answer = await ACTS[ability](worker)
        except Unsupported as exc:
            raise ContractBroken(f"{ability} is declared and must work", exc.message) from exc
        if ability == "attach":
            argv = isinstance(answer, list | tuple) and all(isinstance(it, str) for it in answer)
            demand(argv and bool(answer), "attach must return the argv of a program", answer)


@check()
async def undeclared_abilities_are_refused(bench: Bench) -> None:
    """What the capabilities do not declare must raise Unsupported and change nothing."""
    undeclared = _abilities(bench, declared=False)
    if not undeclared:
        raise NotApplicable("every ability is declared")
    handle = await bench.spawn("echo begun; sleep 3")
    await bench.wait_for_line(handle, "begun")
    worker = bench.outpost.worker(handle)
    for ability in undeclared:
        try:
            await ACTS[ability](worker)
        except Unsupported:
            continue
        raise ContractBroken(f"{ability} is not declared and must raise Unsupported", "it did not")
    result = (await bench.log(handle))[-1]
    demand(
        result.fields.get("outcome") == "done",
        "a refused act must leave the worker as it is",
        result,
    )


@check()
async def secrets_are_shown_to_nobody(bench: Bench) -> None:
    """Variables of a worker must be in no argv, no other process's environment, and no log."""
    secret = secrets.token_hex(20)
    given = bench.options.environment
    environment: Environment = {
        "agent": {**given["agent"], SECRET: secret},
        "git": {**given["git"], PASSWORD: secret},
    }
    order = bench.order(f'echo "${SECRET}" | cut -c 1-4; echo "it is ${SECRET}"; sleep 60')
    worker_id = order["worker_id"]
    with Watch(secret, but_environment_of=worker_id) as watch:
        handle = await bench.start(order, environment=environment)
        await bench.wait_for_line(handle, secret[:4])
        await bench.wait_for_event(
            handle, lambda event: "it is" in event.fields.get("text", ""), "the agent's line"
        )
        there = await processes_holding(bench, secret, but_environment_of=worker_id)
    demand(
        not watch.found,
        "no process here may have a worker's secret in its argv, or in its"
        " environment unless it is the worker's own",
        sorted(watch.found),
    )
    demand(
        not there,
        "no process at the place may have a worker's secret in its argv, or in its"
        " environment unless it is the worker's own",
        [it[:40] for it in there],
    )
    demand(secret not in str(handle), "a handle is stored and shown: it must hold no secret")
    events = [event async for event in bench.outpost.worker(handle).events()]
    told = [event.seq for event in events if secret in str(event.to_json())]
    demand(not told, "a log must not hold a secret, even if the agent prints it", f"events {told}")
    demand(lines(events)[:1] == [secret[:4]], "the agent must get its variables", lines(events))


def _abilities(bench: Bench, *, declared: bool) -> list[Need]:
    capabilities = bench.outpost.capabilities
    return [it for it in ABILITIES if getattr(capabilities, it) is declared]

"""Checks of talking and ending: messages, stop, what is seen of the dead, destroy."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from outpost.errors import OutpostFault
from outpost.model import Handle, Liveness
from outpost.ports import Worker
from outpost.testing.bench import GRACE_S, POLL_S, SETTLE_S, Bench, cancelled
from outpost.testing.contract import ContractBroken, NotApplicable, check, demand
from outpost.testing.looking import held, left_since, processes_holding
from outpost.testing.repository import take_branch

Act: TypeAlias = Callable[[Handle], Coroutine[Any, Any, None]]

STOP_MARGIN_S = 40.0
REASON = "stopped by the conformance kit"
HOLD = "echo begun; sleep 60"
TEXT = 'mind the é\n"quotes" and $(no shell)\n{"json": [1]}'
ENDED = (Liveness.DEAD, Liveness.ABSENT)
CANCEL_AFTER_S = (0.0, 0.02, 0.1)
# Both ignore every signal that can be ignored, and the child leaves the agent's session.
_STUBBORN = """\
trap '' INT TERM HUP
stubborn='trap "" INT TERM HUP; i=0; while [ $i -lt 60 ]; do i=$((i+1)); sleep 1; done; : {mark}'
if command -v setsid >/dev/null; then setsid sh -c "$stubborn" & else sh -c "$stubborn" & fi
echo begun
i=0; while [ $i -lt 60 ]; do i=$((i+1)); sleep 1; done
"""


@check("send")
async def messages_arrive(bench: Bench) -> None:
    """A message that was sent must reach the runner, whole and once."""
    handle = await bench.spawn("echo begun; sleep 60")
    await bench.wait_for_line(handle, "begun")
    worker = bench.outpost.worker(handle)
    ids = [f"m-{number}" for number in range(3)]
    for message_id in ids:
        await worker.send({"type": "text", "text": TEXT, "message_id": message_id})
    await bench.wait_for_event(
        handle,
        lambda event: event.type == "message" and event.fields["message_id"] == ids[-1],
        "an event 'message' that says what became of what was sent",
    )
    told = [event async for event in worker.events() if event.type == "message"]
    seen = [(event.fields["message_id"], event.fields["text"]) for event in told]
    demand(
        seen == [(it, TEXT) for it in ids],
        "messages must be delivered in their order, each once and as it was sent",
        seen,
    )


@check("stop")
async def stop_ends_the_whole_tree(bench: Bench) -> None:
    """Stop must end the worker and all its processes, those as well that ignore signals."""
    mark = f"mark-{secrets.token_hex(8)}"
    handle = await bench.spawn(_STUBBORN.format(mark=mark))
    await bench.wait_for_line(handle, "begun")
    worker = bench.outpost.worker(handle)
    began = time.monotonic()
    await worker.stop(grace_s=GRACE_S, reason=REASON)
    took_s = time.monotonic() - began
    demand(
        took_s < GRACE_S + STOP_MARGIN_S,
        "stop must return within about its grace",
        f"it took {took_s:.1f} s with a grace of {GRACE_S:g} s",
    )
    status = await worker.status()
    demand(status.liveness in ENDED, "once stop has returned the worker must have ended", status)
    left = await processes_holding(bench, mark)
    demand(not left, "stop must leave no process of the worker, none that ignores SIGTERM", left)
    last = (await bench.log(handle))[-1]
    demand(
        last.type == "result" and last.fields["outcome"] == "stopped",
        "the log of a stopped worker must end with the result 'stopped'",
        last,
    )
    demand(REASON in last.fields["reason"], "the result must carry the reason of the stop", last)


@check("stop")
async def stop_may_be_repeated(bench: Bench) -> None:
    """Stop must be idempotent: twice at once, and again after the end, changes nothing."""
    handle = await bench.spawn(HOLD)
    await bench.wait_for_line(handle, "begun")
    worker, other = bench.outpost.worker(handle), bench.restarted().worker(handle)
    await asyncio.gather(_stop(worker), _stop(other))
    whole = await bench.log(handle)
    await _stop(worker)
    demand(await bench.log(handle) == whole, "stop of an ended worker must leave its log as it is")


@check()
async def status_tells_the_living_from_the_dead(bench: Bench) -> None:
    """Status must show a running worker as alive, an ended one as dead, a destroyed as absent."""
    handle = await bench.spawn("echo begun; sleep 2")
    await bench.wait_for_line(handle, "begun")
    worker = bench.restarted().worker(handle)
    status = await worker.status()
    demand(status.liveness is Liveness.ALIVE, "a worker whose agent runs must be alive", status)
    await bench.log(handle)

    async def dead() -> bool:
        return (await worker.status()).liveness in ENDED

    await bench.until(dead, "status 'dead' (or 'absent') of a worker that has ended")
    await bench.outpost.destroy(handle)
    status = await worker.status()
    demand(status.liveness is Liveness.ABSENT, "a destroyed worker must be absent", status)


@check()
async def the_dead_are_mended(bench: Bench) -> None:
    """Recover must finish for a runner that died, say truly whether it did, and spare the living.

    A dead runner ends whoever follows its log, and shows the worker as dead.
    """
    mark = f"mark-{secrets.token_hex(8)}"
    order = bench.order(f"echo words > conformance.txt; echo begun; sleep 60; : {mark}")
    environment = bench.options.environment
    handle = await bench.start(order)
    await bench.wait_for_line(handle, "begun")
    worker = bench.outpost.worker(handle)
    demand(not await worker.recover(environment), "recover of a living worker must return False")
    status = await worker.status()
    demand(status.liveness is Liveness.ALIVE, "recover must leave a living worker alone", status)
    bench.options.kill(handle)
    told = await bench.log(handle)
    status = await worker.status()
    demand(status.liveness in ENDED, "a worker whose runner is dead must be dead", status)
    recovered = await worker.recover(environment)
    whole = await bench.log(handle)
    demand(whole[: len(told)] == told, "what stood in a log must stay there", whole)
    last = whole[-1]
    demand(
        recovered == (last.type == "result"),
        "recover must return whether the log ends with a result now",
        f"it returned {recovered}, the log ends with {last}",
    )
    if recovered:
        said = last.fields["outcome"]
        demand(said != "done", "work that nobody saw to its end is not 'done'", last)
        pushed = await take_branch(bench.options.repo_url, order["branch"], environment["git"])
        commit = last.fields["commit"] or ""
        demand(pushed == commit, "the remote must have the commit that the result names", pushed)
    demand(
        await worker.recover(environment) is recovered and await bench.log(handle) == whole,
        "recover must be idempotent",
    )
    left = await processes_holding(bench, mark)
    demand(not left, "recover must end what the dead left running", left)


@check()
async def what_cannot_be_seen_is_not_dead(bench: Bench) -> None:
    """While a place cannot be reached, status must be unseen and a spawn say what is certain."""
    make = bench.options.make_unreachable
    if make is None:
        raise NotApplicable("the bench cannot make this outpost unreachable")
    handle = await bench.spawn(HOLD)
    await bench.wait_for_line(handle, "begun")
    unreachable = make(bench.federation_id)
    status = await unreachable.worker(handle).status()
    demand(
        status.liveness is Liveness.UNSEEN,
        "'cannot see' must not be reported as anything else than unseen",
        status,
    )
    health = await unreachable.ping()
    demand(
        not health.ok and bool(health.detail),
        "ping of a place that cannot be reached must say that it is not well, and why",
        health,
    )
    worker = unreachable.worker(handle)
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "spawn": lambda: unreachable.spawn(bench.order("true"), bench.options.environment),
        "find": lambda: unreachable.find(handle.worker_id),
        "destroy": lambda: unreachable.destroy(handle),
        "events": lambda: _count(worker, follow=False),
        "events with follow": lambda: _count(worker, follow=True),
    }
    if unreachable.capabilities.stop:
        acts["stop"] = lambda: _stop(worker)
    for name, act in acts.items():
        demanded = f"{name} must raise an OutpostFault while the place cannot be reached"
        try:
            async with asyncio.timeout(bench.options.patience_s):
                await act()
        except OutpostFault:
            continue
        except (OSError, TimeoutError) as exc:
            raise ContractBroken(demanded, f"raised {type(exc).__name__}: {exc}") from exc
        raise ContractBroken(demanded, "it returned")
    status = await bench.outpost.worker(handle).status()
    demand(status.liveness is Liveness.ALIVE, "a worker must outlive the loss of contact", status)


@check()
async def destroy_leaves_nothing(bench: Bench) -> None:
    """Destroy must kill what still runs, and once it returns nothing of the worker is there."""
    mark = f"mark-{secrets.token_hex(8)}"
    handle = await bench.spawn(_STUBBORN.format(mark=mark))
    await bench.wait_for_line(handle, "begun")
    await bench.outpost.destroy(handle)
    found = await bench.restarted().find(handle.worker_id)
    demand(found is None, "find must return None for what was destroyed", found)
    demand(handle.worker_id not in await bench.seen(), "workers() must not show what was destroyed")
    left = await processes_holding(bench, mark)
    demand(not left, "destroy must leave no process of the worker", left)


@check()
async def destroy_may_be_repeated(bench: Bench) -> None:
    """Destroy must be idempotent: of what is gone already it raises nothing."""
    handle = await bench.spawn(HOLD)
    await bench.wait_for_line(handle, "begun")
    await asyncio.gather(bench.outpost.destroy(handle), bench.restarted().destroy(handle))
    await bench.outpost.destroy(handle)
    status = await bench.outpost.worker(handle).status()
    demand(status.liveness is Liveness.ABSENT, "a destroyed worker must stay absent", status)


@check()
async def cancelled_ends_may_be_repeated(bench: Bench) -> None:
    """Stop and destroy, cancelled at any moment, must hide nothing that runs, and work again."""
    acts: list[Act] = [bench.outpost.destroy]
    if bench.outpost.capabilities.stop:
        acts.append(lambda handle: _stop(bench.outpost.worker(handle)))
    cases = [(act, seconds) for act in acts for seconds in CANCEL_AFTER_S]
    mark = f"mark-{secrets.token_hex(8)}"
    handles = [await bench.spawn(f"{HOLD}; : {mark}-{number}-") for number in range(len(cases))]
    for handle in handles:
        await bench.wait_for_line(handle, "begun")
    before = held()
    for handle, (act, seconds) in zip(handles, cases, strict=True):
        await cancelled(bench, act(handle), seconds)
    more = await left_since(before)
    demand(not more, "an act that is cancelled must leave nothing behind here", more)
    listed = await bench.seen()
    running = " ".join(await processes_holding(bench, mark))
    hidden = [
        f"{seconds:g} s"
        for number, (_, seconds) in enumerate(cases)
        if f"{mark}-{number}-" in running and handles[number].worker_id not in listed
    ]
    demand(not hidden, "what a cancelled act left running must be shown by workers()", hidden)
    for handle, (act, _) in zip(handles, cases, strict=True):
        if not await _ends(bench.outpost.worker(handle)):
            await act(handle)
        status = await bench.outpost.worker(handle).status()
        demand(status.liveness in ENDED, "an act that was cancelled must work again", status)
    left = await processes_holding(bench, mark)
    demand(not left, "an act that was cancelled must work again", left)


async def _ends(worker: Worker) -> bool:
    """Whether a worker ends soon: what was asked of it may go on though nobody waits for it."""
    deadline = time.monotonic() + SETTLE_S
    while (await worker.status()).liveness not in ENDED:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def _count(worker: Worker, *, follow: bool) -> int:
    return len([event async for event in worker.events(follow=follow)])


async def _stop(worker: Worker) -> None:
    await worker.stop(grace_s=GRACE_S, reason=REASON)

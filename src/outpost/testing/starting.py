"""Checks of starting: idempotent, adoptable when in doubt, and nothing hidden when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time

from outpost.errors import OutpostFault, Rejected
from outpost.model import Handle, Liveness
from outpost.testing.bench import SETTLE_S, Bench, cancelled, lines
from outpost.testing.contract import ContractBroken, check, demand
from outpost.testing.looking import processes_holding
from outpost.testing.repository import take_branch

AT_ONCE = 5
MOMENTS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
"""When a start is cancelled, as parts of what a start takes."""
HOLD_S = 60


@check()
async def work_is_pushed(bench: Bench) -> None:
    """What an agent leaves in its workspace must be on its branch at the remote at the end."""
    order = bench.order("echo words > conformance.txt; echo written")
    handle = await bench.start(order)
    events = await bench.log(handle)
    result = events[-1]
    demand(result.type == "result", "the log must end with the event 'result'", result)
    demand(result.fields["outcome"] == "done", "an agent that exits with 0 is 'done'", result)
    demand(lines(events) == ["written"], "the log must hold what the agent printed", lines(events))
    said = result.fields["commit"]
    pushed = await take_branch(
        bench.options.repo_url, order["branch"], bench.options.environment["git"]
    )
    demand(
        pushed == said,
        "the commit that the result names must be the branch's at the remote",
        f"the result names {said}, the remote has {pushed}",
    )


@check()
async def spawn_is_idempotent(bench: Bench) -> None:
    """A spawn with a known worker_id must attach to that worker, whether it runs or has ended."""
    order = bench.order("echo ran; sleep 1")
    first = await bench.start(order)
    # As other controllers would, who share nothing with this one but the place.
    again = await asyncio.gather(
        *(bench.start(order, outpost=bench.restarted()) for _ in range(AT_ONCE))
    )
    demand(
        all(it == first for it in again),
        "each of several spawns of one order must return the same handle",
        again,
    )
    events = await bench.log(first)
    demand(lines(events) == ["ran"], "the agent of one worker_id must run once", lines(events))
    demand(await bench.start(order) == first, "a spawn after the end must return the same handle")
    demand(await bench.log(first) == events, "a spawn after the end must leave the log as it is")
    seen = await bench.seen()
    demand(
        set(seen) == {order["worker_id"]},
        "workers() must show one worker for one worker_id",
        sorted(seen),
    )


@check()
async def find_adopts(bench: Bench) -> None:
    """After an ambiguous spawn find must return a handle by which the worker is taken over."""
    order = bench.order("echo begun; sleep 2; echo over")
    # Cut off on its way: whether something was started is for find to say.
    task = asyncio.create_task(bench.start(order))
    await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, OutpostFault):
        await task
    found = await bench.restarted().find(order["worker_id"])
    demand(
        found is None or found.worker_id == order["worker_id"],
        "find must return the handle of the worker that was asked for",
        found,
    )
    handle = await bench.start(order)
    demand(
        found in (None, handle),
        "what find returns after a lost answer must be the handle that"
        " spawn returns for the same order",
        f"{found} and {handle}",
    )
    adopted = await bench.restarted().find(order["worker_id"])
    demand(adopted == handle, "find must return the handle that spawn returned", adopted)
    stored = Handle(
        outpost=handle.outpost,
        kind=handle.kind,
        worker_id=handle.worker_id,
        data=json.loads(json.dumps(dict(handle.data))),
    )
    demand(stored == handle, "a handle must survive being stored as JSON", stored)
    worker = bench.restarted().worker(stored)
    events = [event async for event in worker.events(follow=True)]
    demand(
        lines(events) == ["begun", "over"],
        "an adopted worker's log must be whole, and its agent must have run once",
        lines(events),
    )


@check()
async def find_of_nobody_is_none(bench: Bench) -> None:
    """For a worker that never came to be find must return None, and raise nothing."""
    demand(
        await bench.outpost.find(bench.new_id()) is None,
        "find must return None where nothing was ever started",
    )
    await bench.log(await bench.spawn("true"))
    found = await bench.outpost.find(bench.new_id())
    demand(
        found is None,
        "find must return None for a worker_id that was never used, also beside others",
        found,
    )


@check()
async def handles_of_others_are_refused(bench: Bench) -> None:
    """A handle of another outpost or kind must be refused with Rejected, and nothing be touched."""
    handle = await bench.spawn("true")
    await bench.log(handle)
    for other in (
        Handle(outpost="elsewhere", kind=handle.kind, worker_id=handle.worker_id, data=handle.data),
        Handle(outpost=handle.outpost, kind="else", worker_id=handle.worker_id, data=handle.data),
    ):
        with contextlib.suppress(Rejected):
            bench.outpost.worker(other)
            raise ContractBroken("worker() must raise Rejected for a handle of another", str(other))
        with contextlib.suppress(Rejected):
            await bench.outpost.destroy(other)
            raise ContractBroken("destroy must raise Rejected for a handle of another", str(other))
    demand(handle.worker_id in await bench.seen(), "a refused destroy must destroy nothing")


@check()
async def cancelled_spawn_hides_nothing(bench: Bench) -> None:
    """A spawn that is cancelled at any moment must leave nothing that find does not show."""
    await bench.outpost.destroy(await bench.spawn("true"))  # the first is slower
    began = time.monotonic()
    await bench.spawn("true")
    usual_s = time.monotonic() - began
    mark = f"mark-{secrets.token_hex(8)}"
    names = {}
    for number, part in enumerate(MOMENTS):
        order = bench.order(f"sleep {HOLD_S}; : {mark}-{number}-")
        names[number] = order["worker_id"]
        await cancelled(bench, bench.start(order), part * usual_s)
    shown = await _settled(bench, set(names.values()))
    running = " ".join(await processes_holding(bench, mark))
    listed = set(await bench.seen())
    for number, worker_id in names.items():
        when = f"after {MOMENTS[number]:.0%} of a usual spawn"
        runs = f"{mark}-{number}-" in running
        demand(
            worker_id in shown or not runs,
            "find must show whatever a cancelled spawn left running",
            f"cancelled {when}, its agent runs and find returns None",
        )
        demand(
            worker_id not in shown or worker_id in listed,
            "workers() must show whatever find shows",
            f"cancelled {when}, it is not listed",
        )
    for handle in shown.values():
        await bench.outpost.destroy(handle)
        status = await bench.outpost.worker(handle).status()
        demand(
            status.liveness is Liveness.ABSENT,
            "what a cancelled spawn left must be destroyable by its handle",
            status,
        )
    left = await processes_holding(bench, mark)
    demand(not left, "what a cancelled spawn left must be gone once destroyed", left)


async def _settled(bench: Bench, worker_ids: set[str]) -> dict[str, Handle]:
    """Return what ``find`` shows of workers once all are shown, or the dust has settled."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = {it: await bench.outpost.find(it) for it in sorted(worker_ids)}
        shown = {name: handle for name, handle in found.items() if handle is not None}
        if len(shown) == len(worker_ids) or time.monotonic() > deadline:
            return shown
        await asyncio.sleep(0.1)

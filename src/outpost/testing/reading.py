"""Checks of reading: every event once and in order, from anywhere, while the work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from outpost.model import Handle
from outpost.ports import Worker
from outpost.testing.bench import Bench, lines
from outpost.testing.contract import NotApplicable, check, demand
from outpost.testing.looking import held, left_since, resident_mib
from outpost.wire.events import Event

POSITIONS = 12
CUT_AFTER = 3
SPAN_S = 2.0
CANCEL_AFTER_S = (0.0, 0.05, 0.3, 1.0)
MOST_GROWTH_MIB = 48.0
LARGE_MIB = 100
LINE = "x" * 79
_COUNT = 'i=0; while [ $i -lt {n} ]; do i=$((i+1)); echo "line $i of é 中"; {pause}done'


@check()
async def events_resume_anywhere(bench: Bench) -> None:
    """Events must go on behind any event, with its offset or without, and lose or repeat none."""
    handle = await bench.spawn(_COUNT.format(n=40, pause=""))
    whole = await bench.log(handle)
    _demand_no_gap(whole)
    demand(whole[-1].type == "result", "a log read to its end must end with 'result'", whole[-1])
    worker = bench.restarted().worker(handle)
    for position in _spread(len(whole)):
        after = whole[position]
        for offset in {0, after.end}:
            rest = await _read(worker, after.seq, offset)
            demand(
                rest == whole[position + 1 :],
                f"events must yield exactly what follows event {after.seq} (offset {offset})",
                _numbers(rest),
            )
    beyond = await _read(worker, whole[-1].seq + 1, 0)
    demand(not beyond, "events after more than there is must yield nothing", _numbers(beyond))


@check()
async def events_follow_on_from_anywhere(bench: Bench) -> None:
    """A reader that is cut again and again while work runs must get every event, each once."""
    handle = await bench.spawn(_COUNT.format(n=20, pause="sleep 0.1; "))
    read: list[Event] = []
    while not read or read[-1].type != "result":
        last = read[-1] if read else None
        after, offset = (last.seq, last.end) if last else (0, 0)
        events = bench.restarted().worker(handle).events(after=after, offset=offset, follow=True)
        count = 0
        async with contextlib.aclosing(events):
            async for event in events:
                read.append(event)
                count += 1
                if count == CUT_AFTER:
                    break
        demand(
            count > 0,
            "with follow, events must not end before the result of a living worker",
            f"it ended after event {after}",
        )
        _demand_no_gap(read)
    demand(read == await bench.log(handle), "pieces of a log must be the log", _numbers(read))


@check()
async def lines_come_while_work_runs(bench: Bench) -> None:
    """With follow, a line must be seen while the work runs, not when it is over."""
    handle = await bench.spawn(f"echo first; sleep {SPAN_S}; echo last")
    at: dict[str, float] = {}
    async for event in bench.outpost.worker(handle).events(follow=True):
        for line in lines([event]):
            at[line] = time.monotonic()
    demand(set(at) == {"first", "last"}, "the log must hold what the agent printed", sorted(at))
    apart_s = at["last"] - at["first"]
    demand(
        apart_s > SPAN_S / 2,
        "the first line must be seen before half of the run's time has"
        f" passed; the agent printed two lines {SPAN_S:g} s apart",
        f"they came {apart_s:.2f} s apart",
    )


@check()
async def large_logs_take_little_memory(bench: Bench) -> None:
    """Reading the log of an agent that prints much must take bounded memory and time."""
    await _read_large(bench, bench.options.log_mib)


@check(slow=True)
async def very_large_logs_take_little_memory(bench: Bench) -> None:
    """Reading the log of an agent that prints 100 MiB must take bounded memory and time."""
    await _read_large(bench, LARGE_MIB)


@check()
async def cancelled_reading_leaves_nothing(bench: Bench) -> None:
    """A reader that is cancelled at any moment must leave no task, process or open file behind."""
    handle = await bench.spawn("echo begun; sleep 60")
    await bench.wait_for_line(handle, "begun")
    await asyncio.sleep(0)
    before = held()
    for seconds in CANCEL_AFTER_S:
        reading = asyncio.create_task(_follow(bench, handle))
        await asyncio.sleep(seconds)
        reading.cancel()
        done, _ = await asyncio.wait([reading], timeout=bench.options.patience_s)
        demand(bool(done), "a cancelled reader must end in bounded time", f"after {seconds:g} s")
        demand(reading.cancelled(), "events must let CancelledError through", f"{seconds:g} s")
    del reading, done
    more = await left_since(before)
    demand(not more, "a cancelled reader must leave nothing behind", more)
    events = [event async for event in bench.outpost.worker(handle).events()]
    demand(lines(events) == ["begun"], "the log must be as readable as before", _numbers(events))


async def _read(worker: Worker, after: int, offset: int) -> list[Event]:
    return [event async for event in worker.events(after=after, offset=offset)]


async def _follow(bench: Bench, handle: Handle) -> None:
    events = bench.outpost.worker(handle).events(follow=True)
    async with contextlib.aclosing(events):
        async for _ in events:
            pass


async def _read_large(bench: Bench, mib: int) -> None:
    if not mib:
        raise NotApplicable("the bench asks for no large log")
    count = mib * (1 << 20) // (len(LINE) + 1)
    script = f"yes {LINE} | head -n {count}; echo all-was-printed"
    handle = await bench.start(bench.order(script))
    seq = seen = 0
    first_mib = most_mib = resident_mib()
    last: Event | None = None
    async for event in bench.outpost.worker(handle).events(follow=True):
        begin = event.fields["from_seq"] if event.type == "gap" else event.seq
        demand(
            begin == seq + 1,
            "each event must follow the one before; what is left out is a 'gap' event",
            f"{event.type} {begin} follows {seq}",
        )
        seq = event.fields["to_seq"] if event.type == "gap" else event.seq
        seen += 1
        if seen % 1000 == 0 or event.type in ("gap", "result"):
            most_mib = max(most_mib, resident_mib())
        last = event
    ended = last is not None and last.type == "result"
    demand(ended, "the log must end with 'result' however long it is", last)
    demand(seq > count, "every line that was printed must be counted, shown or not", seq)
    grown = most_mib - first_mib
    demand(
        grown < MOST_GROWTH_MIB,
        f"a reader may hold only a piece of a log in memory: less than {MOST_GROWTH_MIB:g} MiB",
        f"it took {grown:.0f} MiB for {seen} events",
    )


def _demand_no_gap(events: Sequence[Event]) -> None:
    numbers = [event.seq for event in events]
    demand(
        numbers == list(range(1, len(events) + 1)),
        "the numbers of events must count from 1, none left out and none twice",
        numbers,
    )


def _spread(count: int) -> list[int]:
    """Return positions in a sequence: its ends, and some between."""
    return sorted({round(it * (count - 1) / (POSITIONS - 1)) for it in range(POSITIONS)})


def _numbers(events: Sequence[Event]) -> str:
    return f"events {[event.seq for event in events]}"

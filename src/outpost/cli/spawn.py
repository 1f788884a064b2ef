"""``outpost spawn``: issues become tasks, tasks become workers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import typer

from outpost.cli.failures import FAILED, INTERRUPTED, say, tell
from outpost.cli.options import run
from outpost.cli.plain import PlainCommand
from outpost.cli.spawn_options import Asked, spawn_options, takes_asked
from outpost.cli.started import Begun, print_interrupted, print_next, print_plan, print_submitted
from outpost.cli.waiting import Ends, looked_after
from outpost.errors import OutpostError
from outpost.federation import Federation, SpawnOptions, Submitted
from outpost.model import Task

app = typer.Typer()

_ARGV = "outpost.argv"


class SpawnCommand(PlainCommand):
    """Keeps what stands behind ``--`` apart: it is the agent's command, not ours to read."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read our own arguments and note the others."""
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_ARGV] = tuple(args[cut + 1 :])
            args = args[:cut]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the usage line shows behind the command's name."""
        return [*super().collect_usage_pieces(ctx), "[-- ARGV...]"]


@app.command(cls=SpawnCommand)
@takes_asked
def spawn(context: typer.Context, asked: Asked) -> None:
    """Start a worker for each issue, on a branch of its own.

    Where no outpost has room the task is queued, and starts once there is.
    """
    options = spawn_options(asked, context.meta.get(_ARGV))
    if asked.dry_run:
        run(asked.config, lambda federation: _plan(federation, asked, options), read_only=True)
        return
    begun = Begun()
    try:
        done = run(asked.config, lambda federation: _spawn(federation, asked, options, begun))
    except KeyboardInterrupt:
        print_interrupted(begun)
        raise typer.Exit(INTERRUPTED) from None
    if not done:
        raise typer.Exit(FAILED)
    if asked.interactive and len(begun.workers) == 1 and not (asked.waits or asked.as_json):
        _show_screen(begun.workers[0].id, asked.config)


def _show_screen(worker: str, config: str | None) -> None:
    """Become the terminal of a worker that was started to be worked with, if we are on one."""
    from outpost.cli.attach import attach  # noqa: PLC0415 - here only

    if sys.stdin.isatty() and sys.stdout.isatty():
        attach(worker, config)


async def _plan(federation: Federation, asked: Asked, options: SpawnOptions) -> None:
    for task in await _resolve(federation, asked.references, options):
        print_plan(task, await federation.decide(task), as_json=asked.as_json)
        await _say_what_is_local(federation, [task])


async def _spawn(federation: Federation, asked: Asked, options: SpawnOptions, begun: Begun) -> bool:
    """Return whether all went well: started or queued, and with ``wait`` done."""
    tasks = await _resolve(federation, asked.references, options)
    async with looked_after(federation, begun):
        return await _start(federation, asked, tasks, begun)


async def _start(federation: Federation, asked: Asked, tasks: list[Task], begun: Begun) -> bool:
    # The most urgent come first: where there is not room for all, they get it.
    tasks.sort(key=lambda task: task.priority)
    await _start_older(federation, tasks[0], begun)
    taken: list[Submitted | None] = []
    for _, alike in groupby(tasks, key=lambda task: task.priority):
        taken += await asyncio.gather(*(_submit(federation, task, begun) for task in alike))
    for submitted in taken:
        if submitted and not (asked.waits and asked.as_json):
            print_submitted(submitted, as_json=asked.as_json)
    await _say_what_is_local(federation, tasks)
    if not asked.as_json:
        await print_next(federation, begun, waits=asked.waits)
    if not asked.waits:
        return all(taken)
    ends = Ends(federation, begun, follow=asked.follow, as_json=asked.as_json)
    return await ends.wait() and all(taken)


async def _say_what_is_local(federation: Federation, tasks: Sequence[Task]) -> None:
    """Say once for each base what its workers do not see of the clone we stand in."""
    for task in {(task.repo_url, task.base): task for task in tasks}.values():
        if local := await federation.local_work(task):
            say("note", local, "33")


async def _resolve(
    federation: Federation, references: Sequence[str], options: SpawnOptions
) -> list[Task]:
    """Return the tasks for all references. If one cannot be used, none is: raises that error."""
    found = await asyncio.gather(
        *(federation.resolve(reference, options) for reference in references),
        return_exceptions=True,
    )
    tasks = [item for item in found if isinstance(item, Task)]
    errors = [item for item in found if isinstance(item, BaseException)]
    if not errors:
        return tasks
    for error in errors:
        if not isinstance(error, OutpostError):
            raise error
    *told, last = (error for error in errors if isinstance(error, OutpostError))
    for error in told:
        tell(error)
    if tasks or told:
        last.message += "\nnothing was started"
    raise last


async def _start_older(federation: Federation, newest: Task, begun: Begun) -> None:
    """Start what waits already and stands before a newcomer, so that it is not overtaken."""
    if await federation.queue_length():
        begun.older.extend(await federation.dispatch(before=newest))


async def _submit(federation: Federation, task: Task, begun: Begun) -> Submitted | None:
    try:
        submitted = await federation.submit(task)
    except OutpostError as exc:
        tell(exc)
        if await federation.find_queued(task.id):
            begun.refused.append(task)
            say("note", f"{task.issue_id} is queued as {task.id}", "33")
            say("hint", f"to take it back: outpost cancel {task.id}", "36")
        return None
    if submitted.worker:
        begun.workers.append(submitted.worker)
    else:
        begun.queued.append(submitted.task)
    return submitted

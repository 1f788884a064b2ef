"""What several commands take, and how its text is read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from outpost.errors import OutpostError, UserError

if TYPE_CHECKING:
    from outpost.federation import Federation

Result = TypeVar("Result")

NAMES_COMPLETED = 200
WORKER_HELP = "A worker's id or its beginning, its issue, or its branch."


def run(
    config: str | None,
    work: Callable[[Federation], Coroutine[Any, Any, Result]],
    *,
    read_only: bool = False,
) -> Result:
    """Run a command's work with a federation, opened for it and closed behind it."""
    import asyncio  # noqa: PLC0415 - help and completion of commands do without

    from outpost.federation import Federation  # noqa: PLC0415 - as above

    command = work.__module__.rpartition(".")[2]

    async def session() -> Result:
        federation = Federation.from_file(config, read_only=read_only, actor=command)
        async with federation:
            return await work(federation)

    return asyncio.run(session())


def duration(option: str, text: str | None) -> float | None:
    """Return the seconds an option asks for. Raises ``UserError``."""
    from outpost.durations import parse_duration  # noqa: PLC0415 - few commands need it

    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise UserError(f"{option}: {exc}", hint=f"for example: {option} 30m") from None


def complete_worker(incomplete: str) -> list[str]:
    """Return ids and issues of workers, newest first, as far as the store knows them."""

    async def names(federation: Federation) -> list[str]:
        attempts = await federation.store.attempts(ended=True, limit=NAMES_COMPLETED)
        found = [name for it in reversed(attempts) for name in (it.id, it.issue_id)]
        return list(dict.fromkeys(found))

    return _completions(names, incomplete)


def complete_queued(incomplete: str) -> list[str]:
    """Return ids and issues of queued tasks, as far as the first of them go."""

    async def names(federation: Federation) -> list[str]:
        tasks = await federation.queued(limit=NAMES_COMPLETED)
        return list(dict.fromkeys(name for it in tasks for name in (it.id, it.issue_id)))

    return _completions(names, incomplete)


def complete_outpost(incomplete: str) -> list[str]:
    """Return the names of the configured outposts."""

    async def names(federation: Federation) -> list[str]:
        return [outpost.name for outpost in federation.config.outposts]

    return _completions(names, incomplete)


def complete_task(incomplete: str) -> list[str]:
    """Return the names of queued tasks and of workers."""
    return list(dict.fromkeys(complete_queued(incomplete) + complete_worker(incomplete)))


def complete_target(incomplete: str) -> list[str]:
    """Return the names of outposts and workers."""
    return complete_outpost(incomplete) + complete_worker(incomplete)


def _completions(
    names: Callable[[Federation], Coroutine[Any, Any, list[str]]], incomplete: str
) -> list[str]:
    try:
        found = run(None, names, read_only=True)
    except (OutpostError, OSError):
        # Somebody is in the middle of typing: this is no place to talk of the configuration.
        return []
    return [name for name in found if name.startswith(incomplete)]


ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="PATH", help="The configuration file to use.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkerArgument = Annotated[
    str, typer.Argument(metavar="WORKER", help=WORKER_HELP, autocompletion=complete_worker)
]
WorkersArgument = Annotated[
    list[str],
    typer.Argument(metavar="WORKER", help=WORKER_HELP, autocompletion=complete_worker),
]

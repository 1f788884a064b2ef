"""A machine as the Machines API tells of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from outpost.transports.fly_meter import Run, runs_of

FEDERATION, OUTPOST, WORKER = "outpost_federation", "outpost_outpost", "outpost_worker"
TASK, WARM, SINCE = "outpost_task", "outpost_warm", "outpost_since"
"""Keys of a machine's metadata. ``WARM`` says of what make a machine is that waits for a worker,
``SINCE`` when one that waited was claimed, in seconds since the epoch."""

GONE = frozenset(("destroyed", "replaced", "migrated"))
ENDED = frozenset(("stopped", "failed", "launch_failed"))
STARTED = "started"
NEVER = datetime.fromtimestamp(0, UTC)
MIB_OF_GIB = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Exit:
    """How a machine's program ended, as its events say."""

    exit_code: int
    out_of_memory: bool
    asked: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One machine; ``seen_at`` is when it was asked for, on the clock of the event loop.

    ``runs`` is when it ran, ``None`` where that is not known any more.
    ``updated_at`` is the provider's: of two tales the one with the later is the newer.
    """

    id: str
    name: str
    state: str
    region: str
    metadata: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    reachable: bool
    memory_mib: int
    volumes: Sequence[str]
    exit: Exit | None
    runs: tuple[Run, ...] | None
    seen_at: float

    @property
    def worker_id(self) -> str:
        """The worker that it is for; empty: none as yet."""
        return self.metadata.get(WORKER, "")

    @property
    def since(self) -> datetime:
        """Since when it is its worker's."""
        with contextlib.suppress(KeyError, ValueError, OverflowError):
            return datetime.fromtimestamp(float(self.metadata[SINCE]), UTC)
        return self.created_at

    @property
    def never_went_on(self) -> bool:
        """Whether it was suspended when it was claimed, and was not started since."""
        if self.state != "suspended" or SINCE not in self.metadata or self.runs is None:
            return False
        return all(it.began_at < self.since.timestamp() for it in self.runs)

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it is left but its name."""
        return self.state in GONE

    @property
    def has_ended(self) -> bool:
        """Whether nothing runs in it, until it is started."""
        return self.state in ENDED


def read_machine(said: Any, seen_at: float) -> Seen:
    """Return a machine from its JSON; raises ``ValueError``, ``KeyError``, ``TypeError`` for none.

    A machine whose host does not answer has no ``config``, only ``incomplete_config``.
    """
    config = said.get("config") or said.get("incomplete_config") or {}
    guest = config.get("guest") or {}
    return Seen(
        id=str(said["id"]),
        name=str(said.get("name", "")),
        state=str(said["state"]),
        region=str(said.get("region", "")),
        metadata=dict(config.get("metadata") or {}),
        created_at=read_instant(said.get("created_at")),
        updated_at=read_instant(said.get("updated_at")),
        reachable=said.get("host_status", "ok") in ("ok", "unknown", ""),
        memory_mib=int(guest.get("memory_mb") or 0),
        volumes=[it["volume"] for it in config.get("mounts") or [] if it.get("volume")],
        exit=_exit(said.get("events") or []),
        runs=runs_of(said.get("events") or []),
        seen_at=seen_at,
    )


def how_it_is(seen: Seen) -> str:
    """Say in a few words what there is to be said of a machine; empty: it runs, or has ended."""
    if not seen.reachable:
        return "Fly cannot reach its host"
    ended = seen.exit
    if ended and ended.out_of_memory and (seen.has_ended or seen.state == STARTED):
        # Started again to be read, it is still that which its worker died of.
        limit = f"limit {_size(seen.memory_mib)}" if seen.memory_mib else "its limit"
        return f"it ran out of memory ({limit})"
    if seen.state == STARTED:
        return ""
    if seen.state == "suspended":
        return f"it is suspended: fly machine start {seen.id}"
    if not seen.has_ended:
        return f"it is {seen.state}"
    if ended and ended.exit_code and not ended.asked:
        return f"it exited with {ended.exit_code}"
    if ended and ended.asked:
        return "it was stopped"
    return "" if seen.state == "stopped" else f"it {seen.state.replace('_', ' ')}"


def _exit(events: Sequence[Any]) -> Exit | None:
    """Return the last end that is among the events, whatever their order."""
    ends = [it for it in events if it.get("type") == "exit"]
    if not ends:
        return None
    newest = max(ends, key=lambda it: it.get("timestamp") or 0)
    said = ((newest.get("request") or {}).get("exit_event")) or {}
    guest, whole = said.get("guest_exit_code"), said.get("exit_code")
    return Exit(
        exit_code=int(guest if guest else whole or 0),
        out_of_memory=bool(said.get("oom_killed")),
        asked=bool(said.get("requested_stop")),
    )


def read_instant(text: object) -> datetime:
    """Return an instant as Fly writes it; ``NEVER`` for what is none."""
    with contextlib.suppress(TypeError, ValueError):
        instant = datetime.fromisoformat(str(text))
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return NEVER


def _size(mib: int) -> str:
    return f"{mib // MIB_OF_GIB}g" if mib % MIB_OF_GIB == 0 else f"{mib}m"

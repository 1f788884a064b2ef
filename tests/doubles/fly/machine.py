"""One machine as the platform knows it: its record, its events and its lease."""

from __future__ import annotations

import asyncio
import copy
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.doubles.fly.metering import Meter

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
EVENTS, PAST = 20, 50
TRANSIENT = frozenset(
    ("creating", "starting", "stopping", "restarting", "suspending", "destroying")
)
"""States that a machine leaves by itself; ``created`` is one too, unless it is stuck there."""
GONE = frozenset(("destroying", "destroyed"))


@dataclass(frozen=True, kw_only=True)
class Lease:
    """``expires_at`` is an instant of the platform's clock, in seconds."""

    nonce: str
    expires_at: float
    owner: str
    description: str
    version: str

    def shown(self) -> dict[str, Any]:
        return {
            "nonce": self.nonce,
            "expires_at": int(self.expires_at),
            "owner": self.owner,
            "description": self.description,
            "version": self.version,
        }


@dataclass(kw_only=True)
class Machine:
    """A machine; ``now`` is the platform's clock. ``past`` are its records, the oldest first."""

    name: str
    region: str
    config: dict[str, Any]
    now: Callable[[], float]
    meter: Meter
    id: str = field(default_factory=lambda: secrets.token_hex(7))
    state: str = "created"
    version: str = ""
    cordoned: bool = False
    reachable: bool = True
    lease: Lease | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    restarts: int = 0
    settled_at: float = 0.0
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS))
    past: deque[tuple[float, dict[str, Any] | None]] = field(
        default_factory=lambda: deque(maxlen=PAST)
    )
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.created_at = self.updated_at = self.now()
        self.version = self.version or ulid(self.created_at)
        self.past.append((time.monotonic(), None))
        self.tell("launch", "created", "user")

    @property
    def gone(self) -> bool:
        return self.state in GONE

    @property
    def metadata(self) -> dict[str, str]:
        found: dict[str, str] = self.config.setdefault("metadata", {})
        return found

    @property
    def service(self) -> Mapping[str, Any] | None:
        """What of it the proxy leads to."""
        for service in self.config.get("services") or ():
            if any("http" in (port.get("handlers") or ()) for port in service.get("ports") or ()):
                found: Mapping[str, Any] = service
                return found
        return None

    def move(self, state: str, kind: str = "", source: str = "flyd", **request: Any) -> None:
        """Enter a state, and tell of it as an event if that has a ``kind``."""
        self.state = state
        self.meter.switch(state)
        if state == "stopped":
            self.settled_at = time.monotonic()
        if kind:
            self.tell(kind, state, source, **request)
        else:
            self.touch()

    def tell(self, kind: str, status: str, source: str = "flyd", **request: Any) -> None:
        """Note an event, the newest first."""
        event: dict[str, Any] = {
            "id": ulid(self.now()),
            "type": kind,
            "status": status,
            "source": source,
            "timestamp": int(self.now() * 1000),
        }
        if request:
            event["request"] = request
        self.events.appendleft(event)
        self.touch()

    def touch(self) -> None:
        """Wake whoever waits for a change."""
        self.updated_at = self.now()
        self.past.append((time.monotonic(), self.shown()))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def reach(self, states: Sequence[str], seconds: float) -> bool:
        """Wait until it is in one of some states; whether it was in time."""
        try:
            async with asyncio.timeout(seconds):
                while self.state not in states:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def shown(self) -> dict[str, Any]:
        """Return the record as the API shows it."""
        # On a host that does not answer the configuration is known in part.
        config = "config" if self.reachable else "incomplete_config"
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "region": self.region,
            "image_ref": _image_ref(self.config.get("image", "")),
            "instance_id": self.version,
            "private_ip": f"fdaa:0:1:a7b:1::{self.id[:4]}",
            "created_at": moment(self.created_at),
            "updated_at": moment(self.updated_at),
            config: copy.deepcopy(self.config),
            "events": copy.deepcopy(list(self.events)),
            "checks": [],
            "host_status": "ok" if self.reachable else "unreachable",
        }

    def seen(self, ago_s: float) -> dict[str, Any] | None:
        """Return the record as it was a while ago; ``None`` if there was none."""
        if ago_s <= 0:
            return self.shown()
        at = time.monotonic() - ago_s
        rows = [row for when, row in self.past if when <= at]
        return rows[-1] if rows else None


def ulid(at: float) -> str:
    """Return an id of the platform's kind: 26 characters that sort by time."""
    number = (int(at * 1000) << 80) | secrets.randbits(80)
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _image_ref(image: str) -> dict[str, Any]:
    path, _, digest = image.partition("@")
    registry, slash, rest = path.partition("/")
    if not slash or not {".", ":"} & set(registry):
        registry, rest = "registry.example.org", path
    repository, _, tag = rest.partition(":")
    return {"registry": registry, "repository": repository, "tag": tag, "digest": digest}

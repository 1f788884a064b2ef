"""A worker's machine: what it is given, and whose it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outpost.backends.fly_options import FlyOptions
from outpost.transports.fly_seen import FEDERATION, OUTPOST, TASK, WARM, WORKER, Seen

PORT = 8080
STOP_S = 60
"""How long a machine that is told to stop has to save its work."""
GRACE_S = 55
SPEC_CHARS = 12
WORK = "/work"
CONNECTIONS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Whose machines they are; ``metadata`` tells them from all others of the app."""

    federation_id: str
    outpost: str

    @property
    def metadata(self) -> Mapping[str, str]:
        """What every machine of theirs has."""
        return {FEDERATION: self.federation_id, OUTPOST: self.outpost}

    def owns(self, seen: Seen) -> bool:
        """Whether a machine is theirs."""
        ours = self.metadata.items() <= seen.metadata.items()
        return ours and bool(seen.worker_id or seen.metadata.get(WARM))

    @property
    def prefix(self) -> str:
        """How the names of things of theirs begin that have no metadata, such as volumes."""
        whole = f"{self.federation_id}\0{self.outpost}".encode()
        return f"outpost_{hashlib.sha256(whole).hexdigest()[:8]}_"


def machine_config(
    options: FlyOptions, metadata: Mapping[str, str], *, token: str, volume: str = ""
) -> dict[str, Any]:
    """Return the configuration of a machine. ``volume`` is the id of the one for its files."""
    config: dict[str, Any] = {
        **_make(options),
        "env": {**options.env, **_serving(options), "OUTPOST_SERVE_TOKEN": token},
        "metadata": dict(metadata),
    }
    if volume:
        config["mounts"] = [{"volume": volume, "path": WORK}]
    return config


def spec_of(options: FlyOptions) -> str:
    """Return of what make a machine is now: another one is no good for a worker of these."""
    made = {
        **_make(options),
        "env": {**options.env, **_serving(options)},
        "volume_gb": options.volume_gb,
        "regions": options.regions,
    }
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:SPEC_CHARS]


def worker_metadata(worker_id: str, task_id: str) -> Mapping[str, str]:
    """Return what says for whom a machine is."""
    return {WORKER: worker_id, TASK: task_id}


def _make(options: FlyOptions) -> dict[str, Any]:
    """Return what all machines of an outpost have in common."""
    guest = options.guest
    made: dict[str, Any] = {
        "image": options.worker_image,
        "guest": {
            "cpu_kind": guest.cpu_kind,
            "cpus": guest.cpus,
            "memory_mb": guest.memory_mib,
        },
        # Whether a worker goes on is decided by who knows its task, and what it left is looked at.
        "restart": {"policy": "no"},
        "auto_destroy": False,
        "services": [_service()],
        "stop_config": {"signal": "SIGTERM", "timeout": f"{STOP_S}s"},
    }
    if not options.volume_gb:
        made["rootfs"] = {"persist": "always"}
        if options.disk_gb:
            made["rootfs"]["size_gb"] = options.disk_gb
    return made


def _service() -> dict[str, Any]:
    """Return how Fly's proxy leads to the server: HTTP/2 all the way, never waking a machine."""
    http = {
        "port": 443,
        "handlers": ["tls", "http"],
        "http_options": {"h2_backend": True},
        "tls_options": {"alpn": ["h2", "http/1.1"]},
    }
    return {
        "protocol": "tcp",
        "internal_port": PORT,
        "autostart": False,
        "autostop": "off",
        "ports": [http],
        "concurrency": {
            "type": "requests",
            "soft_limit": CONNECTIONS,
            "hard_limit": CONNECTIONS,
        },
    }


def _serving(options: FlyOptions) -> dict[str, str]:
    """Return the options of ``runner serve``."""
    return {
        "OUTPOST_SERVE_LISTEN": f"0.0.0.0:{PORT}",
        "OUTPOST_SERVE_IDLE_EXIT": f"{options.idle_exit_s:g}",
        "OUTPOST_SERVE_GRACE": str(GRACE_S),
        "OUTPOST_SERVE_LEASE": f"{options.machine_ttl_s:g}",
    }

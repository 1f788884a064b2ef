"""Volumes: folders that outlive what a machine's own disk holds."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.doubles.fly.machine import Machine, moment


@dataclass(kw_only=True)
class Volume:
    """``attached_to`` is the machine that holds it."""

    name: str
    region: str
    size_gb: int
    created_at: float
    id: str = field(default_factory=lambda: f"vol_{secrets.token_hex(8)}")
    attached_to: str = ""

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "state": "created",
            "size_gb": self.size_gb,
            "region": self.region,
            "zone": "1",
            "encrypted": True,
            "attached_machine_id": self.attached_to,
            "created_at": moment(self.created_at),
            "host_status": "ok",
        }


@dataclass(kw_only=True)
class Volumes:
    """All volumes of the app, by their ids."""

    folder: Path
    now: Callable[[], float]
    all: dict[str, Volume] = field(default_factory=dict)

    def create(self, name: str, region: str, size_gb: int) -> Volume:
        volume = Volume(name=name, region=region, size_gb=size_gb, created_at=self.now())
        self.all[volume.id] = volume
        self.place(volume).mkdir(parents=True)
        return volume

    def delete(self, volume: Volume) -> None:
        del self.all[volume.id]
        shutil.rmtree(self.place(volume), ignore_errors=True)

    def place(self, volume: Volume) -> Path:
        return self.folder / "volumes" / volume.id

    def mounts(self, machine: Machine) -> dict[str, Path]:
        """Return the folders of a machine's mounts, by their paths in it."""
        rows = machine.config.get("mounts") or ()
        return {it["path"]: self.place(self.all[it["volume"]]) for it in rows}

    def refusal(self, config: dict[str, Any], region: str) -> str:
        """Say why a machine cannot have the volumes that it names; empty if it can."""
        for mount in config.get("mounts") or ():
            volume = self.all.get(mount.get("volume", ""))
            if volume is None:
                return f"failed_precondition: volume '{mount.get('volume', '')}' not found"
            if volume.attached_to:
                return f"failed_precondition: volume {volume.id} is attached to another machine"
            if volume.region != region:
                return "insufficient resources to create new machine with existing volume"
        return ""

    def attach(self, machine: Machine) -> None:
        for mount in machine.config.get("mounts") or ():
            self.all[mount["volume"]].attached_to = machine.id

    def detach(self, machine: Machine) -> None:
        for volume in self.all.values():
            if volume.attached_to == machine.id:
                volume.attached_to = ""

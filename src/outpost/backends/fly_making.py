"""Making a machine: in the first region that has room, with a volume where that is asked for."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from outpost.backends.fly_machine import Owner, machine_config
from outpost.backends.fly_options import FlyOptions
from outpost.transports.fly_faults import ApiFault, Trouble
from outpost.transports.fly_machines import FlyMachines
from outpost.transports.fly_seen import NEVER, Seen, read_instant

NAME_CHARS = 12
UNUSED = timedelta(minutes=10)
"""A volume that no machine has after so long was left by a start that was cut short."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A machine to be made; its server asks for ``token``."""

    name: str
    metadata: Mapping[str, str]
    token: str
    launch: bool = True


class FlyMaker:
    """Makes the machines of one outpost."""

    def __init__(self, machines: FlyMachines, owner: Owner, options: FlyOptions) -> None:
        self._machines = machines
        self._owner = owner
        self._options = options

    async def make(self, wanted: Wanted) -> Seen:
        """Make a machine; raises ``ApiFault``: ``FULL`` where no region has room."""
        full = []
        for region in self._options.regions:
            try:
                return await self._make(wanted, region)
            except ApiFault as exc:
                if exc.trouble is not Trouble.FULL:
                    raise
                full.append(exc)
        if len(full) == 1:
            raise full[0]
        names = ", ".join(self._options.regions)
        raise ApiFault(f"no room in {names}: {full[-1].message}", Trouble.FULL) from full[-1]

    async def delete_volume(self, volume_id: str) -> None:
        """Destroy a volume that was a machine's; it may be gone already."""
        try:
            await self._machines.delete_volume(volume_id)
        except ApiFault as exc:
            if exc.trouble is not Trouble.ABSENT:
                raise

    async def sweep(self, machines: Sequence[Seen]) -> None:
        """Destroy volumes of ours that no machine has, and none will have."""
        if not self._options.volume_gb:
            return
        used = {it for machine in machines for it in machine.volumes}
        now = self._machines.told_at or datetime.now(UTC)
        for said in await self._machines.volumes():
            ours = str(said.get("name", "")).startswith(self._owner.prefix)
            attached = said.get("attached_machine_id") or said["id"] in used
            made_at = read_instant(said.get("created_at"))
            if ours and not attached and made_at != NEVER and now - made_at > UNUSED:
                await self.delete_volume(said["id"])

    async def _make(self, wanted: Wanted, region: str) -> Seen:
        volume = ""
        if size_gb := self._options.volume_gb:
            digest = hashlib.sha256(wanted.name.encode()).hexdigest()[:NAME_CHARS]
            name = self._owner.prefix + digest
            volume = await self._machines.create_volume(name, region, size_gb)
        config = machine_config(self._options, wanted.metadata, token=wanted.token, volume=volume)
        try:
            return await self._machines.create(wanted.name, region, config, launch=wanted.launch)
        except ApiFault as exc:
            # One that the machine may have after all is swept later.
            if volume and exc.trouble is not Trouble.LOST:
                with contextlib.suppress(ApiFault):
                    await self.delete_volume(volume)
            raise

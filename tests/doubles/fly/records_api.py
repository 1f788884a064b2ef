"""What else may be asked: metadata, volumes, the app and the regions."""

from __future__ import annotations

from typing import Any

from tests.doubles.fly.call import OK, Answer, Call, Refused
from tests.doubles.fly.machine import Machine
from tests.doubles.fly.platform import NEAREST, OWNER, REGIONS, Platform
from tests.doubles.fly.volumes import Volume

DONE = Answer(status=204)
LEAST_GB = 1


class Records:
    """The handlers; each answers, or raises ``Refused``."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def metadata(self, call: Call, machine_id: str) -> Answer:
        return Answer(body=dict(self._platform.find(machine_id).metadata))

    async def metadata_key(self, call: Call, machine_id: str, key: str) -> Answer:
        metadata = self._platform.find(machine_id).metadata
        if key not in metadata:
            raise Refused(404, f"not_found: metadata key {key} not found")
        return Answer(body={"value": metadata[key]})

    async def set_key(self, call: Call, machine_id: str, key: str) -> Answer:
        machine = self._changing(call, machine_id)
        machine.metadata[key] = call.json().get("value", "")
        machine.touch()
        return DONE

    async def remove_key(self, call: Call, machine_id: str, key: str) -> Answer:
        machine = self._changing(call, machine_id)
        machine.metadata.pop(key, None)
        machine.touch()
        return DONE

    async def merge_metadata(self, call: Call, machine_id: str) -> Answer:
        """Set several at once, and remove those that are null or empty: so it is of PUT as well."""
        machine, said = self._changing(call, machine_id), call.json()
        if said.get("machine_version") not in (None, machine.version):
            raise Refused(412, "failed_precondition: machine version does not match")
        merged = {**machine.metadata, **(said.get("metadata") or {})}
        machine.config["metadata"] = {key: value for key, value in merged.items() if value}
        machine.touch()
        return DONE

    def _changing(self, call: Call, machine_id: str) -> Machine:
        """Return a machine whose metadata may be written: a lease does not keep anybody from it.

        Fly's own client writes them without the nonce of the lease that it holds (fly-go, flaps).
        """
        machine = self._platform.find(machine_id)
        if not machine.reachable or machine.gone:
            self._platform.held(machine, call)
            raise Refused(412, f"failed_precondition: machine {machine_id} is {machine.state}")
        return machine

    async def volumes(self, call: Call) -> Answer:
        return Answer(body=[it.shown() for it in self._platform.volumes.all.values()])

    async def create_volume(self, call: Call) -> Answer:
        said = call.json()
        region = said.get("region") or NEAREST
        if region not in REGIONS:
            raise Refused(422, f"invalid_argument: region {region} not found")
        size_gb = max(said.get("size_gb") or LEAST_GB, LEAST_GB)
        made = self._platform.volumes.create(said.get("name", ""), region, size_gb)
        return Answer(body=made.shown())

    async def volume(self, call: Call, volume_id: str) -> Answer:
        return Answer(body=self._volume(volume_id).shown())

    async def delete_volume(self, call: Call, volume_id: str) -> Answer:
        volume = self._volume(volume_id)
        if volume.attached_to:
            raise Refused(412, f"failed_precondition: volume {volume.id} is attached to a machine")
        self._platform.volumes.delete(volume)
        return Answer(body=volume.shown())

    def _volume(self, volume_id: str) -> Volume:
        volume = self._platform.volumes.all.get(volume_id)
        if volume is None:
            raise Refused(404, f"volume not found: {volume_id}")
        return volume

    async def app(self, call: Call) -> Answer:
        platform = self._platform
        shown: dict[str, Any] = {
            "id": platform.app,
            "name": platform.app,
            "status": "deployed",
            "organization": {"name": OWNER, "slug": "personal"},
            "machine_count": len(platform.living()),
            "volume_count": len(platform.volumes.all),
        }
        return Answer(body=shown)

    async def regions(self, call: Call) -> Answer:
        rows = [{"code": code, "name": name} for code, name in REGIONS.items()]
        return Answer(body={"nearest": NEAREST, "regions": rows})

    async def cordon(self, call: Call, machine_id: str) -> Answer:
        machine = self._platform.held(self._platform.find(machine_id), call)
        machine.cordoned = call.path.endswith("/cordon")
        return OK

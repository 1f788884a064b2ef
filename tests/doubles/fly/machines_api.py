"""What may be asked of machines: to be made, shown, waited for, started, stopped and removed."""

from __future__ import annotations

import asyncio
import copy
import re
import secrets
from typing import Any

from tests.doubles.fly.call import OK, Answer, Call, Refused
from tests.doubles.fly.contract import FILTER
from tests.doubles.fly.lease_api import acquired
from tests.doubles.fly.machine import Machine, ulid
from tests.doubles.fly.platform import NEAREST, REGIONS, Platform

STARTABLE = ("stopped", "suspended", "failed")
REMOVABLE = ("stopped", "suspended", "failed", "created")
SUMMARY = ("id", "name", "state", "region", "instance_id", "created_at", "updated_at")
WAITED = "started"
UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0}


class Machines:
    """The handlers; each answers, or raises ``Refused``."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def list(self, call: Call) -> Answer:
        lag_s = self._platform.faults.list_lag_s
        known = [it.seen(lag_s) for it in self._platform.ever.values() if self._is_listed(it)]
        rows = [row for row in known if row is not None and _asked_for(row, call)]
        if call.is_true("summary"):
            rows = [{key: row[key] for key in SUMMARY} for row in rows]
        return Answer(body=rows)

    async def create(self, call: Call) -> Answer:
        said = call.json()
        config = _checked(said)
        region = said.get("region") or NEAREST
        if region not in REGIONS:
            raise Refused(422, f"invalid_argument: region {region} not found")
        name = said.get("name") or f"machine-{secrets.token_hex(4)}"
        machine = self._platform.create(name, region, config)
        machine.cordoned = bool(said.get("skip_service_registration"))
        more = {}
        if ttl := said.get("lease_ttl"):
            machine.lease = acquired(machine, ttl, "", self._platform.now())
            more = {"nonce": machine.lease.nonce}
        self._platform.flyd.launch(machine, skip=bool(said.get("skip_launch")))
        return Answer(body=machine.shown() | more)

    async def show(self, call: Call, machine_id: str) -> Answer:
        return Answer(body=self._platform.find(machine_id).shown())

    async def update(self, call: Call, machine_id: str) -> Answer:
        machine, said = self._held(call, machine_id), call.json()
        if machine.gone:
            raise Refused(412, f"failed_precondition: machine {machine_id} is {machine.state}")
        if said.get("current_version") not in (None, machine.version):
            raise Refused(409, "aborted: machine update failed due to concurrent update")
        machine.config = _checked(said)
        machine.name = said.get("name") or machine.name
        machine.version = ulid(self._platform.now())
        self._platform.flyd.replace(machine, skip=bool(said.get("skip_launch")))
        return Answer(body=machine.shown())

    async def delete(self, call: Call, machine_id: str) -> Answer:
        machine = self._held(call, machine_id)
        if machine.state not in REMOVABLE and not machine.gone and not call.is_true("force"):
            what = "unable to destroy machine, not currently stopped, suspended, failed or created"
            raise Refused(412, f"failed_precondition: {what}")
        self._platform.flyd.destroy(machine)
        return OK

    async def start(self, call: Call, machine_id: str) -> Answer:
        machine = self._held(call, machine_id)
        before = machine.state
        if before != "started":
            if before not in STARTABLE:
                still = "machine still active, refusing to start"
                what = f"unable to start machine from current state: '{before}'"
                raise Refused(
                    412, f"failed_precondition: {still if before == 'stopping' else what}"
                )
            if self._platform.flyd.settling(machine):
                raise Refused(412, "failed_precondition: machine still active, refusing to start")
            self._platform.room(machine)
            self._platform.flyd.start(machine)
        return Answer(body={"previous_state": before, "migrated": False, "new_host": ""})

    async def stop(self, call: Call, machine_id: str) -> Answer:
        machine, said = self._held(call, machine_id), call.json()
        if machine.state not in ("started", "suspended", "stopping", "stopped", "failed"):
            what = f"unable to stop machine from current state: '{machine.state}'"
            raise Refused(412, f"failed_precondition: {what}")
        if machine.state in ("started", "suspended"):
            config = machine.config.get("stop_config") or {}
            name = said.get("signal") or config.get("signal") or "SIGINT"
            asked = said.get("timeout") or config.get("timeout")
            most_s = _seconds(asked) if asked else self._platform.limits.stop_s
            self._platform.flyd.stop(machine, name, most_s)
        return OK

    async def restart(self, call: Call, machine_id: str) -> Answer:
        machine = self._held(call, machine_id)
        if machine.state != "started":
            raise Refused(412, f"failed_precondition: machine {machine_id} is not started")
        self._platform.flyd.replace(machine, skip=False)
        return OK

    async def suspend(self, call: Call, machine_id: str) -> Answer:
        machine = self._held(call, machine_id)
        init = machine.config.get("init") or {}
        if machine.config.get("schedule") or init.get("swap_size_mb"):
            raise Refused(412, "failed_precondition: machines with swap or schedule cannot suspend")
        if machine.state not in ("started", "suspended", "suspending"):
            what = f"unable to suspend machine from current state: '{machine.state}'"
            raise Refused(412, f"failed_precondition: {what}")
        if machine.state == "started":
            self._platform.flyd.suspend(machine)
        return OK

    async def wait(self, call: Call, machine_id: str) -> Answer:
        machine = self._platform.find(machine_id)
        most_s = self._platform.limits.wait_most_s
        seconds = int(call.asks("timeout", str(most_s)))
        if not 1 <= seconds <= most_s:
            raise Refused(400, f"invalid_argument: timeout must be between 1 and {most_s} seconds")
        states = call.asks("state", WAITED).split(",")
        if not await machine.reach(states, seconds):
            wish = ", ".join(states)
            what = f"machine failed to reach desired state, {wish}, currently {machine.state}"
            raise Refused(408, f"deadline_exceeded: {what}")
        newest = machine.events[0]["id"]
        said = {"ok": True, "state": machine.state, "version": machine.version}
        return Answer(body=said | {"event_id": newest})

    async def events(self, call: Call, machine_id: str) -> Answer:
        events = list(self._platform.find(machine_id).events)
        return Answer(body=copy.deepcopy(events[: int(call.asks("limit", "20"))]))

    async def signal(self, call: Call, machine_id: str) -> Answer:
        machine = self._started(call, machine_id)
        self._platform.flyd.signal(machine, call.json()["signal"])
        return OK

    async def execute(self, call: Call, machine_id: str) -> Answer:
        machine, said = self._started(call, machine_id), call.json()
        guest = self._platform.flyd.guest(machine)
        assert guest is not None
        most_s = min(said.get("timeout") or 60.0, self._platform.limits.exec_s)
        command = said.get("command") or said.get("cmd", "").split()
        try:
            async with asyncio.timeout(most_s):
                base = self._platform.flyd.base
                done = await guest.execute(command, said.get("stdin", ""), base)
        except TimeoutError:
            raise Refused(408, "deadline_exceeded: command did not end in time") from None
        except OSError as exc:
            raise Refused(400, f"invalid_argument: {exc.strerror}: {command[0]}") from exc
        return Answer(body=done)

    def _held(self, call: Call, machine_id: str) -> Machine:
        return self._platform.held(self._platform.find(machine_id), call)

    def _started(self, call: Call, machine_id: str) -> Machine:
        machine = self._held(call, machine_id)
        if machine.state != "started" or self._platform.flyd.guest(machine) is None:
            raise Refused(412, f"failed_precondition: machine {machine_id} is not started")
        return machine

    def _is_listed(self, machine: Machine) -> bool:
        """Whether lists know of a machine; those that lag know longer of it."""
        machine.reachable = machine.id not in self._platform.faults.unreachable
        return machine.id in self._platform.machines or bool(self._platform.faults.list_lag_s)


def _asked_for(row: dict[str, Any], call: Call) -> bool:
    """Whether a list is to hold a record."""
    if row["state"] == "destroyed" and not call.is_true("include_deleted"):
        return False
    if (states := call.asks("state")) and row["state"] not in states.split(","):
        return False
    if (region := call.asks("region")) and row["region"] != region:
        return False
    config = row.get("config") or row.get("incomplete_config") or {}
    metadata = config.get("metadata") or {}
    wished = [(key, value) for key, value in call.query if key.startswith(FILTER)]
    return all(metadata.get(key.removeprefix(FILTER)) == value for key, value in wished)


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that a request brings; raises ``Refused``."""
    config = said.get("config") or {}
    if not config.get("image"):
        raise Refused(400, "invalid_argument: config.image is required")
    guest = config.get("guest") or {}
    if guest.get("memory_mb", 256) % 256:
        raise Refused(400, "invalid_argument: config.guest.memory_mb must be a multiple of 256")
    copied: dict[str, Any] = copy.deepcopy(config)
    copied["metadata"] = dict(copied.get("metadata") or {})
    copied["guest"] = {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256} | guest
    return copied


def _seconds(text: str) -> float:
    """Return what a duration such as ``30s`` says."""
    parts = re.findall(r"([\d.]+)(ms|s|m)?", text)
    return sum(float(number) * UNITS[unit] for number, unit in parts)

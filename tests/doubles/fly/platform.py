"""The state of the stand-in: its app's machines, and what may be asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.doubles.fly.call import NONCE, Call, Refused
from tests.doubles.fly.faults import CAPACITY, QUOTA, RESERVE, TEXTS, Faults
from tests.doubles.fly.flyd import Flyd
from tests.doubles.fly.limits import Limits
from tests.doubles.fly.machine import Machine, moment
from tests.doubles.fly.metering import Meter
from tests.doubles.fly.volumes import Volumes

OWNER = "owner@example.org"
REGIONS = {
    "ams": "Amsterdam, Netherlands",
    "arn": "Stockholm, Sweden",
    "bom": "Mumbai, India",
    "cdg": "Paris, France",
    "dfw": "Dallas, Texas (US)",
    "ewr": "Secaucus, NJ (US)",
    "fra": "Frankfurt, Germany",
    "gru": "Sao Paulo, Brazil",
    "iad": "Ashburn, Virginia (US)",
    "jnb": "Johannesburg, South Africa",
    "lax": "Los Angeles, California (US)",
    "lhr": "London, United Kingdom",
    "nrt": "Tokyo, Japan",
    "ord": "Chicago, Illinois (US)",
    "sin": "Singapore, Singapore",
    "sjc": "San Jose, California (US)",
    "syd": "Sydney, Australia",
    "yyz": "Toronto, Canada",
}
NEAREST = "iad"


@dataclass(kw_only=True)
class Platform:
    """``machines`` are those that the API knows, destroyed ones for a while; ``ever`` all."""

    app: str
    limits: Limits
    faults: Faults
    volumes: Volumes
    machines: dict[str, Machine] = field(default_factory=dict)
    ever: dict[str, Machine] = field(default_factory=dict)
    flyd: Flyd = field(init=False)

    def now(self) -> float:
        """Return the platform's clock, in seconds since 1970."""
        return self.faults.now()

    def living(self) -> list[Machine]:
        return [it for it in self.machines.values() if it.state != "destroyed"]

    def create(self, name: str, region: str, config: dict[str, Any]) -> Machine:
        """Make a machine's record; raises ``Refused``."""
        if twin := next((it for it in self.living() if it.name == name), None):
            raise Refused(
                409,
                "already_exists: unique machine name violation, machine ID"
                f' {twin.id} already exists with name "{name}"',
            )
        most = self.limits.max_machines
        if most is not None and len(self.living()) >= most:
            raise self.refusal(QUOTA)
        if region in self.faults.no_capacity:
            raise self.refusal(CAPACITY)
        if why := self.volumes.refusal(config, region):
            raise Refused(412, why)
        meter = Meter(self.limits.clock, "created")
        machine = Machine(name=name, region=region, config=config, now=self.now, meter=meter)
        self.machines[machine.id] = self.ever[machine.id] = machine
        self.volumes.attach(machine)
        return machine

    def room(self, machine: Machine) -> None:
        """Raise ``Refused`` where a machine's host has no room for it to run."""
        if machine.region in self.faults.no_capacity:
            raise self.refusal(RESERVE)

    def find(self, machine_id: str) -> Machine:
        """Return a machine; raises ``Refused``."""
        machine = self.machines.get(machine_id)
        if machine is None:
            raise Refused(404, f"machine not found: {machine_id}")
        machine.reachable = machine_id not in self.faults.unreachable
        return machine

    def held(self, machine: Machine, call: Call) -> Machine:
        """Return a machine that a call may change: no one else holds its lease."""
        if not machine.reachable:
            raise Refused(503, f"unavailable: host of machine {machine.id} is unreachable")
        lease = machine.lease
        if lease and lease.expires_at > self.now() and call.headers.get(NONCE) != lease.nonce:
            raise Refused(409, f"aborted: {self.holder(machine)}")
        return machine

    def holder(self, machine: Machine) -> str:
        """Say who holds a machine's lease."""
        assert machine.lease is not None
        until = moment(machine.lease.expires_at)
        owner = machine.lease.owner
        return f"machine ID {machine.id} lease currently held by {owner}, expires at {until}"

    def refusal(self, name: str) -> Refused:
        status, body = TEXTS[name]
        return Refused(status, body["error"], body=body)

    def forget(self, machine: Machine) -> None:
        """Let a destroyed machine be unknown."""
        self.machines.pop(machine.id, None)

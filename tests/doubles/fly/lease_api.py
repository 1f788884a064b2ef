"""Leases: who holds one alone may change a machine, and shows it by a nonce.

Their answers come in an envelope that the contract does not have (fly.io/docs, "Create a Machine
lease", 2026-08-07).
"""

from __future__ import annotations

import secrets

from tests.doubles.fly.call import NONCE, Answer, Call, Refused
from tests.doubles.fly.machine import Lease, Machine
from tests.doubles.fly.platform import OWNER, Platform

TTL_S = 60


class Leases:
    """The handlers; each answers, or raises ``Refused``."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def show(self, call: Call, machine_id: str) -> Answer:
        lease = self._live(self._platform.find(machine_id))
        if lease is None:
            raise _refused(404, f"lease not found for machine {machine_id}", "not_found")
        return Answer(body={"status": "success", "data": lease.shown()})

    async def acquire(self, call: Call, machine_id: str) -> Answer:
        machine, said = self._platform.find(machine_id), call.json()
        if machine.gone:
            raise _refused(412, f"machine {machine_id} is {machine.state}", "failed_precondition")
        lease, nonce = self._live(machine), call.headers.get(NONCE)
        if lease and lease.nonce != nonce:
            raise _refused(409, self._platform.holder(machine), "invalid")
        seconds = said.get("ttl") or TTL_S
        made = acquired(machine, seconds, said.get("description", ""), self._platform.now(), lease)
        machine.lease = made
        return Answer(status=201, body={"status": "success", "data": made.shown()})

    async def release(self, call: Call, machine_id: str) -> Answer:
        machine = self._platform.find(machine_id)
        lease = self._live(machine)
        if lease is None:
            raise _refused(404, f"lease not found for machine {machine_id}", "not_found")
        if lease.nonce != call.headers.get(NONCE):
            raise _refused(409, self._platform.holder(machine), "invalid")
        machine.lease = None
        return Answer(body={"status": "success", "data": {"ok": True}})

    def _live(self, machine: Machine) -> Lease | None:
        lease = machine.lease
        return lease if lease and lease.expires_at > self._platform.now() else None


def acquired(
    machine: Machine, seconds: int, why: str, now: float, before: Lease | None = None
) -> Lease:
    """Return a lease on a machine; one that is held goes on with its nonce."""
    return Lease(
        nonce=before.nonce if before else secrets.token_hex(6),
        expires_at=now + seconds,
        owner=OWNER,
        description=why,
        version=machine.version,
    )


def _refused(status: int, text: str, code: str) -> Refused:
    return Refused(status, text, body={"status": "error", "message": text, "code": code})

"""A stand-in for Cloud Run as a process: gRPC's threads stay out of a process that forks.

``python -m tests.cloudrun_program OPERATION_S FOLDER [serve]`` prints a line of JSON that says
where things are, then answers each line on its standard input with what there is by then, once it
has done what the line says (``evict``, ``kill``, ``cut``, or nothing); it ends with that. With
``serve`` the image's instances are real servers of workers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.asked_program import AskedProgram
from tests.cloudrun_world import TOKEN, TOKEN_SECRET, sample_argv, serve_argv
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.doubles.google_identity import GoogleIdentity
from tests.unit.cloudrun_values import IMAGE, SERVICE

LOOK = "?"


class CloudRunProgram(AskedProgram):
    """``with CloudRunProgram(folder, operation_s=0.0) as google``."""

    def __init__(self, folder: Path, *, operation_s: float, serving: bool = False) -> None:
        more = ("serve",) if serving else ()
        super().__init__("tests.cloudrun_program", str(operation_s), str(folder), *more)
        self.address: str = self.found["address"]
        self.key_file: str = self.found["key_file"]

    @property
    def calls(self) -> list[str]:
        """The calls of the control plane so far."""
        calls: list[str] = self.asked(LOOK)["calls"]
        return calls

    @property
    def url(self) -> str:
        """The address of the service."""
        return str(self.asked(LOOK)["url"])

    def do(self, word: str) -> None:
        """Have something happen to the service's instances."""
        self.asked(word)

    @property
    def instances(self) -> int:
        """How many instances the service has."""
        return int(self.asked(LOOK)["instances"])

    @property
    def idle(self) -> bool:
        """Whether no request is open."""
        return not self.asked(LOOK)["open"]

    @property
    def billed_microusd(self) -> float:
        """What Google would bill by now."""
        return float(self.asked(LOOK)["billed_microusd"])


async def serve(operation_s: float, folder: Path, *, serving: bool) -> None:
    limits = Limits(operation_s=operation_s, queue_s=1.0)
    async with CloudRun(limits=limits) as cloud, ControlPlane(cloud) as control:
        control.image(IMAGE, *(serve_argv() if serving else sample_argv()))
        control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()
        with GoogleIdentity(cloud.tokens) as identity:
            key_file = str(identity.key_file(folder))
            print(json.dumps({"address": control.address, "key_file": key_file}), flush=True)
            while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
                await _done(cloud, word)
                deployed = SERVICE in cloud.fronts
                found = {
                    "calls": control.calls,
                    "url": cloud.url(SERVICE) if deployed else None,
                    "instances": len(cloud.instances(SERVICE)) if deployed else 0,
                    "open": sum(it.open for it in cloud.instances(SERVICE)) if deployed else 0,
                    "billed_microusd": float(cloud.usage(SERVICE).microusd) if deployed else 0,
                }
                print(json.dumps(found), flush=True)


async def _done(cloud: CloudRun, word: str) -> None:
    match word:
        case "evict":
            await cloud.evict(SERVICE)
        case "kill":
            cloud.kill(SERVICE)
        case "cut":
            cloud.cut(SERVICE)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), Path(sys.argv[2]), serving="serve" in sys.argv[3:]))

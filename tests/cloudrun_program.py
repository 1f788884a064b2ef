"""A stand-in for Cloud Run as a process: gRPC's threads stay out of a process that forks.

``python -m tests.cloudrun_program OPERATION_S FOLDER [serve]`` prints a line of JSON that says
where things are, then answers each line on its standard input with what there is by then, once it
has done what the line says (``evict``, ``kill``, ``cut``, or nothing); it ends with that. With
``serve`` the image's instances are real servers of workers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cloudrun_world import ROOT, TOKEN, TOKEN_SECRET, sample_argv, serve_argv
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.doubles.google_identity import GoogleIdentity
from tests.unit.cloudrun_values import IMAGE, SERVICE


class CloudRunProgram:
    """``with CloudRunProgram(folder, operation_s=0.0) as google``."""

    def __init__(self, folder: Path, *, operation_s: float, serving: bool = False) -> None:
        argv = [sys.executable, "-m", "tests.cloudrun_program", str(operation_s), str(folder)]
        argv += ["serve"] if serving else []
        self._process = subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        found = self._said()
        self.address: str = found["address"]
        self.key_file: str = found["key_file"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._process.communicate(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()

    @property
    def calls(self) -> list[str]:
        """The calls of the control plane so far."""
        calls: list[str] = self._asked()["calls"]
        return calls

    @property
    def url(self) -> str:
        """The address of the service."""
        return str(self._asked()["url"])

    def do(self, word: str) -> None:
        """Have something happen to the service's instances."""
        self._asked(word)

    @property
    def instances(self) -> int:
        """How many instances the service has."""
        return int(self._asked()["instances"])

    @property
    def idle(self) -> bool:
        """Whether no request is open."""
        return not self._asked()["open"]

    @property
    def billed_microusd(self) -> float:
        """What Google would bill by now."""
        return float(self._asked()["billed_microusd"])

    def _asked(self, word: str = "?") -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._said()

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


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

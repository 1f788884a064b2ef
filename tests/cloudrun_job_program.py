"""A stand-in for Google's jobs and buckets as a process: gRPC's threads stay out of who forks.

``python -m tests.cloudrun_job_program FOLDER`` prints a line of JSON that says where things are,
then answers each line on its standard input with what there is by then, once it has done what the
line says; it ends with that.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.asked_program import AskedProgram
from tests.cloudrun_job_world import BUCKET, JobCloud, job_cloud
from tests.doubles.cloud_run import Limits
from tests.doubles.cloud_run.declared import Image
from tests.doubles.google_identity import GoogleIdentity
from tests.unit.cloudrun_values import IMAGE


class JobProgram(AskedProgram):
    """``with JobProgram(folder) as google``."""

    def __init__(self, folder: Path) -> None:
        super().__init__("tests.cloudrun_job_program", str(folder))
        self.address: str = self.found["address"]
        self.storage_url: str = self.found["storage_url"]
        self.key_file: str = self.found["key_file"]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        assert error or self._process.returncode == 0, "the stand-in saw what Google refuses"

    def do(self, word: str) -> dict[str, Any]:
        """Have something happen; return what there is then.

        ``cancel``: executions are cancelled, as by somebody else; ``evict``: SIGTERM by the
        platform; ``kill``: SIGKILL; ``broken``: the image starts no more; ``down`` and ``up``: the
        bucket.
        """
        return self.asked(word)

    @property
    def names(self) -> list[str]:
        """What lies in the bucket."""
        names: list[str] = self.do("?")["names"]
        return names


async def serve(folder: Path) -> None:
    limits = Limits(grace_s=8.0)
    async with job_cloud(folder, limits) as google:
        with GoogleIdentity(google.cloud.tokens) as identity:
            found = {
                "address": google.control.address,
                "storage_url": google.storage.url,
                "key_file": str(identity.key_file(folder)),
            }
            print(json.dumps(found), flush=True)
            while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
                _done(google, word)
                running = google.control.jobs.running.values()
                told = {
                    "names": google.storage.names(BUCKET),
                    "orders": [
                        name
                        for name, (_, data) in google.storage.objects[BUCKET].items()
                        if name.endswith("/worker") and "call" in json.loads(data)
                    ],
                    "executions": len(running),
                    "living": sum(not it.message.completion_time for it in running),
                    "calls": google.storage.calls,
                }
                print(json.dumps(told), flush=True)


def _done(google: JobCloud, word: str) -> None:
    living = [it for it in google.control.jobs.running.values() if not it.message.completion_time]
    match word:
        case "cancel":
            for one in living:
                one.cancel()
        case "evict":
            for one in living:
                one.containers[-1].terminate()
        case "kill":
            for one in living:
                one.containers[-1].kill()
        case "broken":
            google.control.shelf.images[IMAGE] = Image(entrypoint=("false",))
        case "down" | "up":
            google.storage.trouble.down = word == "down"


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))

"""An outpost whose one instance is a ``runner serve`` of this machine, held by open requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from outpost.model import Capabilities, Health, Quote, Task
from outpost.ports import Setup
from outpost.transports.http_held import HeldOutpost
from outpost.transports.http_link import LinkTerms
from tests.doubles.process_containers import listening, stop
from tests.world import until

TOKEN = "a-token-of-the-tests"
TERMS = LinkTerms(keep_s=2.0, request_s=3000.0, lease_s=10.0, patience_s=10.0)


class Server:
    """One ``runner serve``, with its files in ``home``."""

    def __init__(self, home: Path, environment: Mapping[str, str], *flags: str) -> None:
        self.home = home
        self.root = home / "root"
        self._environment = environment
        self._flags = flags
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{listening(self.home)}"

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "outpost.runner", "serve", "--root", str(self.root)]
        with (self.home / "said").open("wb") as out:
            self.process = subprocess.Popen(
                [*argv, "--listen", "127.0.0.1:0", *self._flags],
                env={**self._environment, "OUTPOST_SERVE_TOKEN": TOKEN},
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        (self.home / "pid").write_text(str(self.process.pid))
        until(lambda: listening(self.home), "it listens")

    def end(self) -> None:
        """Kill it and all that runs in it."""
        if self.process is not None:
            stop(self.home)
            self.process.wait()


class HeldServer(HeldOutpost):
    """The outpost."""

    kind: ClassVar[str] = "held"
    capabilities: ClassVar[Capabilities] = Capabilities(send=True, stop=True, held=True)

    def __init__(
        self, setup: Setup, server: Server, *, token: str = TOKEN, terms: LinkTerms = TERMS
    ) -> None:
        super().__init__(setup, terms)
        self._token = token
        self._server = server

    async def url(self) -> str:
        return self._server.url

    async def headers(self) -> Mapping[str, str]:
        return {}

    def token(self) -> str:
        return self._token

    async def ping(self) -> Health:
        return Health(ok=True)

    def quote(self, task: Task | None) -> Quote:
        return Quote(microusd_per_hour=0, source="a test")

"""What tests of the stand-in say to it: the API as a plain client, and configurations."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from httpx2 import Response

from tests.doubles.fly.call import NONCE
from tests.doubles.fly.cloud import FlyCloud
from tests.doubles.fly.limits import Limits
from tests.doubles.fly.proxy import FORCED
from tests.world import until

ROOT = Path(__file__).parents[3]
WORKER = "registry.example.org/outpost-worker:1"
SERVER = (sys.executable, "-m", "tests.doubles.cloud_run.sample_app")
SLEEPER = ("sleep", "600")
CALL_S = 70.0


@dataclass(frozen=True)
class Said:
    """An answer of the API."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> str:
        return str(self.body.get("error") or self.body.get("message"))


class Asker:
    """A client of the API: ``with Asker(fly) as ask``."""

    def __init__(self, fly: FlyCloud, *, token: str | None = None) -> None:
        headers = {"authorization": f"Bearer {fly.token if token is None else token}"}
        url = f"{fly.api_url}/v1/apps/{fly.app}"
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=CALL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def __call__(
        self, method: str, path: str, body: Any = None, *, nonce: str = "", **query: Any
    ) -> Said:
        """Ask for something of the app."""
        headers = {NONCE: nonce} if nonce else {}
        options = {"headers": headers, "params": query, **({"json": body} if body else {})}
        answer = self._client.request(method, path, **options)
        said = answer.json() if answer.content else None
        return Said(answer.status_code, said, answer.headers)

    def make(self, name: str, config: Mapping[str, Any], **more: Any) -> str:
        """Make a machine; return its id."""
        said = self("POST", "/machines", {"name": name, "config": config, **more})
        assert said.status == 200, said.body
        return str(said.body["id"])

    def show(self, machine_id: str) -> dict[str, Any]:
        said = self("GET", f"/machines/{machine_id}")
        assert said.status == 200, said.body
        found: dict[str, Any] = said.body
        return found

    def act(self, machine_id: str, verb: str, body: Any = None) -> Said:
        return self("POST", f"/machines/{machine_id}/{verb}", body)

    def reach(self, machine_id: str, state: str) -> dict[str, Any]:
        """Wait for a state; return the machine as it is then."""
        said = self("GET", f"/machines/{machine_id}/wait", state=state, timeout=20)
        assert said.status == 200, said.body
        return self.show(machine_id)

    def started(self, name: str, config: Mapping[str, Any], **more: Any) -> str:
        """Make a machine and wait until it has started."""
        machine_id = self.make(name, config, **more)
        self.reach(machine_id, "started")
        return machine_id

    def destroy(self, machine_id: str) -> None:
        assert self("DELETE", f"/machines/{machine_id}", force="true").status == 200
        self.reach(machine_id, "destroyed")


def config(*argv: str, **more: Any) -> dict[str, Any]:
    """Return a configuration whose machine runs a command and restarts nothing."""
    run = {"init": {"exec": list(argv)}} if argv else {}
    return {"image": WORKER, "restart": {"policy": "no"}, **run, **more}


def service(*, http2: bool = True, **more: Any) -> dict[str, Any]:
    """Return a service that the proxy leads to."""
    options = {"http_options": {"h2_backend": True}} if http2 else {}
    return {
        "protocol": "tcp",
        "internal_port": 8080,
        "autostart": False,
        "autostop": "off",
        "ports": [{"port": 443, "handlers": ["tls", "http"], **options}],
        **more,
    }


def server(services: Sequence[Mapping[str, Any]] = (), **more: Any) -> dict[str, Any]:
    """Return the configuration of a machine that answers."""
    return config(*SERVER, services=list(services) or [service()], **more)


def ended(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a machine's command ended last, as its events say."""
    event = next(it for it in shown["events"] if it["type"] == "exit")
    found: dict[str, Any] = event["request"]["exit_event"]
    return found


def written(path: Path) -> str:
    """Return what a machine writes into a file, once it has."""
    return str(until(lambda: path.exists() and path.read_text(), f"{path} is written"))


def quick() -> Limits:
    """Return limits under which little takes time."""
    return Limits(boot_s=0.02, start_s=0.01, resume_s=0.0, remembered_s=0.3)


def get(fly: FlyCloud, machine_id: str = "", path: str = "/about", token: str = "") -> Response:
    """Ask a machine for something, through the proxy."""
    headers = {FORCED: machine_id} if machine_id else {}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return httpx2.get(fly.url + path, headers=headers, timeout=20)


def work(fly: FlyCloud, machine_id: str) -> Path:
    """Return the folder that a machine's command runs in."""
    return fly.root(machine_id) / "work"

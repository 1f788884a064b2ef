"""The stand-in for E2B in a thread with a loop of its own: its API and the way to its sandboxes."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.doubles.cloud_run.exchange import ClientGone, Exchange, Handler
from tests.doubles.cloud_run.listener import Listener
from tests.doubles.e2b.api import Api
from tests.doubles.e2b.builds import Build, Builds
from tests.doubles.e2b.contract import Contract
from tests.doubles.e2b.envd import Envd
from tests.doubles.e2b.faults import Faults
from tests.doubles.e2b.limits import Limits
from tests.doubles.e2b.sandbox import Sandbox, State
from tests.doubles.e2b.team import Team
from tests.doubles.e2b.templates import Template, new_id
from tests.doubles.in_thread import InThread


@dataclass(frozen=True, kw_only=True)
class Record:
    """A sandbox as it was when it was asked for; ``home`` is the home of its user here."""

    id: str
    template: str
    state: State
    metadata: Mapping[str, str]
    end_at: datetime
    auto_pause: bool
    cpu_count: int
    memory_mib: int
    network: Mapping[str, Any] | None
    home: Path
    pids: tuple[int, ...]


class E2bCloud(InThread):
    """``with E2bCloud(folder, api_key="e2b_test") as e2b``: all of E2B that a team sees.

    ``api_url`` and ``sandbox_url`` are the client's ``api_url`` and ``sandbox_url``. Every process
    in a sandbox finds ``environment``: what a template brings along. ``faults`` may be set from
    anywhere at any time. At its end everything in it is killed and its disks are gone; it raises
    ``AssertionError`` where the contract was violated.
    """

    def __init__(
        self,
        folder: Path,
        *,
        api_key: str = "e2b_test",
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.api_key = api_key
        self.faults = Faults()
        variables = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(environment or {})}
        limits = limits or Limits()
        self._contracts = (Contract.of_api(), Contract.of_envd())
        self._team = Team(folder, limits, self.faults, variables)
        self._builds = Builds(self._team.templates, self.faults, limits.build_s)
        self._api = Api(self._team, self._builds, api_key, self._contracts[0])
        self._envd = Envd(self._team, self._contracts[1])
        self._listeners = tuple(
            Listener(self._guarded(it.answer), streams=limits.streams)
            for it in (self._api, self._envd)
        )
        self._mistakes: list[str] = []

    @property
    def api_url(self) -> str:
        return self._listeners[0].url

    @property
    def sandbox_url(self) -> str:
        return self._listeners[1].url

    def sandboxes(self, *, ended: bool = False) -> list[Record]:
        """Return all sandboxes, the oldest first; those that have ended only if asked for."""
        return self.do(
            lambda: [
                _record(it) for it in self._team.sandboxes.values() if ended or it.state != "ended"
            ]
        )

    def requests(self) -> list[tuple[str, str, int]]:
        """Return what the API was asked: method, path, status (0: it was not answered)."""
        return list(self._api.requests)

    def envd_requests(self) -> list[tuple[str, str, str]]:
        """Return what sandboxes were asked: method, path, sandbox."""
        return list(self._envd.requests)

    def metered_s(self) -> dict[str, float]:
        """Return for how many seconds each sandbox ever made was running until now."""
        return self.do(lambda: {it.id: it.ran_s() for it in self._team.sandboxes.values()})

    def violations(self) -> list[str]:
        """Return in what the contracts were violated, and where the stand-in itself failed."""
        told = [text for contract in self._contracts for text in contract.violations]
        return told + self._mistakes

    def add_template(
        self, name: str, *, cpu_count: int = 2, memory_mib: int = 512, **variables: str
    ) -> str:
        """Add a template as if it had been built; return its id."""
        made = Template(
            id=new_id(), name=name, cpu_count=cpu_count, memory_mib=memory_mib, variables=variables
        )
        return self.do(lambda: self._team.templates.put(made)).id

    def builds(self) -> list[Build]:
        """Return the builds of templates, the oldest first."""
        return self.do(lambda: [replace(build) for build in self._builds.all])

    def kill(self, sandbox_id: str) -> None:
        """End a sandbox as the platform does when its machine fails: nobody has asked for it."""
        self.wait(self._team.sandboxes[sandbox_id].end)

    def pause(self, sandbox_id: str) -> None:
        """Pause a sandbox though nobody has asked for it."""
        self.wait(self._team.sandboxes[sandbox_id].pause)

    def cut(self) -> int:
        """Break every connection of clients; return how many there were."""
        return self.do(lambda: sum(listener.cut() for listener in self._listeners))

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(exchange: Exchange) -> None:
            try:
                await handler(exchange)
            except ClientGone:
                raise
            except Exception:  # noqa: BLE001 - one request's trouble is not another's
                self._mistakes.append(traceback.format_exc())
                if not exchange.answered:
                    await exchange.answer(500, [], b"a fault of the stand-in")

        return answer

    async def opened(self, stack: AsyncExitStack) -> None:
        for listener in self._listeners:
            await listener.open()
        stack.push_async_callback(self._team.close)
        stack.push_async_callback(self._api.close)
        for listener in reversed(self._listeners):
            stack.push_async_callback(listener.close)

    def wrong(self) -> list[str]:
        return self.violations()


def _record(sandbox: Sandbox) -> Record:
    return Record(
        id=sandbox.id,
        template=sandbox.wanted.template.name,
        state=sandbox.state,
        metadata=dict(sandbox.wanted.metadata),
        end_at=sandbox.end_at,
        auto_pause=sandbox.wanted.auto_pause,
        cpu_count=sandbox.wanted.template.cpu_count,
        memory_mib=sandbox.wanted.template.memory_mib,
        network=sandbox.network,
        home=sandbox.machine.home,
        pids=tuple(sandbox.machine.pids),
    )

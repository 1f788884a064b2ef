"""Looking at everything a federation depends on, one broken thing never hiding another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outpost.config import Config
from outpost.config.advice import warnings_about
from outpost.control.checks import Check, Level, problem, warning, well
from outpost.control.checks.agents import check_agents, check_keys, programs_of
from outpost.control.checks.breakers import check_breakers
from outpost.control.checks.files import check_modes, check_room, check_store
from outpost.control.checks.places import WorkerChecks, check_place
from outpost.control.checks.programs import check_programs
from outpost.control.sites import Sites
from outpost.errors import OutpostError, UserError
from outpost.model import AgentSpec, Task
from outpost.store import path_of

if TYPE_CHECKING:
    from outpost.federation import Federation
    from outpost.wire.orders import AgentOrder

CHECK_S = 25.0
FIX_S = 330.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """All that was looked at, by part of the federation, in the order in which it is shown."""

    parts: Mapping[str, tuple[Check, ...]]

    @property
    def checks(self) -> list[Check]:
        """Every check of every part."""
        return [check for checks in self.parts.values() for check in checks]

    @property
    def ok(self) -> bool:
        """Whether nothing is a problem; warnings are none."""
        return all(check.level is not Level.PROBLEM for check in self.checks)


class Doctor:
    """Looks at one federation; with ``fix`` it also does what is safe."""

    def __init__(self, federation: Federation, *, fix: bool = False) -> None:
        self._federation = federation
        self._fix = fix
        self._limit_s = FIX_S if fix else CHECK_S

    async def examine(self) -> Diagnosis:
        """Look at everything at once, after the configuration and the store, which all else needs.

        Never raises for what it finds.
        """
        given = self._federation
        configuration = self._configuration()
        files, usable = await self._files()
        federation = self._federation
        programs, agents, outposts, workers = await asyncio.gather(
            self._safely("programs", self._programs()),
            self._safely("agents", self._agents()),
            self._safely("outposts", self._outposts(usable=usable), limited=False),
            self._safely("workers", self._workers() if usable else _nothing()),
        )
        if federation is not given:
            await federation.__aexit__(None, None, None)
        parts = {
            "Configuration": configuration,
            "Programs": programs,
            "Agents": agents,
            "Files": files,
            "Outposts": outposts,
            "Workers": workers,
        }
        return Diagnosis(parts={part: tuple(checks) for part, checks in parts.items() if checks})

    def _configuration(self) -> list[Check]:
        """Read the file; go on with the defaults where it cannot be used."""
        try:
            config = self._federation.config
        except OutpostError as exc:
            self._federation = _with_defaults(self._federation)
            return [problem("configuration", exc.message, exc.hint)]
        where = f"{config.path} is used" if config.path else "no file found: the defaults are used"
        advice = [warning("configuration", text) for text in warnings_about(config)]
        return [well("configuration", where), *advice]

    async def _files(self) -> tuple[list[Check], bool]:
        """Look at our folder; return also whether there is a store to be read."""
        try:
            home, url = self._federation.home, self._federation.store_url
            path = path_of(url)
        except OutpostError as exc:
            return [problem("files", exc.message, exc.hint)], False
        disk = await self._safely("disk", _at_once(lambda: [check_room(home)]))
        store, usable = await check_store(url)
        modes = await self._safely("modes", _at_once(lambda: check_modes(path, fix=self._fix)))
        return [*disk, store, *modes], usable

    async def _programs(self) -> list[Check]:
        federation = self._federation
        bd = federation.config.sources.beads.executable
        return await check_programs(federation.environment, federation.directory, bd=bd)

    async def _agents(self) -> list[Check]:
        orders = self._orders()
        programs = await check_agents(orders, self._federation.environment)
        keys = check_keys(list(orders), self._federation.environment)
        return [*programs, *keys, *self._references()]

    def _orders(self) -> dict[str, AgentOrder]:
        """Return what the order of a task would say of each agent."""
        config, intake = self._federation.config, self._federation.parts.intake
        names = dict.fromkeys((config.defaults.agent, *config.agents))
        return {name: intake.terms(self._task(name)).agent for name in names}

    def _task(self, agent: str) -> Task:
        return Task(
            id="t-none",
            issue_id="",
            source="",
            title="",
            body="",
            repo_url="",
            created_at=self._federation.clock.now(),
            agent=AgentSpec(name=agent),
        )

    def _references(self) -> list[Check]:
        """Try the secrets that the configuration refers to, but run no command for it."""
        token = self._federation.config.sources.github.token
        if token is None:
            return []
        if token.reference.startswith("cmd://"):
            return [well("token", "the GitHub token comes from a command, which is not run here")]
        try:
            length = len(token.resolve(self._federation.environment))
        except UserError as exc:
            return [problem("token", exc.message, exc.hint)]
        return [well("token", f"{token.reference} is set: {length} characters")]

    async def _outposts(self, *, usable: bool) -> list[Check]:
        federation = self._federation
        if usable:
            sites = await federation.parts.sites()
        else:
            sites = Sites(federation.config, "", federation.home, federation.environment)
        programs = {}
        with contextlib.suppress(OutpostError):
            # What is wrong with an agent is told of with the agents.
            programs = programs_of(self._orders())
        looks = (
            self._safely(site.name, check_place(site, programs, leftovers=usable, fix=self._fix))
            for site in sites.enabled()
        )
        checks = [check for found in await asyncio.gather(*looks) for check in found]
        disabled = [it.name for it in federation.config.outposts if not it.enabled]
        checks += [well(name, f"{name} is disabled") for name in disabled]
        if usable:
            checks += await check_breakers(federation.store, federation.clock, fix=self._fix)
        return checks

    async def _workers(self) -> list[Check]:
        federation = self._federation
        follower = await federation.parts.follower()
        now = federation.clock.now()
        checks = WorkerChecks(store=federation.store, follower=follower, now=now)
        return await checks.check(fix=self._fix)

    async def _safely(
        self, about: str, look: Awaitable[list[Check]], *, limited: bool = True
    ) -> list[Check]:
        """Wait for a look, in time; whatever goes wrong in it is what it found."""
        try:
            async with asyncio.timeout(self._limit_s if limited else None):
                return await look
        except TimeoutError:
            return [problem(about, f"{about}: no answer within {self._limit_s:g} s")]
        except OutpostError as exc:
            return [problem(about, exc.message, exc.hint)]
        except Exception as exc:  # noqa: BLE001 - one broken look must not hide the others
            return [problem(about, f"{about}: {type(exc).__name__}: {exc}")]


async def _at_once(look: Callable[[], list[Check]]) -> list[Check]:
    return look()


async def _nothing() -> list[Check]:
    return []


def _with_defaults(federation: Federation) -> Federation:
    """Return the same federation as it would be without any configuration."""
    return type(federation)(
        Config(),
        environment=federation.environment,
        directory=federation.directory,
        home=federation.__dict__.get("home"),
        clock=federation.clock,
        read_only=True,
    )

"""What acts for one federation, each part made when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from outpost.errors import StoreError

if TYPE_CHECKING:
    from outpost.config import Config
    from outpost.control.duties import Duties
    from outpost.control.follow import Follower
    from outpost.control.intake import Intake
    from outpost.control.queue import Queue
    from outpost.control.reconciler import Reconciler
    from outpost.control.rules import Rules
    from outpost.control.sites import Sites
    from outpost.control.situation import Looker
    from outpost.control.spending import Spending
    from outpost.control.start import Starter
    from outpost.control.stopping import Stopper
    from outpost.ports import Clock, Store


class Ground(Protocol):
    """What all parts stand on. Nothing of it is read before a part needs it."""

    directory: Path
    clock: Clock
    read_only: bool

    @property
    def environment(self) -> Mapping[str, str]:
        """Our variables."""
        ...

    @property
    def config(self) -> Config:
        """The configuration."""
        ...

    @property
    def home(self) -> Path:
        """The folder of store, logs and workspaces."""
        ...

    @property
    def store(self) -> Store:
        """The store."""
        ...


class Whole(Ground, Protocol):
    """A federation, as far as what works on all of it needs it."""

    @property
    def parts(self) -> Parts:
        """What acts for it."""
        ...


class Parts:
    """Makes the parts. They load late: who only reads the store needs none of them."""

    def __init__(self, ground: Ground) -> None:
        self.stays = False
        """Whether this process goes on, as a controller does."""
        self._ground = ground
        self._sites: Sites | None = None
        self._follower: Follower | None = None
        self._federation_id = ""

    @cached_property
    def intake(self) -> Intake:
        """What turns issues and configuration into tasks."""
        from outpost.control.intake import Intake  # noqa: PLC0415 - as all imports here

        ground = self._ground
        return Intake(ground.config, ground.environment, ground.directory, ground.clock)

    @cached_property
    def duties(self) -> Duties:
        """What carries out what is left to do once tasks have ended."""
        from outpost.control.duties import Duties  # noqa: PLC0415
        from outpost.wire.redact import Redactor, secrets_of  # noqa: PLC0415

        redactor = Redactor(secrets_of(self._ground.environment))
        return Duties(
            store=self._ground.store,
            clock=self._ground.clock,
            request=self.intake.request,
            redact=redactor.text,
        )

    @cached_property
    def rules(self) -> Rules:
        """The rules of the configuration: where tasks run and what that may cost."""
        from outpost.control.rules import rules_of  # noqa: PLC0415

        return rules_of(self._ground.config)

    async def sites(self) -> Sites:
        """Return the configured outposts; made at the first call."""
        if self._sites is None:
            from outpost.control.sites import Sites  # noqa: PLC0415

            ground = self._ground
            identity = await self._identity()
            self._federation_id = identity
            self._sites = Sites(ground.config, identity, ground.home, ground.environment)
        return self._sites

    async def close(self) -> None:
        """Let go of what the outposts keep open."""
        if self._sites is not None:
            await self._sites.close()

    async def follower(self) -> Follower:
        """Return what looks at workers and follows them; one, which minds how many it mends."""
        if self._follower is None:
            from outpost.control.follow import Follower  # noqa: PLC0415

            self._follower = Follower(
                store=self._ground.store,
                clock=self._ground.clock,
                outposts=(await self.sites()).backend,
                environment=lambda _attempt: self.intake.worker_environment(""),
                retry=self.rules.retry,
                claim_grace_s=self._ground.config.controller.claim_grace_s,
            )
        return self._follower

    async def stopper(self) -> Stopper:
        """Return what ends workers."""
        from outpost.control.stopping import Stopper  # noqa: PLC0415

        grace_s = self._ground.config.defaults.stop_grace_s
        return Stopper(follower=await self.follower(), grace_s=grace_s)

    async def reconciler(self) -> Reconciler:
        """Return what compares the outposts with the store."""
        from outpost.control.reconciler import Reconciler  # noqa: PLC0415

        return Reconciler(
            self._ground.store,
            self._ground.clock,
            outposts=(await self.sites()).backend,
            catch_up=(await self.follower()).catch_up,
            stop_grace_s=self._ground.config.defaults.stop_grace_s,
        )

    @property
    def spending(self) -> Spending:
        """What says whom a used-up cap stops."""
        from outpost.control.spending import Spending  # noqa: PLC0415

        return Spending(store=self._ground.store, clock=self._ground.clock, rules=self.rules)

    async def looker(self) -> Looker:
        """Return what looks at the outposts before a decision."""
        from outpost.control.situation import Looker  # noqa: PLC0415

        sites = tuple((await self.sites()).enabled())
        ground = self._ground
        return Looker(store=ground.store, clock=ground.clock, sites=sites, rules=self.rules)

    async def starter(self) -> Starter:
        """Return what decides where a task runs, and starts it there."""
        from outpost.control.failover import Failover  # noqa: PLC0415
        from outpost.control.start import Starter  # noqa: PLC0415

        store, clock = self._ground.store, self._ground.clock
        looker = await self.looker()
        return Starter(
            store=store,
            clock=clock,
            looker=looker,
            failover=Failover(
                store=store,
                clock=clock,
                outposts=len(looker.sites),
                breaker=self.rules.breaker,
                retry=self.rules.retry,
                probe_s=self._ground.config.controller.claim_grace_s,
            ),
            defaults=self.intake.defaults,
            federation_id=self._federation_id,
            author=await self._author(),
            environment=self.intake.worker_environment,
            terms=self.intake.terms,
            outposts=(await self.sites()).backend,
            stays=self.stays,
        )

    async def queue(self) -> Queue:
        """Return what goes through the tasks that wait."""
        from outpost.control.queue import Queue  # noqa: PLC0415

        ground = self._ground
        return Queue(store=ground.store, clock=ground.clock, starter=await self.starter())

    async def _author(self) -> Mapping[str, str]:
        if "git_identity" in self.intake.__dict__:
            return self.intake.git_identity
        return await asyncio.to_thread(lambda: self.intake.git_identity)

    async def _identity(self) -> str:
        """Return the federation's id; a reader of a store yet to be made gets along without."""
        try:
            return await self._ground.store.federation_id()
        except StoreError:
            if not self._ground.read_only or await self._ground.store.count_by_state():
                raise
            return ""

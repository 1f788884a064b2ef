"""Starting a task: decide, claim, call the outpost, and try the next one if nothing started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from outpost.control.failover import Failover
from outpost.control.health import ask
from outpost.control.orders import Terms, build_order, within_means
from outpost.control.resume import Succession
from outpost.control.situation import Looker, Site, Situation
from outpost.control.tasks import Defaults, branch_name, new_id
from outpost.control.transcripts import fetched
from outpost.errors import Ambiguous, NotDispatched, OutpostFault, Rejected
from outpost.model import (
    Attempt,
    Candidate,
    Charge,
    Decision,
    Handle,
    Health,
    State,
    Task,
)
from outpost.model.money import covered
from outpost.policy.decide import decide
from outpost.policy.plugin import refine
from outpost.ports import Clock, Outpost, Store
from outpost.wire.orders import Environment, WorkOrder
from outpost.wire.urls import Credentials, apart

MOST_CLAIMS = 20
"""How often others may take what was decided on before a task goes back into the queue."""

SPAWN_S = 600.0
"""How long an outpost may take to start a worker, whatever deadlines it keeps by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """What became of a task: the decision, and the attempt if one was started."""

    task: Task
    decision: Decision
    attempt: Attempt | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A slot and money taken for an attempt of a task; ``troubled``: its outpost failed of late."""

    attempt: Attempt
    decision: Decision
    best: Candidate
    site: Site
    troubled: bool


@dataclass(slots=True)
class Pass:
    """One go through the outposts for one task: who was asked, and who failed at it."""

    healths: dict[str, Health] = field(default_factory=dict)
    rejected: Rejected | None = None
    failed: bool = False
    claims: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Starter:
    """Places tasks on the sites of one federation.

    ``stays``: this process goes on, so that it may hold what lives only as long as it does.
    """

    store: Store
    clock: Clock
    looker: Looker
    failover: Failover
    defaults: Defaults
    federation_id: str
    author: Mapping[str, str]
    environment: Callable[[str], Environment]
    terms: Callable[[Task], Terms]
    outposts: Callable[[str], Outpost]
    stays: bool = False

    async def decide(self, task: Task) -> Decision:
        """Return where a task would go now; asks every outpost, starts and stores nothing."""
        sites = [site for site in self.looker.sites if task.outpost in (None, site.name)]
        healths = await asyncio.gather(*map(ask, sites))
        named = {site.name: health for site, health in zip(sites, healths, strict=True)}
        return self.judge(task, await self.looker.look(task, named))

    async def place(self, task: Task, healths: dict[str, Health] | None = None) -> Placement:
        """Start a queued task where the policy says, or leave it queued with the reason stored.

        An outpost is asked how it is only once it is the best: one that is down costs no time
        while another has room. What is learnt of outposts is put into ``healths``, and what
        stands there is not asked again. Raises ``Rejected`` where only that kept a task from
        starting.
        """
        going = Pass(healths={} if healths is None else healths)
        claim = await self.claim(task, going)
        return claim if isinstance(claim, Placement) else await self.start(task, claim, going)

    async def claim(self, task: Task, going: Pass) -> Claim | Placement:
        """Take a slot for a queued task where the policy says: the first half of ``place``.

        Where none is to be had it is what became of the task.
        """
        while True:
            situation = await self.looker.look(task, going.healths)
            decision = self.judge(task, situation)
            best = decision.best
            if best is None or going.claims == MOST_CLAIMS:
                return await self._leave(task, decision, going)
            site = next(site for site in self.looker.sites if site.name == best.outpost)
            if site.name not in going.healths:
                going.healths[site.name] = await ask(site)
                if not going.healths[site.name].ok:
                    continue
            if site.is_held and not self.stays:
                return await self._leave(task, _for_a_controller(decision, best), going)
            attempt = await self._claim(task, decision, situation, site)
            going.claims += 1
            if attempt:
                return Claim(
                    attempt=attempt,
                    decision=decision,
                    best=best,
                    site=site,
                    troubled=situation.troubled(site.name),
                )
            if (await self.store.task(task.id)).state is not State.QUEUED:
                return Placement(task=task, decision=decision, attempt=None)

    async def start(self, task: Task, claim: Claim, going: Pass) -> Placement:
        """Start what was claimed, or go on with the next outpost where that starts nothing."""
        while True:
            started = await self._try(task, claim, going)
            if started:
                if claim.troubled and started.state is not State.UNKNOWN:
                    await self.failover.started(claim.site.name)
                return Placement(task=task, decision=claim.decision, attempt=started)
            again = await self.claim(task, going)
            if isinstance(again, Placement):
                return again
            claim = again

    def judge(self, task: Task, situation: Situation) -> Decision:
        """Return where a task may go in this situation; pure."""
        rules, now = self.looker.rules, self.clock.now()
        decision = decide(task, situation.snapshot, rules.policy, now)
        if rules.function is None:
            return decision
        return refine(decision, task, situation.snapshot, rules.function)

    async def _leave(self, task: Task, decision: Decision, going: Pass) -> Placement:
        """Leave a task in the queue, or give it up where its outposts failed it too often."""
        if going.failed and await self.failover.given_up(task):
            return Placement(task=task, decision=decision, attempt=None)
        await self.hold(task, decision)
        if going.rejected:
            raise going.rejected
        return Placement(task=task, decision=decision, attempt=None)

    async def hold(self, task: Task, decision: Decision) -> None:
        """Store why a task waits, if that is news."""
        if decision.why() != task.reason:
            await self.store.hold(task.id, decision)

    async def _claim(
        self, task: Task, decision: Decision, situation: Situation, site: Site
    ) -> Attempt | None:
        """Take slot and money; ``None`` where another was quicker, or tries the outpost out."""
        assert decision.best
        worker_id = new_id("w")
        before = await Succession(store=self.store).predecessor(task)
        branch = before.branch if before else branch_name(self.defaults.branch, task, worker_id)
        attempt = Attempt(
            id=worker_id,
            task_id=task.id,
            issue_id=task.issue_id,
            number=0,
            fence=0,
            outpost=site.name,
            kind=site.kind,
            branch=branch,
            created_at=self.clock.now(),
        )
        troubled = situation.troubled(site.name)
        if troubled and not await self.failover.may_try(site.name, worker_id):
            return None
        costs = decision.best.estimate.total_microusd
        claimed = await self.store.claim(
            attempt,
            decision,
            max_workers=site.max_workers,
            charge=_charge(task, attempt, decision.best, site),
            caps=covered(situation.windows, site.name) if costs else (),
        )
        if claimed is None and troubled:
            await self.failover.let_go(site.name, worker_id)
        return claimed

    async def _try(self, task: Task, claim: Claim, going: Pass) -> Attempt | None:
        """Start a claimed attempt; ``None`` where its outpost started nothing.

        However many outposts fail a task in one go, that is one of its tries.
        """
        try:
            started = await self._start(task, claim.attempt, claim.best, claim.site)
        except OutpostFault as exc:
            first = not going.failed
            counted = await self.failover.failed(task, claim.attempt, exc, first=first)
            going.healths[claim.site.name] = Health(ok=False, detail=exc.message, hint=exc.hint)
            going.failed = going.failed or counted
            going.rejected = exc if isinstance(exc, Rejected) else going.rejected
            return None
        return started

    async def _start(self, task: Task, attempt: Attempt, best: Candidate, site: Site) -> Attempt:
        assert site.outpost
        # The password travels apart: the agent can read the order.
        repo_url, environment = apart(task.repo_url, self.environment(task.agent.name))
        earlier = await Succession(store=self.store).earlier(task, site.shared)
        if earlier and earlier.elsewhere:
            transcript = await fetched(earlier.elsewhere, self.outposts, environment)
            earlier = replace(earlier, transcript=transcript)
        order = build_order(
            replace(task, repo_url=repo_url),
            attempt,
            within_means(self.terms(task), task, best),
            federation_id=self.federation_id,
            author=self.author,
            earlier=earlier,
        )
        try:
            handle = await self._spawn(site.outpost, order, environment)
        except Ambiguous as exc:
            unknown = replace(attempt, state=State.UNKNOWN, reason=exc.message)
            await self.store.apply(unknown)
            await self.failover.failed(task, attempt, exc, first=False)
            return unknown
        started = replace(attempt, handle=handle, state=State.STARTING)
        if not await self.store.apply(started):
            started = await self._overtaken(site.outpost, started)
        return started

    async def _overtaken(self, outpost: Outpost, started: Attempt) -> Attempt:
        """Return an attempt as others know it by now; end a worker they gave up unseen."""
        known = await self.store.attempts_of(started.task_id)
        newest = next((it for it in known if it.id == started.id), None)
        if newest is not None and (newest.handle or newest.state is not State.LOST):
            return newest
        assert started.handle
        await outpost.destroy(started.handle)
        return newest or replace(started, state=State.STOPPED)

    @staticmethod
    async def _spawn(outpost: Outpost, order: WorkOrder, environment: Environment) -> Handle:
        """Start a worker; after an ambiguous answer look whether it came to be, and adopt it."""
        try:
            return await _within_time(outpost, order, environment)
        except (NotDispatched, Rejected):
            raise
        except OutpostFault as exc:
            # Ambiguous, or as good as that: nobody says that nothing was started.
            try:
                handle = await outpost.find(order["worker_id"])
            except OutpostFault as unseen:
                doubt = f"{exc.message}, and it cannot be looked for: {unseen.message}"
                raise Ambiguous(doubt, outpost=exc.outpost, scope=exc.scope) from unseen
            if handle is None:
                raise Ambiguous(exc.message, outpost=exc.outpost, scope=exc.scope) from exc
            return handle


async def _within_time(outpost: Outpost, order: WorkOrder, environment: Environment) -> Handle:
    """Start a worker; one start that never returns would hold up all that waits."""
    try:
        async with asyncio.timeout(SPAWN_S):
            return await outpost.spawn(order, environment)
    except TimeoutError as exc:
        doubt = f"{outpost.name} gave no answer within {SPAWN_S:g} s"
        raise Ambiguous(doubt, outpost=outpost.name) from exc


def _for_a_controller(decision: Decision, best: Candidate) -> Decision:
    why = f"{best.outpost}: a controller starts it there"
    return replace(decision, ranked=(replace(best, why=why), *decision.ranked[1:]))


def _charge(task: Task, attempt: Attempt, best: Candidate, site: Site) -> Charge:
    """Return what an attempt reserves: the price of today, for as long as it may run."""
    held = timedelta(seconds=best.estimate.held_s or 0)
    return Charge(
        attempt_id=attempt.id,
        task_id=task.id,
        issue_id=task.issue_id,
        outpost=attempt.outpost,
        kind=attempt.kind,
        agent=task.agent.name,
        repo=Credentials(task.repo_url).url,
        started_at=attempt.created_at,
        held_until=attempt.created_at + held,
        microusd_per_hour=best.microusd_per_hour,
        price_source=site.quote(task).source,
        token_budget_microusd=best.estimate.tokens_microusd,
    )

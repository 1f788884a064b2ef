"""Workers in instances of a Cloud Run service, each alive as long as our request to it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel

from outpost.backends.cloudrun_control import Control, Naming, OpenClient, google_client
from outpost.backends.cloudrun_costs import costs, keeping, price
from outpost.backends.cloudrun_deployment import Deployment
from outpost.backends.cloudrun_options import CloudRunOptions
from outpost.clock import SystemClock
from outpost.errors import NoCapacity, OutpostFault, Rejected, UserError
from outpost.model import Capabilities, Handle, Health, Quote, Task
from outpost.ports import Greeting, Plan, Setup
from outpost.transports.google_tokens import Fetch, IdTokens, google_fetch
from outpost.transports.http_client import Refusing
from outpost.transports.http_held import HeldOutpost, HeldWorker
from outpost.transports.http_link import LinkTerms
from outpost.wire.orders import Environment, WorkOrder

START_S = 300.0
"""How long a request may wait for an instance: Cloud Run gives a container 240 s to start."""
HAND_OVER_S = 60.0
"""So long before Cloud Run cuts a request, another one takes its place."""
ID_TOKEN_HEADER = "x-serverless-authorization"  # noqa: S105 - Authorization is for our own token


class CloudRunOutpost(HeldOutpost):
    """Workers in instances of a Cloud Run service.

    ``open_client`` opens Google's client for the control plane, ``fetch`` gets ID tokens; by
    default both with the credentials of this machine.
    """

    kind: ClassVar[str] = "cloudrun"
    capabilities: ClassVar[Capabilities] = Capabilities(
        send=True, stop=True, paid=True, held=True, apart=True
    )
    Options: ClassVar[type[BaseModel]] = CloudRunOptions

    def __init__(
        self,
        setup: Setup,
        options: CloudRunOptions,
        *,
        open_client: OpenClient | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        timeout_s = options.request_timeout_s
        terms = LinkTerms(
            keep_s=options.keep_alive_s,
            request_s=timeout_s - min(HAND_OVER_S, timeout_s / 10),
            lease_s=options.lease_s,
            patience_s=START_S,
        )
        super().__init__(setup, terms)
        self._setup = setup
        self._options = options
        naming = Naming(outpost=setup.name, project=options.project, service=options.service)
        self._control = Control(naming, open_client or google_client(setup.name))
        self._deployment = Deployment(setup, options, self._control)
        own_fetch = google_fetch(setup.name, options.impersonate)
        self._id_tokens = IdTokens(fetch or own_fetch, SystemClock())
        self._service_at: tuple[str, str] | None = None
        self._shown = self._spurned = self._own_token = ""

    async def url(self) -> str:
        """Return the service's address in the first region where it is ready.

        It stays the same as long as this process runs: workers are where they were started.
        """
        if self._service_at is None:
            self._service_at = await self._deployment.first_ready()
        return self._service_at[1]

    async def headers(self) -> Mapping[str, str]:
        """Return the ID token that Cloud Run lets us in with."""
        self._shown = await self._id_tokens.token(await self.url(), refused=self._spurned)
        return {ID_TOKEN_HEADER: f"Bearer {self._shown}"}

    def token(self) -> str:
        """Return the token that the service's own workers ask for. Raises ``Rejected``."""
        if self._own_token:
            return self._own_token
        reference = self._options.token
        if reference is None:
            secret, _, version = self._options.token_secret.rpartition(":")
            raise self._rejected(
                "which token its service asks for is not configured",
                "with this option of the outpost it is read where the service finds it, too:\n"
                f"token: cmd://gcloud secrets versions access {version} --secret={secret}"
                f" --project={self._options.project}",
            )
        try:
            self._own_token = reference.resolve_token(self._setup.environment)
        except UserError as exc:
            raise self._rejected(exc.message, exc.hint) from exc
        return self._own_token

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        """Start a worker; what is wrong with our ways there is said before anything is sent."""
        await asyncio.to_thread(self.token)
        await self.headers()
        try:
            return await super().spawn(order, environment)
        except Rejected:
            if self._shown != self._spurned:
                raise
            # Google takes that token no more, although it has not expired: once with another one.
            await self.headers()
            return await super().spawn(order, environment)

    def worker(self, handle: Handle) -> HeldWorker:
        if "bucket" in handle.data:
            what = f"worker {handle.worker_id} is a run of a job, and not in the service"
            raise self._rejected(what, "set it up with mode: job until that worker has ended")
        return super().worker(handle)

    def refused(self, why: Refusing) -> OutpostFault:
        """Return what an answer means that is not a 2xx, where nothing was started."""
        region = self._service_at[0] if self._service_at else self._options.regions[0]
        if why.code:
            if why.status != 401:
                return super().refused(why)
            secret = self._options.token_secret
            hint = f"it has to be what the secret {secret} holds; then outpost deploy"
            return self._rejected("the service's workers do not take our token", hint)
        # Without a code it is Cloud Run itself that answers.
        match why.status:
            case 401:
                self._spurned = self._shown
                return self._rejected("Cloud Run does not take our ID token")
            case 403:
                hint = self._deployment.invoker_hint(region)
                return self._rejected("Cloud Run does not let us call the service", hint)
            case 404:
                self._service_at = None
                hint = self._deployment.deploy_hint()
                return self._rejected("its service is not there any more", hint)
            case 429:
                what = f"{self.name} has no instance free in {region}"
                return NoCapacity(what, outpost=self.name, scope=region)
        return super().refused(why)

    async def ping(self) -> Health:
        """Look at the service, and whether we have what it asks for; starts no instance."""
        try:
            health = await self._deployment.health()
            if health.ok:
                await asyncio.to_thread(self.token)
                await self.headers()
        except OutpostFault as exc:
            return Health(ok=False, detail=exc.message, hint=exc.hint)
        return health

    async def greet(self) -> Greeting | None:
        """Return what it will cost; that needs no network and asks nothing."""
        lines = tuple(costs(self._options, self._setup))
        return Greeting(lines=lines, question="", options={}, hint="")

    async def plan(self, image: str | None = None, *, adopt: bool = False) -> Plan:
        return await self._deployment.plan(image, adopt=adopt)

    async def deploy(self, plan: Plan, report: Callable[[str], None]) -> Sequence[str]:
        self._service_at = None
        return await self._deployment.deploy(plan, report)

    async def close(self) -> None:
        await super().close()
        await self._control.close()

    def quote(self, task: Task | None) -> Quote:
        found, kept = price(self._options), keeping(self._options)
        return replace(found, source=f"{found.source}; {kept}") if kept else found

    def _rejected(self, what: str, hint: str = "") -> Rejected:
        return Rejected(f"{self.name}: {what}", outpost=self.name, hint=hint)

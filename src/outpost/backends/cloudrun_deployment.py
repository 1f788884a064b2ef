"""The service behind one outpost, in all its regions: how it is, how it should be, the way there.

A service belongs to the federation whose id its label holds; one without that label is somebody
else's, and is changed only if the user says so (``--adopt``). None is ever deleted by us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from outpost.backends.cloudrun_control import Control
from outpost.backends.cloudrun_costs import costs, keeping
from outpost.backends.cloudrun_options import CloudRunOptions
from outpost.backends.cloudrun_service import Wish, applied, changes, facts, owner
from outpost.errors import Rejected, UserError
from outpost.model import Health
from outpost.ports import Plan, Setup

if TYPE_CHECKING:
    from google.cloud.run_v2 import Service

READY = "CONDITION_SUCCEEDED"


class Deployment:
    """Reads, plans and changes the service of an outpost."""

    depends: ClassVar[tuple[str, ...]] = ("image", "port", "concurrency", "request timeout")
    """What decides whether a worker can live there."""

    def __init__(self, setup: Setup, options: CloudRunOptions, control: Control) -> None:
        self._setup = setup
        self._options = options
        self._control = control
        self._name = control.naming.service
        self._noun = control.noun

    async def services(self) -> dict[str, Service | None]:
        """Return the service in each region, the preferred one first. Raises ``OutpostFault``."""
        regions = self._options.regions
        found = await asyncio.gather(*map(self._control.read, regions))
        return dict(zip(regions, found, strict=True))

    async def first_ready(self) -> tuple[str, str]:
        """Return the first region where the service is ready, and its address there.

        Raises ``Rejected`` where it is ready nowhere.
        """
        services = await self.services()
        for region, service in services.items():
            if service is not None and self._is_ready(service):
                return region, self._address(region, service)
        raise self._unready(services)

    async def health(self) -> Health:
        """Say whether the service is there, ready, and such that workers can be run in it.

        Raises ``OutpostFault``.
        """
        services = await self.services()
        found = {name: it for name, it in services.items() if it is not None}
        ready = {name: it for name, it in found.items() if self._is_ready(it)}
        if not ready:
            fault = self._unready(services)
            return Health(ok=False, detail=fault.message, hint=fault.hint)
        differing: list[str] = []
        for region, service in ready.items():
            names = self._differing(service)
            if wrong := [name for name in names if name in self.depends]:
                what = f"the {self._noun} in {region} is not as configured: {', '.join(wrong)}"
                return Health(ok=False, detail=what, hint=self.deploy_hint())
            differing += [name for name in names if name not in differing]
        return Health(ok=True, detail="; ".join(self._parts(ready, services, differing)))

    async def plan(self, image: str | None, *, adopt: bool) -> Plan:
        """Return what would be changed; see ``Outpost.plan``."""
        wish = self._wish(image)
        lines: list[str] = []
        writes: dict[str, Service] = {}
        notes = [*self._limits(wish), *costs(self._options, self._setup)]
        for region, before in (await self.services()).items():
            if before is not None:
                self._may_change(region, before, adopt=adopt)
                notes += self._pinned(region, before)
            elif not (image or self._options.image):
                what = f"which image? There is no {self._noun} {self._name} in {region} yet"
                raise UserError(what, hint=self.deploy_hint())
            after = self._applied(before, wish)
            if found := list(changes(self._facts(before, wish), self._facts(after, wish))):
                sign = "+" if before is None else "~"
                lines += [f"{sign} {self._noun} {self._name} in {self._where(region)}"]
                lines += found
                writes[region] = after
        return Plan(outpost=self._setup.name, changes=tuple(lines), notes=tuple(notes), data=writes)

    async def deploy(self, plan: Plan, report: Callable[[str], None]) -> Sequence[str]:
        """Carry a plan out; see ``Outpost.deploy``."""
        for region, service in plan.data.items():
            doing = "changing" if service.name else "making"
            report(f"{region}: {doing} the {self._noun} {self._name}")
            await self._control.write(region, service, report)
        addresses = []
        for region, found in (await self.services()).items():
            if found is None or not self._is_ready(found):
                raise self._not_ready(region, found)
            addresses.append(self._address(region, found))
        return addresses

    def deploy_hint(self) -> str:
        """Return what to type for the service to become what it should be."""
        command = f"outpost deploy cloudrun {self._setup.name}"
        return command if self._options.image else f"{command} --image IMAGE"

    def invoker_hint(self, region: str) -> str:
        """Return what to type for somebody to be let in."""
        who = self._options.impersonate
        member = f"serviceAccount:{who}" if who else "serviceAccount:NAME"
        return (
            f"gcloud run services add-iam-policy-binding {self._options.service}"
            f" --region {region} --project {self._options.project}"
            f" --member={member} --role=roles/run.invoker"
        )

    def _wish(self, image: str | None = None) -> Wish:
        return Wish(
            options=self._options,
            federation_id=self._setup.federation_id,
            max_workers=self._setup.max_workers,
            image=image,
        )

    def _may_change(self, region: str, service: Service, *, adopt: bool) -> None:
        """Raise ``Rejected`` for a service that is not ours, unless it is to become so."""
        whose = owner(service)
        if adopt or (whose and whose == self._setup.federation_id):
            return
        said = "is another federation's" if whose else "was not made by outpost deploy"
        raise Rejected(
            f"the {self._noun} {self._name} in {self._where(region)} {said}",
            outpost=self._setup.name,
            hint=f"{self.deploy_hint()} --adopt  changes it all the same, and makes it ours",
        )

    def _differing(self, service: Service) -> list[str]:
        """Return the names of what is not as it should be."""
        wish = self._wish()
        before = self._facts(service, wish)
        after = self._facts(self._applied(service, wish), wish)
        return [name for name in {**after, **before} if before.get(name) != after.get(name)]

    def _parts(
        self,
        ready: Mapping[str, Service],
        services: Mapping[str, Service | None],
        differing: Sequence[str],
    ) -> Iterator[str]:
        yield f"{self._noun} {self._name} in {', '.join(ready)}"
        if missing := [region for region in services if region not in ready]:
            yield f"not ready in {', '.join(missing)}"
        if differing:
            yield f"not as configured: {', '.join(differing)} ({self.deploy_hint()})"
        for region, service in ready.items():
            yield from self._pinned(region, service)
        if kept := keeping(self._options, self._setup):
            yield kept

    def _pinned(self, region: str, service: Service) -> Iterator[str]:
        """Say where somebody has sent the traffic to a revision by its name."""
        names = [target.revision for target in service.traffic if target.percent]
        if names and all(names):
            name, project = self._options.service, self._options.project
            yield (
                f"in {region} work goes to {', '.join(names)}, not to what is deployed, until:"
                f" gcloud run services update-traffic {name} --to-latest"
                f" --region {region} --project {project}"
            )

    def _limits(self, wish: Wish) -> Iterator[str]:
        most = wish.most_instances
        if most is None:
            yield "max_workers is not set: Cloud Run's own limit on instances holds"
        else:
            yield f"at most {most} instances in each region, for max_workers: {wish.max_workers}"

    def _unready(self, services: Mapping[str, Service | None]) -> Rejected:
        """Return why the service is ready nowhere."""
        for region, service in services.items():
            if service is not None:
                return self._not_ready(region, service)
        regions = ", ".join(services)
        what = f"there is no {self._noun} {self._name} in {regions}"
        where = f"{what}, project {self._options.project}"
        return Rejected(where, outpost=self._setup.name, hint=self.deploy_hint())

    def _not_ready(self, region: str, service: Service | None) -> Rejected:
        said = service.terminal_condition.message if service else "it is not there"
        name, project = self._name, self._options.project
        return Rejected(
            f"the {self._noun} {name} in {region} is not ready: {said or 'it is being changed'}",
            outpost=self._setup.name,
            hint=f"gcloud run {self._noun}s logs read {name} --region {region} --project {project}",
        )

    def _where(self, region: str) -> str:
        return f"{region}, project {self._options.project}"

    def _applied(self, service: Any, wish: Wish) -> Any:
        return applied(service, wish)

    def _facts(self, service: Any, wish: Wish) -> dict[str, str]:
        return facts(service, wish)

    def _is_ready(self, service: Any) -> bool:
        return bool(service.terminal_condition.state.name == READY and service.uri)

    def _address(self, region: str, service: Any) -> str:
        """Return what is said of where it is."""
        return str(service.uri)

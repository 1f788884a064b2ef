"""Cloud Run's control plane: services are read and written, and its errors become ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from outpost.errors import NotDispatched, OutpostFault, RateLimited, Rejected
from outpost.transports.google_tokens import INSTALL, LOGIN, credentials, fault_of

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.run_v2 import Service, ServicesAsyncClient

CALL_S = 8.0
DEPLOY_S = 600.0
POLL_LEAST_S, POLL_MOST_S = 0.1, 3.0
_UNSIGNED = "Getting metadata from plugin failed with error: "
"""What gRPC says where there is no token to send a call with."""
OpenClient = Callable[[], Awaitable["ServicesAsyncClient"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """Which service it is, in any region, and which outpost it is for."""

    outpost: str
    project: str
    service: str

    def parent(self, region: str) -> str:
        """Return the resource name of a region."""
        return f"projects/{self.project}/locations/{region}"

    def path(self, region: str) -> str:
        """Return the resource name of the service in a region."""
        return f"{self.parent(region)}/services/{self.service}"


def google_client(outpost: str) -> OpenClient:
    """Return what opens the official client, with the credentials of this machine."""

    async def open_client() -> ServicesAsyncClient:
        found = await credentials(outpost)
        from google.cloud import run_v2  # noqa: PLC0415 - takes 0.4 s to load

        return run_v2.ServicesAsyncClient(credentials=found)

    return open_client


class Control:
    """One service, as the control plane knows it in several regions."""

    noun: ClassVar[str] = "service"

    def __init__(self, naming: Naming, open_client: OpenClient) -> None:
        self.naming = naming
        self._open_client = open_client
        self._client: ServicesAsyncClient | None = None
        self._opening = asyncio.Lock()

    async def read(self, region: str) -> Service | None:
        """Return the service; ``None`` where there is none. Raises ``OutpostFault``."""
        async with self._mapped(region):
            from google.api_core.exceptions import NotFound  # noqa: PLC0415 - an extra

            try:
                found: Service = await self._get(region)
            except NotFound:
                return None
        return found

    async def write(self, region: str, service: Service, report: Callable[[str], None]) -> Service:
        """Make or change the service (one with a name is there already), and wait until it is so.

        The service's ``etag`` is that of the one it replaces. Raises ``OutpostFault``.
        """
        async with self._mapped(region):
            operation = await self._begun(region, service)
            made: Service = await self._ended(region, operation, report)
        return made

    async def close(self) -> None:
        """Close the connection; what was asked for goes on there."""
        if self._client is not None:
            transport: Any = self._client.transport
            self._client = None
            await transport.close()

    async def _get(self, region: str) -> Any:
        client = await self._opened()
        return await client.get_service(name=self.naming.path(region), timeout=CALL_S)

    async def _begun(self, region: str, service: Any) -> Any:
        """Return the operation that makes or changes it."""
        client = await self._opened()
        if service.name:
            return await client.update_service(service=service, timeout=CALL_S)
        return await client.create_service(
            parent=self.naming.parent(region),
            service=service,
            service_id=self.naming.service,
            timeout=CALL_S,
        )

    async def _opened(self) -> ServicesAsyncClient:
        async with self._opening:
            if self._client is None:
                self._client = await self._open_client()
        return self._client

    async def _ended(self, region: str, operation: Any, report: Callable[[str], None]) -> Any:
        """Wait for an operation, telling what it says of itself whenever that is something new."""
        said, pause_s = "", POLL_LEAST_S
        try:
            async with asyncio.timeout(DEPLOY_S):
                while not await operation.done():
                    now = _progress(operation.metadata)
                    if now and now != said:
                        report(f"{region}: {now}")
                        said = now
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, POLL_MOST_S)
        except TimeoutError as exc:
            what = f"{self.naming.service} in {region} is not ready after {DEPLOY_S / 60:g} minutes"
            raise self._fault(what, f"{said}: it goes on there" if said else "") from exc
        return await operation.result()

    @contextlib.asynccontextmanager
    async def _mapped(self, region: str) -> AsyncIterator[None]:
        # gRPC tells whoever looks at our stderr of connections that end as they should.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        try:
            from google.api_core import exceptions  # noqa: PLC0415 - an extra; loads late
            from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - as above
            from google.cloud import run_v2  # noqa: F401, PLC0415 - as above
        except ImportError as exc:
            absent = isinstance(exc, ModuleNotFoundError) and str(exc.name).startswith("google")
            what = "is not installed" if absent else f"cannot be loaded ({exc})"
            raise Rejected(
                f"google-cloud-run {what}", outpost=self.naming.outpost, hint=INSTALL
            ) from exc
        try:
            yield
        except GoogleAuthError as exc:
            raise fault_of(exc, self.naming.outpost) from exc
        except exceptions.GoogleAPICallError as exc:
            raise self._meaning(exc, region) from exc
        except exceptions.RetryError as exc:
            raise self._fault(f"Cloud Run does not answer: {exc.cause}") from exc

    def _meaning(self, exc: GoogleAPICallError, region: str) -> OutpostFault:
        """Return an error of Google's as one of ours, with what to type next."""
        from google.api_core import exceptions  # noqa: PLC0415 - as above

        exc = _classed(exc)
        said = str(exc.message).strip()
        if said.startswith(_UNSIGNED):
            self._client = None  # by the next call somebody may have logged in again
            what = f"Google's tokens cannot be had: {said.removeprefix(_UNSIGNED)}"
            return NotDispatched(what, outpost=self.naming.outpost, hint=LOGIN)
        if isinstance(exc, exceptions.Unauthenticated):
            return self._rejected(f"Google does not take the credentials here: {said}", LOGIN)
        if isinstance(exc, exceptions.PermissionDenied):
            return self._denied(exc, said)
        if isinstance(exc, exceptions.NotFound):
            what = f"project {self.naming.project} or its region {region} is not there: {said}"
            return self._rejected(what, "gcloud projects list; gcloud run regions list")
        if isinstance(exc, exceptions.ResourceExhausted):
            return RateLimited(
                f"a quota of project {self.naming.project} is used up: {said}",
                outpost=self.naming.outpost,
                hint="ask for more: https://console.cloud.google.com/iam-admin/quotas"
                f"?project={self.naming.project}",
                scope=region,
            )
        if isinstance(exc, exceptions.Conflict):
            what = f"{self.naming.service} in {region} was changed by somebody else meanwhile"
            return self._fault(what, f"look again: {self._again()}")
        if isinstance(exc, exceptions.BadRequest):
            return self._rejected(f"Cloud Run refuses the {self.noun} in {region}: {said}")
        what = f"Cloud Run in {region} fails: {said or type(exc).__name__}"
        return self._fault(what, f"see what is left to do: {self._again()} --dry-run")

    def _denied(self, exc: GoogleAPICallError, said: str) -> OutpostFault:
        project = self.naming.project
        if "on secret" in said:
            return self._rejected(
                f"the {self.noun}'s account may not read one of its secrets: {said}",
                f"gcloud secrets add-iam-policy-binding SECRET --project {project}"
                " --member=serviceAccount:ACCOUNT --role=roles/secretmanager.secretAccessor",
            )
        if exc.reason == "SERVICE_DISABLED" or "has not been used in project" in said:
            enable = f"gcloud services enable run.googleapis.com --project {project}"
            return self._rejected(f"Cloud Run is not switched on in project {project}", enable)
        if "actas" in said.lower():
            what = f"you may not run anything as the {self.noun}'s account: {said}"
            return self._rejected(what, "you need the role roles/iam.serviceAccountUser on it")
        return self._rejected(
            f"you may not do that in project {project}: {said}",
            f"gcloud projects add-iam-policy-binding {project}"
            " --member=user:YOU --role=roles/run.developer",
        )

    def _rejected(self, what: str, hint: str = "") -> Rejected:
        return Rejected(what, outpost=self.naming.outpost, hint=hint)

    def _fault(self, what: str, hint: str = "") -> OutpostFault:
        return OutpostFault(what, outpost=self.naming.outpost, hint=hint)

    def _again(self) -> str:
        return f"outpost deploy cloudrun {self.naming.outpost}"


def _classed(exc: GoogleAPICallError) -> GoogleAPICallError:
    """Return the error that an operation ended with as the one that a call would have raised."""
    from google.api_core import exceptions  # noqa: PLC0415 - as above

    error = getattr(exc.response, "error", None)
    if type(exc) is not exceptions.GoogleAPICallError or error is None:
        return exc
    untyped: Any = exceptions
    found: GoogleAPICallError = untyped.from_grpc_status(error.code, error.message)
    return found


def _progress(service: Any) -> str:
    """Return what a service in the making says of itself."""
    if service is None:
        return ""
    return str(service.terminal_condition.message).strip().rstrip(".")

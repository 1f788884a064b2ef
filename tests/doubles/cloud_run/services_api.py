"""``google.cloud.run.v2.Services``: services as they are declared, read and changed."""

from __future__ import annotations

import copy
import uuid
from datetime import UTC, datetime
from typing import Any

from google.cloud import run_v2
from google.iam.v1 import iam_policy_pb2, policy_pb2  # type: ignore[import-untyped]
from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf import field_mask_pb2  # type: ignore[import-untyped]

from tests.doubles.cloud_run import rules
from tests.doubles.cloud_run.cloud import CloudRun
from tests.doubles.cloud_run.declared import Shelf, revision_of
from tests.doubles.cloud_run.operations import Operations
from tests.doubles.cloud_run.resources import check_etag, found, new_etag, paged, parent_of
from tests.doubles.cloud_run.rpc import Code, Method, Refused, plain

ANYBODY = "allUsers"
INVOKE = "roles/run.invoker"
State = run_v2.Condition.State


class Services:
    """The services of a project, by their full names."""

    def __init__(self, cloud: CloudRun, shelf: Shelf, operations: Operations) -> None:
        self._cloud = cloud
        self._shelf = shelf
        self._operations = operations
        self._all: dict[str, Any] = {}
        self._policies: dict[str, Any] = {}

    def methods(self) -> dict[str, Method]:
        operation, policy = operations_pb2.Operation, policy_pb2.Policy
        v2, iam = run_v2, iam_policy_pb2
        rows = (
            ("CreateService", self._create, v2.CreateServiceRequest, operation),
            ("GetService", self._get, v2.GetServiceRequest, v2.Service),
            ("ListServices", self._list, v2.ListServicesRequest, v2.ListServicesResponse),
            ("UpdateService", self._update, v2.UpdateServiceRequest, operation),
            ("DeleteService", self._delete, v2.DeleteServiceRequest, operation),
            ("GetIamPolicy", self._get_policy, iam.GetIamPolicyRequest, policy),
            ("SetIamPolicy", self._set_policy, iam.SetIamPolicyRequest, policy),
            (
                "TestIamPermissions",
                self._test,
                iam.TestIamPermissionsRequest,
                iam.TestIamPermissionsResponse,
            ),
        )
        return {name: Method(call=call, takes=t, returns=r) for name, call, t, r in rows}

    async def _create(self, request: Any) -> Any:
        rules.check_id(request.parent, request.service_id)
        name = f"{request.parent}/services/{request.service_id}"
        if name in self._all:
            raise Refused(Code.ALREADY_EXISTS, f"Resource '{request.service_id}' already exists.")
        service = copy.deepcopy(request.service)
        service.name, service.uid, service.generation = name, str(uuid.uuid4()), 0
        service.create_time = datetime.now(UTC)
        return await self._apply(service, validate_only=request.validate_only)

    async def _update(self, request: Any) -> Any:
        name = request.service.name
        if name not in self._all and request.allow_missing:
            parent, _, service_id = name.partition("/services/")
            created = run_v2.CreateServiceRequest(
                parent=parent, service=request.service, service_id=service_id
            )
            return await self._create(created)
        stored = found(name, self._all)
        check_etag(stored, request.service.etag)
        changed = copy.deepcopy(stored)
        paths = list(plain(request.update_mask).paths) if request.update_mask else []
        mask = field_mask_pb2.FieldMask(paths=paths or _CONFIGURABLE)
        mask.MergeMessage(
            plain(request.service),
            plain(changed),
            replace_message_field=True,
            replace_repeated_field=True,
        )
        return await self._apply(changed, validate_only=request.validate_only)

    async def _apply(self, service: Any, *, validate_only: bool) -> Any:
        """Store a service that was declared, and begin to make it so."""
        rules.check_service(service)
        before = self._all.get(service.name)
        service.generation += 1
        revision = _revision_name(service, before)
        service.update_time = datetime.now(UTC)
        service.reconciling = True
        service.latest_created_revision = f"{service.name}/revisions/{revision}"
        service.terminal_condition = run_v2.Condition(
            type_="Ready", state=State.CONDITION_RECONCILING, message="Deploying Revision."
        )
        service.etag = new_etag()
        if not validate_only:
            self._all[service.name] = service

        async def make() -> Any:
            if not validate_only:
                await self._make(service, revision)
            return service

        return await self._operations.run(parent_of(service.name), lambda: service, make)

    async def _make(self, service: Any, revision_name: str) -> None:
        try:
            revision = revision_of(service, revision_name, self._shelf)
        except Refused as refused:
            self._settle(service, State.CONDITION_FAILED, str(refused))
            raise
        front = await self._cloud.deploy(
            self.key(service.name),
            revision,
            public=service.invoker_iam_disabled or self._is_public(service.name),
            audiences=tuple(service.custom_audiences),
        )
        service.uri = front.url
        service.urls = [front.url]
        service.latest_ready_revision = service.latest_created_revision
        self._settle(service, State.CONDITION_SUCCEEDED, "")

    def _settle(self, service: Any, state: Any, message: str) -> None:
        service.reconciling = False
        service.observed_generation = service.generation
        service.terminal_condition = run_v2.Condition(
            type_="Ready", state=state, message=message, last_transition_time=datetime.now(UTC)
        )
        if state is State.CONDITION_FAILED:
            service.terminal_condition.reason = run_v2.Condition.CommonReason.REVISION_FAILED

    async def _get(self, request: Any) -> Any:
        return found(request.name, self._all)

    async def _list(self, request: Any) -> Any:
        rows = [one for name, one in self._all.items() if parent_of(name) == request.parent]
        page, token = paged(rows, request)
        return run_v2.ListServicesResponse(services=page, next_page_token=token)

    async def _delete(self, request: Any) -> Any:
        service = found(request.name, self._all)
        check_etag(service, request.etag)
        service.delete_time = datetime.now(UTC)

        async def remove() -> Any:
            self._all.pop(request.name, None)
            if self.key(request.name) in self._cloud.fronts:
                self._cloud.undeploy(self.key(request.name))
            return service

        return await self._operations.run(parent_of(request.name), lambda: service, remove)

    async def _get_policy(self, request: Any) -> Any:
        found(request.resource, self._all)
        return self._policies.get(request.resource, policy_pb2.Policy(etag=b"0"))

    async def _set_policy(self, request: Any) -> Any:
        service = found(request.resource, self._all)
        policy = copy.deepcopy(request.policy)
        policy.etag = new_etag().encode()
        self._policies[request.resource] = policy
        front = self._cloud.fronts[self.key(request.resource)]
        front.public = service.invoker_iam_disabled or self._is_public(request.resource)
        return policy

    async def _test(self, request: Any) -> Any:
        found(request.resource, self._all)
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=request.permissions)

    def key(self, name: str) -> str:
        """Return what the front ends know a service by: its id; elsewhere also its region."""
        _, _, _, region, _, service_id = name.split("/")
        return service_id if region == self._cloud.region else f"{service_id}@{region}"

    def _is_public(self, name: str) -> bool:
        policy = self._policies.get(name, policy_pb2.Policy())
        return any(one.role == INVOKE and ANYBODY in one.members for one in policy.bindings)


_CONFIGURABLE = (
    *("description", "labels", "annotations", "client", "client_version", "ingress"),
    *("launch_stage", "template", "traffic", "scaling", "invoker_iam_disabled"),
    *("custom_audiences", "default_uri_disabled"),
)


def _revision_name(service: Any, before: Any) -> str:
    """Return the name of the revision to be made, which a template may give."""
    service_id = service.name.rpartition("/")[2]
    given: str = service.template.revision
    if not given:
        return f"{service_id}-{service.generation:05d}-{uuid.uuid4().hex[:3]}"
    rules.require(given.startswith(f"{service_id}-"), "template.revision: wrong prefix.")
    last = before.latest_created_revision.rpartition("/")[2] if before else ""
    if given == last and before.template != service.template:
        raise Refused(
            Code.ALREADY_EXISTS,
            f"Revision named '{given}' with different configuration already exists.",
        )
    return given

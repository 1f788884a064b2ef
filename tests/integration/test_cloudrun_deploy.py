"""The service of a ``cloudrun`` outpost: planned, made, changed and looked at, by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2

from outpost.backends.cloudrun import CloudRunOutpost
from outpost.errors import OutpostError, OutpostFault, RateLimited, Rejected, UserError
from tests.cloudrun_world import TOKEN, TOKEN_SECRET, client_at, loopback_outpost, sample_argv
from tests.doubles.cloud_run import CloudRun, Limits
from tests.doubles.cloud_run.control import ControlPlane
from tests.unit.cloudrun_values import IMAGE, PROJECT, REGION, SERVICE, some_options

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
PATH = f"projects/{PROJECT}/locations/{REGION}/services/{SERVICE}"
OTHER = "us-central1-docker.pkg.dev/example-project/outpost/worker:2"


class Project:
    """A project with Cloud Run in it, its outposts, and what they report."""

    def __init__(self, control: ControlPlane, folder: Path) -> None:
        self.control = control
        self.folder = folder
        self.made: list[CloudRunOutpost] = []
        self.reports: list[str] = []

    def outpost(self, *, setup: dict[str, Any] | None = None, **options: Any) -> CloudRunOutpost:
        chosen = some_options(**{"token": "env://OUTPOST_TOKEN", **options})
        made = loopback_outpost(
            self.control.address, chosen, self.folder, self.control.cloud.tokens, **(setup or {})
        )
        self.made.append(made)
        return made

    async def deployed(self, outpost: CloudRunOutpost, image: str | None = IMAGE) -> list[str]:
        plan = await outpost.plan(image)
        return list(await outpost.deploy(plan, self.reports.append))

    async def service(self, path: str = PATH) -> run_v2.Service:
        client = await client_at(self.control.address)()
        try:
            return await client.get_service(name=path)
        finally:
            transport: Any = client.transport
            await transport.close()

    async def change(self, service: run_v2.Service) -> None:
        """Change a service as somebody does by hand."""
        client = await client_at(self.control.address)()
        try:
            operation: Any = await client.update_service(service=service)
            await operation.result()
        finally:
            transport: Any = client.transport
            await transport.close()


@pytest.fixture(params=[0.0])
async def project(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Project]:
    limits = Limits(operation_s=request.param)
    async with CloudRun(limits=limits) as cloud, ControlPlane(cloud) as control:
        for image in (IMAGE, OTHER):
            control.image(image, *sample_argv())
        control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()
        project = Project(control, tmp_path)
        yield project
        for outpost in project.made:
            await outpost.close()


async def refused(outpost: CloudRunOutpost, image: str | None = IMAGE) -> OutpostError:
    """Return why a plan cannot be made, or carried out."""
    with pytest.raises(OutpostError) as caught:
        await outpost.deploy(await outpost.plan(image), lambda _: None)
    return caught.value


async def test_from_nothing_to_a_service_that_is_ready(project: Project) -> None:
    outpost = project.outpost()
    before = await outpost.ping()
    assert not before.ok
    assert before.detail == f"there is no service {SERVICE} in {REGION}, project {PROJECT}"
    assert before.hint == "outpost deploy cloudrun burst --image IMAGE"
    plan = await outpost.plan(IMAGE)
    assert plan.changes[0] == f"+ service {SERVICE} in {REGION}, project {PROJECT}"
    assert all(line.startswith("+   ") for line in plan.changes[1:])
    assert "CreateService" not in project.control.calls, "a plan changes nothing"
    (url,) = await outpost.deploy(plan, project.reports.append)
    service = await project.service()
    assert (service.uri, await outpost.url()) == (url, url)
    assert service.template.containers[0].image == IMAGE
    assert service.labels["outpost-federation"] == "f-0123456789"
    assert project.reports == [f"{REGION}: making the service {SERVICE}"]
    after = await outpost.ping()
    assert (after.ok, after.detail) == (True, f"service {SERVICE} in {REGION}")
    assert (await outpost.plan(None)).changes == ()
    assert (await outpost.plan(IMAGE)).changes == ()


async def test_a_plan_says_limits_and_costs(project: Project) -> None:
    outpost = project.outpost(keep_alive="5m", min_instances=1)
    notes = "\n".join((await outpost.plan(IMAGE)).notes)
    assert "at most 20 instances in each region, for max_workers: 20" in notes
    assert "holding an instance warm for 5 min after work costs up to $0.0174" in notes
    assert "1 instance is kept all the time: up to $152.42 a month, with no work" in notes
    unlimited = project.outpost(setup={"max_workers": None})
    assert "Cloud Run's own limit on instances holds" in (await unlimited.plan(IMAGE)).notes[0]
    await project.deployed(outpost)
    assert "costs up to $0.0174" in (await outpost.ping()).detail


async def test_what_a_plan_says_of_costs_goes_by_the_configured_price(project: Project) -> None:
    setup = {"price": lambda quote: replace(quote, microusd_per_hour=500_000, source="ours")}
    outpost = project.outpost(setup=setup, keep_alive="6m")
    notes = (await outpost.plan(IMAGE)).notes
    assert notes[1:] == (
        "an instance costs $0.5000 an hour (ours)",
        "holding an instance warm for 6 min after work costs up to $0.0500",
    )
    await project.deployed(outpost)
    assert "costs up to $0.0500" in (await outpost.ping()).detail


async def test_a_change_keeps_what_others_set(project: Project) -> None:
    await project.deployed(project.outpost())
    service = await project.service()
    service.labels["team"] = "shop"
    service.template.containers[0].env.append(run_v2.EnvVar(name="BY_HAND", value="kept"))
    await project.change(service)
    outpost = project.outpost(cpu=4, memory="8Gi")
    assert (await outpost.ping()).ok
    assert "not as configured: cpu, memory" in (await outpost.ping()).detail
    plan = await outpost.plan(OTHER)
    assert plan.changes == (
        f"~ service {SERVICE} in {REGION}, project {PROJECT}",
        f"~   image: {IMAGE} → {OTHER}",
        "~   cpu: 2 → 4",
        "~   memory: 4Gi → 8Gi",
    )
    await outpost.deploy(plan, project.reports.append)
    service = await project.service()
    assert service.labels["team"] == "shop"
    assert "BY_HAND" in {it.name for it in service.template.containers[0].env}
    assert service.template.containers[0].resources.limits["cpu"] == "4"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"image": OTHER}, "image"),
        ({"concurrency": 4}, "concurrency"),
        ({"request_timeout": "30m"}, "request timeout"),
    ],
)
async def test_what_work_depends_on_is_no_matter_of_taste(
    project: Project, options: dict[str, Any], name: str
) -> None:
    await project.deployed(project.outpost())
    health = await project.outpost(**options).ping()
    assert not health.ok
    assert health.detail == f"the service in {REGION} is not as configured: {name}"
    assert health.hint.startswith("outpost deploy cloudrun burst")


async def test_a_service_that_speaks_http_1_is_not_for_workers(project: Project) -> None:
    await project.deployed(project.outpost())
    service = await project.service()
    service.template.containers[0].ports[0].name = "http1"
    await project.change(service)
    health = await project.outpost().ping()
    assert (health.ok, health.detail.endswith("not as configured: port")) == (False, True)


async def test_traffic_that_goes_elsewhere_is_told(project: Project) -> None:
    await project.deployed(project.outpost())
    service = await project.service()
    (revision,) = {service.latest_ready_revision.rpartition("/")[2]}
    service.traffic = [run_v2.TrafficTarget(revision=revision, percent=100)]
    await project.change(service)
    outpost = project.outpost()
    told = f"work goes to {revision}, not to what is deployed, until: gcloud run services"
    assert [note for note in (await outpost.plan(OTHER)).notes if told in note]
    assert told in (await outpost.ping()).detail


async def test_what_changed_since_the_plan_stays_as_it_is(project: Project) -> None:
    await project.deployed(project.outpost())
    outpost = project.outpost(cpu=4, memory="8Gi")
    plan = await outpost.plan()
    service = await project.service()
    service.template.timeout = "77s"
    await project.change(service)
    with pytest.raises(OutpostFault, match="was changed by somebody else meanwhile") as caught:
        await outpost.deploy(plan, project.reports.append)
    assert caught.value.hint == "look again: outpost deploy cloudrun burst"
    assert (await project.service()).template.timeout.total_seconds() == 77


async def test_one_that_was_made_since_the_plan_too(project: Project) -> None:
    plan = await project.outpost().plan(IMAGE)
    await project.deployed(project.outpost())
    with pytest.raises(OutpostFault, match="was changed by somebody else meanwhile"):
        await project.outpost().deploy(plan, project.reports.append)


@pytest.mark.parametrize(
    ("label", "words"), [("", "was not made by outpost deploy"), ("f-x", "is another federation's")]
)
async def test_a_service_that_is_not_ours_is_left_alone(
    project: Project, label: str, words: str
) -> None:
    await project.deployed(project.outpost())
    service = await project.service()
    del service.labels["outpost-federation"]
    if label:
        service.labels["outpost-federation"] = label
    await project.change(service)
    outpost = project.outpost()
    with pytest.raises(Rejected, match=words) as caught:
        await outpost.plan(OTHER)
    assert "--adopt" in caught.value.hint
    plan = await outpost.plan(OTHER, adopt=True)
    before = f"~   label outpost-federation: {label} → " if label else "+   label"
    assert [line for line in plan.changes if line.startswith(before)]
    await outpost.deploy(plan, project.reports.append)
    assert (await project.service()).labels["outpost-federation"] == "f-0123456789"


async def test_which_image_has_to_be_said_once(project: Project) -> None:
    fault = await refused(project.outpost(), None)
    assert isinstance(fault, UserError)
    assert fault.message.startswith("which image?")
    assert fault.hint == "outpost deploy cloudrun burst --image IMAGE"
    configured = project.outpost(image=IMAGE)
    await project.deployed(configured, None)
    assert (await project.outpost().plan()).changes == ()


async def test_secrets_are_in_a_plan_by_reference_only(project: Project) -> None:
    project.control.shelf.secrets["anthropic"] = b"hunter2"
    outpost = project.outpost(secrets={"ANTHROPIC_API_KEY": "anthropic:latest"})
    plan = await outpost.plan(IMAGE)
    assert "+   env ANTHROPIC_API_KEY: secret anthropic:latest" in plan.changes
    told = "\n".join((*plan.changes, *plan.notes))
    assert "hunter2" not in told
    assert TOKEN not in told
    await outpost.deploy(plan, project.reports.append)
    front = project.control.cloud.fronts[SERVICE]
    found = front.fleet.revision.content.environment
    assert (found["ANTHROPIC_API_KEY"], found["OUTPOST_SERVE_TOKEN"]) == ("hunter2", TOKEN)


@pytest.mark.parametrize("project", [0.6], indirect=True)
async def test_waiting_tells_what_is_known_and_ends_where_it_fails(project: Project) -> None:
    del project.control.shelf.secrets[TOKEN_SECRET]
    outpost = project.outpost()
    fault = await refused(outpost)
    assert isinstance(fault, Rejected)
    assert "may not read one of its secrets" in fault.message
    assert "roles/secretmanager.secretAccessor" in fault.hint
    health = await outpost.ping()
    assert not health.ok
    assert "is not ready: Permission denied on secret" in health.detail
    assert health.hint.startswith(f"gcloud run services logs read {SERVICE} --region {REGION}")
    with pytest.raises(Rejected, match="is not ready"):
        await outpost.url()
    project.control.shelf.secrets[TOKEN_SECRET] = TOKEN.encode()
    await project.deployed(project.outpost(cpu=1), None)
    assert (await project.outpost(cpu=1).ping()).ok


@pytest.mark.parametrize("project", [30.0], indirect=True)
async def test_whoever_waits_no_longer_has_started_it_all_the_same(project: Project) -> None:
    outpost = project.outpost()
    plan = await outpost.plan(IMAGE)
    begun = asyncio.Event()
    task = asyncio.create_task(outpost.deploy(plan, lambda _: begun.set()))
    await begun.wait()
    async with asyncio.timeout(10):
        while "GetOperation" not in project.control.calls:
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await project.service()).reconciling
    assert (await outpost.plan(IMAGE)).changes == (), "nothing is left to be asked for"


@pytest.mark.parametrize(
    ("call", "code", "kind", "words", "hint"),
    [
        ("GetService", "UNAUTHENTICATED", Rejected, "does not take the credentials", "gcloud auth"),
        ("GetService", "PERMISSION_DENIED", Rejected, "you may not do that", "roles/run.developer"),
        ("CreateService", "PERMISSION_DENIED", Rejected, "you may not", "roles/run.developer"),
        (
            "CreateService",
            "RESOURCE_EXHAUSTED",
            RateLimited,
            "a quota of project",
            "quotas?project",
        ),
        ("CreateService", "NOT_FOUND", Rejected, "is not there", "gcloud run regions list"),
        ("CreateService", "INVALID_ARGUMENT", Rejected, "refuses the service", ""),
        ("CreateService", "UNAVAILABLE", OutpostFault, "fails", "--dry-run"),
        ("CreateService", "after UNAVAILABLE", OutpostFault, "fails", "--dry-run"),
        ("CreateService", "INTERNAL", OutpostFault, "fails", "--dry-run"),
    ],
)
async def test_each_of_google_s_errors_says_what_to_do(
    project: Project, call: str, code: str, kind: type[OutpostError], words: str, hint: str
) -> None:
    project.control.cloud.faults.calls[call] = [code]
    outpost = project.outpost()
    fault = await refused(outpost)
    assert type(fault) is kind
    assert words in fault.message
    assert hint in fault.hint
    assert fault.to_json()
    # What was carried out and not answered is found there, and not made twice.
    left = (await outpost.plan(IMAGE)).changes
    assert bool(left) is (code != "after UNAVAILABLE")


async def test_a_control_plane_that_fails_makes_an_outpost_unwell_and_nothing_worse(
    project: Project,
) -> None:
    outpost = project.outpost()
    await project.deployed(outpost)
    project.control.cloud.faults.calls["GetService"] = ["PERMISSION_DENIED"]
    health = await outpost.ping()
    assert (health.ok, "roles/run.developer" in health.hint) == (False, True)
    assert (await outpost.ping()).ok
    # A passing trouble is waited out by Google's client.
    project.control.cloud.faults.calls["GetService"] = ["UNAVAILABLE"]
    assert (await outpost.ping()).ok


async def test_without_its_token_an_outpost_takes_no_work(project: Project) -> None:
    await project.deployed(project.outpost())
    health = await project.outpost(token=None).ping()
    assert not health.ok
    assert health.detail == "burst: which token its service asks for is not configured"
    assert "--secret=outpost-token" in health.hint
    health = await project.outpost(setup={"environment": {}}).ping()
    assert "the variable OUTPOST_TOKEN is not set" in health.detail


async def test_several_regions_are_kept_alike_and_the_first_ready_one_is_used(
    project: Project,
) -> None:
    regions = ["europe-west1", REGION]
    outpost = project.outpost(region=regions)
    await project.deployed(project.outpost())
    here = (await project.service()).uri
    assert await outpost.url() == here
    health = await outpost.ping()
    assert health.ok
    assert health.detail == f"service {SERVICE} in {REGION}; not ready in europe-west1"
    plan = await outpost.plan(IMAGE)
    assert plan.changes[0] == f"+ service {SERVICE} in europe-west1, project {PROJECT}"
    assert not [line for line in plan.changes if REGION in line and "service" in line[:9]]
    urls = await outpost.deploy(plan, project.reports.append)
    assert urls[1] == here
    assert await outpost.url() == urls[0]
    assert (await outpost.plan()).changes == ()


async def test_the_id_token_is_for_the_service_and_leaves_our_own_alone(project: Project) -> None:
    outpost = project.outpost()
    await project.deployed(outpost)
    (name,) = headers = dict(await outpost.headers())
    assert name == "x-serverless-authorization"
    assert outpost.token() == TOKEN
    assert headers == dict(await outpost.headers()), "one token for as long as it is good"
    assert project.control.cloud.tokens.minted == 1

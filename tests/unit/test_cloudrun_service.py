"""What a service has to be, and how the difference to one that is there is told."""

from __future__ import annotations

import pytest
from google.cloud import run_v2

from outpost.backends.cloudrun_service import OURS, Wish, applied, changes, facts, owner
from tests.unit.cloudrun_values import FEDERATION, IMAGE, a_wish

ALL = f"""\
+   image: {IMAGE}
+   port: h2c 8080
+   cpu: 2
+   memory: 4Gi
+   billing: request
+   startup boost: on
+   concurrency: 1
+   request timeout: 3600 s
+   min instances: 0
+   max instances: 20
+   session affinity: on
+   execution environment: gen2
+   service account: worker@example-project.iam.gserviceaccount.com
+   ingress: all
+   label outpost-federation: {FEDERATION}
+   env OUTPOST_SERVE_LEASE: 120
+   env OUTPOST_SERVE_GRACE: 9
+   env OUTPOST_SERVE_MAX_WORKERS: 1
+   env CI: true
+   env OUTPOST_SERVE_TOKEN: secret outpost-token:latest
+   env ANTHROPIC_API_KEY: secret anthropic:3
+   file /secrets/key: secret deploy-key:latest
"""


def the_wish(**more: object) -> Wish:
    fields: dict[str, object] = {
        "service_account": "worker@example-project.iam.gserviceaccount.com",
        "env": {"CI": "true"},
        "secrets": {"ANTHROPIC_API_KEY": "anthropic:3", "/secrets/key": "deploy-key:latest"},
    }
    return a_wish(**{**fields, **more})  # type: ignore[arg-type]  # checked by the options


def lines(before: run_v2.Service | None, wish: Wish) -> list[str]:
    return list(changes(facts(before, wish), facts(applied(before, wish), wish)))


def test_a_new_service_is_told_whole() -> None:
    assert "".join(f"{line}\n" for line in lines(None, the_wish())) == ALL


def test_what_is_said_is_what_the_message_holds() -> None:
    service = applied(None, the_wish())
    (container,) = service.template.containers
    assert container.image == IMAGE
    assert [(it.name, it.container_port) for it in container.ports] == [("h2c", 8080)]
    assert dict(container.resources.limits) == {"cpu": "2", "memory": "4Gi"}
    assert container.resources.cpu_idle is True
    assert service.template.timeout.total_seconds() == 3600
    assert service.template.max_instance_request_concurrency == 1
    assert service.template.session_affinity is True
    assert service.template.execution_environment.name == "EXECUTION_ENVIRONMENT_GEN2"
    assert service.template.scaling.max_instance_count == 20
    env = {it.name: it for it in container.env}
    assert env["OUTPOST_SERVE_LEASE"].value == "120"
    key = env["ANTHROPIC_API_KEY"].value_source.secret_key_ref
    assert (key.secret, key.version, env["ANTHROPIC_API_KEY"].value) == ("anthropic", "3", "")
    (volume,), (mount,) = service.template.volumes, container.volume_mounts
    assert (mount.name, mount.mount_path) == (volume.name, "/secrets")
    (item,) = volume.secret.items
    assert (volume.secret.secret, item.path, item.version) == ("deploy-key", "key", "latest")


def test_applied_again_nothing_changes_whatever_the_units() -> None:
    service = applied(None, the_wish())
    assert lines(service, the_wish()) == []
    limits = service.template.containers[0].resources.limits
    limits["cpu"], limits["memory"] = "2000m", "4096Mi"
    assert lines(service, the_wish()) == []


def test_billing_by_instance_keeps_the_cpu() -> None:
    service = applied(None, the_wish(billing="instance"))
    assert service.template.containers[0].resources.cpu_idle is False
    assert lines(service, the_wish()) == ["~   billing: instance → request"]


@pytest.mark.parametrize(
    ("max_workers", "concurrency", "min_instances", "most"),
    [(20, 1, 0, 20), (20, 8, 0, 3), (1, 8, 0, 1), (1, 1, 2, 2), (None, 1, 0, 0)],
)
def test_admission_is_by_instances(
    max_workers: int | None, concurrency: int, min_instances: int, most: int
) -> None:
    wish = the_wish(max_workers=max_workers, concurrency=concurrency, min_instances=min_instances)
    service = applied(None, wish)
    assert service.template.scaling.max_instance_count == most
    assert service.template.max_instance_request_concurrency == concurrency
    env = {it.name: it.value for it in service.template.containers[0].env}
    assert env["OUTPOST_SERVE_MAX_WORKERS"] == str(concurrency)


def test_what_others_set_stays() -> None:
    service = applied(None, the_wish())
    service.etag, service.labels["team"] = "e1", "shop"
    service.annotations["run.googleapis.com/minScale"] = "1"
    service.ingress = run_v2.IngressTraffic(2)
    service.template.vpc_access.connector = "projects/p/locations/l/connectors/c"
    service.template.containers.append(run_v2.Container(name="side", image="side:1"))
    container = service.template.containers[0]
    container.env.append(run_v2.EnvVar(name="BY_HAND", value="kept"))
    container.liveness_probe.period_seconds = 7
    assert lines(service, the_wish()) == []
    made = applied(service, the_wish(cpu=4, memory="8Gi"))
    assert (made.etag, made.labels["team"], made.ingress) == ("e1", "shop", 2)
    assert made.template.vpc_access.connector == "projects/p/locations/l/connectors/c"
    assert [it.image for it in made.template.containers] == [IMAGE, "side:1"]
    assert made.template.containers[0].liveness_probe.period_seconds == 7
    assert {"BY_HAND": "kept"}.items() <= {
        it.name: it.value for it in made.template.containers[0].env
    }.items()
    assert service.template.containers[0].resources.limits["cpu"] == "2", "the given one is as was"


def test_what_we_set_and_want_no_more_goes_and_nothing_else() -> None:
    service = applied(None, the_wish())
    service.template.containers[0].env.append(run_v2.EnvVar(name="BY_HAND", value="kept"))
    less = the_wish(env={}, secrets={"ANTHROPIC_API_KEY": "anthropic:4"})
    assert lines(service, less) == [
        "~   env ANTHROPIC_API_KEY: secret anthropic:3 → secret anthropic:4",
        "-   env CI: true",
        "-   file /secrets/key: secret deploy-key:latest",
    ]
    made = applied(service, less)
    assert not made.template.volumes
    assert not made.template.containers[0].volume_mounts
    names = {it.name for it in made.template.containers[0].env}
    assert "BY_HAND" in names
    assert "CI" not in names
    assert made.annotations[OURS].split() == sorted(made.annotations[OURS].split())


def test_no_secret_in_plain_text_is_shown() -> None:
    service = applied(None, the_wish())
    for variable in service.template.containers[0].env:
        if variable.name in ("OUTPOST_SERVE_TOKEN", "ANTHROPIC_API_KEY"):
            variable.value = "hunter2"
    told = lines(service, the_wish())
    assert told == [
        "~   env OUTPOST_SERVE_TOKEN: a value in plain text → secret outpost-token:latest",
        "~   env ANTHROPIC_API_KEY: a value in plain text → secret anthropic:3",
    ]


def test_the_image_stays_where_none_is_wished_for() -> None:
    service = applied(None, the_wish())
    assert lines(service, the_wish(image=None)) == []
    other = the_wish(image="other:2")
    assert lines(service, other) == [f"~   image: {IMAGE} → other:2"]


def test_a_label_says_whose_it_is() -> None:
    assert owner(run_v2.Service()) == ""
    service = applied(None, the_wish())
    assert owner(service) == FEDERATION
    theirs = the_wish(whose="f-other")
    assert lines(service, theirs) == [f"~   label outpost-federation: {FEDERATION} → f-other"]

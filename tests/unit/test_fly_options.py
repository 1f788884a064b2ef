"""What ``type: fly`` takes, what it refuses without asking anybody, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from outpost.backends.fly_costs import costs, keeping, price
from outpost.backends.fly_options import FlyOptions, Guest
from outpost.config.kinds import KindRegistry
from outpost.ports import Setup

SETUP = Setup(name="burst", federation_id="f-1", data_folder="/nowhere", environment={})


def options(**given: Any) -> FlyOptions:
    """Return options as a configuration gives them."""
    kinds = KindRegistry({"fly": "outpost.backends.fly:FlyOutpost"})
    parsed = kinds.parse_options("fly", {"app": "workers", "region": "iad", **given})
    assert isinstance(parsed, FlyOptions)
    return parsed


def test_two_fields_are_enough() -> None:
    made = options()
    assert made.regions == ("iad",)
    assert made.guest == Guest(cpu_kind="shared", cpus=2, memory_mib=2048)
    assert made.worker_image == "registry.fly.io/workers:worker"
    assert made.app_url == "https://workers.fly.dev"
    assert made.token.reference == "env://FLY_API_TOKEN"
    assert (made.idle_exit_s, made.machine_ttl_s) == (60, 86_400)


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/", "http://_api.internal:4280"])
def test_nobody_listens_on_this_machine_and_within_fly(url: str) -> None:
    assert options(api_url=url).api_url == url


@pytest.mark.parametrize(
    ("fields", "guest"),
    [
        ({"size": "shared-cpu-1x"}, Guest(cpu_kind="shared", cpus=1, memory_mib=2048)),
        ({"size": "shared-cpu-8x"}, Guest(cpu_kind="shared", cpus=8, memory_mib=2048)),
        ({"cpus": 4, "memory": "4g"}, Guest(cpu_kind="shared", cpus=4, memory_mib=4096)),
        ({"size": "performance-2x"}, Guest(cpu_kind="performance", cpus=2, memory_mib=4096)),
        ({"memory": "512m"}, Guest(cpu_kind="shared", cpus=2, memory_mib=512)),
    ],
)
def test_sizes_are_read(fields: dict[str, Any], guest: Guest) -> None:
    assert options(**fields).guest == guest


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"app": "My App"}, "app"),
        ({"region": "frankfurt"}, "region"),
        ({"region": []}, "region"),
        ({"region": ["iad", "iad"]}, "a region stands there twice"),
        ({"size": "large"}, "size"),
        ({"size": "shared-cpu-3x"}, "Fly has shared CPUs by 1, 2, 4, 8, not by 3"),
        ({"size": "shared-cpu-2x", "cpus": 2}, "keep one of them"),
        ({"cpus": 0}, "greater than or equal to 1"),
        ({"cpus": -1}, "greater than or equal to 1"),
        ({"memory": "16g"}, "memory of shared-cpu-2x is between 512m and 4096m"),
        ({"memory": "1000m"}, "in steps of 256m"),
        ({"memory": "4 GB"}, "memory"),
        ({"disk_gb": 10, "volume_gb": 10}, "keep one of them"),
        ({"warm": -1}, "warm"),
        ({"warm_state": "suspended", "memory": "4g"}, "2g of memory at most"),
        ({"machine_ttl": "10s"}, "machine_ttl must be at least 60s"),
        ({"idle_exit": "0s"}, "idle_exit must be longer than 0s"),
        ({"token": "FlyV1 hunter2"}, "a secret is never written here itself"),
        ({"env": {"OUTPOST_SERVE_TOKEN": "x"}}, "is no name of a variable of yours"),
        ({"api_url": "ftp://api"}, "api_url"),
        ({"api_url": "http://api.machines.dev"}, "https:// is needed"),
        ({"url": "http://127.0.0.1.example.com"}, "https:// is needed"),
        ({"url": "https://me:hunter2@example.com"}, "no user and no password here"),
        ({"api_url": "http://127.0.0.1:99999"}, "expected an address"),
        ({"requests_per_s": 0}, "requests_per_s"),
        ({"volume": "data"}, "volume"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        options(**fields)
    assert not [it for it in caught.value.errors() if "hunter2" in str(it["msg"])]


def test_the_dearest_region_is_what_it_may_cost() -> None:
    cheap, dear = price(options()), price(options(region=["iad", "fra"]))
    assert cheap.microusd_per_hour == 15_817
    assert dear.microusd_per_hour == 18_190
    assert price(options(region=["iad", "syd"])).microusd_per_hour is None


def test_what_waits_and_what_lies_there_is_said_with_its_cost() -> None:
    lines = list(costs(options(warm=2, volume_gb=10), SETUP))
    assert lines[0].startswith("a machine costs $0.0158 an hour while it runs (Fly.io's prices")
    assert lines[1] == "its volume of 10 GB costs $1.50 a month until it is removed"
    assert lines[2] == "2 machines wait, stopped: about $3.27 a month, with no work"
    assert keeping(options()) == ""
    assert "its price is not known" in next(costs(options(region="syd"), SETUP))

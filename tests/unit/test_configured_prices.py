"""What is said of costs before the first use goes by what the configuration says of prices."""

from __future__ import annotations

from pathlib import Path

import pytest

from outpost import config
from outpost.control.sites import Sites

FLY = "type: fly, app: workers"
SERVICE = "type: cloudrun, project: my-project, service: workers"
JOB = f"{SERVICE}, mode: job, bucket: workers"
UNKNOWN = {FLY: "region: syd", SERVICE: "region: europe-west3", JOB: "region: europe-west3"}
KNOWN = {FLY: "region: iad", SERVICE: "region: us-central1", JOB: "region: us-central1"}


async def said(options: str) -> list[str]:
    """Return what is said of an outpost that is used for the first time."""
    text = f"outposts: [{{name: burst, {options}}}]"
    sites = Sites(config.parse(text.encode()), "f-1", Path("/nowhere"), {})
    greeting = await sites.backend("burst").greet()
    await sites.close()
    assert greeting
    return list(greeting.lines)


@pytest.mark.parametrize("options", [*(f"{kind}, {KNOWN[kind]}" for kind in KNOWN), "type: e2b"])
async def test_a_configured_price_goes_before_the_table_s(options: str) -> None:
    first = (await said(f"{options}, price_hourly: 0.5"))[0]
    assert "costs $0.5000 an hour" in first
    assert first.endswith("(configuration: price_hourly)")


@pytest.mark.parametrize("kind", UNKNOWN)
async def test_with_a_configured_price_none_is_asked_for(kind: str) -> None:
    options = f"{kind}, {UNKNOWN[kind]}"
    assert (await said(options))[0].endswith(": set price_hourly, or allow_unpriced")
    prices = "price_vcpu_hourly: 0.10, price_gib_hourly: 0.05"
    # 2 CPUs, and 2 GiB on Fly, 4 GiB on Cloud Run.
    costs = "$0.3000" if kind == FLY else "$0.4000"
    assert f"costs {costs} an hour" in (await said(f"{options}, {prices}"))[0]


@pytest.mark.parametrize("kind", UNKNOWN)
async def test_who_allows_an_unknown_price_is_not_asked_for_it(kind: str) -> None:
    lines = await said(f"{kind}, {UNKNOWN[kind]}, allow_unpriced: true")
    assert lines[0].startswith("its price is not known (")
    assert lines[0].endswith("): no cap counts it")


async def test_what_is_kept_on_cloud_run_costs_what_is_configured() -> None:
    options = f"{SERVICE}, region: us-central1, keep_alive: 6m, min_instances: 1, price_hourly: 0.5"
    assert (await said(options))[1:] == [
        "holding an instance warm for 6 min after work costs up to $0.0500",
        "1 instance is kept all the time: up to $365.00 a month, with no work",
    ]

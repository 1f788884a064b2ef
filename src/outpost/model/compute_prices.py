"""What places cost: one dated, sourced table, overridable; what is not in it is unknown, not free.

Prices are those of time alone. What else a provider charges for (requests, traffic, disks of what
is stopped) is a small part of a worker's bill, and no part of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from outpost.model.money import HOUR_S, MICROUSD, Quote


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Whose document says so, and of which day: the day it was read, or its own."""

    title: str
    url: str
    date: str

    def __str__(self) -> str:
        return f"{self.title}, {self.date}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """US dollars a second of one virtual CPU and of one GiB of memory."""

    vcpu_second: Decimal
    gib_second: Decimal

    def second(self, vcpus: float, memory_gib: float) -> Fraction:
        """Return US dollars a second of so much of both."""
        return _exact(self.vcpu_second) * _exact(vcpus) + _exact(self.gib_second) * _exact(
            memory_gib
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """A machine as a provider names it, with its US dollars a second where the factor is 1."""

    vcpus: int
    memory_gib: Decimal
    second: Decimal


FLY = Source(title="Fly.io's prices", url="https://fly.io/docs/about/pricing/", date="2024")
FLY_MEMORY = Source(title="Fly.io's prices", url=FLY.url, date="2026-08-05")
FLY_SIZES = {
    f"{family}-{cpus}x": Size(
        vcpus=cpus, memory_gib=Decimal(memory_gib) * cpus, second=Decimal(second) * cpus
    )
    for family, memory_gib, second, counts in (
        ("shared-cpu", "0.25", "0.00000075", (1, 2, 4, 8)),
        ("performance", "2", "0.000012", (1, 2, 4)),
    )
    for cpus in counts
}
FLY_GIB_MONTH = Decimal(5)
"""US dollars for 30 days of a GiB beyond what a size comes with."""
FLY_MONTH_S = 30 * 24 * HOUR_S
FLY_REGIONS = {"iad": Decimal("1.00"), "fra": Decimal("1.15"), "gru": Decimal("1.62")}
"""By region: the factor on every price."""

E2B = Source(
    title="E2B's prices",
    url="https://e2b.dev/docs/faq/calculate-sandbox-price",
    date="2026-11-21",
)
E2B_RATES = Rates(vcpu_second=Decimal("0.000014"), gib_second=Decimal("0.0000045"))

CLOUD_RUN = Source(
    title="Cloud Run's prices", url="https://cloud.google.com/run/pricing", date="2026-11-21"
)
CLOUD_RUN_LOCATIONS = "https://cloud.google.com/run/docs/locations"
CLOUD_RUN_RATES = {
    "request": Rates(vcpu_second=Decimal("0.000024"), gib_second=Decimal("0.0000025")),
    "instance": Rates(vcpu_second=Decimal("0.000018"), gib_second=Decimal("0.000002")),
}
"""By billing, in regions of tier 1. Jobs cost what instances cost."""
CLOUD_RUN_REGIONS = frozenset(
    {
        "asia-east1",
        "asia-northeast1",
        "asia-northeast2",
        "europe-north1",
        "europe-southwest1",
        "europe-west1",
        "europe-west4",
        "europe-west8",
        "europe-west9",
        "me-west1",
        "us-central1",
        "us-east1",
        "us-east4",
        "us-east5",
        "us-south1",
        "us-west1",
    }
)
"""The regions of tier 1."""

THIS_MACHINE = "this machine"
FREE_KINDS = ("local", "docker")


def quote(
    kind: str,
    *,
    region: str | None = None,
    vcpus: float | None = None,
    memory_gib: float | None = None,
    size: str | None = None,
    billing: str | None = None,
) -> Quote:
    """Return what a place of a kind costs, rounded up to whole micro-dollars an hour.

    ``size`` is a provider's name for a machine (``fly``). ``billing`` is ``request`` (also if it is
    not given: the dearer one) or ``instance`` (``cloudrun``). Where the table has no price, it is
    ``None`` and ``source`` says what is missing.
    """
    if kind == "fly":
        return _fly(region, size, memory_gib)
    had = _unknown(f"no price is known for the kind '{kind}'", vcpus, memory_gib)
    if kind in FREE_KINDS and region is None:
        return _found(had, Fraction(0), THIS_MACHINE)
    if kind == "e2b":
        return _by_rates(had, E2B_RATES, str(E2B))
    if kind == "cloudrun":
        return _cloud_run(had, region, billing or "request")
    return had


def dearest(quotes: Iterable[Quote]) -> Quote:
    """Return the highest of some prices, or one that is unknown if there is one."""
    found = list(quotes)
    unknown = [it for it in found if it.microusd_per_hour is None]
    return unknown[0] if unknown else max(found, key=lambda it: it.microusd_per_hour or 0)


def priced(
    quote: Quote,
    *,
    price_hourly: Decimal | None = None,
    price_vcpu_hourly: Decimal | None = None,
    price_gib_hourly: Decimal | None = None,
) -> Quote:
    """Return a quote with what the configuration says of it, in US dollars; it goes first.

    What it says is added up: so much for the worker, for each of its CPUs, for each GiB. It is
    unknown where the size is, and a price depends on it.
    """
    parts = (
        ("price_hourly", price_hourly, 1.0, ""),
        ("price_vcpu_hourly", price_vcpu_hourly, quote.vcpus, "vCPUs"),
        ("price_gib_hourly", price_gib_hourly, quote.memory_gib, "GiB of memory"),
    )
    total, names = Fraction(0), []
    for name, price, number, of_what in parts:
        if price is None:
            continue
        if number is None:
            why = f"{name} is configured, but not known is how many {of_what} it has"
            return replace(quote, microusd_per_hour=None, source=why)
        total += _exact(price) * _exact(number)
        names.append(name)
    return _found(quote, total, f"configuration: {', '.join(names)}") if names else quote


def _fly(region: str | None, size: str | None, memory_gib: float | None) -> Quote:
    machine = FLY_SIZES.get(size or "")
    if machine is None:
        what = f"no size '{size}'" if size else "which size?"
        return _unknown(f"{FLY}: {what}", None, memory_gib)
    memory = max(_exact(machine.memory_gib), _exact(memory_gib or 0))
    factor = FLY_REGIONS.get(region or "")
    where = f"no factor for the region '{region}'" if region else "which region?"
    had = _unknown(f"{FLY}: {where}", machine.vcpus, float(memory))
    if factor is None:
        return had
    more = (memory - _exact(machine.memory_gib)) * _exact(FLY_GIB_MONTH) / FLY_MONTH_S
    hourly = (_exact(machine.second) + more) * _exact(factor) * HOUR_S
    return _found(had, hourly, f"{FLY}: {size} in {region}")


def _cloud_run(had: Quote, region: str | None, billing: str) -> Quote:
    rates = CLOUD_RUN_RATES.get(billing)
    if rates is None:
        return replace(had, source=f"{CLOUD_RUN}: no billing '{billing}'")
    if region not in CLOUD_RUN_REGIONS:
        what = f"'{region}' is no region of tier 1" if region else "which region?"
        return replace(had, source=f"{CLOUD_RUN}: {what}")
    return _by_rates(had, rates, f"{CLOUD_RUN}: {billing}-based in {region}")


def _by_rates(had: Quote, rates: Rates, source: str) -> Quote:
    if had.vcpus is None or had.memory_gib is None:
        missing = "vCPUs" if had.vcpus is None else "GiB of memory"
        return replace(had, source=f"{source}: how many {missing}?")
    return _found(had, rates.second(had.vcpus, had.memory_gib) * HOUR_S, source)


def _found(had: Quote, hourly_usd: Fraction, source: str) -> Quote:
    return replace(had, microusd_per_hour=math.ceil(hourly_usd * MICROUSD), source=source)


def _unknown(why: str, vcpus: float | None, memory_gib: float | None) -> Quote:
    return Quote(microusd_per_hour=None, source=why, vcpus=vcpus, memory_gib=memory_gib)


def _exact(number: float | Decimal) -> Fraction:
    """Return a number as it is written, not as the binary fraction nearest to that."""
    return Fraction(str(number))

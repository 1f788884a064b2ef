"""The reference page of prices, made from the tables themselves.

``python -m outpost.cli.prices > docs/reference/prices.md`` writes it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from textwrap import fill

from outpost.model import compute_prices as compute
from outpost.model.money import MICROUSD, Quote
from outpost.wire import prices as models

WIDTH = 100
_HEAD = """\
# Prices

This page is made from the tables that are built in: `python -m outpost.cli.prices`. All prices are
US dollars. What is not here is unknown, never free.

## Places

The price of a worker is that of the time it holds its place, rounded up to whole micro-dollars an
hour; what it comes to is rounded up again. An outpost's `price_hourly`, `price_vcpu_hourly` and
`price_gib_hourly` go before these tables and are added up:
[configuration](configuration.md#outposts). A place that costs money and whose price is not known is
not used unless it has `allow_unpriced: true`.

What providers charge for beside time is not counted: traffic, Cloud Run's requests ($0.40 a
million), disks of what is stopped, monthly plans. Nor are discounts and free allowances.

`local` is free. A machine reached over `ssh` and a Docker Engine, here or elsewhere, count as free,
as they cost the same with workers and without: say a price if they do not.
"""


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join((_HEAD, *_fly(), *_cloud_run(), *_e2b(), *_models()))


def _fly() -> Iterable[str]:
    yield "### fly\n"
    yield _paragraph(
        f"Source: {_link(compute.FLY)}; memory: {_link(compute.FLY_MEMORY)}.",
        "The price of a second is that of the size times the region's factor. A GiB of memory",
        f"beyond the size's own costs ${compute.FLY_GIB_MONTH} in 30 days, times the same factor.",
    )
    regions = compute.FLY_REGIONS
    hours = [f"an hour in {region}" for region in regions]
    rows = [
        (
            f"`{name}`",
            size.vcpus,
            size.memory_gib,
            _digits(size.second),
            *(_hour(compute.quote("fly", region=region, size=name)) for region in regions),
        )
        for name, size in compute.FLY_SIZES.items()
    ]
    yield from _table(("size", "vCPUs", "GiB", "a second", *hours), rows)
    yield from _table(("region", "factor"), [(f"`{name}`", by) for name, by in regions.items()])


def _cloud_run() -> Iterable[str]:
    yield "### cloudrun\n"
    regions = sorted(compute.CLOUD_RUN_REGIONS)
    yield _paragraph(
        f"Source: {_link(compute.CLOUD_RUN)}. The regions of tier 1, which",
        f"[Cloud Run's locations]({compute.CLOUD_RUN_LOCATIONS}) names:",
        ", ".join(f"`{region}`" for region in regions) + ".",
        "Of others the price is not known. Jobs cost what instance-based services cost.",
    )
    rows = [
        (
            f"{billing}-based",
            _digits(rates.vcpu_second),
            _digits(rates.gib_second),
            _hour(
                compute.quote("cloudrun", region=regions[0], vcpus=2, memory_gib=4, billing=billing)
            ),
        )
        for billing, rates in compute.CLOUD_RUN_RATES.items()
    ]
    heads = ("billing", "a vCPU a second", "a GiB a second", "2 vCPUs and 4 GiB for an hour")
    yield from _table(heads, rows)


def _e2b() -> Iterable[str]:
    yield "### e2b\n"
    yield _paragraph(
        f"Source: {_link(compute.E2B)}. Everywhere the same; nothing while it is paused."
    )
    rates, hour = compute.E2B_RATES, _hour(compute.quote("e2b", vcpus=2, memory_gib=4))
    heads = ("a vCPU a second", "a GiB a second", "2 vCPUs and 4 GiB for an hour")
    yield from _table(heads, [(_digits(rates.vcpu_second), _digits(rates.gib_second), hour)])


def _models() -> Iterable[str]:
    yield "## Models\n"
    yield _paragraph(
        f"Source: [Anthropic's prices]({models.SOURCE}), {models.DATE}. US dollars for a million",
        "tokens; what is written to the cache is kept for five minutes.",
        "[`prices`](configuration.md#prices) in the configuration go before this table, and name",
        "models that are not in it. Claude Code tells by itself what its work cost.",
    )
    names = ("input", "output", "cache_write", "cache_read")
    rows = []
    for model, tiers in models.PRICES.items():
        for most, price in tiers:
            size = "any" if len(tiers) == 1 else f"up to {most:,} tokens" if most else "longer"
            told = price["input"], price["output"], price["cache_write"], price["cache_read"]
            rows.append((f"`{model}`", size, *(_digits(Decimal(str(usd))) for usd in told)))
    heads = ("model", "prompt", *(name.replace("_", " ") for name in names))
    yield from _table(heads, rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterable[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
    yield ""


def _paragraph(*texts: str) -> str:
    return fill(" ".join(texts), WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _link(source: compute.Source) -> str:
    return f"[{source.title}]({source.url}), {source.date}"


def _hour(quote: Quote) -> str:
    assert quote.microusd_per_hour is not None
    return _digits(Decimal(quote.microusd_per_hour) / MICROUSD)


def _digits(usd: Decimal) -> str:
    """Return dollars with all their digits, at least two behind the point."""
    whole, _, parts = f"{usd:f}".partition(".")
    return f"${whole}.{parts.rstrip('0'):0<2}"


if __name__ == "__main__":
    sys.stdout.write(page())

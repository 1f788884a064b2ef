"""What workers on Cloud Run cost, and what is paid for without any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from outpost.backends.cloudrun_options import CloudRunOptions
from outpost.model import Quote
from outpost.model.compute_prices import dearest, quote
from outpost.model.money import HOUR_S, MICROUSD, compute_microusd
from outpost.ports import Setup

MONTH_S = 730 * HOUR_S
JOB_LEAST = "a run is billed for a minute at least"


def price(options: CloudRunOptions) -> Quote:
    """Return the price of an instance in the dearest of the regions, unknown where one's is.

    A worker may be alone on its instance, so that is what it may cost.
    """
    found = dearest(
        quote(
            "cloudrun",
            region=region,
            vcpus=options.cpu,
            memory_gib=options.memory_gib,
            billing="instance" if options.mode == "job" else options.billing,
        )
        for region in options.regions
    )
    if options.mode == "job":
        return replace(found, source=f"{found.source}; {JOB_LEAST}")
    return found


def costs(options: CloudRunOptions, setup: Setup | None = None) -> Iterator[str]:
    """Yield a line for each thing that costs something; a configured price goes first."""
    found = _configured(options, setup)
    each = found.microusd_per_hour
    if each is None:
        allowed = setup is not None and setup.allow_unpriced
        then = "no cap counts it" if allowed else "set price_hourly, or allow_unpriced"
        yield f"its price is not known ({found.source}): {then}"
        return
    what = "a worker" if options.mode == "job" else "an instance"
    yield f"{what} costs {_dollars(each, 4)} an hour ({found.source})"
    if kept := keeping(options, setup):
        yield kept
    if number := options.min_instances:
        month = number * compute_microusd(each, MONTH_S)
        most = "up to " if options.billing == "request" else ""
        kept_ones = "1 instance is" if number == 1 else f"{number} instances are"
        yield f"{kept_ones} kept all the time: {most}{_dollars(month, 2)} a month, with no work"


def keeping(options: CloudRunOptions, setup: Setup | None = None) -> str:
    """Return what it costs to hold an instance warm after work; empty where none is held."""
    each, seconds = _configured(options, setup).microusd_per_hour, options.keep_alive_s
    if not seconds or each is None:
        return ""
    cost = _dollars(compute_microusd(each, seconds), 4)
    return f"holding an instance warm for {_span(seconds)} after work costs up to {cost}"


def _configured(options: CloudRunOptions, setup: Setup | None) -> Quote:
    found = price(options)
    return setup.price(found) if setup else found


def _dollars(microusd: int, digits: int) -> str:
    return f"${microusd / MICROUSD:,.{digits}f}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min" if minutes and not rest else f"{int(seconds)} s"

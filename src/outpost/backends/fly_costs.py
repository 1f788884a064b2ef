"""What workers on Fly cost, and what is paid for without any."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from outpost.backends.fly_options import FlyOptions
from outpost.model import Quote
from outpost.model.compute_prices import dearest, quote
from outpost.model.money import MICROUSD
from outpost.ports import Setup

GB_MONTH_USD = Decimal("0.15")
"""A GB of a volume, or of a stopped machine's root file system, for 30 days."""
IMAGE_GB = Decimal("0.9")
"""About what the worker image takes, unpacked."""
MIB_OF_GIB = 1024


def price(options: FlyOptions) -> Quote:
    """Return the price of a machine in the dearest of the regions, unknown where one's is."""
    guest = options.guest
    return dearest(
        quote(
            "fly",
            region=region,
            size=guest.size,
            memory_gib=guest.memory_mib / MIB_OF_GIB,
        )
        for region in options.regions
    )


def costs(options: FlyOptions, setup: Setup) -> Iterator[str]:
    """Yield a line for each thing that costs something; a configured price goes first."""
    found = setup.price(price(options))
    if found.microusd_per_hour is None:
        then = "no cap counts it" if setup.allow_unpriced else "set price_hourly, or allow_unpriced"
        yield f"its price is not known ({found.source}): {then}"
    else:
        each = found.microusd_per_hour / MICROUSD
        yield f"a machine costs ${each:,.4f} an hour while it runs ({found.source})"
    if options.volume_gb:
        month = _dollars(GB_MONTH_USD * options.volume_gb)
        yield f"its volume of {options.volume_gb} GB costs {month} a month until it is removed"
    if kept := keeping(options):
        yield kept


def keeping(options: FlyOptions) -> str:
    """Return what machines that wait cost; empty where none do."""
    if not options.warm:
        return ""
    each = GB_MONTH_USD * (IMAGE_GB + (options.volume_gb or 0))
    machines = "1 machine waits" if options.warm == 1 else f"{options.warm} machines wait"
    state = options.warm_state
    return f"{machines}, {state}: about {_dollars(each * options.warm)} a month, with no work"


def _dollars(amount: Decimal) -> str:
    return f"${amount:,.2f}"
